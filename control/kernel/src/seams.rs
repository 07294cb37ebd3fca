//! Seams between contexts that more than one of them needs. Each is implemented by one context and handed over where
//! the program is put together.

mod node_state;

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use ipnet::IpNet;
use plexsphere_wire::directory::{DomainEntry, NodeEntry};
use plexsphere_wire::{DomainId, NodeId, ProjectId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Fault, Tx};

pub use node_state::{NodeStateWriter, StateKind, StateRefusal, StateWrite};

/// When a silent Node counts as stale and as unreachable. `heartbeat ≤ stale ≤ unreachable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReachabilityPolicy {
    /// How often agents are asked to send a heartbeat.
    pub heartbeat_interval: Duration,
    /// Silence after which a Node is stale.
    pub stale_after: Duration,
    /// Silence after which a Node is unreachable.
    pub unreachable_after: Duration,
}

impl Default for ReachabilityPolicy {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(30),
            stale_after: Duration::from_secs(90),
            unreachable_after: Duration::from_secs(300),
        }
    }
}

/// A Node that joins the mesh of its Domain.
#[derive(Clone, Debug)]
pub struct Join {
    /// The Node.
    pub node: NodeId,
    /// Its Domain.
    pub domain: DomainId,
    /// Its Project.
    pub project: ProjectId,
    /// Its Curve25519 public key.
    pub public_key: [u8; 32],
    /// The Domain's pool.
    pub pool: IpNet,
    /// The Project's own sub-range, if it has one: addresses come from it alone.
    pub sub_range: Option<IpNet>,
    /// Every sub-range of the Domain: excluded for Projects without one.
    pub reserved: Vec<IpNet>,
    /// Now.
    pub now: Timestamp,
}

/// A Peer as other Nodes program it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = RegisterPeer)]
pub struct PeerView {
    /// The Node.
    pub node_id: NodeId,
    /// Its mesh address in canonical text.
    #[schema(min_length = 1)]
    pub mesh_ip: String,
    /// Its public key: standard-padded base64 of 32 bytes.
    #[schema(min_length = 44, max_length = 44, pattern = "^[A-Za-z0-9+/]{43}=$")]
    pub public_key: String,
    /// Where to reach it, `host:port`, if anything is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback_endpoint: Option<String>,
}

/// What a Node got by joining.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its address, for life.
    pub mesh_ip: IpAddr,
    /// Every other live Peer of the Domain, by Node id.
    pub peers: Vec<PeerView>,
}

/// Why a Node cannot join.
#[derive(Debug, thiserror::Error)]
pub enum JoinRefusal {
    /// No free address in the Domain's pool.
    #[error("the pool of the domain has no free address")]
    PoolExhausted,
    /// No free address in the Project's sub-range.
    #[error("the sub-range of the project has no free address")]
    SubrangeExhausted,
    /// The Domain's allocation lock was not to be had within 2 s.
    #[error("too many registrations at once")]
    AllocatorContention,
    /// The public key is live elsewhere in the Domain.
    #[error("the public key is in use")]
    PublicKeyInUse,
    /// Something broke.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Why a Node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaveReason {
    /// Its Resource was deleted.
    ResourceDeleted,
    /// The broker took its substrate down.
    Teardown,
    /// Another registration on its single-Node Resource took its place.
    Superseded,
    /// An operator ended it.
    Operator,
}

impl LeaveReason {
    /// The word in events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ResourceDeleted => "resource_deleted",
            Self::Teardown => "teardown",
            Self::Superseded => "superseded",
            Self::Operator => "operator",
        }
    }
}

