use std::io::Write as _;
use std::time::Duration;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use plexsphere_kernel::http::pipeline::Throttle;
use plexsphere_wire::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use crate::world::{World, demand, world, world_with};

async fn ground(world: &World) -> (String, String) {
    let domain = world.domain("acme", "100.64.0.0/10").await;
    let project = world.project(&domain, "one", None).await;
    world.resource(&project, "kubernetes-node", "host").await;
    (domain, project)
}

#[tokio::test]
async fn every_refusal_leaves_the_token_good() {
    let world = world().await;
    let (domain, project) = ground(&world).await;
    let other = world.project(&domain, "two", None).await;
    world.resource(&project, "bridge", "bridge").await;
    let (_, token) = world.token(&project, "node").await;
    let base = demand(&project, "host", &token, 1);
    let elsewhere = {
        let text = plexsphere_identity::BootstrapTokenText {
            env_prefix: "dev".into(),
            project: other.parse().unwrap(),
            kind: plexsphere_identity::TokenKind::Node,
        };
        text.mint().unwrap().to_string()
    };
    let flipped = token.replace("psb_dev", "psb_dew");
    for (member, value, status, code) in [
        ("bootstrap_token", json!(""), 422, "invalid_register_request"),
        ("project_id", json!("x"), 422, "invalid_register_request"),
        ("nonce", json!("x".repeat(4_097)), 422, "invalid_register_request"),
        ("nonce", json!(7), 400, "malformed_register_request"),
        ("nonce", json!(null), 400, "malformed_register_request"),
        ("public_key", json!(STANDARD.encode([1; 31])), 400, "public_key_invalid"),
        ("public_key", json!(STANDARD.encode([0; 32])), 400, "public_key_invalid"),
        ("bootstrap_token", json!("psb_dev_x_node_y"), 403, "token_invalid"),
        ("bootstrap_token", json!(flipped), 403, "token_invalid"),
        ("bootstrap_token", json!(elsewhere), 403, "project_mismatch"),
        ("project_id", json!(other), 403, "project_mismatch"),
        ("resource_handle", json!("nobody"), 404, "resource_not_found"),
        ("resource_handle", json!("HOST"), 404, "resource_not_found"),
        ("requested_resource_id", json!("nobody"), 404, "resource_not_found"),
        ("resource_handle", json!("bridge"), 403, "kind_mismatch"),
    ] {
        let mut body = base.clone();
        body[member] = value;
        let refused = world.register(body.clone()).await;
        assert_eq!(refused.refusal(), (status, code), "{body}");
        assert!(refused.body.get("reason").is_none());
    }
    assert_eq!(world.count("SELECT count(*) FROM identity.nodes").await, 0);
    assert_eq!(world.register(base).await.status, 201);
}

#[tokio::test]
async fn a_token_for_another_project_is_refused_before_any_slow_hash() {
    let world = world().await;
    let (domain, project) = ground(&world).await;
    let other = world.project(&domain, "two", None).await;
    let (_, token) = world.token(&project, "node").await;
    // Whoever hashes meets this.
    sqlx::query("UPDATE identity.bootstrap_tokens SET hash = 'none'").execute(&world.database.pool()).await.unwrap();
    let segment = |id: &str| {
        let text = plexsphere_identity::BootstrapTokenText {
            env_prefix: "dev".into(),
            project: id.parse().unwrap(),
            kind: plexsphere_identity::TokenKind::Node,
        };
        text.mint().unwrap().split('_').nth(2).unwrap().to_owned()
    };
    let altered = token.replace(&segment(&project), &segment(&other));
    assert_ne!(altered, token);
    for demand in [demand(&project, "host", &altered, 1), demand(&other, "host", &token, 1)] {
        assert_eq!(world.register(demand).await.refusal(), (403, "project_mismatch"));
    }
    // A text that is none of ours stops at its tag.
    assert_eq!(world.register(demand(&other, "host", &altered, 1)).await.refusal(), (403, "token_invalid"));
    assert_eq!(world.register(demand(&project, "host", &token, 1)).await.refusal(), (500, "internal"));
}

