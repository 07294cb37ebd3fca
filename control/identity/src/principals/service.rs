//! API tokens of the caller: issue, list, rotate, revoke. One transaction each.

use std::sync::Arc;

use plexsphere_kernel::{Database, Fault, ObjectRef, Outcome, Principal, PrincipalScope, Subject};
use plexsphere_wire::{DenialReason, PrincipalId, Timestamp, TokenId};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::cache::Cache;
use super::model::{self, ApiTokenText, StoredToken, TokenRefusal};
use super::store::{self, NewToken};
use crate::events::EventName;
use crate::journal::{Actor, Journal};
use crate::pepper::TokenPepper;

/// The action of audit rows about revoked tokens.
pub(super) const REVOKE: &str = "api-token.revoke";

pub(crate) type TokenCache = Arc<Cache<TokenId, StoredToken>>;

/// The use cases of API tokens.
#[derive(Clone)]
pub struct ApiTokens {
    pub(super) db: Database,
    pub(super) journal: Journal,
    pub(super) pepper: TokenPepper,
    pub(super) cache: TokenCache,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) env_prefix: String,
    pub(super) ttl_seconds: Option<i64>,
    /// The token that the caller came by and when its secret ends, if the new one is the caller's own.
    pub(super) own: Option<(TokenId, Timestamp)>,
}

impl Wanted {
    /// The lifetime in seconds, once the members are judged.
    pub(super) fn check(&self) -> Result<i64, TokenRefusal> {
        if !model::ENVS.contains(&self.env_prefix.as_str()) {
            return Err(TokenRefusal::Invalid("env_prefix"));
        }
        let ttl = self.ttl_seconds.unwrap_or(model::DEFAULT_TTL_SECONDS);
        let fits = (model::MIN_TTL_SECONDS..=model::MAX_TTL_SECONDS).contains(&ttl);
        if fits { Ok(ttl) } else { Err(TokenRefusal::Invalid("ttl_seconds")) }
    }
}

/// A token just made; the only time that its text is known.
pub(super) struct Minted {
    pub(super) id: TokenId,
    pub(super) plaintext: Zeroizing<String>,
    pub(super) env_prefix: String,
    pub(super) expires_at: Timestamp,
    pub(super) rotation_deadline: Option<Timestamp>,
}

/// The audit object of a list of tokens: their owner.
pub(super) fn person(owner: Subject) -> ObjectRef {
    let kind = if matches!(owner, Subject::Service(_)) { "serviceaccount" } else { "user" };
    ObjectRef { kind, id: owner.uuid().to_string() }
}

/// What events say of a token.
pub(super) fn ids(token: TokenId, owner: Subject) -> Value {
    match owner {
        Subject::Service(id) => json!({ "token_id": token, "service_identity_id": id }),
        Subject::User(_) | Subject::Node(_) | Subject::System(_) => {
            json!({ "token_id": token, "user_id": owner.uuid() })
        }
    }
}

/// The audit object of a token: its id, which opens nothing.
pub(super) fn object(token: TokenId) -> ObjectRef {
    ObjectRef { kind: "api_token", id: token.to_string() }
}

pub(super) fn chain(scope: PrincipalScope) -> Option<plexsphere_wire::DomainId> {
    match scope {
        PrincipalScope::Platform => None,
        PrincipalScope::Domain(domain) => Some(domain),
    }
}

impl ApiTokens {
    pub(crate) fn new(db: Database, journal: Journal, pepper: TokenPepper, cache: TokenCache) -> Self {
        Self { db, journal, pepper, cache }
    }

    /// Makes a token of `owner`, who is the actor or is in the actor's charge.
    pub(super) async fn issue(&self, actor: &Actor, owner: &Principal, wanted: Wanted) -> Result<Minted, TokenRefusal> {
        let ttl = wanted.check()?;
        let (scope, now) = (owner.scope, actor.now);
        let owner = owner.subject;
        let expires_at = model::expiry(now, ttl, wanted.own.map(|(_, end)| end));
        let text = ApiTokenText::mint(TokenId::mint(now))?;
        let mut tx = self.db.begin().await?;
        if store::count_live(&mut tx, owner, now).await? >= model::MAX_LIVE {
            return Err(TokenRefusal::TooMany);
        }
        // What was ended while it asked leaves no heir: neither a principal nor a token.
        if actor.subject == owner && !store::hold_active(&mut tx, owner).await? {
            return Err(TokenRefusal::Ended);
        }
        if let Some((own, _)) = wanted.own
            && !store::hold_live(&mut tx, own, now).await?
        {
            return Err(TokenRefusal::Ended);
        }
        let digest = self.pepper.digest(text.secret());
        let env_prefix = &wanted.env_prefix;
        store::insert_token(&mut tx, NewToken { text: &text, owner, env_prefix, digest, created_at: now, expires_at })
            .await?;
        let payload = ids(text.id, owner);
        self.journal.announce(&mut tx, actor, chain(scope), EventName::ApiTokenIssued, payload).await?;
        self.journal.record(&mut tx, actor.record(chain(scope), "api-token.issue", object(text.id))).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(Minted {
            id: text.id,
            plaintext: text.render(env_prefix),
            env_prefix: wanted.env_prefix,
            expires_at,
            rotation_deadline: None,
        })
    }

