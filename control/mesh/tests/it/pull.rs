use std::collections::HashSet;
use std::io::Read as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::body::Body;
use plexsphere_kernel::{Clock as _, Fault, Tx};
use plexsphere_mesh::{Blocks, PolicyBlock, Puller, ReadRefusal, SessionsBlock};
use plexsphere_testkit::logs;
use plexsphere_wire::NodeId;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::callers::{ask, get};
use crate::world::{world, world_with};

#[tokio::test]
async fn a_lone_node_pulls_every_member_in_its_order_and_empty_form() {
    let _logs = logs::guard();
    let world = world().await;
    let node = world.join().await;
    let entries = r#"{"metadata":[],"data":[],"reports":[]}"#;
    let expected = format!(
        r#"{{"peers":[],"reachability":{{"state":"unreachable","changed_at":"2027-01-15T08:00:00Z"}},"policy":null,"bridge":null,"state":{entries},"reports":{entries},"executions":[],"sessions":[]}}"#
    );
    assert_eq!(world.pull(node).await, expected);
    let request = http::Request::get(format!("/v1/nodes/{node}/state"));
    let told = ask(&world, request, (&format!("nsk_{node}"), Body::empty())).await;
    assert_eq!((told.status, told.coding, told.body), (200, None, expected.into_bytes()));
    world.accept(vec![world.beat(node)]).await;
    let pulled: Value = serde_json::from_str(&world.pull(node).await).unwrap();
    assert_eq!(pulled["reachability"]["last_heartbeat_at"], "2027-01-15T08:00:00Z");
    world.leave(node).await;
    assert!(matches!(world.mesh.states().pull(node, Puller::Node, false).await, Err(ReadRefusal::NotFound)));
}

#[tokio::test]
async fn two_pulls_are_byte_equal_sorted_and_without_oneself_in_both_codings() {
    let world = world().await;
    let mut nodes = Vec::new();
    for _ in 0..5 {
        nodes.push(world.join().await);
    }
    let own = nodes[2];
    let first = world.pull(own).await;
    assert_eq!(first, world.pull(own).await);
    let path = format!("/v1/nodes/{own}/state");
    let told = get(&world, &path, &format!("nsk_{own}")).await;
    assert_eq!(told.body, get(&world, &path, &format!("nsk_{own}")).await.body);
    let packed = world.mesh.states().pull(own, Puller::Node, true).await.unwrap();
    let mut unpacked = String::new();
    flate2::read::GzDecoder::new(packed.body.as_slice()).read_to_string(&mut unpacked).unwrap();
    assert!(packed.gzip);
    assert_eq!((unpacked, told.body), (first.clone(), packed.body));
    let pulled: Value = serde_json::from_str(&first).unwrap();
    let seen: Vec<String> =
        pulled["peers"].as_array().unwrap().iter().map(|peer| peer["node_id"].as_str().unwrap().to_owned()).collect();
    let mut expected: Vec<String> = nodes.iter().filter(|node| **node != own).map(NodeId::to_string).collect();
    expected.sort();
    assert_eq!(seen, expected);
    world.leave(nodes[0]).await;
    assert!(!world.pull(own).await.contains(&nodes[0].to_string()), "a change is seen by the next pull");
}

#[tokio::test]
async fn ten_thousand_peers_are_pulled_from_one_rendered_list() {
    let world = world().await;
    let node = world.join().await;
    let fill = "
        INSERT INTO mesh.peers (peer_id, node_id, domain_id, project_id, public_key, mesh_ip, node_version_at, created_at)
        SELECT gen_random_uuid(), gen_random_uuid(), $1, $1, decode(lpad(to_hex(n), 64, '0'), 'hex'),
               '100.64.0.1'::inet + n, now(), now()
        FROM generate_series(1, 9999) n";
    sqlx::query(fill).bind(world.domain.uuid()).execute(&world.db.pool()).await.unwrap();
    let states = world.mesh.states();
    let first = states.pull(node, Puller::Node, false).await.unwrap().body;
    assert!((1_300_000..10 * 1024 * 1024).contains(&first.len()), "{}", first.len());
    // Without their rows, only a list read before can answer: the version has not moved.
    let sql = "DELETE FROM mesh.peers WHERE node_id <> $1";
    sqlx::query(sql).bind(node.uuid()).execute(&world.db.pool()).await.unwrap();
    let packed = states.pull(node, Puller::Node, true).await.unwrap();
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let begun = Instant::now();
        assert_eq!(states.pull(node, Puller::Node, true).await.unwrap(), packed);
        slowest = slowest.max(begun.elapsed());
    }
    assert!(slowest < Duration::from_millis(200), "{slowest:?}");
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(packed.body.as_slice()).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, first);
    assert!(packed.body.len() < first.len());
}

