use std::time::{Duration, Instant};

use async_nats::Client;
use plexsphere_kernel::tasks::Service as _;
use plexsphere_kernel::{Clock as _, Database};
use plexsphere_mesh::{Blocks, ERROR_DATASTORE, ERROR_MALFORMED, HEADER_ERROR, Puller};
use plexsphere_testkit::{eventually, logs, nats, nats_own, postgres_own};
use plexsphere_wire::NodeId;
use plexsphere_wire::heartbeat::{HeartbeatBatch, HeartbeatVerdicts};
use plexsphere_wire::subjects::heartbeats;
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::world::{World, migrator, world, world_on};

fn start(world: &World, client: Client) -> (JoinHandle<()>, CancellationToken) {
    let cancel = CancellationToken::new();
    let (responder, token) = (world.mesh.heartbeat_responder(client), cancel.clone());
    (tokio::spawn(async move { responder.serve(token).await.unwrap() }), cancel)
}

/// Verdicts, or the word of the error header.
async fn ask(client: &Client, shard: u16, body: Vec<u8>) -> Option<Result<HeartbeatVerdicts, String>> {
    let message = client.request(heartbeats(shard), body.into()).await.ok()?;
    if let Some(word) = message.headers.as_ref().and_then(|headers| headers.get(HEADER_ERROR)) {
        assert!(message.payload.is_empty());
        return Some(Err(word.to_string()));
    }
    Some(Ok(serde_json::from_slice(&message.payload).unwrap()))
}

fn batch(world: &World, nodes: &[NodeId]) -> Vec<u8> {
    let heartbeats = nodes.iter().map(|node| world.beat(*node)).collect();
    serde_json::to_vec(&HeartbeatBatch { heartbeats }).unwrap()
}

#[tokio::test]
async fn a_batch_is_answered_after_its_commit_and_a_bad_one_by_a_word() {
    let logs = logs::guard();
    logs.expect("a heartbeat batch does not decode").expect("a heartbeat batch is too long");
    let (world, nats) = (world().await, nats().await);
    let node = world.join().await;
    let (task, cancel) = start(&world, nats.client().await);
    let edge = nats.client().await;
    eventually!(ask(&edge, 0, batch(&world, &[])).await.is_some(), "the responder listens");
    let verdicts = ask(&edge, 7, batch(&world, &[node])).await.unwrap().unwrap().verdicts;
    assert_eq!(verdicts[0].node, node);
    let read = world.mesh.states().reachability(node).await.unwrap();
    assert_eq!(read.last_heartbeat_at, Some(world.clock.now()));
    assert_eq!(ask(&edge, 1, b"{".to_vec()).await, Some(Err(ERROR_MALFORMED.to_owned())));
    let too_many = vec![node; 501];
    assert_eq!(ask(&edge, 1, batch(&world, &too_many)).await, Some(Err(ERROR_MALFORMED.to_owned())));
    // What a pull carried is written beside the heartbeats, without a write of the pull's own.
    world.pull(node).await;
    let served = async || {
        let sql = "SELECT count(*) FROM mesh.served_versions WHERE mesh_version = 1";
        sqlx::query_scalar::<_, i64>(sql).fetch_one(&world.db.pool()).await.unwrap()
    };
    eventually!(served().await == 1, "the served version is written");
    cancel.cancel();
    tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
}

#[tokio::test]
async fn restarts_of_the_bus_and_the_database_are_survived_and_a_database_fault_is_said() {
    let logs = logs::guard();
    let from_memory = "pulls are answered from memory";
    for expected in
        ["a heartbeat batch cannot", "a heartbeat batch took", from_memory, "cannot be reached", "async_nats"]
    {
        logs.expect(expected);
    }
    let mut server = postgres_own().await;
    let mut nats = nats_own().await;
    let db = server.database(migrator()).await;
    let url = db.url_as("mesh").await;
    let pool = PgPoolOptions::new().max_connections(4).acquire_timeout(Duration::from_secs(1)).connect(&url).await;
    let database = Database::new(pool.unwrap());
    let world = world_on(db, database, Blocks::default());
    let node = world.join().await;
    let (task, cancel) = start(&world, nats.client().await);
    let edge = nats.client().await;
    eventually!(matches!(ask(&edge, 0, batch(&world, &[node])).await, Some(Ok(_))), "the responder listens");
    let warm = world.mesh.states().pull(node, Puller::Node, true).await.unwrap();
    assert!(warm.gzip);
    let cold = world.join().await;

    server.kill9().await;
    let said = Some(Err(ERROR_DATASTORE.to_owned()));
    assert_eq!(ask(&edge, 0, batch(&world, &[node])).await, said);
    let begun = Instant::now();
    let asked = (0..16).map(|shard| ask(&edge, shard, batch(&world, &[node])));
    assert!(futures_util::future::join_all(asked).await.into_iter().all(|answer| answer == said));
    assert!(begun.elapsed() < Duration::from_secs(3), "batches do not wait for each other in an outage");
    let stale = world.pull(node).await;
    assert!(logs.saw(from_memory));
    assert!(stale.ends_with(r#""executions":[],"sessions":null}"#), "{stale}");
    let begun = Instant::now();
    assert_eq!(world.pull(node).await, stale);
    assert!(begun.elapsed() < Duration::from_secs(1), "the database is not asked again at once");
    let refused = world.mesh.states().pull(cold, Puller::Node, false).await.unwrap_err();
    assert_eq!(plexsphere_wire::Problem::from(refused).code(), plexsphere_wire::Code::DatastoreUnavailable);
    world.clock.advance(600);
    assert!(world.mesh.states().pull(node, Puller::Node, false).await.is_err(), "too old");

    server.restart().await;
    eventually!(matches!(ask(&edge, 0, batch(&world, &[node])).await, Some(Ok(_))), "the database is back");
    assert!(world.pull(node).await.ends_with(r#""sessions":[]}"#));

    nats.kill9().await;
    nats.restart().await;
    eventually!(matches!(ask(&edge, 0, batch(&world, &[node])).await, Some(Ok(_))), "the bus is back");
    cancel.cancel();
    tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
}
