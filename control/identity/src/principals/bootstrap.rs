//! The first administrator of a fresh installation. All authority starts here, for no operation grants it.

use std::time::Duration;

use plexsphere_kernel::{Database, Fault, ObjectRef, Subject};
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

/// Makes the first administrator.
#[derive(Clone)]
pub struct FirstAdministrator {
    pub(crate) db: Database,
    pub(crate) journal: Journal,
    pub(crate) pepper: TokenPepper,
    pub(crate) cache: TokenCache,
}

impl FirstAdministrator {
    /// Makes the platform User `bootstrap-admin` and a one-time token of lifetime `ttl`, unless somebody else already
    /// administers the platform or a live bootstrap token exists. The text is returned to exactly one caller, once; it
    /// is stored nowhere. Safe to be called by many replicas at once.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn ensure(
        &self,
        env_prefix: &str,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Option<Zeroizing<String>>, Fault> {
        let mut tx = self.db.begin().await?;
        let installation = store::installation(&mut tx).await?;
        if installation.closed {
            return Ok(None);
        }
        if store::other_admin(&mut tx, installation.user).await? {
            store::close(&mut tx, installation.user, now).await?;
            if let (Some(user), Some(token)) = (installation.user, installation.token) {
                store::revoke(&mut tx, token, user, now).await?;
            }
            tx.commit().await?;
            if let Some(token) = installation.token {
                self.cache.evict(&token);
            }
            return Ok(None);
        }
        if let Some(token) = installation.token
            && store::token(&mut *tx, token).await?.is_some_and(|token| token.is_live(now))
        {
            return Ok(None);
        }
        let user = match installation.user {
            Some(user) => user,
            None => {
                let user = PrincipalId::mint(now);
                store::insert_platform_user(&mut tx, user, (ISSUER, SUBJECT, SUBJECT), now).await?;
                user
            }
        };
        store::grant_admin(&mut tx, user, now).await?;
        let text = ApiTokenText::mint(TokenId::mint(now))?;
        let digest = self.pepper.digest(text.secret());
        let expires_at = now.plus(ttl);
        store::insert_token(&mut tx, NewToken { text: &text, user, env_prefix, digest, created_at: now, expires_at })
            .await?;
        store::set_bootstrap(&mut tx, user, text.id).await?;
        let actor = Actor::background(Subject::User(user), now);
        let payload = json!({ "user_id": user, "token_id": text.id });
        self.journal.announce(&mut tx, &actor, None, EventName::AdminBootstrapped, payload).await?;
        self.journal.record(&mut tx, actor.record(None, "platform.bootstrap", ObjectRef::platform())).await?;
        tx.commit().await?;
        Ok(Some(text.render(env_prefix)))
    }
}
