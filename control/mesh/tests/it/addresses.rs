use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use plexsphere_kernel::Clock as _;
use plexsphere_kernel::seams::{Join, JoinRefusal};
use plexsphere_kernel::tasks::Task as _;
use plexsphere_testkit::eventually;
use plexsphere_wire::{NodeId, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::world::{World, world};

#[tokio::test]
async fn a_held_domain_lock_is_contention_after_two_seconds_and_other_domains_go_on() {
    let world = world().await;
    let mut holder = world.database.begin().await.unwrap();
    world.members.join(&mut holder, world.joining("10.0.0.0/24")).await.unwrap();
    let begun = Instant::now();
    let refused = world.try_join(world.joining("10.0.0.0/24")).await;
    assert!(matches!(refused, Err(JoinRefusal::AllocatorContention)), "{refused:?}");
    assert!((Duration::from_millis(1_900)..Duration::from_secs(4)).contains(&begun.elapsed()));
    let other = Join { domain: plexsphere_wire::DomainId::mint(world.clock.now()), ..world.joining("10.0.0.0/24") };
    world.try_join(other).await.unwrap();
    holder.commit().await.unwrap();
    world.try_join(world.joining("10.0.0.0/24")).await.unwrap();
}

#[tokio::test]
async fn racing_joins_get_different_addresses() {
    let world = world().await;
    let joins = (0..16).map(|_| world.try_join(world.joining("10.0.0.0/27")));
    let mut got: Vec<IpAddr> =
        futures_util::future::join_all(joins).await.into_iter().map(|j| j.unwrap().mesh_ip).collect();
    got.sort_unstable();
    let expected: Vec<IpAddr> = (1..=16u8).map(|host| IpAddr::from([10, 0, 0, host])).collect();
    assert_eq!(got, expected);
}

#[tokio::test]
async fn an_exhausted_range_is_refused_by_its_own_name() {
    let world = world().await;
    let own = |sub: &str| Join {
        sub_range: Some(sub.parse().unwrap()),
        reserved: vec![sub.parse().unwrap()],
        ..world.joining("10.0.0.0/28")
    };
    for expected in ["10.0.0.5", "10.0.0.6"] {
        assert_eq!(world.try_join(own("10.0.0.4/30")).await.unwrap().mesh_ip.to_string(), expected);
    }
    assert!(matches!(world.try_join(own("10.0.0.4/30")).await, Err(JoinRefusal::SubrangeExhausted)));
    let flat = || Join { reserved: vec!["10.0.0.4/30".parse().unwrap()], ..world.joining("10.0.0.0/28") };
    for host in [1, 2, 3, 8, 9, 10, 11, 12, 13, 14] {
        assert_eq!(world.try_join(flat()).await.unwrap().mesh_ip, IpAddr::from([10, 0, 0, host]));
    }
    assert!(matches!(world.try_join(flat()).await, Err(JoinRefusal::PoolExhausted)));
    // Released, the sub-range's unused addresses are flat ones.
    let released = world.try_join(world.joining("10.0.0.0/28")).await.unwrap();
    assert_eq!(released.mesh_ip.to_string(), "10.0.0.4");
}

#[tokio::test]
async fn an_address_comes_back_after_its_cooling_and_not_before() {
    let world = world().await;
    let (a, _b) = (world.join().await, world.join().await);
    world.leave(a).await;
    world.clock.advance(3_599);
    assert_eq!(world.mesh.allocation_sweeper().run().await.unwrap().done, 0);
    assert_eq!(world.try_join(world.joining("100.64.0.0/10")).await.unwrap().mesh_ip.to_string(), "100.64.0.3");
    world.clock.advance(1);
    assert_eq!(world.mesh.allocation_sweeper().run().await.unwrap().done, 1);
    assert_eq!(world.try_join(world.joining("100.64.0.0/10")).await.unwrap().mesh_ip.to_string(), "100.64.0.1");
    assert_eq!(world.try_join(world.joining("100.64.0.0/10")).await.unwrap().mesh_ip.to_string(), "100.64.0.4");
}

#[tokio::test]
async fn an_address_that_is_freed_while_another_is_handed_out_is_not_lost() {
    let world = world().await;
    let [first, ..] = [world.join().await, world.join().await, world.join().await];
    world.leave(first).await;
    world.clock.advance(3_600);
    // The first search in a range begins without a floor and ends by setting one.
    let own = || Join { sub_range: Some("100.64.0.0/28".parse().unwrap()), ..world.joining("100.64.0.0/10") };
    let mut joining = world.database.begin().await.unwrap();
    assert_eq!(world.members.join(&mut joining, own()).await.unwrap().mesh_ip.to_string(), "100.64.0.4");
    let sweeper = world.mesh.allocation_sweeper();
    let settled = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'advisory')
        OR NOT EXISTS (SELECT FROM mesh.allocations WHERE cooling_until IS NOT NULL)";
    let finish = async {
        eventually!(
            sqlx::query_scalar::<_, bool>(settled).fetch_one(&world.db.pool()).await.unwrap(),
            "the sweep is through, or waits for the join"
        );
        joining.commit().await.unwrap();
    };
    let (swept, ()) = tokio::join!(sweeper.run(), finish);
    assert_eq!(swept.unwrap().done, 1);
    assert_eq!(world.try_join(own()).await.unwrap().mesh_ip.to_string(), "100.64.0.1");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Join { own: bool },
    Leave(usize),
    Wait,
}

