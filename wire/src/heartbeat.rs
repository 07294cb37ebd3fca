//! Heartbeats between edge and control: coalesced batches and their verdicts.

use serde::{Deserialize, Serialize};

use crate::{NodeId, Timestamp};

/// The most heartbeats one batch carries.
pub const MAX_BATCH: usize = 500;

/// The largest batch, encoded, in bytes: what a server takes as one message unless it is told otherwise.
pub const MAX_BATCH_BYTES: usize = 1024 * 1024;

/// Value of [`HEADER_ERROR`]: control could not read the batch, which is a fault of whoever wrote it.
pub const ERROR_MALFORMED: &str = "malformed_heartbeat_batch";

/// Header of an empty reply: why control did not take a batch, such as `datastore_unavailable`.
pub const HEADER_ERROR: &str = "Plexsphere-Error";

/// One accepted heartbeat of an authenticated Node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Who sent it.
    pub node: NodeId,
    /// When the edge took it.
    pub received_at: Timestamp,
    /// The agent's binary digest, lower-case hex of 32 bytes.
    pub binary_checksum: String,
    /// The agent's version, not blank, at most 4,096 bytes.
    pub binary_version: String,
    /// What the agent says of its NAT: the JSON object as text.
    pub nat_summary: String,
}

/// What an edge sends on `plexsphere.heartbeats.v1.<shard>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatBatch {
    /// At most [`MAX_BATCH`] entries and [`MAX_BATCH_BYTES`]; of several of one Node only the newest counts.
    pub heartbeats: Vec<Heartbeat>,
}

/// What a Node is told in return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatVerdict {
    /// The Node.
    pub node: NodeId,
    /// The time of the commit.
    pub accepted_at: Timestamp,
    /// Whether the Node should pull its state.
    pub reconcile: bool,
    /// Whether a key rotation waits for the Node.
    pub rotate_keys: bool,
}

/// Control's reply, sent after the commit; a Node without a verdict is no longer known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatVerdicts {
    /// One entry per known Node of the batch.
    pub verdicts: Vec<HeartbeatVerdict>,
}
