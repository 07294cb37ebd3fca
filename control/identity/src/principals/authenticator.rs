//! Who calls: an operator by API token, a Node by its secret key.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plexsphere_kernel::http::pipeline::Throttle;
use plexsphere_kernel::principal::NodePlace;
use plexsphere_kernel::seams::NodeEntries;
use plexsphere_kernel::{
    Authenticated, Authenticator, Clock, Database, Fault, ObjectRef, Outcome, Principal, PrincipalScope, Subject,
};
use plexsphere_wire::directory::{CredentialVerdict, NodeEntry};
use plexsphere_wire::nsk::NskBearer;
use plexsphere_wire::{Code, DenialReason, Problem, Timestamp};

use super::model::{ApiTokenText, StoredToken};
use super::service::TokenCache;
use super::store;
use crate::journal::{Actor, Journal};
use crate::pepper::TokenPepper;

/// How long a use stays unrecorded behind the last recorded one.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// Authenticates against the database. A database that does not answer is 503, never 401.
pub struct PgAuthenticator {
    pub(crate) db: Database,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) journal: Journal,
    pub(crate) pepper: TokenPepper,
    pub(crate) cache: TokenCache,
    pub(crate) nodes: Arc<dyn NodeEntries>,
    /// Bounds the audit rows about revoked keys: one per Node and minute.
    pub(crate) revoked_rows: Throttle,
}

fn unauthenticated() -> Problem {
    Problem::new(Code::Unauthenticated, "A valid credential is needed.")
}

impl PgAuthenticator {
    async fn load(&self, text: &ApiTokenText, now: Timestamp) -> Result<Option<StoredToken>, Fault> {
        if let Some(token) = self.cache.get(&text.id, now) {
            return Ok(Some(token));
        }
        let epoch = self.cache.epoch();
        let Some(token) = store::token(self.db.pool(), text.id).await? else { return Ok(None) };
        self.cache.put(epoch, token.id, token.clone(), now);
        Ok(Some(token))
    }

    /// A use that cannot be recorded is no reason to refuse it.
    async fn touch(&self, token: &StoredToken, now: Timestamp) {
        if token.last_used_at.is_some_and(|at| now.since(at) < TOUCH_EVERY) {
            return;
        }
        let epoch = self.cache.epoch();
        match store::touch(self.db.pool(), token.id, now).await {
            Ok(()) => {
                let touched = StoredToken { last_used_at: Some(now), ..token.clone() };
                self.cache.put(epoch, token.id, touched, now);
            }
            Err(fault) => tracing::debug!(cause = ?fault, "the use of a token was not recorded"),
        }
    }

    async fn record_revoked(&self, entry: &NodeEntry, now: Timestamp) -> Result<(), Problem> {
        if self.revoked_rows.admit(&entry.node.to_string(), now).is_err() {
            return Ok(());
        }
        let actor = Actor::background(Subject::Node(entry.node), now);
        let mut record = actor.record(Some(entry.domain), "node.authenticate", ObjectRef::node(entry.node));
        record.outcome = Outcome::Denied(DenialReason::InsufficientRelation);
        Ok(self.journal.record_alone(record).await?)
    }
}

#[async_trait]
impl Authenticator for PgAuthenticator {
    async fn operator(&self, bearer: &str) -> Result<Authenticated, Problem> {
        let text = ApiTokenText::parse(bearer).ok_or_else(unauthenticated)?;
        let now = self.clock.now();
        let token = self.load(&text, now).await?.ok_or_else(unauthenticated)?;
        if !token.admits(&self.pepper.digest(text.secret()), now) {
            return Err(unauthenticated());
        }
        self.touch(&token, now).await;
        let scope = token.domain.map_or(PrincipalScope::Platform, PrincipalScope::Domain);
        let principal = Principal { subject: Subject::User(token.user), scope };
        Ok(Authenticated::Operator { principal, token: Some((token.id, token.expires_at)) })
    }

    async fn node(&self, bearer: &str) -> Result<Authenticated, Problem> {
        let presented = NskBearer::parse(bearer)
            .ok_or_else(|| Problem::new(Code::Unauthorized, "The credential is not a Node's."))?;
        let invalid = || Problem::new(Code::NskInvalid, "The key is none of this Node's.");
        let entry = self.nodes.node_entry(presented.node).await?.ok_or_else(invalid)?;
        match entry.judge(&presented.digest()) {
            CredentialVerdict::Live => Ok(Authenticated::Node(NodePlace {
                node: entry.node,
                domain: entry.domain,
                project: entry.project,
                resource: entry.resource,
            })),
            CredentialVerdict::Unknown => Err(invalid()),
            CredentialVerdict::Revoked => {
                self.record_revoked(&entry, self.clock.now()).await?;
                Err(Problem::new(Code::NskRevoked, "The key was revoked."))
            }
        }
    }
}