/// The mesh as enrolment and tenancy see it. Implemented by the mesh context.
#[async_trait]
pub trait MeshMembership: Send + Sync + 'static {
    /// Takes note of a new or changed Domain's thresholds and pool.
    ///
    /// # Errors
    /// [`Fault`].
    async fn set_policy(
        &self,
        tx: &mut Tx,
        domain: DomainId,
        policy: ReachabilityPolicy,
        pool: IpNet,
    ) -> Result<(), Fault>;

    /// Asks every Node of a Domain to reconcile, because something changed that all of them hold.
    ///
    /// # Errors
    /// [`Fault`].
    async fn request_reconcile(&self, tx: &mut Tx, domain: DomainId, now: Timestamp) -> Result<(), Fault>;

    /// Forgets a Domain that ends without live Nodes: its thresholds, its version, its cooling addresses.
    ///
    /// # Errors
    /// [`Fault`].
    async fn forget_domain(&self, tx: &mut Tx, domain: DomainId) -> Result<(), Fault>;

    /// Allocates an address, inserts Peer and reachability row, and appends `peer_registered` and `peer_psk_assigned`.
    ///
    /// # Errors
    /// [`JoinRefusal`]; the caller rolls back.
    async fn join(&self, tx: &mut Tx, join: Join) -> Result<Joined, JoinRefusal>;

    /// Retires the Peer, cools its address and appends `peer_deregistered`. A Node without a live Peer is left alone.
    ///
    /// # Errors
    /// [`Fault`].
    async fn leave(&self, tx: &mut Tx, node: NodeId, reason: LeaveReason, now: Timestamp) -> Result<(), Fault>;

    /// [`Self::leave`] for many Nodes of one Domain at once, in a number of statements that hardly grows with theirs.
    ///
    /// # Errors
    /// [`Fault`].
    async fn leave_many(
        &self,
        tx: &mut Tx,
        domain: DomainId,
        nodes: &[NodeId],
        reason: LeaveReason,
        now: Timestamp,
    ) -> Result<(), Fault>;
}

/// The public half of a Domain's signing key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicSigningKey {
    /// Its name.
    pub kid: String,
    /// Standard-padded base64 of the raw 32 bytes.
    pub public_key: String,
}

/// The signing keys as tenancy and enrolment see them. Implemented by the signing context.
#[async_trait]
pub trait SigningKeys: Send + Sync + 'static {
    /// Makes the first key of a Domain unless it has one.
    ///
    /// # Errors
    /// [`Fault`]; registration then answers 503 `signing_unavailable`.
    async fn ensure(&self, tx: &mut Tx, domain: DomainId, now: Timestamp) -> Result<(), Fault>;

    /// Destroys all keys of a Domain that is deleted in this transaction.
    ///
    /// # Errors
    /// [`Fault`].
    async fn forget(&self, tx: &mut Tx, domain: DomainId, now: Timestamp) -> Result<(), Fault>;

    /// The Domain's current key.
    ///
    /// # Errors
    /// [`Fault`], also when there is none.
    async fn current(&self, tx: &mut Tx, domain: DomainId) -> Result<PublicSigningKey, Fault>;
}

/// Which signing keys Nodes pin: the key that each received when it registered. Implemented by the identity context.
#[async_trait]
pub trait PinnedKeys: Send + Sync + 'static {
    /// How many live Nodes pin each of these keys, by kid; keys that none pins are left out.
    ///
    /// # Errors
    /// [`Fault`].
    async fn pinned(&self, keys: &[(DomainId, String)]) -> Result<HashMap<String, u64>, Fault>;
}

/// What the directory projector reads about Nodes. Implemented by the identity context.
#[async_trait]
pub trait NodeEntries: Send + Sync + 'static {
    /// The entry of a Node, also of one that has ended within 30 days; `None` when it is unknown.
    ///
    /// # Errors
    /// [`Fault`].
    async fn node_entry(&self, node: NodeId) -> Result<Option<NodeEntry>, Fault>;

    /// A page of all Nodes that should be in the directory, by id, behind `after`; at most `limit`.
    ///
    /// # Errors
    /// [`Fault`].
    async fn node_entries(&self, after: Option<NodeId>, limit: i64) -> Result<Vec<NodeEntry>, Fault>;
}

/// What the directory projector reads about Domains. Implemented by the signing context.
#[async_trait]
pub trait DomainEntries: Send + Sync + 'static {
    /// The entry of a Domain; `None` when it is unknown.
    ///
    /// # Errors
    /// [`Fault`].
    async fn domain_entry(&self, domain: DomainId) -> Result<Option<DomainEntry>, Fault>;

    /// A page of all Domains, by id, behind `after`; at most `limit`.
    ///
    /// # Errors
    /// [`Fault`].
    async fn domain_entries(&self, after: Option<DomainId>, limit: i64) -> Result<Vec<DomainEntry>, Fault>;
}
