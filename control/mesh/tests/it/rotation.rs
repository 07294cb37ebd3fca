//! A Node's key is asked for, offered and installed, over the operations as they are served.

use std::io::Write as _;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use plexsphere_kernel::{Clock as _, Outcome, Subject};
use plexsphere_mesh::psk_aad;
use plexsphere_testkit::logs;
use plexsphere_wire::{DenialReason, NodeId, PeerId};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::callers::{Told, ask, get};
use crate::world::{DEPLOYMENT, World, world};

/// An operator asks for a new key.
pub(crate) async fn trigger(world: &World, node: NodeId) -> Told {
    let request = http::Request::post(format!("/v1/nodes/{node}/keys/rotate"));
    ask(world, request, ("admin", Body::empty())).await
}

/// The Node offers a key.
pub(crate) async fn offer(world: &World, node: NodeId, key: [u8; 32]) -> Told {
    offer_text(world, node, &json!({ "new_public_key": STANDARD.encode(key) }).to_string()).await
}

async fn offer_text(world: &World, node: NodeId, body: &str) -> Told {
    let request = http::Request::post("/v1/keys/rotate").header("content-type", "application/json");
    ask(world, request, (&format!("nsk_{node}"), Body::from(body.to_owned()))).await
}

async fn preview(world: &World, node: NodeId) -> Value {
    let told = get(world, &format!("/v1/nodes/{node}/keys/rotate/preview"), "admin").await;
    assert_eq!(told.status, 200);
    told.json()
}

/// The present key of a Node as others pull it.
pub(crate) async fn key_of(world: &World, node: NodeId) -> [u8; 32] {
    let key: Vec<u8> = sqlx::query_scalar("SELECT public_key FROM mesh.peers WHERE node_id = $1")
        .bind(node.uuid())
        .fetch_one(&world.db.pool())
        .await
        .unwrap();
    key.try_into().unwrap()
}

/// The states of a Node's rotations, by the word.
pub(crate) async fn states(world: &World, node: NodeId) -> Vec<String> {
    let sql = "SELECT state FROM mesh.peer_key_rotations JOIN mesh.peers USING (peer_id)
         WHERE node_id = $1 ORDER BY state";
    sqlx::query_scalar(sql).bind(node.uuid()).fetch_all(&world.db.pool()).await.unwrap()
}

/// Payloads of the events of a type.
pub(crate) async fn told(world: &World, wire_type: &str) -> Vec<Value> {
    let events = world.events().await.into_iter();
    events.filter(|(name, _)| name == wire_type).map(|(_, payload)| payload).collect()
}

fn actions(world: &World) -> Vec<String> {
    world.audit.taken().into_iter().map(|record| record.relation).collect()
}

#[tokio::test]
async fn two_triggers_make_one_row_and_one_event_and_the_second_hears_of_the_first() {
    let _logs = logs::guard();
    let world = world().await;
    let (node, other) = (world.join().await, world.join().await);
    let first = trigger(&world, node).await;
    let second = trigger(&world, node).await;
    assert_eq!((first.status, second.status), (200, 200));
    let (first, second) = (first.json(), second.json());
    assert_eq!((&first["already_pending"], &second["already_pending"]), (&json!(false), &json!(true)));
    for member in ["rotation_id", "peer_id"] {
        assert_eq!(first[member], second[member], "{member}");
    }
    assert_eq!(states(&world, node).await, ["pending"]);
    let asked = json!({ "rotation_id": first["rotation_id"], "requested_at": "2027-01-15T08:00:00Z" });
    assert_eq!(told(&world, "rotate_keys").await, [asked]);
    let target: Uuid = sqlx::query_scalar("SELECT target_node_id FROM kernel.outbox WHERE wire_type = 'rotate_keys'")
        .fetch_one(&world.db.pool())
        .await
        .unwrap();
    assert_eq!(target, node.uuid());
    let rows = world.audit.taken();
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert_eq!((row.domain, row.relation.as_str()), (Some(world.domain), "node.keys.rotate.request"));
        assert_eq!((row.object.to_string(), row.outcome), (format!("node:{node}"), Outcome::Granted));
    }
    assert!(states(&world, other).await.is_empty());
}

