//! What a token and a Node Secret Key open, where they rest, and where they never appear.

use std::sync::Arc;

use plexsphere_identity::{Identity, IdentityConfig};
use plexsphere_kernel::KekRing;
use plexsphere_kernel::tasks::Task as _;
use plexsphere_wire::NodeId;
use plexsphere_wire::nsk::{CredentialDigest, render_bearer};
use serde_json::Value;

use crate::callers::Grants;
use crate::chains::sequenced;
use crate::world::{DEPLOYMENT, World, demand, world};

/// Seats the context anew, with this ring.
fn rewrapped(world: &mut World, ring: &str) {
    world.deps.kek = Arc::new(KekRing::parse(ring).unwrap());
    let config = IdentityConfig { register_burst: 10_000, ..IdentityConfig::new(DEPLOYMENT) };
    world.identity = Arc::new(Identity::new(&config, world.deps.clone()));
    Grants::seat(world);
}

async fn kid_of(world: &World, node: NodeId) -> (String, i32) {
    sqlx::query_as("SELECT kid, wrap_key_version FROM identity.node_secret_keys WHERE node_id = $1")
        .bind(node.uuid())
        .fetch_one(&world.database.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_key_opens_under_the_wrap_key_that_sealed_it_for_as_long_as_that_is_loaded() {
    let mut world = world().await;
    let (old, new) = (KekRing::generate(), format!("2:{}", "7c".repeat(32)));
    rewrapped(&mut world, &old);
    let node: NodeId = world.enrol("vm", 1).await.text("node_id").parse().unwrap();
    let (kid, version) = kid_of(&world, node).await;
    assert_eq!(version, 1);
    let before = world.identity.nsk_custodian().open(node, &kid).await.unwrap().unwrap();
    rewrapped(&mut world, &format!("{}\n{new}", old.trim()));
    let after = world.identity.nsk_custodian().open(node, &kid).await.unwrap().unwrap();
    assert_eq!(before.as_slice(), after.as_slice());
    rewrapped(&mut world, &new);
    assert!(world.identity.nsk_custodian().open(node, &kid).await.is_err());
}

#[tokio::test]
async fn a_key_moves_to_the_newest_wrap_key_and_opens_before_meanwhile_and_afterwards() {
    let mut world = world().await;
    let (old, new) = (KekRing::generate(), format!("2:{}", "7c".repeat(32)));
    rewrapped(&mut world, &old);
    let node: NodeId = world.enrol("vm", 1).await.text("node_id").parse().unwrap();
    let (kid, _) = kid_of(&world, node).await;
    let open = async |world: &World| world.identity.nsk_custodian().open(node, &kid).await.unwrap().unwrap();
    let before = open(&world).await;
    assert_eq!(world.identity.nsk_rewrap().run().await.unwrap().done, 0);
    rewrapped(&mut world, &format!("{}\n{new}", old.trim()));
    assert_eq!(open(&world).await.as_slice(), before.as_slice());
    assert_eq!(world.identity.nsk_rewrap().run().await.unwrap().done, 1);
    assert_eq!(world.identity.nsk_rewrap().run().await.unwrap().done, 0);
    assert_eq!(kid_of(&world, node).await, (kid.clone(), 2));
    assert_eq!(world.rows("nsk.rewrap").await.len(), 1, "one row for the run that moved something");
    rewrapped(&mut world, &new);
    assert_eq!(open(&world).await.as_slice(), before.as_slice());
}

#[tokio::test]
async fn a_node_call_takes_the_envelope_and_never_the_bare_key() {
    let world = world().await;
    let enrolled = world.enrol("vm", 1).await;
    let vector: NodeId = "0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a3".parse().unwrap();
    let pool = world.database.pool();
    // The Node of the test vector, beside the one that is enrolled.
    let node = "INSERT INTO identity.nodes (id, domain_id, project_id, resource_id, public_key, mesh_ip,
            pinned_signing_key_id, created_at)
        SELECT $1, domain_id, project_id, resource_id, sha256('x'), mesh_ip + 1, pinned_signing_key_id, created_at
        FROM identity.nodes";
    sqlx::query(node).bind(vector.uuid()).execute(&pool).await.unwrap();
    let key = "INSERT INTO identity.node_secret_keys (kid, node_id, wrapped, wrap_key_version, digest, created_at)
        VALUES ('nsk-vector', $1, 'x', 1, $2, now())";
    let digest = CredentialDigest::of(vector, &[0x2a; 32]);
    sqlx::query(key).bind(vector.uuid()).bind(digest.as_bytes().as_slice()).execute(&pool).await.unwrap();
    let bearer = "nsk_plexd_AZCouKDAegqKCqCgoKCgoyoqKioqKioqKioqKioqKioqKioqKioqKioqKioqKioq";
    assert_eq!(render_bearer("plexd", vector, &[0x2a; 32]).as_str(), bearer);
    let proven = world.identity.authenticator().node(bearer).await.unwrap().principal();
    assert_eq!(proven.subject.uuid(), vector.uuid());

    let path = format!("/v1/nodes/{}/state", enrolled.text("node_id"));
    let refused = world.call_as(&enrolled.text("nsk"), "GET", &path, None).await;
    assert_eq!(refused.status, 401, "{}", refused.body);
    assert_eq!(refused.headers["www-authenticate"], "Bearer realm=\"plexsphere\"");
}

#[tokio::test]
async fn a_tokens_text_is_in_no_answer_but_the_first_in_no_row_and_in_no_log() {
    let guard = plexsphere_testkit::logs::guard();
    let world = world().await;
    let domain = world.domain("acme", "100.64.0.0/10").await;
    let project = world.project(&domain, "one", None).await;
    world.resource(&project, "vm", "host").await;
    let tokens = format!("/v1/projects/{project}/bootstrap-tokens");
    let (redeemed, token) = world.token(&project, "node").await;
    let (revoked, other) = world.token(&project, "node").await;
    let refused = world.register(demand(&project, "nobody", &token, 1)).await;
    assert_eq!(refused.refusal(), (404, "resource_not_found"));
    let node = world.register(demand(&project, "host", &token, 1)).await;
    assert_eq!(node.status, 201, "{}", node.body);
    assert_eq!(world.register(demand(&project, "host", &token, 2)).await.refusal(), (403, "token_consumed"));
    assert_eq!(world.delete(&format!("{tokens}/{revoked}")).await.status, 204);
    let mut shown: Vec<Value> = vec![refused.body, node.body.clone()];
    for path in [tokens.clone(), format!("{tokens}/{redeemed}"), format!("{tokens}/{revoked}")] {
        let read = world.get(&path).await;
        assert_eq!(read.status, 200, "{}", read.body);
        shown.push(read.body);
    }
    // What an export holds is the canonical bytes of the entries.
    sequenced(&world).await;
    let exported: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT canonical FROM audit.entries").fetch_all(&world.database.pool()).await.unwrap();
    assert!(exported.len() > 5);
    let exported: Vec<String> = exported.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
    for text in [&token, &other] {
        let random = text.rsplit('_').next().unwrap();
        assert!(!shown.iter().any(|body| body.to_string().contains(random)));
        assert!(!exported.iter().any(|entry| entry.contains(random)));
        assert!(!guard.saw(random));
    }
    let nsk = node.text("nsk");
    assert!(!guard.saw(&nsk) && !exported.iter().any(|entry| entry.contains(&nsk)));
}
