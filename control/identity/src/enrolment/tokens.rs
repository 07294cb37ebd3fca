//! Use cases of bootstrap tokens: issue, list, read, revoke.

use std::time::Duration;

use plexsphere_kernel::{Database, Fault, ObjectRef};
use plexsphere_wire::{Code, Problem, ProjectId, Timestamp, TokenId};
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::hashing::Hasher;
use super::store;
use super::token::{self, BootstrapTokenText, StoredToken, TokenKind, TokenState};
use crate::events::EventName;
use crate::journal::{Actor, Journal};
use crate::pepper::TokenPepper;
use crate::text;

/// Why a request about a bootstrap token is refused.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapTokenRefusal {
    /// The kind is neither `node` nor `bridge`.
    #[error("`kind` must be `node` or `bridge`")]
    Kind,
    /// The env prefix breaks its rule.
    #[error("`env_prefix` must be 1 to 32 letters from a to z")]
    EnvPrefix,
    /// The lifetime is out of range.
    #[error("`ttl_seconds` must lie between 300 and 86400")]
    Ttl,
    /// There is no such Project.
    #[error("there is no such project")]
    ProjectNotFound,
    /// There is no such token in the Project.
    #[error("there is no such bootstrap token")]
    NotFound,
    /// The token was redeemed.
    #[error("the token was consumed at {0}")]
    Consumed(Timestamp),
    /// The token was revoked before.
    #[error("the token was revoked at {0}")]
    Revoked(Timestamp),
    /// Something broke.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl BootstrapTokenRefusal {
    /// The code on the wire.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Kind => Code::InvalidKind,
            Self::EnvPrefix => Code::InvalidEnvPrefix,
            Self::Ttl => Code::TtlOutOfRange,
            Self::ProjectNotFound => Code::ProjectNotFound,
            Self::NotFound => Code::BootstrapTokenNotFound,
            Self::Consumed(_) => Code::TokenConsumedConflict,
            Self::Revoked(_) => Code::TokenRevokedConflict,
            Self::Fault(_) => Code::Internal,
        }
    }
}

impl From<BootstrapTokenRefusal> for Problem {
    fn from(refusal: BootstrapTokenRefusal) -> Self {
        match refusal {
            BootstrapTokenRefusal::Fault(fault) => fault.into(),
            other => Self::new(other.code(), text::sentence(&other)),
        }
    }
}

/// The use cases.
#[derive(Clone)]
pub struct BootstrapTokens {
    db: Database,
    journal: Journal,
    pepper: TokenPepper,
    hasher: Hasher,
}

impl BootstrapTokens {
    pub(crate) fn new(db: Database, journal: Journal, pepper: TokenPepper, hasher: Hasher) -> Self {
        Self { db, journal, pepper, hasher }
    }

    /// Issues a token. Its text is returned this once and is stored nowhere.
    ///
    /// # Errors
    /// [`BootstrapTokenRefusal`].
    pub async fn issue(
        &self,
        actor: &Actor,
        project: ProjectId,
        (kind, env_prefix): (&str, &str),
        ttl_seconds: i64,
    ) -> Result<(StoredToken, Zeroizing<String>), BootstrapTokenRefusal> {
        let kind = TokenKind::parse(kind).ok_or(BootstrapTokenRefusal::Kind)?;
        if !token::is_env_prefix(env_prefix) {
            return Err(BootstrapTokenRefusal::EnvPrefix);
        }
        if !token::TTL_SECONDS.contains(&ttl_seconds) {
            return Err(BootstrapTokenRefusal::Ttl);
        }
        let text = BootstrapTokenText { env_prefix: env_prefix.to_owned(), project, kind }.mint()?;
        // Before the transaction: no lock is held while a hash is computed.
        let hash = self.hasher.hash(text.clone()).await?;
        let mut tx = self.db.begin().await?;
        let domain = store::parent(&mut tx, project).await?.ok_or(BootstrapTokenRefusal::ProjectNotFound)?;
        let token = StoredToken {
            id: TokenId::mint(actor.now),
            project,
            domain,
            kind,
            env_prefix: env_prefix.to_owned(),
            hash,
            issued_at: actor.now,
            expires_at: actor.now.plus(Duration::from_secs(u64::try_from(ttl_seconds).unwrap_or(0))),
            issued_by: actor.principal_id(),
            consumed_at: None,
            revoked_at: None,
        };
        store::insert(&mut tx, &token, &self.pepper.digest(text.as_bytes())).await?;
        let payload =
            json!({ "token_id": token.id, "project_id": project, "domain_id": domain, "kind": kind.as_str() });
        self.journal.announce(&mut tx, actor, Some(domain), EventName::BootstrapTokenIssued, payload).await?;
        let record = actor.record(Some(domain), "bootstrap_token.issue", object(token.id));
        self.journal.record(&mut tx, record).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok((token, text))
    }