#[tokio::test]
async fn a_preview_names_every_other_node_and_changes_nothing() {
    let world = world().await;
    let node = world.join().await;
    let mut others = vec![world.join().await, world.join().await, world.join().await];
    world.leave(others.remove(1)).await;
    others.sort_unstable();
    let before = world.events().await.len();
    let seen = preview(&world, node).await;
    let (kid, peer): (String, Uuid) =
        sqlx::query_as("SELECT kid, peer_id FROM mesh.psk_epochs JOIN mesh.peers USING (peer_id) WHERE node_id = $1")
            .bind(node.uuid())
            .fetch_one(&world.db.pool())
            .await
            .unwrap();
    let edge = |node: &NodeId| json!({ "peer_node_id": node, "current_kid": kid, "current_wrap_key_version": 1 });
    let expected = json!({
        "node_id": node,
        "peer_id": peer,
        "affected_peer_count": 2,
        "affected_edges": others.iter().map(edge).collect::<Vec<_>>(),
        "already_pending": false,
        "estimated_duration_seconds": 31,
    });
    assert_eq!(seen, expected);
    assert_eq!((world.events().await.len(), actions(&world)), (before, Vec::new()));
    assert!(states(&world, node).await.is_empty());
    let asked = trigger(&world, node).await.json();
    let seen = preview(&world, node).await;
    assert_eq!((&seen["peer_id"], &seen["already_pending"]), (&asked["peer_id"], &json!(true)));
}

#[tokio::test]
async fn an_operator_without_the_relation_cannot_tell_a_node_from_none() {
    let world = world().await;
    let node = world.join().await;
    let stranger = NodeId::mint(world.clock.now());
    for id in [node, stranger] {
        let path = format!("/v1/nodes/{id}/keys/rotate");
        let asked = ask(&world, http::Request::post(&path), ("nobody", Body::empty())).await;
        let looked = get(&world, &format!("{path}/preview"), "nobody").await;
        for told in [asked, looked] {
            assert_eq!(told.refusal(), (403, "permission_denied".to_owned()));
            assert_eq!(told.json()["reason"], "insufficient_relation");
        }
    }
    let rows = world.audit.taken();
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().all(|row| row.outcome == Outcome::Denied(DenialReason::InsufficientRelation)));
    let absent = [trigger(&world, stranger).await, get(&world, "/v1/nodes/x/keys/rotate/preview", "admin").await];
    for told in absent {
        assert_eq!(told.refusal(), (404, "node_not_found".to_owned()));
    }
    world.leave(node).await;
    let told = get(&world, &format!("/v1/nodes/{node}/keys/rotate/preview"), "admin").await;
    assert_eq!(told.refusal(), (404, "node_not_found".to_owned()));
    assert_eq!(trigger(&world, node).await.refusal(), (404, "node_not_found".to_owned()));
    assert!(states(&world, node).await.is_empty() && told_nothing(&world).await);
}

async fn told_nothing(world: &World) -> bool {
    told(world, "rotate_keys").await.is_empty() && told(world, "peer_key_rotated").await.is_empty()
}

#[tokio::test]
async fn a_new_key_is_installed_with_a_new_seed_and_everyone_is_told() {
    let _logs = logs::guard();
    let world = world().await;
    let (node, other) = (world.join().await, world.join().await);
    let rotation = trigger(&world, node).await.json()["rotation_id"].clone();
    let old_kid = preview(&world, node).await["affected_edges"][0]["current_kid"].clone();
    world.pull(other).await;
    world.audit.taken();
    world.clock.advance(5);
    let answer = offer(&world, node, [9; 32]).await;
    assert_eq!(answer.status, 200);
    let receipt = answer.json();
    let kid = receipt["kid"].as_str().unwrap();
    assert_eq!(receipt, json!({ "rotation_id": rotation, "kid": kid, "wrap_key_version": 1 }));
    assert_ne!(receipt["kid"], old_kid);

    assert_eq!((key_of(&world, node).await, states(&world, node).await), ([9; 32], vec!["completed".to_owned()]));
    let key = STANDARD.encode([9; 32]);
    assert!(world.pull(other).await.contains(&key), "the next pull has the new key");
    let rotated = json!({
        "node_id": node, "public_key": key, "rotation_id": rotation, "kid": kid, "wrap_key_version": 1,
    });
    assert_eq!(told(&world, "peer_key_rotated").await, [json!({ "peers": [rotated] })]);
    let assigned = told(&world, "peer_psk_assigned").await.pop().unwrap();
    assert_eq!(assigned, json!({ "peers": [{ "node_id": node, "kid": kid, "wrap_key_version": 1 }] }));
    let rows = world.audit.taken();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].relation.as_str(), rows[0].subject), ("node.keys.rotate.complete", Subject::Node(node)));

    // The old seed is gone, and the new one opens in its own place.
    let seeds: Vec<(String, Uuid, Vec<u8>)> = sqlx::query_as(
        "SELECT kid, peer_id, sealed FROM mesh.psk_epochs JOIN mesh.peers USING (peer_id) WHERE node_id = $1",
    )
    .bind(node.uuid())
    .fetch_all(&world.db.pool())
    .await
    .unwrap();
    assert_eq!((seeds.len(), seeds[0].0.as_str()), (1, kid));
    let aad = psk_aad(DEPLOYMENT, PeerId::from_uuid(seeds[0].1), kid);
    assert_eq!(world.keks.open(1, &seeds[0].2, &aad).unwrap().len(), 32);
}

