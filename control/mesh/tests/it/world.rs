//! A mesh on a database of its own, and a clock that the test moves.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use plexsphere_kernel::audit::CaveatNames;
use plexsphere_kernel::seams::{Join, JoinRefusal, Joined, LeaveReason, MeshMembership};
use plexsphere_kernel::{AuditLog, AuditRecord, Clock, Database, Fault, KekRing, MIGRATOR, Tx};
use plexsphere_mesh::{Blocks, Mesh, MeshConfig, MeshParts, Puller};
use plexsphere_testkit::TestDatabase;
use plexsphere_wire::heartbeat::{Heartbeat, HeartbeatBatch, HeartbeatVerdict};
use plexsphere_wire::{DomainId, NodeId, ProjectId, Timestamp};
use serde_json::Value;
use sqlx::migrate::Migrator;
use uuid::Uuid;

pub(crate) struct TestClock(Mutex<Timestamp>);

impl TestClock {
    pub(crate) fn advance(&self, seconds: u64) {
        let mut now = self.0.lock();
        *now = now.plus(Duration::from_secs(seconds));
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.0.lock()
    }
}

/// The audit log: the rows that it was handed.
#[derive(Default)]
pub(crate) struct Rows(Mutex<Vec<AuditRecord>>);

impl Rows {
    pub(crate) fn taken(&self) -> Vec<AuditRecord> {
        std::mem::take(&mut *self.0.lock())
    }
}

#[async_trait]
impl AuditLog for Rows {
    async fn record(&self, _: &mut Tx, record: AuditRecord) -> Result<(), Fault> {
        self.0.lock().push(record);
        Ok(())
    }

    async fn record_decision(&self, record: AuditRecord, _: CaveatNames) -> Result<(), Fault> {
        self.0.lock().push(record);
        Ok(())
    }
}

pub(crate) struct World {
    pub(crate) db: TestDatabase,
    pub(crate) database: Database,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) audit: Arc<Rows>,
    pub(crate) keks: Arc<KekRing>,
    pub(crate) mesh: Mesh,
    pub(crate) members: Arc<dyn MeshMembership>,
    pub(crate) domain: DomainId,
    pub(crate) project: ProjectId,
}

/// The kernel's and the mesh's migrations alone: this context stands without the tables of any other.
pub(crate) fn migrator() -> &'static Migrator {
    static OWN: LazyLock<Migrator> = LazyLock::new(|| {
        let own = MIGRATOR
            .iter()
            .filter(|migration| ["kernel", "mesh", "rotations"].contains(&migration.description.as_ref()));
        Migrator::with_migrations(own.cloned().collect())
    });
    &OWN
}

pub(crate) const DEPLOYMENT: Uuid = Uuid::from_u128(7);

pub(crate) async fn world() -> World {
    world_with(Blocks::default()).await
}

pub(crate) async fn world_with(blocks: Blocks) -> World {
    let db = TestDatabase::with(migrator()).await;
    let database = Database::new(db.pool_as("mesh").await);
    world_on(db, database, blocks)
}

/// A world with these wrap keys.
pub(crate) async fn world_sealing(keks: Arc<KekRing>) -> World {
    let db = TestDatabase::with(migrator()).await;
    let database = Database::new(db.pool_as("mesh").await);
    made(db, database, Blocks::default(), keks)
}

pub(crate) fn world_on(db: TestDatabase, database: Database, blocks: Blocks) -> World {
    made(db, database, blocks, Arc::new(KekRing::parse(&KekRing::generate()).unwrap()))
}

fn made(db: TestDatabase, database: Database, blocks: Blocks, keks: Arc<KekRing>) -> World {
    let now = Timestamp::from_unix_seconds(1_800_000_000);
    let clock = Arc::new(TestClock(Mutex::new(now)));
    let audit = Arc::new(Rows::default());
    let (keks_held, clock_held) = (Arc::clone(&keks), clock.clone());
    let parts = MeshParts { db: database.clone(), clock: clock_held, audit: audit.clone(), keks: keks_held, blocks };
    let mesh = Mesh::new(MeshConfig::new(DEPLOYMENT), parts);
    let members = mesh.membership();
    World {
        db,
        database,
        clock,
        audit,
        keks,
        mesh,
        members,
        domain: DomainId::mint(now),
        project: ProjectId::mint(now),
    }
}

impl World {
    pub(crate) fn joining(&self, pool: &str) -> Join {
        let now = self.clock.now();
        let node = NodeId::mint(now);
        let mut public_key = [1; 32];
        public_key[..16].copy_from_slice(node.as_bytes());
        Join {
            node,
            domain: self.domain,
            project: self.project,
            public_key,
            pool: pool.parse().unwrap(),
            sub_range: None,
            reserved: Vec::new(),
            now,
        }
    }

    pub(crate) async fn try_join(&self, join: Join) -> Result<Joined, JoinRefusal> {
        let mut tx = self.database.begin().await.unwrap();
        let joined = self.members.join(&mut tx, join).await?;
        tx.commit().await.unwrap();
        Ok(joined)
    }

    /// Joins a fresh Node to the default pool.
    pub(crate) async fn join(&self) -> NodeId {
        let join = self.joining("100.64.0.0/10");
        let node = join.node;
        self.try_join(join).await.unwrap();
        node
    }

    pub(crate) async fn leave(&self, node: NodeId) {
        let mut tx = self.database.begin().await.unwrap();
        self.members.leave(&mut tx, node, LeaveReason::Operator, self.clock.now()).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Wire type or internal name, and payload, of every outbox row so far.
    pub(crate) async fn events(&self) -> Vec<(String, Value)> {
        sqlx::query_as("SELECT COALESCE(wire_type, event_name), payload::jsonb FROM kernel.outbox ORDER BY seq")
            .fetch_all(&self.db.pool())
            .await
            .unwrap()
    }

    pub(crate) fn beat(&self, node: NodeId) -> Heartbeat {
        Heartbeat {
            node,
            received_at: self.clock.now(),
            binary_checksum: "ab".repeat(32),
            binary_version: "1.0.0".to_owned(),
            nat_summary: r#"{"type":"full_cone"}"#.to_owned(),
        }
    }

    pub(crate) async fn accept(&self, heartbeats: Vec<Heartbeat>) -> Vec<HeartbeatVerdict> {
        self.mesh.heartbeats().accept(HeartbeatBatch { heartbeats }).await.unwrap().verdicts
    }

    pub(crate) async fn pull(&self, node: NodeId) -> String {
        String::from_utf8(self.mesh.states().pull(node, Puller::Node, false).await.unwrap().body).unwrap()
    }
}
