//! Use cases of sessions and access tokens: open, recognise, end.

use std::sync::Arc;

use plexsphere_kernel::{
    Assurance, Authenticated, Clock, Credential, Database, Fault, ObjectRef, Principal, PrincipalScope, Subject, Tx,
};
use plexsphere_wire::{Code, DomainId, PrincipalId, Problem, Timestamp, TokenId};
use serde_json::json;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::model::{AccessToken, AccessTokenText, Bearer, Lifetimes, Session, SessionSecret};
use super::store::{self, NewRow, NewSession};
use crate::devices;
use crate::events::EventName;
use crate::journal::{Actor, Journal};
use crate::pepper::TokenPepper;
use crate::principals::Cache;

/// What the use cases need.
struct Parts {
    db: Database,
    clock: Arc<dyn Clock>,
    journal: Journal,
    pepper: TokenPepper,
    /// The environment segment of access tokens.
    env: String,
    sessions: Cache<[u8; 32], Session>,
    tokens: Cache<TokenId, AccessToken>,
}

/// The use cases of sessions and access tokens.
#[derive(Clone)]
pub struct Sessions(Arc<Parts>);

/// A session just opened; the only time that its cookies are known.
pub(crate) struct Opened {
    /// The value of the session's cookie.
    pub(crate) session: Zeroizing<String>,
    /// The value of the cookie against forged requests.
    pub(crate) csrf: Zeroizing<String>,
}

/// An access token to be made.
pub(crate) struct NewAccess<'a> {
    /// Whose.
    pub(crate) bearer: Bearer,
    /// The owner's Domain.
    pub(crate) domain: Option<DomainId>,
    /// The binding it came through; it ends with it.
    pub(crate) binding: Option<Uuid>,
    /// What was proved.
    pub(crate) assurance: &'a Assurance,
}

fn unauthenticated() -> Problem {
    Problem::new(Code::Unauthenticated, "A valid credential is needed.")
}

fn scope(domain: Option<DomainId>) -> PrincipalScope {
    domain.map_or(PrincipalScope::Platform, PrincipalScope::Domain)
}

impl Sessions {
    pub(crate) fn new(
        db: Database,
        clock: Arc<dyn Clock>,
        journal: Journal,
        (pepper, env): (TokenPepper, String),
    ) -> Self {
        let (sessions, tokens) = (Cache::new(), Cache::new());
        Self(Arc::new(Parts { db, clock, journal, pepper, env, sessions, tokens }))
    }