#[tokio::test]
async fn a_lost_answer_is_given_again_as_it_was_and_tells_nobody() {
    let world = world().await;
    let (node, _other) = (world.join().await, world.join().await);
    trigger(&world, node).await;
    let first = offer(&world, node, [9; 32]).await;
    let (events, rows) = (world.events().await.len(), world.audit.taken().len());
    assert_eq!(rows, 2);
    // Whatever became of the seed since.
    sqlx::query("UPDATE mesh.psk_epochs SET wrap_key_version = 2").execute(&world.db.pool()).await.unwrap();
    for _ in 0..2 {
        let again = offer(&world, node, [9; 32]).await;
        assert_eq!((again.status, &again.body), (200, &first.body));
    }
    // Also while the next rotation is asked for, which stays asked for.
    let next = trigger(&world, node).await.json();
    assert_eq!(next["already_pending"], false);
    assert_eq!(offer(&world, node, [9; 32]).await.body, first.body);
    assert_eq!(states(&world, node).await, ["completed", "pending"]);
    assert_eq!(world.events().await.len(), events + 1);
    let second = offer(&world, node, [10; 32]).await.json();
    assert_eq!(second["rotation_id"], next["rotation_id"]);
    assert_eq!(offer(&world, node, [10; 32]).await.json(), second);
}

#[tokio::test]
async fn a_key_that_nobody_asked_for_or_that_is_the_present_one_is_refused() {
    let world = world().await;
    let (node, other) = (world.join().await, world.join().await);
    let before = key_of(&world, node).await;
    let refused = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(offer(&world, node, [9; 32]).await.refusal(), refused(409, "keys_rotate_no_pending_rotation"));
    let unchanged = refused(422, "keys_rotate_public_key_unchanged");
    assert_eq!(offer(&world, node, before).await.refusal(), unchanged);
    trigger(&world, node).await;
    assert_eq!(offer(&world, node, before).await.refusal(), unchanged);
    let invalid = refused(422, "keys_rotate_public_key_invalid");
    assert_eq!(offer(&world, node, key_of(&world, other).await).await.refusal(), invalid);
    assert_eq!((key_of(&world, node).await, states(&world, node).await), (before, vec!["pending".to_owned()]));
    assert!(told(&world, "peer_key_rotated").await.is_empty());
    world.leave(other).await;
    let free = key_of(&world, other).await;
    assert_eq!(offer(&world, node, free).await.status, 200, "a key is free again when its Peer has ended");
    world.leave(node).await;
    assert_eq!(offer(&world, node, [8; 32]).await.refusal(), refused(404, "keys_rotate_peer_not_found"));
}

