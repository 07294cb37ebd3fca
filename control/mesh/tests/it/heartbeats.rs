use std::time::Duration;

use plexsphere_kernel::Clock as _;
use plexsphere_mesh::ReachabilityState;
use plexsphere_wire::NodeId;

use crate::world::world;

#[tokio::test]
async fn a_heartbeat_makes_a_node_healthy_and_writes_no_event() {
    let world = world().await;
    let node = world.join().await;
    let events = world.events().await.len();
    world.clock.advance(5);
    let now = world.clock.now();
    let verdicts = world.accept(vec![world.beat(node)]).await;
    assert_eq!(verdicts.len(), 1);
    assert_eq!((verdicts[0].node, verdicts[0].accepted_at), (node, now));
    assert!(!verdicts[0].rotate_keys && !verdicts[0].reconcile);
    let read = world.mesh.states().reachability(node).await.unwrap();
    assert_eq!((read.state, read.changed_at, read.last_heartbeat_at), (ReachabilityState::Healthy, now, Some(now)));
    world.clock.advance(30);
    world.accept(vec![world.beat(node)]).await;
    let read = world.mesh.states().reachability(node).await.unwrap();
    assert_eq!((read.changed_at, read.last_heartbeat_at), (now, Some(world.clock.now())));
    assert_eq!(world.events().await.len(), events);
}

#[tokio::test]
async fn duplicates_of_a_batch_are_one_and_an_older_heartbeat_moves_nothing_back() {
    let world = world().await;
    let node = world.join().await;
    world.clock.advance(60);
    let mut old = world.beat(node);
    old.received_at = old.received_at.minus(Duration::from_secs(20));
    old.binary_version = "0.9.0".to_owned();
    let new = world.beat(node);
    let verdicts = world.accept(vec![old.clone(), new.clone(), old.clone()]).await;
    assert_eq!(verdicts.len(), 1);
    assert_eq!(verdicts[0].accepted_at, new.received_at);
    let verdicts = world.accept(vec![old]).await;
    assert_eq!(verdicts[0].accepted_at, new.received_at);
    let read = world.mesh.states().reachability(node).await.unwrap();
    assert_eq!(read.last_heartbeat_at, Some(new.received_at));
    let version: String =
        sqlx::query_scalar("SELECT binary_version FROM mesh.reachability").fetch_one(&world.db.pool()).await.unwrap();
    assert_eq!(version, "1.0.0");
}

#[tokio::test]
async fn unknown_and_deregistered_nodes_get_no_verdict() {
    let world = world().await;
    let (a, b) = (world.join().await, world.join().await);
    world.leave(b).await;
    let unknown = NodeId::mint(world.clock.now());
    let verdicts = world.accept(vec![world.beat(a), world.beat(b), world.beat(unknown)]).await;
    assert_eq!(verdicts.iter().map(|verdict| verdict.node).collect::<Vec<_>>(), [a]);
    assert!(world.accept(Vec::new()).await.is_empty());
}

#[tokio::test]
async fn a_node_that_missed_a_change_is_told_to_pull_after_one_interval() {
    let world = world().await;
    let a = world.join().await;
    let reconcile = async || world.accept(vec![world.beat(a)]).await[0].reconcile;
    world.clock.advance(29);
    assert!(!reconcile().await, "events have had no time yet");
    world.clock.advance(1);
    assert!(reconcile().await, "it never pulled");
    world.pull(a).await;
    world.mesh.heartbeats().flush_served().await.unwrap();
    assert!(!reconcile().await);
    let _b = world.join().await;
    world.clock.advance(30);
    assert!(reconcile().await, "another joined");
    world.pull(a).await;
    world.mesh.heartbeats().flush_served().await.unwrap();
    assert!(!reconcile().await);
    let mut tx = world.database.begin().await.unwrap();
    plexsphere_mesh::bump_nodes(&mut tx, &[a], world.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    world.clock.advance(30);
    assert!(reconcile().await, "its own part changed");
}

#[tokio::test]
async fn a_full_batch_is_written_at_once_and_batches_may_race() {
    let world = world().await;
    let mut nodes = Vec::new();
    for _ in 0..60 {
        nodes.push(world.join().await);
    }
    let forwards = nodes.iter().map(|node| world.beat(*node)).collect::<Vec<_>>();
    let racing = (0..6u64).map(|round| {
        let mut batch = forwards.clone();
        for beat in &mut batch {
            beat.received_at = beat.received_at.minus(Duration::from_millis(round));
        }
        if round % 2 == 1 {
            batch.reverse();
        }
        world.accept(batch)
    });
    for verdicts in futures_util::future::join_all(racing).await {
        assert_eq!(verdicts.len(), 60);
    }
    let behind: i64 = sqlx::query_scalar("SELECT count(*) FROM mesh.reachability WHERE last_heartbeat_at < $1")
        .bind(world.clock.now().inner())
        .fetch_one(&world.db.pool())
        .await
        .unwrap();
    assert_eq!(behind, 0);
}
