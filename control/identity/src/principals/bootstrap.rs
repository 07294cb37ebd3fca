//! The first administrator of a fresh installation. All authority starts here, for no operation grants it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use plexsphere_kernel::{Database, Fault, ObjectRef, RelationTuple, Subject, TupleWriter, Tx};
use plexsphere_wire::{PrincipalId, Timestamp, TokenId};
use serde_json::json;
use zeroize::Zeroizing;

use super::model::ApiTokenText;
use super::service::TokenCache;
use super::store::{self, NewToken};
use crate::events::EventName;
use crate::journal::{Actor, Journal};
use crate::pepper::TokenPepper;

/// No identity provider can produce this issuer, so no sign-in can become this User.
const ISSUER: &str = "urn:plexsphere:bootstrap";
const SUBJECT: &str = "bootstrap-admin";

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
        let Some(user) = self.vacancy(&mut tx, now).await? else {
            tx.commit().await.map_err(Fault::from)?;
            return Ok(false);
        };
        let text = self.appoint(&mut tx, user, (env_prefix, ttl), now).await?;
        deliver(&text).map_err(DeliveryFault::Undelivered)?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(true)
    }

    /// Makes a platform administrator of a person, in the caller's transaction. The first administrator's door closes
    /// for ever: its token ends with the commit.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) async fn succeed(&self, tx: &mut Tx, user: PrincipalId, actor: &Actor) -> Result<(), Fault> {
        if store::is_admin(&mut **tx, user).await? {
            return Ok(());
        }
        self.grant(tx, user, actor.now).await?;
        self.journal.record(tx, actor.record(None, "platform.grant", ObjectRef::platform())).await?;
        self.vacancy(tx, actor.now).await.map(drop)
    }

    /// Makes a platform administrator of a User.
    async fn grant(&self, tx: &mut Tx, user: PrincipalId, now: Timestamp) -> Result<(), Fault> {
        store::grant_admin(tx, user, now).await?;
        self.tuples.write(tx, None, &[administration(user)]).await
    }

    /// The first administrator, who may not exist yet, if a token is to be made for it.
    async fn vacancy(&self, tx: &mut Tx, now: Timestamp) -> Result<Option<Option<PrincipalId>>, Fault> {
        let installation = store::installation(tx).await?;
        if installation.closed {
            return Ok(None);
        }
        if store::other_admin(tx, installation.user).await? {
            store::close(tx, installation.user, now).await?;
            if let Some(user) = installation.user {
                self.tuples.remove(tx, None, &[administration(user)]).await?;
            }
            if let (Some(user), Some(token)) = (installation.user, installation.token) {
                store::revoke(tx, token, Subject::User(user), now).await?;
                self.cache.evict(&token);
            }
            return Ok(None);
        }
        if let Some(token) = installation.token
            && store::token(&mut **tx, token).await?.is_some_and(|token| token.is_live(now))
        {
            return Ok(None);
        }
        Ok(Some(installation.user))
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