    pub(super) async fn page(
        &self,
        project: ProjectId,
        after: Option<(Timestamp, Uuid)>,
        limit: i64,
    ) -> Result<Vec<StoredToken>, BootstrapTokenRefusal> {
        let rows = store::list(self.db.pool(), project, after, limit).await?;
        if rows.is_empty() && !store::knows_project(self.db.pool(), project).await? {
            return Err(BootstrapTokenRefusal::ProjectNotFound);
        }
        Ok(rows)
    }

    pub(super) async fn get(&self, project: ProjectId, id: TokenId) -> Result<StoredToken, BootstrapTokenRefusal> {
        store::get(self.db.pool(), project, id).await?.ok_or(BootstrapTokenRefusal::NotFound)
    }

    /// Revokes a token that is not redeemed, also an expired one.
    ///
    /// # Errors
    /// [`BootstrapTokenRefusal`]; a token that ended says how and when.
    pub async fn revoke(&self, actor: &Actor, project: ProjectId, id: TokenId) -> Result<(), BootstrapTokenRefusal> {
        let mut tx = self.db.begin().await?;
        let Some(domain) = store::revoke(&mut tx, project, id, actor.principal_id(), actor.now).await? else {
            let token = store::get(&mut *tx, project, id).await?.ok_or(BootstrapTokenRefusal::NotFound)?;
            return Err(match (token.consumed_at, token.revoked_at) {
                (Some(at), _) => BootstrapTokenRefusal::Consumed(at),
                (None, Some(at)) => BootstrapTokenRefusal::Revoked(at),
                (None, None) => Fault::Invariant("a token that cannot be revoked has ended").into(),
            });
        };
        let payload = json!({ "token_id": id, "project_id": project, "domain_id": domain });
        self.journal.announce(&mut tx, actor, Some(domain), EventName::BootstrapTokenRevoked, payload).await?;
        let record = actor.record(Some(domain), "bootstrap_token.revoke", object(id));
        self.journal.record(&mut tx, record).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(())
    }

    /// Finds the token that a text is, or `None` when it is none of ours. The slow hash runs only behind the tag.
    pub(super) async fn authenticate(
        &self,
        plaintext: &Zeroizing<String>,
        parsed: &BootstrapTokenText,
    ) -> Result<Option<StoredToken>, Fault> {
        let tag = self.pepper.digest(plaintext.as_bytes());
        let Some(token) = store::by_tag(self.db.pool(), &tag).await? else { return Ok(None) };
        let authentic = self.hasher.verify(plaintext.clone(), token.hash.clone()).await?;
        Ok(Some(token).filter(|token| authentic && token.agrees(parsed)))
    }

    /// Removes tokens 90 days past their end; spent nonces go with them. Returns how many went.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn sweep_once(&self, now: Timestamp) -> Result<u64, Fault> {
        store::sweep(self.db.pool(), now).await
    }
}

/// The audit object of a token: its id, which opens nothing.
fn object(token: TokenId) -> ObjectRef {
    ObjectRef { kind: "bootstrap_token", id: token.to_string() }
}

/// The state of a token under its lock, as a refusal.
pub(super) fn refuse_ended(state: TokenState) -> Result<(), super::RegisterRefusal> {
    match state {
        TokenState::Live => Ok(()),
        TokenState::Consumed(_) => Err(super::RegisterRefusal::TokenConsumed),
        TokenState::Expired => Err(super::RegisterRefusal::TokenExpired),
        TokenState::Revoked(_) => Err(super::RegisterRefusal::TokenRevoked),
    }
}
