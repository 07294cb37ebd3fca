//! Rotations through any history of triggers, offers and ends.

use std::collections::BTreeSet;

use plexsphere_wire::NodeId;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use crate::rotation::{key_of, offer, told, trigger};
use crate::world::{World, world};

const NODES: usize = 3;
const CASES: u32 = 12;

#[derive(Clone, Copy, Debug)]
enum Step {
    Trigger(usize),
    Offer(usize, u8),
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..NODES).prop_map(Step::Trigger),
        6 => (0..NODES, 1..6u8).prop_map(|(node, key)| Step::Offer(node, key)),
        1 => (0..NODES).prop_map(Step::Leave),
    ]
}

/// What is expected of one Node.
#[derive(Clone, Copy)]
struct Known {
    node: NodeId,
    key: [u8; 32],
    is_live: bool,
    is_pending: bool,
    was_installed: bool,
}

async fn take(world: &World, known: &mut [Known], step: Step) {
    match step {
        Step::Trigger(index) => {
            let answer = trigger(world, known[index].node).await;
            let known = &mut known[index];
            if known.is_live {
                assert_eq!((answer.status, &answer.json()["already_pending"]), (200, &known.is_pending.into()));
                known.is_pending = true;
            } else {
                assert_eq!(answer.status, 404);
            }
        }
        Step::Offer(index, key) => {
            let key = [key; 32];
            let elsewhere =
                known.iter().enumerate().any(|(at, other)| at != index && other.is_live && other.key == key);
            let known = &mut known[index];
            let expected = match () {
                () if elsewhere => 422,
                () if !known.is_live => 404,
                () if known.key == key => {
                    if known.was_installed {
                        200
                    } else {
                        422
                    }
                }
                () if known.is_pending => 200,
                () => 409,
            };
            assert_eq!(offer(world, known.node, key).await.status, expected);
            if expected == 200 && known.key != key {
                (known.key, known.is_pending, known.was_installed) = (key, false, true);
            }
        }
        Step::Leave(index) => {
            world.leave(known[index].node).await;
            (known[index].is_live, known[index].is_pending) = (false, false);
        }
    }
}

async fn follow(world: &World, steps: &[Step]) {
    let mut known = Vec::new();
    for _ in 0..NODES {
        let node = world.join().await;
        known.push(Known {
            node,
            key: key_of(world, node).await,
            is_live: true,
            is_pending: false,
            was_installed: false,
        });
    }
    for step in steps {
        take(world, &mut known, *step).await;
        holds(world, &known).await;
    }
    let completed: Vec<String> =
        sqlx::query_scalar("SELECT rotation_id::text FROM mesh.peer_key_rotations WHERE state = 'completed'")
            .fetch_all(&world.db.pool())
            .await
            .unwrap();
    let completed: BTreeSet<String> = completed.into_iter().collect();
    let rotated = peers(&told(world, "peer_key_rotated").await);
    let named: Vec<String> = rotated.iter().map(|peer| peer["rotation_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((named.len(), named.into_iter().collect::<BTreeSet<_>>()), (completed.len(), completed));
    let assigned = peers(&told(world, "peer_psk_assigned").await);
    for peer in &rotated {
        let pair = |other: &&Value| other["kid"] == peer["kid"] && other["node_id"] == peer["node_id"];
        assert_eq!(assigned.iter().filter(pair).count(), 1, "one pair of events");
    }
    assert_eq!(assigned.len(), NODES + rotated.len());
}

fn peers(payloads: &[Value]) -> Vec<Value> {
    payloads.iter().flat_map(|payload| payload["peers"].as_array().unwrap().clone()).collect()
}

/// At most one pending row, one seed for whoever lives and none for others, and the key that is expected.
async fn holds(world: &World, known: &[Known]) {
    let sql = "SELECT p.public_key,
            (SELECT count(*) FROM mesh.peer_key_rotations r WHERE r.peer_id = p.peer_id AND r.state = 'pending'),
            (SELECT count(*) FROM mesh.psk_epochs e WHERE e.peer_id = p.peer_id)
         FROM mesh.peers p WHERE p.node_id = $1";
    for known in known {
        let seen: (Vec<u8>, i64, i64) =
            sqlx::query_as(sql).bind(known.node.uuid()).fetch_one(&world.db.pool()).await.unwrap();
        let expected = (known.key.to_vec(), i64::from(known.is_pending), i64::from(known.is_live));
        assert_eq!(seen, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_history_leaves_one_pending_row_at_most_one_seed_per_live_peer_and_one_pair_of_events_per_completion() {
    let handle = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
        let histories = prop::collection::vec(step(), 1..40);
        runner
            .run(&histories, |steps| {
                handle.block_on(async {
                    follow(&world().await, &steps).await;
                });
                Ok(())
            })
            .unwrap();
    })
    .await
    .unwrap();
}
