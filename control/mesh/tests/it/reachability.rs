use std::time::Duration;

use plexsphere_kernel::Clock as _;
use plexsphere_kernel::seams::ReachabilityPolicy;
use plexsphere_kernel::tasks::Task as _;
use plexsphere_mesh::{Reachability, ReachabilityState};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::world::world;

#[tokio::test]
async fn silence_reads_as_stale_before_the_sweep_and_is_told_by_it() {
    let world = world().await;
    let node = world.join().await;
    let sweeper = world.mesh.reachability_sweeper();
    assert_eq!(sweeper.run().await.unwrap().done, 0, "a node that was never heard is unreachable from the start");
    let heard = world.clock.now();
    world.accept(vec![world.beat(node)]).await;
    assert_eq!(sweeper.run().await.unwrap().done, 1);
    world.clock.advance(95);
    let read = world.mesh.states().reachability(node).await.unwrap();
    let lapsed = heard.plus(Duration::from_secs(90));
    assert_eq!((read.state, read.changed_at), (ReachabilityState::Stale, lapsed));
    assert_eq!(sweeper.run().await.unwrap().done, 1);
    assert_eq!(sweeper.run().await.unwrap().done, 0);
    assert_eq!(world.mesh.states().reachability(node).await.unwrap(), read);
    world.clock.advance(1_000);
    sweeper.run().await.unwrap();
    let told: Vec<_> = world.events().await.into_iter().filter(|(name, _)| name == "NodeReachabilityChanged").collect();
    let change = |from: &str, to: &str, at| json!({ "node": node, "from": from, "to": to, "at": at });
    assert_eq!(told[0].1, change("unreachable", "healthy", heard));
    assert_eq!(told[1].1, change("healthy", "stale", lapsed));
    assert_eq!(told[2].1, change("stale", "unreachable", heard.plus(Duration::from_secs(300))));
    assert_eq!(told.len(), 3);
}

#[tokio::test]
async fn a_domains_own_thresholds_count() {
    let world = world().await;
    let node = world.join().await;
    let second = Duration::from_secs(1);
    let policy =
        ReachabilityPolicy { heartbeat_interval: second, stale_after: second * 3, unreachable_after: second * 5 };
    let mut tx = world.database.begin().await.unwrap();
    world.members.set_policy(&mut tx, world.domain, policy, "100.64.0.0/10".parse().unwrap()).await.unwrap();
    tx.commit().await.unwrap();
    world.accept(vec![world.beat(node)]).await;
    for (wait, state) in
        [(2, ReachabilityState::Healthy), (1, ReachabilityState::Stale), (2, ReachabilityState::Unreachable)]
    {
        world.clock.advance(wait);
        assert_eq!(world.mesh.states().reachability(node).await.unwrap().state, state);
    }
}

/// The statements follow the model through any history of heartbeats, late ones among them, and sweeps.
#[test]
fn the_database_keeps_what_the_model_keeps() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let steps = proptest::collection::vec((0u64..200, any::<bool>(), 0u64..60), 1..30);
    let mut runner = TestRunner::new(Config { cases: 12, failure_persistence: None, ..Config::default() });
    let policy = ReachabilityPolicy::default();
    runner
        .run(&steps, |steps| {
            runtime.block_on(async {
                let world = world().await;
                let node = world.join().await;
                let mut model = Reachability::joined(world.clock.now());
                for (pause, is_heartbeat, late) in steps {
                    world.clock.advance(pause);
                    let now = world.clock.now();
                    if is_heartbeat {
                        let mut beat = world.beat(node);
                        beat.received_at = now.minus(Duration::from_secs(late));
                        model = model.heartbeat(beat.received_at, &policy);
                        world.accept(vec![beat]).await;
                    } else {
                        world.mesh.reachability_sweeper().run().await.unwrap();
                        model = model.at(now, &policy);
                    }
                    let read = world.mesh.states().reachability(node).await.unwrap();
                    assert_eq!(read, model.at(now, &policy));
                }
            });
            Ok(())
        })
        .unwrap();
}
