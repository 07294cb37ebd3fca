//! The context put together.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plexsphere_kernel::custody::{Rewrap, RewrapParts, SealedRows};
use plexsphere_kernel::http::Operation;
use plexsphere_kernel::seams::MeshMembership;
use plexsphere_kernel::{AuditLog, Clock, Database, Fault, KekRing, Outbox, Tx};
use plexsphere_wire::{NodeId, Timestamp};
use uuid::Uuid;

use crate::blocks::Blocks;
use crate::service::heartbeats::{HeartbeatResponder, Heartbeats};
use crate::service::membership::Membership;
use crate::service::node_state::NodeStates;
use crate::service::rewrap::SeedRows;
use crate::service::rotation::Rotations;
use crate::service::served::ServedVersions;
use crate::service::sweepers::{AllocationSweeper, ReachabilitySweeper};
use crate::store::peers;

/// What the mesh can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshConfig {
    /// The installation, to which sealed seeds are bound.
    pub deployment: Uuid,
    /// How long nobody gets the address of a Node that left.
    pub ip_cooldown: Duration,
    /// How old an answer from memory may be while the database cannot be reached.
    pub stale_read_ttl: Duration,
    /// Heartbeat batches at work at the same time.
    pub heartbeat_concurrency: usize,
}

impl MeshConfig {
    /// One hour of cooling, stale reads for ten minutes, four batches at a time.
    #[must_use]
    pub const fn new(deployment: Uuid) -> Self {
        Self {
            deployment,
            ip_cooldown: Duration::from_secs(3_600),
            stale_read_ttl: Duration::from_secs(600),
            heartbeat_concurrency: 4,
        }
    }
}

/// What the mesh stands on.
#[derive(Clone)]
pub struct MeshParts {
    /// The database.
    pub db: Database,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The wrap keys.
    pub keks: Arc<KekRing>,
    /// The audit log.
    pub audit: Arc<dyn AuditLog>,
    /// The contexts that have a part in a pull.
    pub blocks: Blocks,
}

/// The mesh context.
#[derive(Clone)]
pub struct Mesh {
    config: MeshConfig,
    parts: MeshParts,
    served: Arc<ServedVersions>,
    states: Arc<NodeStates>,
}

impl Mesh {
    /// Puts the context together; nothing runs yet.
    #[must_use]
    pub fn new(config: MeshConfig, parts: MeshParts) -> Self {
        let served = Arc::new(ServedVersions::new());
        let states = NodeStates::new(
            parts.db.clone(),
            Arc::clone(&parts.clock),
            parts.blocks.clone(),
            Arc::clone(&served),
            config.stale_read_ttl,
        );
        Self { config, parts, served, states: Arc::new(states) }
    }

    /// The mesh as enrolment and tenancy see it.
    #[must_use]
    pub fn membership(&self) -> Arc<dyn MeshMembership> {
        Arc::new(Membership {
            deployment: self.config.deployment,
            cooldown: self.config.ip_cooldown,
            keks: Arc::clone(&self.parts.keks),
            outbox: Outbox,
        })
    }

    /// The sealed seeds, for the check of the wrap keys.
    #[must_use]
    pub fn sealed_rows(&self) -> Arc<dyn SealedRows> {
        Arc::new(SealedSeeds { db: self.parts.db.clone(), keks: Arc::clone(&self.parts.keks) })
    }

    /// The task that seals the seeds under the newest wrap key, on [`Rewrap::SCHEDULE`].
    #[must_use]
    pub fn psk_rewrap(&self) -> Rewrap {
        let parts = RewrapParts {
            db: self.parts.db.clone(),
            clock: Arc::clone(&self.parts.clock),
            audit: Arc::clone(&self.parts.audit),
            ring: Arc::clone(&self.parts.keks),
        };
        Rewrap::new(Arc::new(SeedRows { deployment: self.config.deployment }), parts)
    }

    /// The operations of this context.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        crate::http::operations(&self.states, &Arc::new(self.rotations()))
    }

    fn rotations(&self) -> Rotations {
        Rotations {
            db: self.parts.db.clone(),
            audit: Arc::clone(&self.parts.audit),
            keks: Arc::clone(&self.parts.keks),
            deployment: self.config.deployment,
            outbox: Outbox,
        }
    }

    /// Reads of Nodes' states.
    #[must_use]
    pub fn states(&self) -> Arc<NodeStates> {
        Arc::clone(&self.states)
    }

    /// Takes heartbeats into the database.
    #[must_use]
    pub fn heartbeats(&self) -> Heartbeats {
        Heartbeats {
            db: self.parts.db.clone(),
            clock: Arc::clone(&self.parts.clock),
            served: Arc::clone(&self.served),
            outage: Arc::default(),
        }
    }

    /// Answers the edges' heartbeat batches: a service for the driver.
    #[must_use]
    pub fn heartbeat_responder(&self, nats: async_nats::Client) -> HeartbeatResponder {
        HeartbeatResponder { beats: self.heartbeats(), nats, concurrency: self.config.heartbeat_concurrency.max(1) }
    }

    /// The task that applies lapsed thresholds, on [`ReachabilitySweeper::SCHEDULE`].
    #[must_use]
    pub fn reachability_sweeper(&self) -> ReachabilitySweeper {
        ReachabilitySweeper { db: self.parts.db.clone(), clock: Arc::clone(&self.parts.clock), outbox: Outbox }
    }

    /// The task that frees cooled addresses, on [`AllocationSweeper::SCHEDULE`].
    #[must_use]
    pub fn allocation_sweeper(&self) -> AllocationSweeper {
        AllocationSweeper { db: self.parts.db.clone(), clock: Arc::clone(&self.parts.clock) }
    }
}

/// The seeds of pre-shared keys.
struct SealedSeeds {
    db: Database,
    keks: Arc<KekRing>,
}

#[async_trait]
impl SealedRows for SealedSeeds {
    fn what(&self) -> &'static str {
        "mesh seeds"
    }

    async fn foreign_version(&self) -> Result<Option<i32>, Fault> {
        peers::foreign_epoch(&self.db, &self.keks.versions()).await
    }
}

/// Counts a change of what these Nodes pull, their peers aside: for contexts with a part in the pull, in the
/// transaction of the change.
///
/// # Errors
/// [`Fault`].
pub async fn bump_nodes(tx: &mut Tx, nodes: &[NodeId], now: Timestamp) -> Result<(), Fault> {
    peers::bump_nodes(tx, nodes, now).await
}
