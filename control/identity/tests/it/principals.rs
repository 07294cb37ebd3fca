use std::time::Duration;

use plexsphere_kernel::Clock as _;
use serde_json::json;

use crate::world::world;

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn many_replicas_make_one_first_token_and_an_expired_one_is_replaced() {
    let world = world().await;
    let first = world.identity.first_administrator();
    let now = world.clock.now();
    let again = futures_util::future::join_all((0..3).map(|_| first.ensure("dev", HOUR, now))).await;
    assert!(again.into_iter().all(|made| made.unwrap().is_none()));
    assert_eq!(world.count("SELECT count(*) FROM identity.api_tokens").await, 1);
    world.clock.advance(HOUR * 24 * 31);
    assert_eq!(world.get("/v1/auth/whoami").await.refusal(), (401, "unauthenticated"));
    let now = world.clock.now();
    let made = futures_util::future::join_all((0..3).map(|_| first.ensure("dev", HOUR, now))).await;
    let made: Vec<_> = made.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(made.len(), 1);
    let who = world.call_as(&made[0], "GET", "/v1/auth/whoami", None).await;
    assert_eq!((who.text("principal_type"), who.text("principal_scope")), ("user".into(), "platform".into()));
    assert_eq!(world.count("SELECT count(*) FROM identity.users").await, 1);
}

