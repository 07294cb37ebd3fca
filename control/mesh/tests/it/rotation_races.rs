//! Requests about one Node's key that meet.

use std::future::Future;

use plexsphere_wire::NodeId;
use sqlx::{PgPool, Postgres, Transaction};

use crate::callers::Told;
use crate::rotation::{key_of, offer, states, told, trigger};
use crate::world::{World, world};

/// A transaction that holds every Peer's row.
async fn holding(pool: &PgPool) -> Transaction<'static, Postgres> {
    let mut holder = pool.begin().await.unwrap();
    sqlx::query("SELECT peer_id FROM mesh.peers FOR UPDATE").execute(&mut *holder).await.unwrap();
    holder
}

async fn waiting_for_locks(pool: &PgPool, sessions: i64) {
    let waiting = "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND wait_event_type = 'Lock'";
    plexsphere_testkit::eventually!(
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(pool).await.unwrap() >= sessions,
        "{sessions} sessions wait for a lock"
    );
}

/// Has both wait for the Peers' rows, the first one longer, and lets them go.
async fn meet<A, B>(world: &World, first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, B) {
    let pool = world.db.pool();
    let holder = holding(&pool).await;
    let (a, b, ()) = tokio::join!(
        first,
        async {
            waiting_for_locks(&pool, 1).await;
            second.await
        },
        async {
            waiting_for_locks(&pool, 2).await;
            holder.rollback().await.unwrap();
        }
    );
    (a, b)
}

fn statuses(told: [&Told; 2]) -> [(u16, String); 2] {
    let mut seen = told.map(Told::refusal);
    seen.sort_unstable();
    seen
}

#[tokio::test]
async fn of_two_triggers_that_meet_one_asks_and_the_other_reads_it() {
    let world = world().await;
    let node = world.join().await;
    let (a, b) = meet(&world, trigger(&world, node), trigger(&world, node)).await;
    assert_eq!((a.status, b.status), (200, 200));
    let (a, b) = (a.json(), b.json());
    assert_eq!(a["rotation_id"], b["rotation_id"]);
    assert_ne!(a["already_pending"], b["already_pending"]);
    assert_eq!(states(&world, node).await, ["pending"]);
    assert_eq!(told(&world, "rotate_keys").await.len(), 1);
}

/// The partial index decides, not the row of the Peer, which triggers share.
#[tokio::test]
async fn a_trigger_that_waited_for_another_to_commit_reads_it() {
    let world = world().await;
    let node = world.join().await;
    let pool = world.db.pool();
    let mut first = pool.begin().await.unwrap();
    let insert = "INSERT INTO mesh.peer_key_rotations (rotation_id, peer_id, state, requested_at)
         SELECT gen_random_uuid(), peer_id, 'pending', now() FROM mesh.peers RETURNING rotation_id::text";
    let rotation: String = sqlx::query_scalar(insert).fetch_one(&mut *first).await.unwrap();
    let (second, ()) = tokio::join!(trigger(&world, node), async {
        waiting_for_locks(&pool, 1).await;
        first.commit().await.unwrap();
    });
    let second = second.json();
    assert_eq!((&second["already_pending"], &second["rotation_id"]), (&true.into(), &rotation.into()));
    assert!(told(&world, "rotate_keys").await.is_empty());
}

#[tokio::test]
async fn of_two_different_keys_that_meet_the_first_is_installed() {
    let world = world().await;
    let node = world.join().await;
    trigger(&world, node).await;
    let (a, b) = meet(&world, offer(&world, node, [8; 32]), offer(&world, node, [9; 32])).await;
    assert_eq!(statuses([&a, &b]), [(200, String::new()), (409, "keys_rotate_no_pending_rotation".to_owned())]);
    let installed = if a.status == 200 { [8; 32] } else { [9; 32] };
    assert_eq!((key_of(&world, node).await, states(&world, node).await), (installed, vec!["completed".to_owned()]));
    assert_eq!(told(&world, "peer_key_rotated").await.len(), 1);
}

