use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::join_all;
use plexsphere_identity::DirectoryFlush;
use plexsphere_kernel::Database;
use plexsphere_testkit::{TestDatabase, eventually};
use plexsphere_wire::NodeId;
use serde_json::json;
use tokio::sync::Notify;

use crate::world::{Bounds, MIGRATOR, demand, world, world_flushed_by, world_on};

const WAITING: &str = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
const HOLD: &str = "SELECT pg_advisory_xact_lock(hashtextextended('mesh.allocations/' || $1, 0))";

#[tokio::test]
async fn a_burst_in_one_domain_leaves_the_pool_to_others() {
    let world = world_on(TestDatabase::with(MIGRATOR).await, Bounds::default()).await;
    let domain = world.domain("acme", "100.64.0.0/10").await;
    let project = world.project(&domain, "one", None).await;
    world.resource(&project, "kubernetes-node", "host").await;
    let tokens = join_all((0..50).map(|_| world.token(&project, "node"))).await;
    let mut holder = world.database.pool().begin().await.unwrap();
    sqlx::query(HOLD).bind(&domain).execute(&mut *holder).await.unwrap();
    let demands = (1..).zip(&tokens).map(|(byte, (_, token))| demand(&project, "host", token, byte));
    let burst = join_all(demands.map(|body| world.register(body)));
    let others = async {
        eventually!(world.count(WAITING).await > 0, "a registration waits for the lock");
        // For as long as it takes the others to have their hashes and come here too.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(1_300) {
            let asked = Instant::now();
            assert_eq!(world.get(&format!("/v1/domains/{domain}")).await.status, 200);
            assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
        }
        assert_eq!(world.count(WAITING).await, 1, "one transaction of the domain is open");
        holder.commit().await.unwrap();
    };
    let (answers, ()) = tokio::join!(burst, others);
    let mut enrolled = 0;
    for answer in answers {
        match answer.refusal() {
            (201, _) => enrolled += 1,
            (503, "allocator_contention") => assert!(answer.headers.contains_key("retry-after")),
            other => panic!("{other:?} {}", answer.body),
        }
    }
    assert!(enrolled > 0);
    assert_eq!(world.count("SELECT count(*) FROM identity.nodes").await, enrolled);
}

#[tokio::test]
async fn an_allocator_that_stays_busy_and_a_locked_resource_are_contention_and_leave_the_token_good() {
    let world =
        world_on(TestDatabase::with(MIGRATOR).await, Bounds { lock_timeout_ms: 200, ..Bounds::default() }).await;
    let domain = world.domain("acme", "100.64.0.0/10").await;
    let project = world.project(&domain, "one", None).await;
    let resource = world.resource(&project, "vm", "host").await;
    let (_, token) = world.token(&project, "node").await;
    for lock in [
        "SELECT FROM identity.resources FOR UPDATE",
        "SELECT pg_advisory_xact_lock(hashtextextended('mesh.allocations/' || id, 0)) FROM identity.domains",
    ] {
        let mut holder = world.database.pool().begin().await.unwrap();
        sqlx::query(lock).execute(&mut *holder).await.unwrap();
        let refused = world.register(demand(&project, "host", &token, 1)).await;
        assert_eq!(refused.refusal(), (503, "allocator_contention"), "{lock}");
        assert_eq!(refused.headers["retry-after"], "5");
        holder.rollback().await.unwrap();
    }
    assert_eq!(world.register(demand(&project, "host", &token, 1)).await.status, 201);

    // Supersession and deletion wait for the old Node's row.
    let mut holder = world.database.pool().begin().await.unwrap();
    sqlx::query("SELECT FROM identity.nodes FOR UPDATE").execute(&mut *holder).await.unwrap();
    let (_, token) = world.token(&project, "node").await;
    let refused = world.register(demand(&project, "host", &token, 2)).await;
    assert_eq!(refused.refusal(), (503, "allocator_contention"));
    let refused = world.delete(&format!("/v1/resources/{resource}")).await;
    assert_eq!(refused.refusal(), (503, "datastore_unavailable"));
    assert_eq!(refused.headers["retry-after"], "5");
    holder.rollback().await.unwrap();
    assert_eq!(world.delete(&format!("/v1/resources/{resource}")).await.status, 204);
}

