//! The mesh of a Domain as a graph, over HTTP.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use http_body_util::BodyExt as _;
use plexsphere_kernel::Clock as _;
use plexsphere_kernel::Fault;
use plexsphere_kernel::http::serve;
use plexsphere_mesh::EdgeHandshakes;
use plexsphere_testkit::logs;
use plexsphere_wire::{DomainId, NodeId, Timestamp};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::callers::{gates, get};
use crate::world::{World, world, world_hearing};

fn path(domain: impl std::fmt::Display) -> String {
    format!("/v1/domains/{domain}/mesh/topology")
}

/// Nodes beside each other that were heard at `heard`.
async fn fill(world: &World, count: i32, heard: Timestamp) {
    let fill = "
        WITH nodes AS (
            INSERT INTO mesh.peers
                (peer_id, node_id, domain_id, project_id, public_key, mesh_ip, node_version_at, created_at)
            SELECT gen_random_uuid(), gen_random_uuid(), $1, $1, decode(lpad(to_hex(n), 64, '0'), 'hex'),
                   '100.65.0.0'::inet + n, now(), now()
            FROM generate_series(1, $2) n RETURNING node_id
        )
        INSERT INTO mesh.reachability (node_id, domain_id, state, changed_at, last_heartbeat_at, told_state)
        SELECT node_id, $1, 'healthy', $3, $3, 'healthy' FROM nodes";
    let query = sqlx::query(fill).bind(world.domain.uuid()).bind(count).bind(heard.inner());
    query.execute(&world.db.pool()).await.unwrap();
}

fn edge(source: NodeId, target: NodeId, status: &str) -> Value {
    json!({
        "source_node_id": source, "target_node_id": target, "mode": "direct", "relay_node_id": null, "status": status,
    })
}

#[tokio::test]
async fn every_live_node_is_joined_to_every_other_both_ways_and_judged_by_the_worse_end() {
    let world = world().await;
    let gone = world.join().await;
    let mut nodes = [world.join().await, world.join().await, world.join().await];
    nodes.sort_unstable();
    let [a, b, c] = nodes;
    world.leave(gone).await;
    world.accept(vec![world.beat(a)]).await;
    world.clock.advance(100);
    world.accept(vec![world.beat(b)]).await;
    let told = get(&world, &path(world.domain), "admin").await;
    let body = told.json();
    assert_eq!((told.status, &body["domain_id"]), (200, &json!(world.domain)));
    assert_eq!(body["generated_at"], json!(world.clock.now()));
    let seen: Vec<(&Value, &Value)> =
        body["nodes"].as_array().unwrap().iter().map(|node| (&node["node_id"], &node["reachability"])).collect();
    let states = [(json!(a), json!("stale")), (json!(b), json!("healthy")), (json!(c), json!("unreachable"))];
    assert_eq!(seen, states.iter().map(|(node, state)| (node, state)).collect::<Vec<_>>());
    assert!(body["nodes"][0]["mesh_ip"].as_str().unwrap().starts_with("100.64.0."));
    let expected = [
        edge(a, b, "stale"),
        edge(a, c, "unreachable"),
        edge(b, a, "stale"),
        edge(b, c, "unreachable"),
        edge(c, a, "unreachable"),
        edge(c, b, "unreachable"),
    ];
    assert_eq!(body["edges"], json!(expected));
    assert_eq!(get(&world, &path(world.domain), "admin").await.body, told.body);
}

#[tokio::test]
async fn a_domain_without_nodes_has_an_empty_graph_and_absence_is_told_to_those_who_may_know() {
    let world = world().await;
    let mut tx = world.database.begin().await.unwrap();
    world
        .members
        .set_policy(
            &mut tx,
            world.domain,
            plexsphere_kernel::seams::ReachabilityPolicy::default(),
            "100.64.0.0/10".parse().unwrap(),
        )
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let told = get(&world, &path(world.domain), "admin").await.json();
    assert_eq!((&told["nodes"], &told["edges"]), (&json!([]), &json!([])));
    let stranger = DomainId::mint(world.clock.now());
    for (path, bearer, expected) in [
        (path(stranger), "admin", (404, "domain_not_found")),
        (path("x"), "admin", (404, "domain_not_found")),
        (path(stranger), "nobody", (403, "permission_denied")),
        (path(world.domain), "nobody", (403, "permission_denied")),
        (path(world.domain), "nsk_x", (401, "unauthenticated")),
    ] {
        let told = get(&world, &path, bearer).await;
        assert_eq!(told.refusal(), (expected.0, expected.1.to_owned()), "{path} {bearer}");
    }
}

