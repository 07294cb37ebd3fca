//! What a pull takes from memory.

use std::sync::Arc;

use plexsphere_kernel::tasks::Service as _;
use plexsphere_kernel::{ChangeListener, Changes, Clock as _};
use plexsphere_mesh::{Puller, bump_nodes};
use plexsphere_testkit::eventually;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::world::{World, world};

/// A world whose mesh hears what changes.
async fn hearing() -> World {
    let world = world().await;
    let listener = ChangeListener::new(Arc::clone(&world.changes), world.database.clone());
    tokio::spawn(async move { listener.serve(CancellationToken::new()).await });
    let changes: &Changes = &world.changes;
    eventually!(changes.hearing(), "changes are heard");
    world
}

#[tokio::test]
async fn an_unchanged_pull_asks_the_database_nothing() {
    let world = hearing().await;
    let (own, other) = (world.join().await, world.join().await);
    world.accept(vec![world.beat(own)]).await;
    // Until the changes of the joins are heard, nothing of them is kept.
    eventually!(
        {
            world.pull(own).await;
            world.mesh.remembers(own)
        },
        "the head is kept"
    );
    let first = world.pull(own).await;
    sqlx::query("ALTER TABLE mesh.peers RENAME TO gone").execute(&world.db.pool()).await.unwrap();
    assert_eq!(world.pull(own).await, first, "not as in an outage either: sessions are known");
    let state: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(state["sessions"], serde_json::json!([]));
    assert_eq!(state["reachability"]["state"], "healthy");
    assert!(world.mesh.states().pull(other, Puller::Node, false).await.is_err(), "who was not seen is looked up");
}

#[tokio::test]
async fn a_pull_shows_heartbeats_and_changes_as_soon_as_they_are_heard() {
    let world = hearing().await;
    let own = world.join().await;
    world.accept(vec![world.beat(own)]).await;
    let heard_at = async || {
        let state: Value = serde_json::from_str(&world.pull(own).await).unwrap();
        state["reachability"]["last_heartbeat_at"].as_str().unwrap().to_owned()
    };
    let before = heard_at().await;
    world.clock.advance(10);
    world.accept(vec![world.beat(own)]).await;
    assert_ne!(heard_at().await, before, "its own heartbeat a Node sees at once");

    let other = world.join().await;
    eventually!(world.pull(own).await.contains(&other.to_string()), "a new peer");
    world.leave(other).await;
    eventually!(!world.pull(own).await.contains(&other.to_string()), "a peer that left");

    eventually!(
        {
            world.pull(own).await;
            world.mesh.remembers(own)
        },
        "the head is kept"
    );
    let mut tx = world.database.begin().await.unwrap();
    bump_nodes(&mut tx, &[own], world.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    eventually!(!world.mesh.remembers(own), "a change of what it pulls besides");

    world.leave(own).await;
    eventually!(world.mesh.states().pull(own, Puller::Node, false).await.is_err(), "its own end");
}

#[tokio::test]
async fn a_node_that_fell_silent_is_looked_up() {
    let world = hearing().await;
    let own = world.join().await;
    world.accept(vec![world.beat(own)]).await;
    world.pull(own).await;
    // A heartbeat that another replica took and that was not heard of here.
    world.clock.advance(80);
    let sql = "UPDATE mesh.reachability SET last_heartbeat_at = last_heartbeat_at + interval '80 s'";
    sqlx::query(sql).execute(&world.db.pool()).await.unwrap();
    world.clock.advance(80);
    let state: Value = serde_json::from_str(&world.pull(own).await).unwrap();
    assert_eq!(state["reachability"]["state"], "healthy");
}