#[tokio::test]
async fn a_full_pool_and_a_missing_signing_key_say_so_and_leave_the_token_good() {
    let world = world().await;
    let domain = world.domain("acme", "100.64.0.0/30").await;
    let project = world.project(&domain, "one", None).await;
    world.resource(&project, "kubernetes-node", "host").await;
    let (_, token) = world.token(&project, "node").await;
    let pool = world.database.pool();
    sqlx::query("UPDATE signing.keys SET state = 'retired'").execute(&pool).await.unwrap();
    let refused = world.register(demand(&project, "host", &token, 1)).await;
    assert_eq!(refused.refusal(), (503, "signing_unavailable"));
    assert_eq!(refused.headers["retry-after"], "5");
    // A Domain that never had a key is given one by the first registration.
    sqlx::raw_sql("DELETE FROM signing.keys; DELETE FROM signing.domains").execute(&pool).await.unwrap();
    for (byte, expected) in [(1, (201, "")), (2, (201, "")), (3, (503, "pool_exhausted"))] {
        let token = if byte == 1 { token.clone() } else { world.token(&project, "node").await.1 };
        let answer = world.register(demand(&project, "host", &token, byte)).await;
        assert_eq!(answer.refusal(), expected);
        assert_eq!(answer.headers.contains_key("retry-after"), expected.0 == 503);
    }
    assert_eq!(world.count("SELECT count(*) FROM identity.bootstrap_tokens WHERE consumed_at IS NULL").await, 1);
}

/// A directory that a test opens.
#[derive(Default)]
struct Gate {
    db: std::sync::OnceLock<Database>,
    asked: Notify,
    opened: Notify,
}

#[async_trait]
impl DirectoryFlush for Gate {
    async fn flush(&self, node: NodeId) {
        let known = "SELECT EXISTS (SELECT FROM identity.nodes WHERE id = $1)";
        let db = self.db.get().unwrap();
        assert!(sqlx::query_scalar::<_, bool>(known).bind(node.uuid()).fetch_one(db.pool()).await.unwrap());
        self.asked.notify_one();
        self.opened.notified().await;
    }
}

#[tokio::test]
async fn a_registration_is_answered_when_the_directory_knows_the_node_or_half_a_second_is_over() {
    let gate = Arc::new(Gate::default());
    let world = world_flushed_by(Arc::clone(&gate) as Arc<dyn DirectoryFlush>).await;
    gate.db.set(world.db.clone()).ok().unwrap();
    let domain = world.domain("acme", "100.64.0.0/10").await;
    let project = world.project(&domain, "one", None).await;
    world.resource(&project, "kubernetes-node", "host").await;
    let (_, token) = world.token(&project, "node").await;
    let opened = std::sync::atomic::AtomicBool::new(false);
    let answered = async {
        let answer = world.register(demand(&project, "host", &token, 1)).await;
        assert!(opened.load(std::sync::atomic::Ordering::SeqCst), "the answer waits");
        answer
    };
    let open = async {
        gate.asked.notified().await;
        // What is ready to run runs first.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        opened.store(true, std::sync::atomic::Ordering::SeqCst);
        gate.opened.notify_one();
    };
    let (answer, ()) = tokio::join!(answered, open);
    assert_eq!(answer.status, 201, "{}", answer.body);

    let (_, token) = world.token(&project, "node").await;
    let begun = Instant::now();
    let late = world.register(demand(&project, "host", &token, 2)).await;
    assert_eq!(late.status, 201, "{}", late.body);
    assert!(begun.elapsed() >= Duration::from_millis(500));
    assert_ne!(late.body, json!(null));
}