#[tokio::test]
async fn of_more_than_500_nodes_the_edges_that_are_as_they_should_be_are_left_out() {
    let world = world().await;
    let odd = world.join().await;
    fill(&world, 499, world.clock.now()).await;
    let count = async || {
        let text = String::from_utf8(read(&world).await.concat()).unwrap();
        let edges = text.rsplit_once(r#""edges":["#).unwrap().1;
        let of_the_odd = edges.matches(&odd.to_string()).count();
        (text.matches("mesh_ip").count(), edges.matches("source_node_id").count(), of_the_odd)
    };
    assert_eq!(count().await, (500, 500 * 499, 2 * 499));
    sqlx::query("DELETE FROM mesh.peers WHERE public_key = decode(lpad('1', 64, '0'), 'hex')")
        .execute(&world.db.pool())
        .await
        .unwrap();
    world.join().await;
    world.join().await;
    assert_eq!(count().await.0, 501);
    assert_eq!(count().await.1, 501 * 500 - 498 * 497, "three are unreachable");
}

/// The pieces in which the graph is sent.
async fn read(world: &World) -> Vec<Vec<u8>> {
    let request = http::Request::get(path(world.domain)).header("authorization", "Bearer admin");
    let router = serve(world.mesh.operations(), &gates(world));
    let mut body = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap().into_body();
    let mut pieces = Vec::new();
    while let Some(frame) = body.frame().await {
        pieces.push(frame.unwrap().into_data().unwrap().to_vec());
    }
    pieces
}

#[tokio::test]
async fn a_large_graph_is_sent_in_small_pieces() {
    let world = world().await;
    world.join().await;
    fill(&world, 120, world.clock.now()).await;
    let pieces = read(&world).await;
    let row = 121 * 256;
    assert!(pieces.iter().all(|piece| piece.len() < 64 * 1_024 + row));
    assert!(pieces.len() > 20, "{}", pieces.len());
    let whole: Value = serde_json::from_slice(&pieces.concat()).unwrap();
    assert_eq!(whole["edges"].as_array().unwrap().len(), 121 * 120);
}

/// Handshakes of one Node with one other; anybody else's cannot be had.
struct Heard {
    edge: parking_lot::Mutex<Option<(NodeId, NodeId, Timestamp)>>,
    asked: AtomicUsize,
}

#[async_trait]
impl EdgeHandshakes for Heard {
    async fn seen_by(&self, _: DomainId, source: NodeId) -> Result<HashMap<NodeId, Timestamp>, Fault> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match *self.edge.lock() {
            Some((from, to, at)) if from == source => Ok(HashMap::from([(to, at)])),
            _ => Err(Fault::Bus("no metrics".to_owned())),
        }
    }
}

#[tokio::test]
async fn a_handshake_decides_and_who_cannot_tell_is_asked_no_more() {
    let logs = logs::guard();
    logs.expect("a topology goes without handshakes");
    let heard = Arc::new(Heard { edge: parking_lot::Mutex::default(), asked: AtomicUsize::new(0) });
    let world = world_hearing(heard.clone()).await;
    let mut nodes = [world.join().await, world.join().await, world.join().await];
    nodes.sort_unstable();
    let [a, b, c] = nodes;
    *heard.edge.lock() = Some((a, b, world.clock.now().minus(Duration::from_secs(100))));
    let edges = get(&world, &path(world.domain), "admin").await.json()["edges"].clone();
    let expected = [edge(a, b, "stale"), edge(a, c, "unreachable"), edge(b, a, "unreachable")];
    assert_eq!(edges.as_array().unwrap()[..3], expected);
    assert_eq!(edges.as_array().unwrap().len(), 6);
    assert_eq!(heard.asked.load(Ordering::Relaxed), 2);
    assert!(logs.saw("a topology goes without handshakes"));
}
