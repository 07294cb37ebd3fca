//! Audit rows that arise at an edge and are written by control.

use serde::{Deserialize, Serialize};

use crate::{CorrelationId, DenialReason, DomainId, NodeId, Timestamp};

/// A refusal at an edge, on its way to the audit log of the authenticated Node's Domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditIntake {
    /// The chain: the Domain of the authenticated Node.
    pub domain: DomainId,
    /// Who was refused.
    pub node: NodeId,
    /// The relation or dotted action name, such as `telemetry_ingest`.
    pub relation: String,
    /// The object's kind, such as `node`.
    pub object_type: String,
    /// The object's id as the caller gave it, at most 64 bytes.
    pub object_id: String,
    /// Why.
    pub reason: DenialReason,
    /// How many further refusals of the same kind this row stands for.
    pub repeated: u32,
    /// The request.
    pub correlation_id: CorrelationId,
    /// When.
    pub occurred_at: Timestamp,
    /// The caller's address after proxy unwrapping.
    pub client_ip: Option<String>,
    /// The caller's `User-Agent`, cut at 256 bytes.
    pub user_agent: Option<String>,
}
