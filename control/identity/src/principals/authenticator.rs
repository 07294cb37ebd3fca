//! Who calls: an operator by API token, access token or session, a Node by its secret key.
//!
//! A Node's key that was found good is remembered: in place of asking, until a change of the Node is heard (for five
//! seconds where changes are not heard), and for ten minutes while the database cannot be asked, so that a Node that was
//! here before is told of an outage what memory knows, and never 401.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plexsphere_kernel::audit::RequestContext;
use plexsphere_kernel::http::pipeline::Throttle;
use plexsphere_kernel::principal::NodePlace;
use plexsphere_kernel::seams::NodeEntries;
use plexsphere_kernel::{
    Authenticated, Authenticator, Clock, Credential, Database, Fault, ObjectRef, Outcome, Subject,
};
use plexsphere_wire::directory::{CredentialVerdict, NodeEntry};
use plexsphere_wire::nsk::NskBearer;
use plexsphere_wire::{Code, CorrelationId, DenialReason, Problem, Timestamp};

use super::model::{ApiTokenText, StoredToken};
use super::service::TokenCache;
use super::store;
use super::verdicts::Verdicts;
use crate::journal::{Actor, Journal};
use crate::pepper::TokenPepper;
use crate::sessions::{AccessTokenText, Sessions};

/// How long a use stays unrecorded behind the last recorded one.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// The action of audit rows about refused keys.
pub(crate) const AUTHENTICATE: &str = "node.authenticate";

/// Authenticates against the database. A database that does not answer is 503, never 401.
pub struct PgAuthenticator {
    pub(crate) db: Database,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) journal: Journal,
    pub(crate) pepper: TokenPepper,
    pub(crate) cache: TokenCache,
    pub(crate) sessions: Sessions,
    pub(crate) nodes: Arc<dyn NodeEntries>,
    pub(crate) verdicts: Arc<Verdicts>,
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
        match store::touch(self.db.pool(), token.id, now).await {
            Ok(()) => self.cache.amend(&token.id, |kept| kept.last_used_at = Some(now)),
            Err(fault) => tracing::debug!(cause = ?fault, "the use of a token was not recorded"),
        }
    }

    /// Whose key it is, from memory or from the database.
    async fn place_of(
        &self,
        presented: &NskBearer,
        actor: impl FnOnce(Subject) -> Actor,
    ) -> Result<NodePlace, Problem> {
        let (digest, now) = (presented.digest(), self.clock.now());
        if let Some(place) = self.verdicts.get(presented.node, &digest, now) {
            return Ok(place);
        }
        let epoch = self.verdicts.epoch();
        let entry = match self.nodes.node_entry(presented.node).await {
            Ok(entry) => entry,
            Err(fault) if fault.is_unreachable() => {
                let known = self.verdicts.in_outage(&digest, now).ok_or(fault)?;
                tracing::debug!(node = %known.node, "a node is recognised from memory");
                return Ok(known);
            }
            Err(fault) => return Err(fault.into()),
        };
        let invalid = || Problem::new(Code::NskInvalid, "The key is none of this Node's.");
        let verdict = entry.as_ref().map_or(CredentialVerdict::Unknown, |entry| entry.judge(&digest));
        match (verdict, entry) {
            (CredentialVerdict::Live, Some(entry)) => {
                let NodeEntry { node, domain, project, resource, .. } = entry;
                let place = NodePlace { node, domain, project, resource };
                self.verdicts.put(&epoch, digest, place.clone(), now);
                Ok(place)
            }
            (CredentialVerdict::Revoked, Some(entry)) => {
                self.verdicts.forget(&digest);
                self.record_revoked(&entry, &actor(Subject::Node(entry.node))).await?;
                Err(Problem::new(Code::NskRevoked, "The key was revoked."))
            }
            (CredentialVerdict::Unknown, _) | (_, None) => {
                self.verdicts.forget(&digest);
                Err(invalid())
            }
        }
    }

    async fn record_revoked(&self, entry: &NodeEntry, actor: &Actor) -> Result<(), Problem> {
        let what = format!("{}|{}", entry.node, Code::NskRevoked.as_str());
        if self.revoked_rows.admit(&what, actor.now).is_err() {
            return Ok(());
        }
        let mut record = actor.record(Some(entry.domain), AUTHENTICATE, ObjectRef::node(entry.node));
        record.outcome = Outcome::Denied(DenialReason::InsufficientRelation);
        Ok(self.journal.record_alone(record).await?)
    }
}

fn parse(bearer: &str) -> Result<NskBearer, Problem> {
    NskBearer::parse(bearer).ok_or_else(|| Problem::new(Code::Unauthorized, "The credential is not a Node's."))
}

#[async_trait]
impl Authenticator for PgAuthenticator {
    async fn operator(&self, bearer: &str) -> Result<Authenticated, Problem> {
        if AccessTokenText::is_meant(bearer) {
            return self.sessions.recognise_access(bearer).await;
        }
        let text = ApiTokenText::parse(bearer).ok_or_else(unauthenticated)?;
        let now = self.clock.now();
        let token = self.load(&text, now).await?.ok_or_else(unauthenticated)?;
        let ends = token.admits(&self.pepper.digest(text.secret()), now).ok_or_else(unauthenticated)?;
        self.touch(&token, now).await;
        let credential = Credential::ApiToken { id: token.id, expires_at: ends };
        Ok(Authenticated::Operator { principal: token.principal(), credential })
    }

    async fn session(&self, id: &str) -> Result<Authenticated, Problem> {
        self.sessions.recognise(id).await
    }

    async fn node(&self, bearer: &str) -> Result<Authenticated, Problem> {
        let now = self.clock.now();
        let place = self.place_of(&parse(bearer)?, |subject| Actor::background(subject, now)).await?;
        Ok(Authenticated::Node(place))
    }

    async fn node_of(
        &self,
        bearer: &str,
        correlation_id: &CorrelationId,
        context: &RequestContext,
    ) -> Result<Authenticated, Problem> {
        let now = self.clock.now();
        let actor = |subject| Actor { subject, correlation_id: correlation_id.clone(), context: context.clone(), now };
        Ok(Authenticated::Node(self.place_of(&parse(bearer)?, actor).await?))
    }
}
