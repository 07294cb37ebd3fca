//! Audit rows that arise outside control and are written by it: refusals at an edge, and deeds of the system's own parts.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{CorrelationId, DenialReason, DomainId, NodeId, Timestamp};

/// The command line as the subject of audit rows: an operator who works on the parts themselves, past the API.
pub const COMMAND_LINE: Uuid = Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0103);

/// An edge's event gateway as the subject of audit rows: it refuses what the event stream carries.
pub const EVENT_GATEWAY: Uuid = Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0104);

/// The body of a message of the audit intake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Intake {
    /// What an edge refused a Node.
    Refusal(AuditIntake),
    /// What a part of the system did or refused.
    System(SystemIntake),
}

/// A row of the system's own: of a role, or of an operator at the command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemIntake {
    /// The chain: a Domain's, or without one the platform's.
    pub domain: Option<DomainId>,
    /// The part, by its fixed id, such as [`COMMAND_LINE`].
    pub subject: Uuid,
    /// The dotted action name, such as `telemetry.replay_dead`.
    pub relation: String,
    /// The object's kind, such as `dead_letters`.
    pub object_type: String,
    /// The object's id, at most 256 bytes.
    pub object_id: String,
    /// Why it was refused; absent for what was done.
    pub denied: Option<DenialReason>,
    /// How many further deeds of the same kind this row stands for.
    pub repeated: u32,
    /// The request, or one made for the deed.
    pub correlation_id: CorrelationId,
    /// When.
    pub occurred_at: Timestamp,
}

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
