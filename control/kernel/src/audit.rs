//! The audit port: what a context hands over, in its own transaction.

use async_trait::async_trait;
use plexsphere_wire::{CorrelationId, DenialReason, DomainId, Timestamp};

use crate::{Fault, ObjectRef, Subject, Tx};

/// How a decision ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Granted.
    Granted,
    /// Denied.
    Denied(DenialReason),
}

/// Where a request came from; both absent for background work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestContext {
    /// The client's address after proxy unwrapping.
    pub ip: Option<String>,
    /// The `User-Agent`, cut at 256 bytes.
    pub user_agent: Option<String>,
}

/// One row to be. There is no member for free text, so nothing personal or secret can travel in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// The chain: a Domain's, or the platform's for `None`.
    pub domain: Option<DomainId>,
    /// Who acted.
    pub subject: Subject,
    /// A relation that was checked, or a dotted action name such as `domain.create`.
    pub relation: String,
    /// On what.
    pub object: ObjectRef,
    /// How it ended.
    pub outcome: Outcome,
    /// The request.
    pub correlation_id: CorrelationId,
    /// Where the request came from.
    pub context: RequestContext,
    /// When it was decided.
    pub occurred_at: Timestamp,
}

/// Takes rows. A row that cannot be enlisted fails its operation: no unaudited success.
#[async_trait]
pub trait AuditLog: Send + Sync + 'static {
    /// Enlists a row in the caller's transaction.
    ///
    /// # Errors
    /// [`Fault`] when the row cannot be written.
    async fn record(&self, tx: &mut Tx, record: AuditRecord) -> Result<(), Fault>;

    /// Writes a row in a transaction of its own, as for a denial.
    ///
    /// # Errors
    /// [`Fault`] when the row cannot be written.
    async fn record_alone(&self, record: AuditRecord) -> Result<(), Fault>;
}