/// What a clerk with a sheet of paper would do.
#[derive(Default)]
struct Clerk {
    live: BTreeMap<IpAddr, NodeId>,
    cooling: BTreeMap<IpAddr, Timestamp>,
}

impl Clerk {
    fn lowest(&self, own: bool) -> Option<IpAddr> {
        let hosts = if own { 5..=6u8 } else { 1..=14 };
        hosts
            .filter(|host| own || !(4..=7).contains(host))
            .map(|host| IpAddr::from([10, 9, 0, host]))
            .find(|ip| !self.live.contains_key(ip) && !self.cooling.contains_key(ip))
    }
}

#[test]
fn any_history_hands_out_what_a_clerk_would() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let step = prop_oneof![
        5 => any::<bool>().prop_map(|own| Step::Join { own }),
        3 => any::<usize>().prop_map(Step::Leave),
        1 => Just(Step::Wait),
    ];
    let mut runner = TestRunner::new(Config { cases: 12, failure_persistence: None, ..Config::default() });
    runner
        .run(&proptest::collection::vec(step, 1..40), |steps| {
            runtime.block_on(async {
                let world = world().await;
                let mut clerk = Clerk::default();
                for step in steps {
                    follow(&world, &mut clerk, step).await;
                }
            });
            Ok(())
        })
        .unwrap();
}

async fn follow(world: &World, clerk: &mut Clerk, step: Step) {
    match step {
        Step::Join { own } => {
            let sub: ipnet::IpNet = "10.9.0.4/30".parse().unwrap();
            let join = Join { sub_range: own.then_some(sub), reserved: vec![sub], ..world.joining("10.9.0.0/28") };
            let node = join.node;
            match (world.try_join(join).await, clerk.lowest(own)) {
                (Ok(joined), Some(expected)) => {
                    assert_eq!(joined.mesh_ip, expected);
                    clerk.live.insert(expected, node);
                }
                (Err(JoinRefusal::SubrangeExhausted), None) if own => {}
                (Err(JoinRefusal::PoolExhausted), None) if !own => {}
                (got, expected) => panic!("{got:?} instead of {expected:?}"),
            }
        }
        Step::Leave(chosen) => {
            let index = chosen % clerk.live.len().max(1);
            let Some((ip, node)) = clerk.live.iter().nth(index).map(|(ip, node)| (*ip, *node)) else { return };
            world.leave(node).await;
            clerk.live.remove(&ip);
            clerk.cooling.insert(ip, world.clock.now());
        }
        Step::Wait => {
            world.clock.advance(1_800);
            world.mesh.allocation_sweeper().run().await.unwrap();
            let now = world.clock.now();
            clerk.cooling.retain(|_, since| now.since(*since) < Duration::from_secs(3_600));
        }
    }
}