/// I6: whoever waits for a list takes the first one that is no older than its own arrival.
#[tokio::test(flavor = "multi_thread")]
async fn pulls_share_few_readings_of_the_list_while_nodes_join_all_the_time() {
    const PULLS: usize = 24;
    let world = Arc::new(world().await);
    let node = world.join().await;
    let fill = "
        INSERT INTO mesh.peers (peer_id, node_id, domain_id, project_id, public_key, mesh_ip, node_version_at, created_at)
        SELECT gen_random_uuid(), gen_random_uuid(), $1, $1, decode(lpad(to_hex(n), 64, '0'), 'hex'),
               '100.65.0.0'::inet + n, now(), now()
        FROM generate_series(1, 5000) n";
    sqlx::query(fill).bind(world.domain.uuid()).execute(&world.db.pool()).await.unwrap();
    let joining = tokio::spawn({
        let world = Arc::clone(&world);
        async move {
            loop {
                world.join().await;
            }
        }
    });
    let pulls = (0..PULLS).map(|_| {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.pull(node).await.matches("node_id").count() })
    });
    let pulled = futures_util::future::join_all(pulls.collect::<Vec<_>>());
    let pulled = tokio::time::timeout(Duration::from_secs(60), pulled).await.expect("every pull is answered");
    joining.abort();
    // Each reading is of another moment, and so of another number of Peers.
    let readings: HashSet<usize> = pulled.into_iter().map(Result::unwrap).collect();
    assert!(readings.len() <= PULLS / 3, "{PULLS} pulls took {} readings", readings.len());
}

struct Policy(&'static str);
struct Broken;

#[async_trait]
impl PolicyBlock for Policy {
    async fn for_node(&self, _: &mut Tx, _: NodeId) -> Result<Option<Box<RawValue>>, Fault> {
        Ok(Some(RawValue::from_string(self.0.to_owned()).unwrap()))
    }
}

#[async_trait]
impl PolicyBlock for Broken {
    async fn for_node(&self, tx: &mut Tx, _: NodeId) -> Result<Option<Box<RawValue>>, Fault> {
        sqlx::query("SELECT 1 / 0").execute(&mut **tx).await?;
        Ok(None)
    }
}

#[async_trait]
impl SessionsBlock for Broken {
    async fn for_node(&self, tx: &mut Tx, _: NodeId) -> Result<Box<RawValue>, Fault> {
        sqlx::query("SELECT 1 / 0").execute(&mut **tx).await?;
        Err(Fault::Invariant("not reached"))
    }
}

#[tokio::test]
async fn a_failing_provider_fails_the_pull_but_unknown_sessions_are_said() {
    let logs = logs::guard();
    logs.expect("a pull goes without sessions");
    let policy = r#"{"revision_id":"x","fingerprint":"y","rules":[]}"#;
    let blocks =
        Blocks { policy: Some(Arc::new(Policy(policy))), sessions: Some(Arc::new(Broken)), ..Blocks::default() };
    let world = world_with(blocks).await;
    let node = world.join().await;
    for _ in 0..2 {
        let pulled = world.pull(node).await;
        assert!(pulled.contains(&format!(r#""policy":{policy},"#)), "{pulled}");
        assert!(pulled.ends_with(r#""sessions":null}"#), "{pulled}");
    }
    let world = world_with(Blocks { policy: Some(Arc::new(Broken)), ..Blocks::default() }).await;
    let node = world.join().await;
    assert!(matches!(world.mesh.states().pull(node, Puller::Node, false).await, Err(ReadRefusal::Fault(_))));
    logs.expect("a request failed");
    let told = get(&world, &format!("/v1/nodes/{node}/state"), &format!("nsk_{node}")).await;
    assert_eq!(told.refusal(), (500, "internal".into()));
}

#[tokio::test]
async fn the_gate_tells_own_from_foreign_and_absence_only_to_those_who_may_know() {
    let world = world().await;
    let (a, b) = (world.join().await, world.join().await);
    let (state, reachability) = (format!("/v1/nodes/{a}/state"), format!("/v1/nodes/{a}/reachability"));
    let told = get(&world, &state, &format!("nsk_{a}")).await;
    assert_eq!((told.status, told.coding.as_deref()), (200, Some("gzip")));
    let mut text = String::new();
    flate2::read::GzDecoder::new(told.body.as_slice()).read_to_string(&mut text).unwrap();
    assert!(text.contains(&b.to_string()) && !text.contains(&a.to_string()));
    let told = get(&world, &reachability, "admin").await;
    assert_eq!(
        (told.status, told.body.as_slice()),
        (200, br#"{"state":"unreachable","changed_at":"2027-01-15T08:00:00Z"}"#.as_slice())
    );
    let stranger = NodeId::mint(world.clock.now());
    for path in ["state", "reachability"] {
        let of = |node: NodeId| format!("/v1/nodes/{node}/{path}");
        for (path, bearer, expected) in [
            (of(a), format!("nsk_{b}"), (403, "node_id_mismatch")),
            (of(a), "nobody".to_owned(), (403, "insufficient_relation")),
            (of(stranger), "nobody".to_owned(), (403, "insufficient_relation")),
            (of(stranger), "admin".to_owned(), (404, "node_not_found")),
        ] {
            let told = get(&world, &path, &bearer).await;
            assert_eq!((told.refusal(), &told.coding), ((expected.0, expected.1.to_owned()), &None));
        }
    }
}

#[tokio::test]
async fn only_a_pull_of_the_nodes_own_settles_what_it_missed() {
    let world = world().await;
    let node = world.join().await;
    world.clock.advance(30);
    let state = format!("/v1/nodes/{node}/state");
    for (bearer, is_missing) in [("admin".to_owned(), true), (format!("nsk_{node}"), false)] {
        assert_eq!(get(&world, &state, &bearer).await.status, 200);
        world.mesh.heartbeats().flush_served().await.unwrap();
        assert_eq!(world.accept(vec![world.beat(node)]).await[0].reconcile, is_missing, "{bearer}");
    }
}
