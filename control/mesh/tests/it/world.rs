//! A mesh on a database of its own, and a clock that the test moves.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use plexsphere_kernel::audit::CaveatNames;
use plexsphere_kernel::seams::{Join, JoinRefusal, Joined, LeaveReason, MeshMembership};
use plexsphere_kernel::{AuditLog, AuditRecord, Changes, Clock, Database, Fault, KekRing, MIGRATOR, Tx};
use plexsphere_mesh::{Blocks, EdgeHandshakes, Mesh, MeshConfig, MeshParts, Puller};
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

/// The rows that were handed over, with the names of their caveats.
#[derive(Default)]
pub(crate) struct Rows(Mutex<Vec<(AuditRecord, CaveatNames)>>);

impl Rows {
    pub(crate) fn take(&self) -> Vec<(AuditRecord, CaveatNames)> {
        std::mem::take(&mut self.0.lock())
    }

    /// The rows alone.
    pub(crate) fn taken(&self) -> Vec<AuditRecord> {
        self.take().into_iter().map(|(record, _)| record).collect()
    }
}

#[async_trait]
impl AuditLog for Rows {
    async fn record(&self, _: &mut Tx, record: AuditRecord) -> Result<(), Fault> {
        self.record_decision(record, CaveatNames::default()).await
    }

    async fn record_decision(&self, record: AuditRecord, caveats: CaveatNames) -> Result<(), Fault> {
        self.0.lock().push((record, caveats));
        Ok(())
    }
}

pub(crate) struct World {
    pub(crate) db: TestDatabase,
    pub(crate) database: Database,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) keks: Arc<KekRing>,
    pub(crate) changes: Arc<Changes>,
    pub(crate) audit: Arc<Rows>,
    pub(crate) mesh: Mesh,
    pub(crate) members: Arc<dyn MeshMembership>,
    pub(crate) domain: DomainId,
    pub(crate) project: ProjectId,
}

const MIGRATIONS: [&str; 7] =
    ["kernel", "kernel changes", "mesh", "mesh changes", "endpoints", "rotations", "state entries"];

/// The kernel's and the mesh's migrations alone: this context stands without the tables of any other.
pub(crate) fn migrator() -> &'static Migrator {
    static OWN: LazyLock<Migrator> = LazyLock::new(|| {
        let own = MIGRATOR.iter().filter(|migration| MIGRATIONS.contains(&migration.description.as_ref()));
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
    seated(db, database, (Blocks::default(), None), keks)
}

pub(crate) fn world_on(db: TestDatabase, database: Database, blocks: Blocks) -> World {
    seated(db, database, (blocks, None), fresh_keks())
}

pub(crate) async fn world_hearing(handshakes: Arc<dyn EdgeHandshakes>) -> World {
    let db = TestDatabase::with(migrator()).await;
    let database = Database::new(db.pool_as("mesh").await);
    seated(db, database, (Blocks::default(), Some(handshakes)), fresh_keks())
}

fn fresh_keks() -> Arc<KekRing> {
    Arc::new(KekRing::parse(&KekRing::generate()).unwrap())
}

fn seated(
    db: TestDatabase,
    database: Database,
    (blocks, handshakes): (Blocks, Option<Arc<dyn EdgeHandshakes>>),
    keks: Arc<KekRing>,
) -> World {
    let now = Timestamp::from_unix_seconds(1_800_000_000);
    let clock = Arc::new(TestClock(Mutex::new(now)));
    let changes = Changes::new();
    let audit = Arc::new(Rows::default());
    let parts = MeshParts {
        db: database.clone(),
        clock: clock.clone(),
        keks: Arc::clone(&keks),
        changes: Arc::clone(&changes),
        audit: Arc::clone(&audit) as Arc<dyn AuditLog>,
        blocks,
        handshakes,
    };
    let mesh = Mesh::new(MeshConfig::new(DEPLOYMENT), parts);
    let members = mesh.membership();
    World {
        db,
        database,
        clock,
        keks,
        changes,
        audit,
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

    /// Waits until as many sessions of the test's database wait for a lock.
    pub(crate) async fn waiting_for_locks(&self, sessions: i64) {
        let waiting = "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock'";
        plexsphere_testkit::eventually!(
            sqlx::query_scalar::<_, i64>(waiting).fetch_one(&self.db.pool()).await.unwrap() >= sessions,
            "{sessions} sessions wait for a lock"
        );
    }

    /// A mesh beside the other over the same database, as another replica has it.
    pub(crate) fn replica(&self, config: MeshConfig) -> Mesh {
        let parts = MeshParts {
            changes: Changes::new(),
            db: self.database.clone(),
            clock: self.clock.clone(),
            keks: Arc::clone(&self.keks),
            audit: Arc::clone(&self.audit) as Arc<dyn AuditLog>,
            blocks: Blocks::default(),
            handshakes: None,
        };
        Mesh::new(config, parts)
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