#[tokio::test]
async fn what_an_agent_of_tomorrow_says_beyond_the_known_is_ignored_also_when_it_is_null() {
    let world = world().await;
    let (_, project) = ground(&world).await;
    let (_, token) = world.token(&project, "node").await;
    let mut body = demand(&project, "host", &token, 1);
    body["nonce"] = json!(null);
    assert_eq!(world.register(body.clone()).await.refusal(), (400, "malformed_register_request"));
    body["nonce"] = json!("n");
    body["of_tomorrow"] = json!(null);
    body["nested"] = json!({ "a": [null, { "b": null }] });
    assert_eq!(world.register(body).await.status, 201);
}

#[tokio::test]
async fn an_ended_token_says_how_it_ended() {
    let world = world().await;
    let (_, project) = ground(&world).await;
    let (id, revoked) = world.token(&project, "node").await;
    world.delete(&format!("/v1/projects/{project}/bootstrap-tokens/{id}")).await;
    assert_eq!(world.register(demand(&project, "host", &revoked, 1)).await.refusal(), (403, "token_revoked"));
    let (_, expired) = world.token(&project, "node").await;
    world.clock.advance(Duration::from_secs(300));
    assert_eq!(world.register(demand(&project, "host", &expired, 1)).await.refusal(), (403, "token_expired"));
    assert_eq!(world.count("SELECT count(*) FROM identity.nodes").await, 0);
}

#[tokio::test]
async fn a_spent_nonce_and_a_live_key_are_refused_to_other_tokens() {
    let world = world().await;
    let (_, project) = ground(&world).await;
    let (_, a) = world.token(&project, "node").await;
    assert_eq!(world.register(demand(&project, "host", &a, 1)).await.status, 201);
    let (_, b) = world.token(&project, "node").await;
    let mut same_nonce = demand(&project, "host", &b, 2);
    same_nonce["nonce"] = json!("nonce-1");
    assert_eq!(world.register(same_nonce).await.refusal(), (403, "nonce_collision"));
    let mut same_key = demand(&project, "host", &b, 1);
    same_key["nonce"] = json!("fresh");
    assert_eq!(world.register(same_key).await.refusal(), (422, "public_key_in_use"));
    assert_eq!(world.register(demand(&project, "host", &b, 2)).await.status, 201);
}

#[tokio::test]
async fn a_full_sub_range_is_refused_while_the_pool_has_room() {
    let world = world().await;
    let domain = world.domain("acme", "100.64.0.0/10").await;
    let project = world.project(&domain, "small", Some("100.64.8.0/31")).await;
    world.resource(&project, "kubernetes-node", "host").await;
    let mut codes = Vec::new();
    for byte in 1..=3 {
        let (_, token) = world.token(&project, "node").await;
        codes.push(world.register(demand(&project, "host", &token, byte)).await.refusal().1.to_owned());
    }
    assert_eq!(codes.last().unwrap(), "subrange_exhausted", "{codes:?}");
}

#[tokio::test]
async fn token_requests_are_judged_by_kind_prefix_and_lifetime() {
    let world = world().await;
    let (_, project) = ground(&world).await;
    let path = format!("/v1/projects/{project}/bootstrap-tokens");
    let ask = |kind: &str, env: &str, ttl: i64| json!({ "kind": kind, "env_prefix": env, "ttl_seconds": ttl });
    for (body, status, code) in [
        (ask("node", "dev", 300), 201, ""),
        (ask("bridge", "dev", 86_400), 201, ""),
        (ask("node", "dev", 299), 400, "ttl_out_of_range"),
        (ask("node", "dev", 86_401), 400, "ttl_out_of_range"),
        (ask("vm", "dev", 300), 400, "invalid_kind"),
        (ask("node", "Dev", 300), 400, "invalid_env_prefix"),
        (ask("node", "", 300), 400, "invalid_env_prefix"),
        (
            json!({ "kind": "node", "env_prefix": "dev", "ttl_seconds": 300, "issued_by_user_id": "x" }),
            400,
            "invalid_body",
        ),
    ] {
        assert_eq!(world.post(&path, body.clone()).await.refusal(), (status, code), "{body}");
    }
    let nowhere = "/v1/projects/0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a3/bootstrap-tokens";
    assert_eq!(world.post(nowhere, ask("node", "dev", 300)).await.refusal(), (404, "project_not_found"));
}

