//! The first administrator of a fresh installation. All authority starts here, for no operation grants it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use plexsphere_kernel::{Database, Fault, ObjectRef, RelationTuple, Subject, TupleWriter, Tx};
use plexsphere_wire::{PrincipalId, Timestamp, TokenId};
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::model::ApiTokenText;
use super::service::{self, TokenCache};
use super::store::{self, NewToken};
use crate::events::EventName;
use crate::journal::{Actor, Journal};
use crate::pepper::TokenPepper;
use crate::sessions::revoke_of_user;

/// No identity provider can produce this issuer, so no sign-in can become this User.
const ISSUER: &str = "urn:plexsphere:bootstrap";
const SUBJECT: &str = "bootstrap-admin";
/// Who closes the door at a start that finds an administrator.
const DOORKEEPER: Subject = Subject::System(Uuid::from_u128(0x706c_6578_0000_7000_8000_0000_0000_0005));

/// What makes an administrator of a User.
fn administration(user: PrincipalId) -> RelationTuple {
    let person = ObjectRef { kind: "user", id: user.to_string() };
    RelationTuple::new(ObjectRef::platform(), "admin", person)
}

/// Why there is no token of the first administrator.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryFault<E> {
    /// The text could not be handed over; nothing was made.
    #[error("the token could not be delivered")]
    Undelivered(#[source] E),
    /// Something broke.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// API tokens that a transaction ended, to be forgotten once it has committed.
#[derive(Debug, Default)]
#[must_use = "hand it to `forget` after the commit"]
pub(crate) struct EndedTokens(Vec<TokenId>);

/// Whether a token is to be made for the first administrator.
enum Vacancy {
    /// For this one, who may not exist yet.
    Open(Option<PrincipalId>),
    /// Somebody administers the platform, or may yet; what the door's closing has ended.
    Filled(EndedTokens),
}

/// Makes the first administrator.
#[derive(Clone)]
pub struct FirstAdministrator {
    pub(crate) db: Database,
    pub(crate) journal: Journal,
    pub(crate) pepper: TokenPepper,
    pub(crate) cache: TokenCache,
    pub(crate) tuples: Arc<dyn TupleWriter>,
}

impl FirstAdministrator {
    /// [`Self::ensure_delivered`] for callers that cannot fail to hand the text over.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn ensure(
        &self,
        env_prefix: &str,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Option<Zeroizing<String>>, Fault> {
        let mut text = None;
        let keep = |made: &Zeroizing<String>| {
            text = Some(made.clone());
            Ok::<(), Infallible>(())
        };
        match self.ensure_delivered(env_prefix, ttl, now, keep).await {
            Ok(_) => Ok(text),
            Err(DeliveryFault::Fault(fault)) => Err(fault),
            Err(DeliveryFault::Undelivered(never)) => match never {},
        }
    }

    /// Makes the platform User `bootstrap-admin` and a one-time token of lifetime `ttl`, unless somebody else already
    /// administers the platform or a live bootstrap token exists. Safe to be called by many replicas at once.
    ///
    /// `deliver` gets the text, once, before anything is committed; it is stored nowhere. When it fails, nothing was
    /// made, and the next start tries again; so it returns only when the text is safe, as in a file that was synced.
    /// `true` when a token was made and delivered.
    ///
    /// # Errors
    /// [`DeliveryFault`].
    pub async fn ensure_delivered<E>(
        &self,
        env_prefix: &str,
        ttl: Duration,
        now: Timestamp,
        deliver: impl FnOnce(&Zeroizing<String>) -> Result<(), E> + Send,
    ) -> Result<bool, DeliveryFault<E>> {
        let mut tx = self.db.begin().await?;
        let user = match self.vacancy(&mut tx, &Actor::background(DOORKEEPER, now)).await? {
            Vacancy::Open(user) => user,
            Vacancy::Filled(ended) => {
                tx.commit().await.map_err(Fault::from)?;
                self.forget(&ended);
                return Ok(false);
            }
        };
        let text = self.appoint(&mut tx, user, (env_prefix, ttl), now).await?;
        deliver(&text).map_err(DeliveryFault::Undelivered)?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(true)
    }

    /// Makes a platform administrator of a person, in the caller's transaction. The first administrator's door closes
    /// for ever: all of its tokens end with the commit, to be forgotten after it.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) async fn succeed(&self, tx: &mut Tx, user: PrincipalId, actor: &Actor) -> Result<EndedTokens, Fault> {
        if store::is_admin(&mut **tx, user).await? {
            return Ok(EndedTokens::default());
        }
        self.grant(tx, user, actor.now).await?;
        self.journal.record(tx, actor.record(None, "platform.grant", ObjectRef::platform())).await?;
        match self.vacancy(tx, actor).await? {
            Vacancy::Filled(ended) => Ok(ended),
            Vacancy::Open(_) => Ok(EndedTokens::default()),
        }
    }

    /// To be called when the transaction that ended tokens has committed.
    pub(crate) fn forget(&self, ended: &EndedTokens) {
        ended.0.iter().for_each(|token| self.cache.evict(token));
    }

    /// Makes a platform administrator of a User.
    async fn grant(&self, tx: &mut Tx, user: PrincipalId, now: Timestamp) -> Result<(), Fault> {
        store::grant_admin(tx, user, now).await?;
        self.tuples.write(tx, None, &[administration(user)]).await?;
        Ok(())
    }

    /// Whether a token is to be made. The door closes here when somebody else administers the platform.
    async fn vacancy(&self, tx: &mut Tx, actor: &Actor) -> Result<Vacancy, Fault> {
        let installation = store::installation(tx).await?;
        if installation.closed {
            return Ok(Vacancy::Filled(EndedTokens::default()));
        }
        if store::other_admin(tx, installation.user).await? {
            store::close(tx, installation.user, actor.now).await?;
            let ended = match installation.user {
                Some(user) => self.dismiss(tx, user, actor).await?,
                None => EndedTokens::default(),
            };
            return Ok(Vacancy::Filled(ended));
        }
        if let Some(token) = installation.token
            && store::token(&mut **tx, token).await?.is_some_and(|token| token.is_live(actor.now))
        {
            return Ok(Vacancy::Filled(EndedTokens::default()));
        }
        Ok(Vacancy::Open(installation.user))
    }

    /// Ends everything by which the first administrator can call.
    async fn dismiss(&self, tx: &mut Tx, user: PrincipalId, actor: &Actor) -> Result<EndedTokens, Fault> {
        self.tuples.remove(tx, None, &[administration(user)]).await?;
        revoke_of_user(tx, user, actor.now).await?;
        let owner = Subject::User(user);
        let ended = store::revoke_all(tx, owner, actor.now).await?;
        for token in &ended {
            let payload = service::ids(*token, owner);
            self.journal.announce(tx, actor, None, EventName::ApiTokenRevoked, payload).await?;
            self.journal.record(tx, actor.record(None, service::REVOKE, service::object(*token))).await?;
        }
        Ok(EndedTokens(ended))
    }

    /// The text of a token for the first administrator, who is made if need be.
    async fn appoint(
        &self,
        tx: &mut Tx,
        user: Option<PrincipalId>,
        (env_prefix, ttl): (&str, Duration),
        now: Timestamp,
    ) -> Result<Zeroizing<String>, Fault> {
        let user = match user {
            Some(user) => user,
            None => {
                let user = PrincipalId::mint(now);
                store::insert_platform_user(tx, user, (ISSUER, SUBJECT, SUBJECT), now).await?;
                let place =
                    RelationTuple::parent(ObjectRef { kind: "user", id: user.to_string() }, ObjectRef::platform());
                self.tuples.write(tx, None, &[place]).await?;
                user
            }
        };
        self.grant(tx, user, now).await?;
        let text = ApiTokenText::mint(TokenId::mint(now))?;
        let digest = self.pepper.digest(text.secret());
        let (owner, expires_at) = (Subject::User(user), now.plus(ttl));
        store::insert_token(tx, NewToken { text: &text, owner, env_prefix, digest, created_at: now, expires_at })
            .await?;
        store::set_bootstrap(tx, user, text.id).await?;
        let actor = Actor::background(Subject::User(user), now);
        let payload = json!({ "user_id": user, "token_id": text.id });
        self.journal.announce(tx, &actor, None, EventName::AdminBootstrapped, payload).await?;
        self.journal.record(tx, actor.record(None, "platform.bootstrap", ObjectRef::platform())).await?;
        Ok(text.render(env_prefix))
    }
}