    /// Opens a session in the caller's transaction, which holds the User. Its id is new whatever the browser held before.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) async fn open(
        &self,
        tx: &mut Tx,
        (user, binding): (PrincipalId, Uuid),
        assurance: &Assurance,
        now: Timestamp,
    ) -> Result<Opened, Fault> {
        let (secret, csrf) = (SessionSecret::mint()?, SessionSecret::mint()?);
        let expires_at = now.plus(Lifetimes::SESSION);
        let digest = secret.digest();
        let new = NewSession { digest, user, binding, assurance, created_at: now, expires_at };
        store::insert_session(tx, new).await?;
        Ok(Opened { session: secret.render(), csrf: csrf.render() })
    }

    /// Who calls by the cookie of a session.
    ///
    /// # Errors
    /// 401 `unauthenticated`, or 503 when it cannot be decided.
    pub(crate) async fn recognise(&self, cookie: &str) -> Result<Authenticated, Problem> {
        let digest = SessionSecret::parse(cookie).ok_or_else(unauthenticated)?.digest();
        let now = self.0.clock.now();
        let session = self.load(&digest, now).await?.filter(|session| session.is_live(now));
        let session = session.ok_or_else(unauthenticated)?;
        self.touch(&session, now).await;
        let principal = Principal { subject: Subject::User(session.user), scope: scope(session.domain) };
        Ok(Authenticated::Operator { principal, credential: Credential::Session(session.assurance) })
    }

    async fn load(&self, digest: &[u8; 32], now: Timestamp) -> Result<Option<Session>, Fault> {
        if let Some(session) = self.0.sessions.get(digest, now) {
            return Ok(Some(session));
        }
        let epoch = self.0.sessions.epoch();
        let session = store::session(self.0.db.pool(), digest).await?;
        if let Some(session) = &session {
            self.0.sessions.put(epoch, *digest, session.clone(), now);
        }
        Ok(session)
    }

    /// A use that cannot be recorded is no reason to refuse it.
    async fn touch(&self, session: &Session, now: Timestamp) {
        if now.since(session.last_seen_at) < Lifetimes::TOUCH {
            return;
        }
        match store::touch(self.0.db.pool(), &session.digest, now).await {
            Ok(()) => self.0.sessions.amend(&session.digest, |kept| kept.last_seen_at = now),
            Err(fault) => tracing::debug!(cause = ?fault, "the use of a session was not recorded"),
        }
    }

    /// Makes an access token in the caller's transaction; its text is known this once.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) async fn mint(
        &self,
        tx: &mut Tx,
        new: NewAccess<'_>,
        now: Timestamp,
    ) -> Result<(Zeroizing<String>, Timestamp), Fault> {
        let NewAccess { bearer, domain, binding, assurance } = new;
        let text = AccessTokenText::mint(TokenId::mint(now))?;
        let life = match bearer {
            Bearer::User(_) => Lifetimes::DEVICE,
            Bearer::Service(_) => Lifetimes::SERVICE,
        };
        let expires_at = now.plus(life);
        let (id, digest) = (text.id(), self.0.pepper.digest(text.secret()));
        let row = NewRow { id, digest, bearer, domain, binding, assurance, created_at: now, expires_at };
        store::insert_access(tx, row).await?;
        Ok((text.render(&self.0.env), expires_at))
    }

    /// Who calls by an access token.
    ///
    /// # Errors
    /// 401 `unauthenticated`, or 503 when it cannot be decided.
    pub(crate) async fn recognise_access(&self, bearer: &str) -> Result<Authenticated, Problem> {
        let text = AccessTokenText::parse(bearer).ok_or_else(unauthenticated)?;
        let now = self.0.clock.now();
        let token = self.load_access(text.id(), now).await?.ok_or_else(unauthenticated)?;
        let same: bool = token.digest.as_slice().ct_eq(&self.0.pepper.digest(text.secret())).into();
        if !same || token.revoked || now >= token.expires_at {
            return Err(unauthenticated());
        }
        let subject = match token.bearer {
            Bearer::User(user) => Subject::User(user),
            Bearer::Service(service) => Subject::Service(service),
        };
        let principal = Principal { subject, scope: scope(token.domain) };
        Ok(Authenticated::Operator { principal, credential: Credential::AccessToken(token.assurance) })
    }

    async fn load_access(&self, id: TokenId, now: Timestamp) -> Result<Option<AccessToken>, Fault> {
        if let Some(token) = self.0.tokens.get(&id, now) {
            return Ok(Some(token));
        }
        let epoch = self.0.tokens.epoch();
        let token = store::access(self.0.db.pool(), id).await?;
        if let Some(token) = &token {
            self.0.tokens.put(epoch, id, token.clone(), now);
        }
        Ok(token)
    }

    /// Holds the person of a session in the caller's transaction, and says whether the session was not ended. What was
    /// remembered of it is not enough for something that outlives it: a sign-out everywhere has ended both, or waits.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) async fn hold(
        &self,
        tx: &mut Tx,
        (cookie, user): (&str, PrincipalId),
        now: Timestamp,
    ) -> Result<bool, Fault> {
        let Some(digest) = SessionSecret::parse(cookie).map(|secret| secret.digest()) else { return Ok(false) };
        store::lock_user(tx, user).await?;
        store::session_stands(tx, (&digest, user), now).await
    }

    /// Ends the session of a cookie, if there is one.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) async fn end(&self, cookie: &str, acting: impl FnOnce(Subject) -> Actor) -> Result<(), Fault> {
        let Some(digest) = SessionSecret::parse(cookie).map(|secret| secret.digest()) else { return Ok(()) };
        let Some(session) = store::session(self.0.db.pool(), &digest).await? else { return Ok(()) };
        let actor = acting(Subject::User(session.user));
        let mut tx = self.0.db.begin().await?;
        if store::revoke_session(&mut tx, &digest, actor.now).await?.is_some() {
            self.signed_out(&mut tx, (&actor, session.domain), "identity.sign-out", 1).await?;
        }
        tx.commit().await.map_err(Fault::from)?;
        self.0.sessions.evict(&digest);
        Ok(())
    }

    /// Ends every session of a User, and what stems from them: access tokens, and devices that have not fetched theirs.
    /// API tokens stay.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) async fn end_all(&self, actor: &Actor, scope: PrincipalScope) -> Result<(), Fault> {
        let domain = match scope {
            PrincipalScope::Platform => None,
            PrincipalScope::Domain(domain) => Some(domain),
        };
        let mut tx = self.0.db.begin().await?;
        let ended = store::revoke_of_user(&mut tx, actor.principal_id(), actor.now).await?;
        devices::deny_of_user(&mut tx, actor.principal_id()).await?;
        self.signed_out(&mut tx, (actor, domain), "identity.sign-out-global", ended).await?;
        tx.commit().await.map_err(Fault::from)?;
        self.forget_all();
        Ok(())
    }

    /// Ends, in the caller's transaction, what came through a binding that is switched off or deleted.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) async fn end_of_binding(&self, tx: &mut Tx, binding: Uuid, now: Timestamp) -> Result<(), Fault> {
        store::revoke_of_binding(tx, binding, now).await
    }

    /// To be called when a transaction that ended sessions of several people has committed.
    pub(crate) fn forget_all(&self) {
        self.0.sessions.clear();
        self.0.tokens.clear();
    }

    async fn signed_out(
        &self,
        tx: &mut Tx,
        (actor, domain): (&Actor, Option<DomainId>),
        action: &str,
        sessions_revoked: u64,
    ) -> Result<(), Fault> {
        let user = actor.principal_id();
        let payload = json!({
            "user_id": user, "cookie_cleared": true, "sessions_revoked": sessions_revoked, "reason": "user-initiated",
        });
        self.0.journal.announce(tx, actor, domain, EventName::UserSignedOut, payload).await?;
        let object = ObjectRef { kind: "user", id: user.to_string() };
        self.0.journal.record(tx, actor.record(domain, action, object)).await
    }

    /// Removes sessions and access tokens that ended. Returns how many rows went.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn sweep_once(&self, now: Timestamp) -> Result<u64, Fault> {
        let mut tx = self.0.db.begin().await?;
        let count = store::sweep(&mut tx, now).await?;
        tx.commit().await?;
        Ok(count)
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sessions")
    }
}