#[tokio::test]
async fn a_compressed_body_is_taken_and_a_bomb_stops_at_the_cap() {
    let world = world().await;
    let (_, project) = ground(&world).await;
    let (_, token) = world.token(&project, "node").await;
    let squeeze = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let post = |body: Vec<u8>| {
        let request = Request::post("/v1/register").header("content-type", "application/json");
        request.header("content-encoding", "gzip").body(Body::from(body)).unwrap()
    };
    let bomb = squeeze(&vec![b' '; 16 << 20]);
    assert_eq!(world.send(post(bomb)).await.refusal(), (413, "request_body_too_large"));
    let good = squeeze(demand(&project, "host", &token, 1).to_string().as_bytes());
    assert_eq!(world.send(post(good)).await.status, 201);
}

#[tokio::test]
async fn a_source_that_registers_too_fast_waits_and_is_told_how_long() {
    let world = world_with(|config| config.register_burst = 3).await;
    for _ in 0..3 {
        assert_eq!(world.register(json!({})).await.refusal().0, 400);
    }
    let refused = world.register(json!({})).await;
    assert_eq!(refused.refusal(), (429, "rate_limited"));
    assert_eq!(refused.headers["retry-after"], "1");
    world.clock.advance(Duration::from_millis(100));
    assert_eq!(world.register(json!({})).await.refusal().0, 400);
}

#[tokio::test]
async fn a_fault_at_the_commit_leaves_no_node_and_the_token_good() {
    let world = world().await;
    let (_, project) = ground(&world).await;
    let (_, token) = world.token(&project, "node").await;
    let pool = world.database.pool();
    let broken = "ALTER TABLE kernel.outbox ADD CONSTRAINT broken CHECK (event_name <> 'NodeRegistered') NOT VALID";
    sqlx::query(broken).execute(&pool).await.unwrap();
    assert_eq!(world.register(demand(&project, "host", &token, 1)).await.refusal(), (500, "internal"));
    assert_eq!(world.count("SELECT count(*) FROM identity.nodes").await, 0);
    assert_eq!(world.count("SELECT count(*) FROM mesh.peers").await, 0);
    sqlx::query("ALTER TABLE kernel.outbox DROP CONSTRAINT broken").execute(&pool).await.unwrap();
    let enrolled = world.register(demand(&project, "host", &token, 1)).await;
    assert_eq!(enrolled.body["mesh_ip"], "100.64.0.1", "{}", enrolled.body);
}

proptest! {
    #[test]
    fn no_window_admits_more_than_the_burst_and_the_rate(gaps in proptest::collection::vec(0_u64..400, 1..200)) {
        let throttle = Throttle::new(100, 50);
        let start = Timestamp::from_unix_seconds(1_790_000_000);
        let (mut now, mut admitted) = (0_u64, Vec::new());
        for gap in gaps {
            now += gap;
            if throttle.admit("192.0.2.7", start.plus(Duration::from_millis(now))).is_ok() {
                admitted.push(now);
            }
        }
        for (first, from) in admitted.iter().enumerate() {
            for (last, to) in admitted.iter().enumerate().skip(first) {
                let count = u64::try_from(last - first + 1).unwrap();
                prop_assert!(count <= 50 + (to - from) / 100 + 1);
            }
        }
    }
}