#[tokio::test]
async fn one_key_offered_twice_at_once_is_installed_once_and_answered_alike() {
    let world = world().await;
    let node = world.join().await;
    trigger(&world, node).await;
    let (a, b) = meet(&world, offer(&world, node, [9; 32]), offer(&world, node, [9; 32])).await;
    assert_eq!((a.status, &a.body), (b.status, &b.body));
    assert_eq!((a.status, told(&world, "peer_key_rotated").await.len()), (200, 1));
}

#[tokio::test]
async fn of_two_nodes_that_offer_one_key_one_gets_it() {
    let world = world().await;
    let (one, two) = (world.join().await, world.join().await);
    trigger(&world, one).await;
    trigger(&world, two).await;
    let (a, b) = meet(&world, offer(&world, one, [9; 32]), offer(&world, two, [9; 32])).await;
    assert_eq!(statuses([&a, &b]), [(200, String::new()), (422, "keys_rotate_public_key_invalid".to_owned())]);
    let (winner, loser) = if a.status == 200 { (one, two) } else { (two, one) };
    assert_eq!(
        (states(&world, winner).await, states(&world, loser).await),
        (["completed"].map(String::from).to_vec(), ["pending"].map(String::from).to_vec())
    );
    assert_eq!(told(&world, "peer_key_rotated").await.len(), 1);
}

async fn seeds(world: &World, node: NodeId) -> i64 {
    let sql = "SELECT count(*) FROM mesh.psk_epochs JOIN mesh.peers USING (peer_id) WHERE node_id = $1";
    sqlx::query_scalar(sql).bind(node.uuid()).fetch_one(&world.db.pool()).await.unwrap()
}

#[tokio::test]
async fn a_key_that_meets_the_end_of_its_peer_leaves_neither_seed_nor_pending_row() {
    for key_first in [true, false] {
        let world = world().await;
        let node = world.join().await;
        trigger(&world, node).await;
        let answer = if key_first {
            meet(&world, offer(&world, node, [9; 32]), world.leave(node)).await.0
        } else {
            meet(&world, world.leave(node), offer(&world, node, [9; 32])).await.1
        };
        let state = states(&world, node).await;
        match answer.refusal() {
            (200, _) => assert_eq!(state, ["completed"]),
            (404, code) => assert_eq!(
                (state.as_slice(), code.as_str()),
                (["cancelled".to_owned()].as_slice(), "keys_rotate_peer_not_found")
            ),
            other => panic!("{other:?}"),
        }
        let told_of = told(&world, "peer_key_rotated").await.len();
        assert_eq!((seeds(&world, node).await, told_of), (0, usize::from(answer.status == 200)));
    }
}

#[tokio::test]
async fn a_trigger_that_meets_the_end_of_the_peer_leaves_nothing_pending() {
    for trigger_first in [true, false] {
        let world = world().await;
        let node = world.join().await;
        let answer = if trigger_first {
            meet(&world, trigger(&world, node), world.leave(node)).await.0
        } else {
            meet(&world, world.leave(node), trigger(&world, node)).await.1
        };
        let state = states(&world, node).await;
        match answer.refusal() {
            (200, _) => assert_eq!(state, ["cancelled"]),
            (404, code) => assert!(state.is_empty() && code == "node_not_found", "{state:?} {code}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_key_that_meets_a_trigger_ends_the_rotation_that_the_trigger_names_or_leaves_a_new_one() {
    let world = world().await;
    let node = world.join().await;
    let first = trigger(&world, node).await.json();
    let (key, asked) = meet(&world, offer(&world, node, [9; 32]), trigger(&world, node)).await;
    assert_eq!((key.status, asked.status), (200, 200));
    assert_eq!(key.json()["rotation_id"], first["rotation_id"]);
    let asked = asked.json();
    let expected: &[&str] = if asked["already_pending"] == true {
        assert_eq!(asked["rotation_id"], first["rotation_id"]);
        &["completed"]
    } else {
        assert_ne!(asked["rotation_id"], first["rotation_id"]);
        &["completed", "pending"]
    };
    assert_eq!(states(&world, node).await, expected);
    assert_eq!(told(&world, "rotate_keys").await.len(), expected.len());
}
