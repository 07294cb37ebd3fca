use plexsphere_kernel::seams::JoinRefusal;
use plexsphere_mesh::psk_aad;
use plexsphere_testkit::logs;
use plexsphere_wire::PeerId;
use serde_json::json;
use uuid::Uuid;

use crate::world::{DEPLOYMENT, world};

#[tokio::test]
async fn a_join_yields_the_lowest_address_the_others_and_two_events() {
    let _logs = logs::guard();
    let world = world().await;
    let first = world.joining("100.64.0.0/10");
    let a = first.node;
    let joined = world.try_join(first).await.unwrap();
    assert_eq!((joined.mesh_ip.to_string().as_str(), joined.peers.len()), ("100.64.0.1", 0));
    let joined = world.try_join(world.joining("100.64.0.0/10")).await.unwrap();
    assert_eq!(joined.mesh_ip.to_string(), "100.64.0.2");
    assert_eq!(joined.peers.len(), 1);
    assert_eq!((joined.peers[0].node_id, joined.peers[0].mesh_ip.as_str()), (a, "100.64.0.1"));

    let events = world.events().await;
    let types: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(types, ["peer_registered", "peer_psk_assigned", "peer_registered", "peer_psk_assigned"]);
    let key = &joined.peers[0].public_key;
    assert_eq!(events[0].1, json!({ "peers": [{ "node_id": a, "mesh_ip": "100.64.0.1", "public_key": key }] }));
    let assigned = &events[1].1["peers"][0];
    assert_eq!(
        (assigned["node_id"].as_str().unwrap(), &assigned["wrap_key_version"]),
        (a.to_string().as_str(), &json!(1))
    );
    assert!(assigned["kid"].as_str().unwrap().starts_with("psk-"));
}

#[tokio::test]
async fn a_seed_opens_only_for_its_own_peer_and_ends_with_it() {
    let world = world().await;
    let (a, _b) = (world.join().await, world.join().await);
    let rows: Vec<(String, Uuid, Vec<u8>, i32)> =
        sqlx::query_as("SELECT kid, peer_id, sealed, wrap_key_version FROM mesh.psk_epochs ORDER BY created_at, kid")
            .fetch_all(&world.db.pool())
            .await
            .unwrap();
    assert_eq!(rows.len(), 2);
    let open = |place: usize, row: usize| {
        let aad = psk_aad(DEPLOYMENT, PeerId::from_uuid(rows[place].1), &rows[place].0);
        world.keks.open(rows[row].3, &rows[row].2, &aad)
    };
    assert_eq!(open(0, 0).unwrap().len(), 32);
    assert_ne!(open(0, 0).unwrap(), open(1, 1).unwrap());
    assert!(open(0, 1).is_err());
    world.leave(a).await;
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM mesh.psk_epochs").fetch_one(&world.db.pool()).await.unwrap();
    assert_eq!(left, 1);
}

#[tokio::test]
async fn a_leave_is_told_once_and_a_node_without_a_peer_is_left_alone() {
    let world = world().await;
    let a = world.join().await;
    world.leave(a).await;
    world.leave(a).await;
    let events = world.events().await;
    assert_eq!(events.len(), 3);
    assert_eq!(events[2].0, "peer_deregistered");
    assert_eq!(events[2].1, json!({ "peers": [{ "node_id": a, "reason": "operator" }] }));
    let version: i64 =
        sqlx::query_scalar("SELECT mesh_version FROM mesh.domains").fetch_one(&world.db.pool()).await.unwrap();
    assert_eq!(version, 2);
}

#[tokio::test]
async fn a_live_public_key_is_refused_and_one_that_left_may_come_back() {
    let world = world().await;
    let join = world.joining("10.0.0.0/24");
    let again = plexsphere_kernel::seams::Join { node: world.joining("10.0.0.0/24").node, ..join.clone() };
    let first = join.node;
    world.try_join(join).await.unwrap();
    assert!(matches!(world.try_join(again.clone()).await, Err(JoinRefusal::PublicKeyInUse)));
    // A supersession: leave and join in one transaction.
    let mut tx = world.database.begin().await.unwrap();
    let reason = plexsphere_kernel::seams::LeaveReason::Superseded;
    world.members.leave(&mut tx, first, reason, again.now).await.unwrap();
    let joined = world.members.join(&mut tx, again).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(joined.mesh_ip.to_string(), "10.0.0.2", "the first address is cooling");
    assert!(joined.peers.is_empty());
}

#[tokio::test]
async fn a_rolled_back_join_leaves_nothing() {
    let world = world().await;
    let mut tx = world.database.begin().await.unwrap();
    world.members.join(&mut tx, world.joining("10.0.0.0/24")).await.unwrap();
    tx.rollback().await.unwrap();
    assert!(world.events().await.is_empty());
    let joined = world.try_join(world.joining("10.0.0.0/24")).await.unwrap();
    assert_eq!(joined.mesh_ip.to_string(), "10.0.0.1");
}

#[tokio::test]
async fn a_seed_under_a_wrap_key_that_is_not_loaded_is_found() {
    let world = world().await;
    world.join().await;
    let rows = world.mesh.sealed_rows();
    assert_eq!(rows.foreign_version().await.unwrap(), None);
    sqlx::query("UPDATE mesh.psk_epochs SET wrap_key_version = 7").execute(&world.db.pool()).await.unwrap();
    assert_eq!(rows.foreign_version().await.unwrap(), Some(7));
}
