//! Memory that forgets what it hears has changed.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use plexsphere_kernel::changes::{Forgets, Memory};
use plexsphere_kernel::tasks::Service as _;
use plexsphere_kernel::{ChangeListener, Changes, Database, directory};
use plexsphere_testkit::{TestDatabase, eventually, logs};
use plexsphere_wire::directory::DirectoryKey;
use plexsphere_wire::{DomainId, NodeId, Timestamp};
use sqlx::migrate::Migrator;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The kernel's own schema.
static SCHEMA: LazyLock<Migrator> = LazyLock::new(|| {
    let own = plexsphere_kernel::MIGRATOR.iter().filter(|migration| matches!(migration.version, 1 | 23)).cloned();
    Migrator { migrations: Cow::Owned(own.collect()), ..Migrator::DEFAULT }
});

struct Numbers {
    nodes: Memory<NodeId, u32>,
}

impl Forgets for Numbers {
    fn changed(&self, key: DirectoryKey) {
        if let DirectoryKey::Node(node) = key {
            self.nodes.forget(&node);
        }
    }

    fn everything(&self) {
        self.nodes.clear();
    }
}

struct World {
    test: TestDatabase,
    db: Database,
    changes: Arc<Changes>,
    numbers: Arc<Numbers>,
    cancel: CancellationToken,
    listening: JoinHandle<Result<(), plexsphere_kernel::Fault>>,
}

async fn world() -> World {
    let test = TestDatabase::with(&SCHEMA).await;
    let db = Database::new(test.pool());
    let changes = Changes::new();
    let memory = Memory::new(Arc::clone(&changes), 100, Duration::from_secs(60));
    let numbers = Arc::new(Numbers { nodes: memory });
    changes.follow(&numbers);
    let cancel = CancellationToken::new();
    let (listener, ends) = (ChangeListener::new(Arc::clone(&changes), db.clone()), cancel.clone());
    let listening = tokio::spawn(async move { listener.serve(ends).await });
    eventually!(changes.hearing(), "it listens");
    World { test, db, changes, numbers, cancel, listening }
}

fn node() -> NodeId {
    NodeId::mint(Timestamp::from_unix_seconds(1_800_000_000))
}

impl World {
    fn keep(&self, node: NodeId, number: u32) {
        self.numbers.nodes.put(&self.numbers.nodes.mark(), node, number);
    }

    async fn mark(&self, node: NodeId) {
        let mut tx = self.db.begin().await.unwrap();
        directory::mark_node(&mut tx, node).await.unwrap();
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_change_is_forgotten_once_it_is_committed_and_nothing_else_is() {
    let world = world().await;
    let (first, second) = (node(), node());
    world.keep(first, 1);
    world.keep(second, 2);
    let mut tx = world.db.begin().await.unwrap();
    directory::mark_node(&mut tx, first).await.unwrap();
    directory::mark_domain(&mut tx, DomainId::mint(Timestamp::from_unix_seconds(1_800_000_000))).await.unwrap();
    assert_eq!(world.numbers.nodes.get(&first), Some(1), "nothing is committed");
    tx.commit().await.unwrap();
    eventually!(world.numbers.nodes.get(&first).is_none(), "the change is heard");
    assert_eq!(world.numbers.nodes.get(&second), Some(2));
}

#[tokio::test]
async fn what_was_read_before_a_change_is_not_remembered_after_it() {
    let world = world().await;
    let (node, known) = (node(), node());
    world.keep(known, 1);
    let before = world.numbers.nodes.mark();
    world.mark(node).await;
    world.mark(known).await;
    eventually!(world.numbers.nodes.get(&known).is_none(), "both changes are heard");
    world.numbers.nodes.put(&before, node, 1);
    assert_eq!(world.numbers.nodes.get(&node), None);
    world.keep(node, 2);
    assert_eq!(world.numbers.nodes.get(&node), Some(2));
    world.numbers.nodes.amend(&node, |number| *number += 1);
    assert_eq!(world.numbers.nodes.get(&node), Some(3));
}

#[tokio::test]
async fn memory_is_not_used_while_nothing_is_heard() {
    let mut world = world().await;
    let node = node();
    world.keep(node, 1);
    world.cancel.cancel();
    (&mut world.listening).await.unwrap().unwrap();
    assert_eq!(world.numbers.nodes.get(&node), None);
    world.keep(node, 2);
    let listener = ChangeListener::new(Arc::clone(&world.changes), world.db.clone());
    tokio::spawn(async move { listener.serve(CancellationToken::new()).await });
    eventually!(world.changes.hearing(), "it listens again");
    assert_eq!(world.numbers.nodes.get(&node), None, "what was kept while deaf is gone");
}

#[tokio::test]
async fn a_connection_that_was_lost_costs_all_memory_and_nothing_more() {
    let _logs = logs::guard();
    let world = world().await;
    let (kept, changed) = (node(), node());
    world.keep(kept, 1);
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE datname = current_database() AND query ILIKE 'LISTEN%'";
    let ended: i64 = sqlx::query_scalar(end).fetch_one(&world.test.pool()).await.unwrap();
    assert_eq!(ended, 1);
    eventually!(world.numbers.nodes.get(&kept).is_none(), "the loss is noticed");
    eventually!(
        {
            world.keep(changed, 1);
            world.numbers.nodes.get(&changed).is_some()
        },
        "it listens on a new connection"
    );
    world.mark(changed).await;
    eventually!(world.numbers.nodes.get(&changed).is_none(), "and hears");
}
