//! A list that is brought up to date by what changed is the one that is read anew.

use plexsphere_kernel::Clock as _;
use plexsphere_kernel::tasks::Task as _;
use plexsphere_mesh::{MeshConfig, Puller};
use plexsphere_wire::NodeId;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use tower::ServiceExt as _;

use crate::callers::{gates, watched};
use crate::world::{DEPLOYMENT, World, world};

#[derive(Clone, Copy, Debug)]
enum Step {
    Join,
    Leave(usize),
    Report(usize, u16, bool),
    Wait(u64),
    Sweep,
    Reconcile,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Join),
        2 => any::<usize>().prop_map(Step::Leave),
        5 => (any::<usize>(), 1u16..4, any::<bool>()).prop_map(|(node, port, cone)| Step::Report(node, port, cone)),
        2 => (1u64..200).prop_map(Step::Wait),
        2 => Just(Step::Sweep),
        1 => Just(Step::Reconcile),
    ]
}

async fn report(world: &World, node: NodeId, port: u16, cone: bool) {
    let nat_type = if cone { "full_cone" } else { "symmetric" };
    let endpoint = format!("192.0.2.1:{port}");
    let body = json!({ "endpoint": endpoint, "nat_type": nat_type, "reported_at": world.clock.now() });
    let request = http::Request::put(format!("/v1/nodes/{node}/endpoint"))
        .header("authorization", format!("Bearer nsk_{node}"))
        .header("content-type", "application/json")
        .body(axum::body::Body::from(body.to_string()))
        .unwrap();
    let response = watched(world.mesh.operations(), &gates(world)).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
}

async fn follow(world: &World, live: &mut Vec<NodeId>, step: Step) {
    match step {
        Step::Join => live.push(world.join().await),
        // The last Node stays, to pull.
        Step::Leave(_) if live.len() < 2 => {}
        Step::Leave(chosen) => world.leave(live.remove(chosen % live.len())).await,
        Step::Report(chosen, port, cone) => report(world, live[chosen % live.len()], port, cone).await,
        Step::Wait(seconds) => world.clock.advance(seconds),
        Step::Sweep => drop(world.mesh.endpoint_sweeper().run().await.unwrap()),
        Step::Reconcile => {
            let mut tx = world.database.begin().await.unwrap();
            world.members.request_reconcile(&mut tx, world.domain, world.clock.now()).await.unwrap();
            tx.commit().await.unwrap();
        }
    }
}

#[test]
fn any_history_pulls_the_same_bytes_as_a_replica_that_reads_everything() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let steps = proptest::collection::vec((step(), any::<bool>()), 1..40);
    let mut runner = TestRunner::new(Config { cases: 12, failure_persistence: None, ..Config::default() });
    runner
        .run(&steps, |steps| {
            runtime.block_on(async {
                let world = world().await;
                let mut live = vec![world.join().await];
                for (step, pulls) in steps {
                    follow(&world, &mut live, step).await;
                    // Several changes may lie between two pulls.
                    if pulls {
                        let node = live[live.len() / 2];
                        let naive = world.replica(MeshConfig::new(DEPLOYMENT)).states();
                        let naive = naive.pull(node, Puller::Node, false).await.unwrap();
                        let ours = world.mesh.states().pull(node, Puller::Node, false).await.unwrap();
                        assert_eq!(String::from_utf8(ours.body).unwrap(), String::from_utf8(naive.body).unwrap());
                        let naive = world.replica(MeshConfig::new(DEPLOYMENT)).states();
                        let naive = naive.pull(node, Puller::Node, true).await.unwrap();
                        assert!(world.mesh.states().pull(node, Puller::Node, true).await.unwrap() == naive);
                    }
                }
            });
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn one_change_among_ten_thousand_peers_reads_its_own_rows_alone() {
    let world = world().await;
    let node = world.join().await;
    let fill = "
        INSERT INTO mesh.peers (peer_id, node_id, domain_id, project_id, public_key, mesh_ip, node_version_at, created_at)
        SELECT gen_random_uuid(), gen_random_uuid(), $1, $1, decode(lpad(to_hex(n), 64, '0'), 'hex'),
               '100.65.0.0'::inet + n, now(), now()
        FROM generate_series(1, 9999) n";
    sqlx::query(fill).bind(world.domain.uuid()).execute(&world.db.pool()).await.unwrap();
    let peers = async || world.pull(node).await.matches("node_id").count();
    assert_eq!(peers().await, 9_999);
    // Their rows are out of the way, so whoever read them again would lose them.
    let hide = "UPDATE mesh.peers SET domain_id = gen_random_uuid() WHERE node_id <> $1";
    sqlx::query(hide).bind(node.uuid()).execute(&world.db.pool()).await.unwrap();
    let other = world.join().await;
    assert_eq!(peers().await, 10_000);
    report(&world, other, 7, true).await;
    assert!(world.pull(node).await.contains(r#""fallback_endpoint":"192.0.2.1:7""#));
    world.leave(other).await;
    assert_eq!(peers().await, 9_999);
}

/// A standby that took over may lack what a replica has read, and count the same versions with other content.
#[tokio::test]
async fn a_list_is_read_whole_again_after_ten_minutes_whatever_the_versions_say() {
    let world = world().await;
    let (node, other) = (world.join().await, world.join().await);
    assert!(world.pull(node).await.contains("100.64.0.2"));
    let rewrite = "UPDATE mesh.peers SET mesh_ip = '100.64.7.7' WHERE node_id = $1";
    sqlx::query(rewrite).bind(other.uuid()).execute(&world.db.pool()).await.unwrap();
    sqlx::query("UPDATE mesh.domains SET mesh_version = 1").execute(&world.db.pool()).await.unwrap();
    world.clock.advance(599);
    assert!(world.pull(node).await.contains("100.64.0.2"));
    world.clock.advance(1);
    assert!(world.pull(node).await.contains("100.64.7.7"));
    world.leave(other).await;
    assert!(!world.pull(node).await.contains(&other.to_string()));
}