    pub(super) async fn list(&self, actor: &Actor, owner: &Principal) -> Result<Vec<StoredToken>, Fault> {
        let tokens = store::live_tokens(self.db.pool(), owner.subject, actor.now).await?;
        let record = actor.record(chain(owner.scope), "api-token.list", person(owner.subject));
        self.journal.record_alone(record).await?;
        Ok(tokens)
    }

    pub(super) async fn rotate(
        &self,
        actor: &Actor,
        owner: &Principal,
        (id, own_end): (TokenId, Option<Timestamp>),
    ) -> Result<Minted, TokenRefusal> {
        let (scope, now) = (owner.scope, actor.now);
        let owner = owner.subject;
        let mut tx = self.db.begin().await?;
        let old = store::lock_token(&mut tx, id, owner).await?.filter(|token| token.is_live(now));
        let old = old.ok_or(TokenRefusal::NotFound)?;
        let text = ApiTokenText::mint(id)?;
        // A new secret is a new token to whoever came by one: it gives no more time than its caller has.
        let expires_at = model::expiry(now, old.ttl_seconds, own_end);
        let deadline = now.plus(model::ROTATION_OVERLAP).min(old.expires_at).min(expires_at);
        let digest = self.pepper.digest(text.secret());
        store::rotate(&mut tx, id, digest, (deadline, expires_at), now).await?;
        let payload = ids(id, owner);
        self.journal.announce(&mut tx, actor, chain(scope), EventName::ApiTokenRotated, payload).await?;
        self.journal.record(&mut tx, actor.record(chain(scope), "api-token.rotate", object(id))).await?;
        tx.commit().await.map_err(Fault::from)?;
        self.cache.evict(&id);
        Ok(Minted {
            id,
            plaintext: text.render(&old.env_prefix),
            env_prefix: old.env_prefix,
            expires_at,
            rotation_deadline: Some(deadline),
        })
    }

    pub(super) async fn revoke(&self, actor: &Actor, owner: &Principal, id: TokenId) -> Result<(), TokenRefusal> {
        let (scope, owner) = (owner.scope, owner.subject);
        let mut tx = self.db.begin().await?;
        if !store::revoke(&mut tx, id, owner, actor.now).await? {
            return Err(TokenRefusal::NotFound);
        }
        let payload = ids(id, owner);
        self.journal.announce(&mut tx, actor, chain(scope), EventName::ApiTokenRevoked, payload).await?;
        self.journal.record(&mut tx, actor.record(chain(scope), REVOKE, object(id))).await?;
        tx.commit().await.map_err(Fault::from)?;
        self.cache.evict(&id);
        Ok(())
    }

    /// Whom a reference names; `None` when it names nobody.
    pub(super) async fn principal(&self, subject: Subject) -> Result<Option<Principal>, Fault> {
        store::principal(self.db.pool(), subject).await
    }

    /// Whose token it is, not yet gated: the owner's home names the gate.
    pub(super) async fn owner_of(&self, id: TokenId) -> Result<Principal, TokenRefusal> {
        let token = store::owned_token(self.db.pool(), id).await?.ok_or(TokenRefusal::NotFound)?;
        Ok(token.principal())
    }

    /// Records that a caller was refused a principal that does not exist.
    pub(super) async fn note_refusal(&self, actor: &Actor, caller: &Principal, named: Subject) -> Result<(), Fault> {
        let mut record = actor.record(chain(caller.scope), "manage", person(named));
        record.outcome = Outcome::Denied(DenialReason::OutOfScope);
        self.journal.record_alone(record).await
    }

    pub(super) async fn email(&self, user: PrincipalId) -> Result<Option<String>, Fault> {
        store::email(self.db.pool(), user).await
    }

    /// Retires rotated secrets past their deadline and removes tokens 30 days past their end. Returns how many rows
    /// changed.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn sweep_once(&self, now: Timestamp) -> Result<u64, Fault> {
        let mut tx = self.db.begin().await?;
        let count = store::sweep(&mut tx, now).await?;
        tx.commit().await?;
        Ok(count)
    }
}
