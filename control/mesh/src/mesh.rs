//! The context put together.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plexsphere_kernel::custody::{Rewrap, RewrapParts, SealedRows};
use plexsphere_kernel::http::Operation;
use plexsphere_kernel::seams::{MeshMembership, NodeStateWriter};
use plexsphere_kernel::{AuditLog, Changes, Clock, Database, Fault, KekRing, Outbox, Tx};
use plexsphere_wire::{NodeId, Timestamp};
use uuid::Uuid;

use crate::blocks::Blocks;
use crate::model::endpoints::FallbackFill;
use crate::service::endpoints::{Endpoints, PeerEndpointSweeper};
use crate::service::entries::Entries;
use crate::service::heads::Heads;
use crate::service::heartbeats::{HeartbeatResponder, Heartbeats};
use crate::service::membership::Membership;
use crate::service::node_state::NodeStates;
use crate::service::rewrap::SeedRows;
use crate::service::rotation::Rotations;
use crate::service::served::ServedVersions;
use crate::service::sweepers::{AllocationSweeper, ReachabilitySweeper};
use crate::service::topology::{EdgeHandshakes, Topologies};
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
    /// What others program for Peers that no relay serves.
    pub fallback_fill: FallbackFill,
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
            fallback_fill: FallbackFill::Observed,
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
    /// The audit log.
    pub audit: Arc<dyn AuditLog>,
    /// The wrap keys.
    pub keks: Arc<KekRing>,
    /// How it is heard what must be forgotten.
    pub changes: Arc<Changes>,
    /// The contexts that have a part in a pull.
    pub blocks: Blocks,
    /// Who knows the handshakes between Nodes, where anybody does.
    pub handshakes: Option<Arc<dyn EdgeHandshakes>>,
}

/// The mesh context.
#[derive(Clone)]
pub struct Mesh {
    config: MeshConfig,
    parts: MeshParts,
    served: Arc<ServedVersions>,
    heads: Arc<Heads>,
    states: Arc<NodeStates>,
    endpoints: Arc<Endpoints>,
}

impl Mesh {
    /// Puts the context together; nothing runs yet.
    #[must_use]
    pub fn new(config: MeshConfig, parts: MeshParts) -> Self {
        let served = Arc::new(ServedVersions::new());
        let heads = Heads::new(parts.db.clone(), &parts.changes);
        let states = NodeStates::new(
            parts.db.clone(),
            Arc::clone(&parts.clock),
            (parts.blocks.clone(), Arc::clone(&heads)),
            Arc::clone(&served),
            (config.stale_read_ttl, config.fallback_fill),
        );
        let endpoints = Endpoints::new(parts.db.clone(), Arc::clone(&parts.audit), config.fallback_fill);
        Self { config, parts, served, heads, states: Arc::new(states), endpoints: Arc::new(endpoints) }
    }

    /// The mesh as enrolment and tenancy see it.
    #[must_use]
    pub fn membership(&self) -> Arc<dyn MeshMembership> {
        Arc::new(Membership {
            deployment: self.config.deployment,
            cooldown: self.config.ip_cooldown,
            keks: Arc::clone(&self.parts.keks),
            outbox: Outbox,
            fill: self.config.fallback_fill,
        })
    }

    /// Writes entries that Nodes pull, for the contexts that know them.
    #[must_use]
    pub fn state_writer(&self) -> Arc<dyn NodeStateWriter> {
        Arc::new(self.entries())
    }

    fn topologies(&self) -> Topologies {
        let MeshParts { db, clock, handshakes, .. } = self.parts.clone();
        Topologies { db, clock, handshakes }
    }

    fn entries(&self) -> Entries {
        let MeshParts { db, audit, .. } = self.parts.clone();
        Entries { db, audit, outbox: Outbox, heads: Arc::clone(&self.heads) }
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
        let mut operations = crate::http::operations(&self.states, &self.endpoints);
        operations.extend(crate::http::entries::operations(&Arc::new(self.entries())));
        operations.extend(crate::http::topology::operations(self.topologies()));
        operations.extend(crate::http::rotation::operations(&Arc::new(self.rotations())));
        operations
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

    /// Whether a pull of this Node would ask the database nothing about it: for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn remembers(&self, node: NodeId) -> bool {
        self.heads.known(node).is_some()
    }

    /// Takes heartbeats into the database.
    #[must_use]
    pub fn heartbeats(&self) -> Heartbeats {
        Heartbeats {
            db: self.parts.db.clone(),
            clock: Arc::clone(&self.parts.clock),
            served: Arc::clone(&self.served),
            heads: Arc::clone(&self.heads),
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

    /// The task that marks endpoints that were not reported again, on [`PeerEndpointSweeper::SCHEDULE`].
    #[must_use]
    pub fn endpoint_sweeper(&self) -> PeerEndpointSweeper {
        let (db, clock) = (self.parts.db.clone(), Arc::clone(&self.parts.clock));
        PeerEndpointSweeper { db, clock, fill: self.config.fallback_fill }
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
    peers::bump_nodes(tx, nodes, now).await.map(drop)
}