#[tokio::test]
async fn a_second_administrator_closes_the_door_of_the_first() {
    let world = world().await;
    for sql in [
        "INSERT INTO identity.users (id, issuer, external_subject, display_name, created_at)
         VALUES ('0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a3', 'https://idp', 's', 'u', now())",
        "INSERT INTO identity.platform_admins VALUES ('0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a3', now())",
    ] {
        sqlx::query(sql).execute(&world.database.pool()).await.unwrap();
    }
    let first = world.identity.first_administrator();
    assert!(first.ensure("dev", HOUR, world.clock.now()).await.unwrap().is_none());
    assert_eq!(world.get("/v1/auth/whoami").await.refusal(), (401, "unauthenticated"));
    sqlx::query("DELETE FROM identity.platform_admins").execute(&world.database.pool()).await.unwrap();
    assert!(first.ensure("dev", HOUR, world.clock.now()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_token_is_issued_listed_rotated_and_revoked() {
    let world = world().await;
    let me = world.get("/v1/auth/whoami").await.text("subject");
    world.clock.advance(Duration::from_secs(1));
    let body = json!({ "identity_ref": format!("user:{me}"), "env_prefix": "prod", "ttl_seconds": 172_800 });
    let issued = world.post("/v1/auth/tokens", body).await;
    assert_eq!(issued.status, 201, "{}", issued.body);
    assert_eq!(issued.headers["cache-control"], "no-store");
    let (id, old) = (issued.text("id"), issued.text("plaintext"));
    assert_eq!(world.call_as(&old, "GET", "/v1/auth/whoami", None).await.status, 200);

    let rotated = world.call_as(&world.admin, "POST", &format!("/v1/auth/tokens/{id}/rotate"), None).await;
    assert_eq!(rotated.status, 200, "{}", rotated.body);
    let new = rotated.text("plaintext");
    let sunset = rotated.headers["sunset"].to_str().unwrap();
    assert!(sunset.ends_with(" GMT") && sunset.len() == 29, "{sunset}");
    for secret in [&old, &new] {
        assert_eq!(world.call_as(secret, "GET", "/v1/auth/whoami", None).await.status, 200);
    }
    world.clock.advance(HOUR * 24);
    assert_eq!(world.call_as(&old, "GET", "/v1/auth/whoami", None).await.refusal(), (401, "unauthenticated"));
    assert_eq!(world.call_as(&new, "GET", "/v1/auth/whoami", None).await.status, 200);

    let listed = world.get("/v1/auth/tokens").await;
    assert_eq!(listed.body.as_array().unwrap().len(), 2);
    assert_eq!(listed.body[0]["id"], id.as_str());
    assert!(listed.body[0].get("last_used_at").is_some());

    let path = format!("/v1/auth/tokens/{id}");
    assert_eq!(world.delete(&path).await.status, 204);
    assert_eq!(world.call_as(&new, "GET", "/v1/auth/whoami", None).await.refusal(), (401, "unauthenticated"));
    for gone in [path.as_str(), "/v1/auth/tokens/x", "/v1/auth/tokens/0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a3"] {
        assert_eq!(world.delete(gone).await.refusal(), (404, "api_token_not_found"));
    }
}

#[tokio::test]
async fn a_rotation_gives_no_more_time_than_the_token_its_caller_came_by_has() {
    let world = world().await;
    let me = format!("user:{}", world.get("/v1/auth/whoami").await.text("subject"));
    let ask = |ttl: u64| json!({ "identity_ref": me, "env_prefix": "dev", "ttl_seconds": ttl });
    let long = world.post("/v1/auth/tokens", ask(7_200)).await;
    let short = world.post("/v1/auth/tokens", ask(3_600)).await;
    let end = world.clock.now().plus(HOUR);
    world.clock.advance(HOUR / 2);
    let until =
        |answer: &crate::world::Answer, member: &str| plexsphere_wire::Timestamp::parse(&answer.text(member)).unwrap();
    for id in [short.text("id"), long.text("id")] {
        let path = format!("/v1/auth/tokens/{id}/rotate");
        let by_short = world.call_as(&short.text("plaintext"), "POST", &path, None).await;
        assert_eq!(by_short.status, 200, "{}", by_short.body);
        assert_eq!(until(&by_short, "expires_at"), end);
        assert!(until(&by_short, "rotation_deadline") <= end);
    }
    // A caller with more time gives the full lifetime again.
    let path = format!("/v1/auth/tokens/{}/rotate", short.text("id"));
    let by_admin = world.call_as(&world.admin, "POST", &path, None).await;
    assert_eq!(until(&by_admin, "expires_at"), world.clock.now().plus(HOUR));
}

#[tokio::test]
async fn a_first_token_that_cannot_be_delivered_was_never_made_and_the_next_start_makes_one() {
    let world = world().await;
    world.clock.advance(HOUR * 24 * 31);
    let first = world.identity.first_administrator();
    let now = world.clock.now();
    let mut lost = String::new();
    let refused = first
        .ensure_delivered("dev", HOUR, now, |text| {
            lost = text.to_string();
            Err(std::io::Error::other("the disk is full"))
        })
        .await;
    assert!(matches!(refused, Err(plexsphere_identity::DeliveryFault::Undelivered(_))), "{refused:?}");
    assert_eq!(world.call_as(&lost, "GET", "/v1/auth/whoami", None).await.refusal(), (401, "unauthenticated"));
    let mut kept = String::new();
    let keep = |text: &zeroize::Zeroizing<String>| {
        kept = text.to_string();
        Ok::<(), std::io::Error>(())
    };
    assert!(first.ensure_delivered("dev", HOUR, now, keep).await.unwrap());
    assert_eq!(world.call_as(&kept, "GET", "/v1/auth/whoami", None).await.status, 200);
    assert!(!first.ensure_delivered("dev", HOUR, now, |_| Ok::<(), std::io::Error>(())).await.unwrap());
}

#[tokio::test]
async fn a_request_for_a_token_is_judged_member_by_member() {
    let world = world().await;
    let me = format!("user:{}", world.get("/v1/auth/whoami").await.text("subject"));
    let other = "user:0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a3";
    for (body, code) in [
        (json!({ "identity_ref": other, "env_prefix": "dev" }), "identity_ref_not_self"),
        (json!({ "identity_ref": me.replace("user", "service"), "env_prefix": "dev" }), "identity_ref_not_self"),
        (json!({ "identity_ref": "user:x", "env_prefix": "dev" }), "invalid_api_token"),
        (json!({ "identity_ref": me, "env_prefix": "test" }), "invalid_api_token"),
        (json!({ "identity_ref": me, "env_prefix": "dev", "ttl_seconds": 0 }), "invalid_api_token"),
        (json!({ "identity_ref": me, "env_prefix": "dev", "ttl_seconds": 31_536_001 }), "invalid_api_token"),
        (json!({ "identity_ref": me, "env_prefix": "dev", "x": 1 }), "invalid_body"),
        (json!({ "identity_ref": me }), "invalid_body"),
    ] {
        assert_eq!(world.post("/v1/auth/tokens", body.clone()).await.refusal(), (400, code), "{body}");
    }
    // A caller that came by a token gets at most that token's remaining lifetime.
    let body = json!({ "identity_ref": me, "env_prefix": "dev", "ttl_seconds": 31_536_000 });
    let issued = world.post("/v1/auth/tokens", body).await;
    let end = plexsphere_wire::Timestamp::parse(&issued.text("expires_at")).unwrap();
    assert_eq!(end, world.clock.now().plus(HOUR * 24 * 30));
}

#[tokio::test]
async fn a_strange_bearer_is_unauthenticated_and_a_dead_database_is_no_verdict() {
    let world = world().await;
    let altered = if world.admin.ends_with('a') {
        format!("{}q", &world.admin[..world.admin.len() - 1])
    } else {
        format!("{}a", &world.admin[..world.admin.len() - 1])
    };
    let longer = "x".repeat(9_000);
    for bad in ["", "psk_dev_x_y", "psb_dev_a_node_b", "garbage", altered.as_str(), longer.as_str()] {
        assert_eq!(world.call_as(bad, "GET", "/v1/auth/whoami", None).await.refusal(), (401, "unauthenticated"));
    }
    world.database.pool().close().await;
    world.db.pool().close().await;
    world.clock.advance(HOUR);
    assert_eq!(world.get("/v1/auth/whoami").await.refusal(), (503, "datastore_unavailable"));
}