#[tokio::test]
async fn a_body_is_judged_by_size_then_form_then_key_and_a_caller_before_all() {
    let world = world().await;
    let node = world.join().await;
    trigger(&world, node).await;
    let malformed = (400, "malformed_keys_rotate_request");
    let invalid = (422, "keys_rotate_public_key_invalid");
    let key = |text: &str| json!({ "new_public_key": text }).to_string();
    let good = STANDARD.encode([9; 32]);
    let bodies = [
        (" ".repeat(4_097), (413, "keys_rotate_body_too_large")),
        (String::new(), malformed),
        ("{}".to_owned(), malformed),
        (json!({ "new_public_key": null }).to_string(), malformed),
        (json!({ "new_public_key": 7 }).to_string(), malformed),
        (json!({ "new_public_key": good, "more": 1 }).to_string(), malformed),
        (key(""), invalid),
        (key(&STANDARD.encode([9; 31])), invalid),
        (key(&STANDARD.encode([0; 32])), invalid),
        (key(&good.replace("CQk=", "CQl=")), invalid),
        (key(good.trim_end_matches('=')), invalid),
    ];
    for (body, (status, code)) in bodies {
        assert_eq!(offer_text(&world, node, &body).await.refusal(), (status, code.to_owned()), "{body:.80}");
    }
    let request = http::Request::post("/v1/keys/rotate").header("content-type", "application/json");
    let operator = ask(&world, request, ("admin", Body::from(" ".repeat(4_097)))).await;
    assert_eq!(operator.refusal(), (401, "unauthorized".to_owned()));
    assert_eq!(states(&world, node).await, ["pending"]);
}

#[tokio::test]
async fn a_compressed_key_is_taken_and_its_inflated_bytes_are_capped() {
    let world = world().await;
    let node = world.join().await;
    trigger(&world, node).await;
    let send = async |plain: &[u8]| {
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(plain).unwrap();
        let request = http::Request::post("/v1/keys/rotate")
            .header("content-type", "application/json")
            .header("content-encoding", "gzip");
        ask(&world, request, (&format!("nsk_{node}"), Body::from(packed.finish().unwrap()))).await
    };
    let body = json!({ "new_public_key": STANDARD.encode([9; 32]) }).to_string();
    let bomb = format!("{}{body}", " ".repeat(1 << 20));
    assert_eq!(send(bomb.as_bytes()).await.refusal(), (413, "keys_rotate_body_too_large".to_owned()));
    assert_eq!(send(body.as_bytes()).await.status, 200);
}

#[tokio::test]
async fn heartbeats_ask_for_a_key_until_it_is_there_or_the_peer_has_ended() {
    let world = world().await;
    let (node, other) = (world.join().await, world.join().await);
    let asked = async || {
        let verdicts = world.accept(vec![world.beat(node), world.beat(other)]).await;
        let mut asked: Vec<_> = verdicts.iter().filter(|told| told.rotate_keys).map(|told| told.node).collect();
        asked.sort_unstable();
        asked
    };
    assert!(asked().await.is_empty());
    trigger(&world, node).await;
    for _ in 0..3 {
        world.clock.advance(30);
        assert_eq!(asked().await, [node]);
    }
    assert_eq!(offer(&world, node, [9; 32]).await.status, 200);
    assert!(asked().await.is_empty());
    trigger(&world, other).await;
    assert_eq!(asked().await, [other]);
    world.leave(other).await;
    assert!(asked().await.is_empty());
    assert_eq!(states(&world, other).await, ["cancelled"]);
}

/// An agent throws its new key away at a 4xx, and offers it again at a 5xx.
#[tokio::test]
async fn a_fault_is_never_the_nodes_and_leaves_all_as_it_was() {
    let logs = logs::guard();
    logs.expect("a request failed");
    let world = world().await;
    let node = world.join().await;
    trigger(&world, node).await;
    let (before, events) = (key_of(&world, node).await, world.events().await.len());
    let break_it = "ALTER TABLE mesh.psk_epochs ADD CONSTRAINT broken CHECK (false) NOT VALID";
    sqlx::query(break_it).execute(&world.db.pool()).await.unwrap();
    assert_eq!(offer(&world, node, [9; 32]).await.refusal(), (500, "internal".to_owned()));
    assert_eq!((key_of(&world, node).await, states(&world, node).await), (before, vec!["pending".to_owned()]));
    assert_eq!(world.events().await.len(), events);
    sqlx::query("ALTER TABLE mesh.psk_epochs DROP CONSTRAINT broken").execute(&world.db.pool()).await.unwrap();
    assert_eq!(offer(&world, node, [9; 32]).await.status, 200);
}
