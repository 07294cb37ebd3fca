//! Tokens of others, over HTTP.

use std::time::Duration;

use plexsphere_kernel::Clock as _;
use plexsphere_wire::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::callers::{Caller, Grants, caller, service, user};
use crate::world::{Answer, World, world};

const NOBODY: &str = "0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a3";
const NIL: &str = "00000000-0000-0000-0000-000000000000";
const DAY: Duration = Duration::from_secs(86_400);

fn wanted(owner: &str) -> Value {
    json!({ "identity_ref": owner, "env_prefix": "prod", "ttl_seconds": 172_800 })
}

async fn as_caller(world: &World, who: &Caller, method: &str, path: &str, body: Option<Value>) -> Answer {
    world.call_as(&who.token, method, path, body).await
}

async fn whoami(world: &World, token: &str) -> Answer {
    world.call_as(token, "GET", "/v1/auth/whoami", None).await
}

#[tokio::test]
async fn a_service_identity_comes_by_a_token_that_says_what_it_is() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let robot = service(&world, &domain).await;
    let issued = world.post("/v1/admin/tokens", wanted(&format!("service:{robot}"))).await;
    assert_eq!(issued.status, 201, "{}", issued.body);
    assert_eq!(issued.headers["cache-control"], "no-store");
    let (id, old) = (issued.text("id"), issued.text("plaintext"));
    assert!(old.starts_with("psk_prod_"), "{old}");
    let who = whoami(&world, &old).await;
    assert_eq!((who.text("principal_type"), who.text("principal_scope")), ("service".into(), "domain".into()));
    assert_eq!((who.text("subject"), who.text("domain_id")), (robot.to_string(), domain.clone()));
    assert!(who.body.get("email").is_none());
    // The robot now tends its own.
    let own = world.call_as(&old, "POST", "/v1/auth/tokens", Some(wanted(&format!("service:{robot}")))).await;
    assert_eq!(own.status, 201, "{}", own.body);
    let theirs = world.call_as(&old, "POST", "/v1/auth/tokens", Some(wanted(&format!("user:{robot}")))).await;
    assert_eq!(theirs.refusal(), (400, "identity_ref_not_self"));
    assert_eq!(world.call_as(&old, "GET", "/v1/auth/tokens", None).await.body.as_array().unwrap().len(), 2);

    let listed = world.get(&format!("/v1/admin/tokens?identity_ref=service:{robot}")).await;
    assert_eq!(listed.body.as_array().unwrap().len(), 2);
    assert!(!listed.body.to_string().contains("psk_"));
    let rotated = world.call_as(&world.admin, "POST", &format!("/v1/admin/tokens/{id}/rotate"), None).await;
    assert_eq!(rotated.status, 200, "{}", rotated.body);
    assert_eq!(rotated.text("id"), id);
    assert!(rotated.headers["sunset"].to_str().unwrap().ends_with(" GMT"));
    let new = rotated.text("plaintext");
    for secret in [&old, &new] {
        assert_eq!(whoami(&world, secret).await.status, 200);
    }
    world.clock.advance(DAY);
    assert_eq!(whoami(&world, &old).await.refusal(), (401, "unauthenticated"));
    assert_eq!(whoami(&world, &new).await.status, 200);
    let path = format!("/v1/admin/tokens/{id}");
    assert_eq!(world.delete(&path).await.status, 204);
    assert_eq!(whoami(&world, &new).await.refusal(), (401, "unauthenticated"));
    assert_eq!(world.delete(&path).await.refusal(), (404, "api_token_not_found"));
    let again = world.call_as(&world.admin, "POST", &format!("{path}/rotate"), None).await;
    assert_eq!(again.refusal(), (404, "api_token_not_found"));
    let chain: Uuid = domain.parse().unwrap();
    for action in ["api-token.issue", "api-token.list", "api-token.rotate", "api-token.revoke"] {
        let rows = world.rows(action).await;
        assert!(!rows.is_empty() && rows.iter().all(|row| row.2 == chain), "{action} {rows:?}");
    }
    let payloads: Vec<Value> =
        sqlx::query_scalar("SELECT payload FROM kernel.outbox WHERE event_name LIKE 'identity.APIToken%'")
            .fetch_all(&world.database.pool())
            .await
            .unwrap();
    assert!(payloads.iter().all(|payload| payload["service_identity_id"] == json!(robot)), "{payloads:?}");
}

#[tokio::test]
async fn a_request_for_anothers_token_is_judged_before_anybody_is_asked() {
    let mut world = world().await;
    let grants = Grants::seat(&mut world);
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let person = format!("user:{}", user(&world, Some(&domain)).await);
    let nobody_in_charge = caller(&world, &grants, Some(&domain)).await;
    let bare = Uuid::parse_str(person.strip_prefix("user:").unwrap()).unwrap();
    let bad_refs = [
        "",
        ":",
        "user",
        "user:",
        "user:x",
        "users:x",
        &format!("user:{NIL}"),
        &format!("User:{bare}"),
        &format!("service-identity:{bare}"),
        &format!("serviceaccount:{bare}"),
        &format!(" user:{bare}"),
        &format!("user:{bare} "),
        &format!("user:{}", bare.simple()),
        &format!("user:{{{bare}}}"),
    ];
    for bad in bad_refs {
        let refused = as_caller(&world, &nobody_in_charge, "POST", "/v1/admin/tokens", Some(wanted(bad))).await;
        assert_eq!(refused.refusal(), (400, "invalid_identity_ref"), "{bad:?}");
        let path = format!("/v1/admin/tokens?identity_ref={}", bad.replace(' ', "%20"));
        let refused = as_caller(&world, &nobody_in_charge, "GET", &path, None).await;
        assert_eq!(refused.refusal(), (400, "invalid_identity_ref"), "{bad:?}");
    }
    for path in ["/v1/admin/tokens", &format!("/v1/admin/tokens?identity_ref={person}&identity_ref={person}")] {
        let refused = as_caller(&world, &nobody_in_charge, "GET", path, None).await;
        assert_eq!(refused.refusal(), (400, "invalid_identity_ref"), "{path}");
    }
    for (body, code) in [
        (json!({ "identity_ref": person, "env_prefix": "test" }), "invalid_api_token"),
        (json!({ "identity_ref": person, "env_prefix": "dev", "ttl_seconds": 0 }), "invalid_api_token"),
        (json!({ "identity_ref": person, "env_prefix": "dev", "ttl_seconds": 31_536_001 }), "invalid_api_token"),
        (json!({ "identity_ref": person }), "invalid_body"),
        (json!({ "identity_ref": person, "env_prefix": "dev", "x": 1 }), "invalid_body"),
        (json!({ "identity_ref": person, "env_prefix": "dev", "ttl_seconds": 1.5 }), "invalid_body"),
        (json!({ "identity_ref": null, "env_prefix": "dev" }), "invalid_body"),
    ] {
        let refused = as_caller(&world, &nobody_in_charge, "POST", "/v1/admin/tokens", Some(body.clone())).await;
        assert_eq!(refused.refusal(), (400, code), "{body}");
    }
    assert_eq!(world.count("SELECT count(*) FROM identity.api_tokens").await, 2);
}

#[tokio::test]
async fn whoever_manages_a_domain_tends_the_tokens_of_its_principals_and_no_others() {
    let mut world = world().await;
    let grants = Grants::seat(&mut world);
    let (own, other) = (world.domain("own", "10.0.0.0/8").await, world.domain("other", "11.0.0.0/8").await);
    let manager = caller(&world, &grants, Some(&own)).await;
    grants.give(&manager, "manage", format!("domain:{own}"));
    let person = format!("user:{}", user(&world, Some(&own)).await);
    let robot = format!("service:{}", service(&world, &own).await);
    let mut tokens = Vec::new();
    for owner in [&person, &robot] {
        let issued = as_caller(&world, &manager, "POST", "/v1/admin/tokens", Some(wanted(owner))).await;
        assert_eq!(issued.status, 201, "{}", issued.body);
        tokens.push(issued.text("id"));
        let listed = as_caller(&world, &manager, "GET", &format!("/v1/admin/tokens?identity_ref={owner}"), None).await;
        assert_eq!(listed.body.as_array().unwrap().len(), 1);
    }
    let elsewhere = [
        format!("user:{}", user(&world, Some(&other)).await),
        format!("service:{}", service(&world, &other).await),
        format!("user:{}", user(&world, None).await),
        format!("user:{NOBODY}"),
        format!("service:{NOBODY}"),
        // The right id under the wrong kind names nobody.
        person.replace("user", "service"),
    ];
    let mut bodies = Vec::new();
    let mut foreign_tokens = Vec::new();
    for owner in &elsewhere {
        for (method, path, body) in [
            ("POST", "/v1/admin/tokens".to_owned(), Some(wanted(owner))),
            ("GET", format!("/v1/admin/tokens?identity_ref={owner}"), None),
        ] {
            let mut refused = as_caller(&world, &manager, method, &path, body).await;
            assert_eq!(refused.refusal(), (403, "permission_denied"), "{method} {owner}");
            assert_eq!(refused.body["reason"], "out_of_scope");
            refused.body.as_object_mut().unwrap().remove("correlation_id");
            bodies.push(refused.body);
        }
        let issued = world.post("/v1/admin/tokens", wanted(owner)).await;
        if issued.status == 201 {
            foreign_tokens.push(issued.text("id"));
        } else {
            assert_eq!(issued.refusal(), (403, "permission_denied"), "nobody, whoever asks: {owner}");
        }
    }
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "{bodies:?}");
    assert_eq!(foreign_tokens.len(), 3);
    // Who asked for nobody is on record where the caller belongs.
    let denials = world.rows("manage").await;
    let nobody = ("serviceaccount".to_owned(), NOBODY.to_owned(), own.parse().unwrap());
    assert_eq!(denials.iter().filter(|row| **row == nobody).count(), 2, "{denials:?}");
    for id in foreign_tokens.iter().map(String::as_str).chain([NOBODY, NIL, "x", "%00"]) {
        for (method, tail) in [("DELETE", ""), ("POST", "/rotate")] {
            let refused = as_caller(&world, &manager, method, &format!("/v1/admin/tokens/{id}{tail}"), None).await;
            assert_eq!(refused.refusal(), (404, "api_token_not_found"), "{method} {id}");
        }
    }
    for id in &tokens {
        let rotated = as_caller(&world, &manager, "POST", &format!("/v1/admin/tokens/{id}/rotate"), None).await;
        assert_eq!(rotated.status, 200, "{}", rotated.body);
        assert_eq!(as_caller(&world, &manager, "DELETE", &format!("/v1/admin/tokens/{id}"), None).await.status, 204);
    }
}

#[tokio::test]
async fn whoever_reaches_a_domain_without_managing_it_is_told_so() {
    let mut world = world().await;
    let grants = Grants::seat(&mut world);
    let domain = world.domain("own", "10.0.0.0/8").await;
    let reader = caller(&world, &grants, Some(&domain)).await;
    grants.give(&reader, "read", format!("domain:{domain}"));
    let person = format!("user:{}", user(&world, Some(&domain)).await);
    let id = world.post("/v1/admin/tokens", wanted(&person)).await.text("id");
    for (method, path, body) in [
        ("POST", "/v1/admin/tokens".to_owned(), Some(wanted(&person))),
        ("GET", format!("/v1/admin/tokens?identity_ref={person}"), None),
        ("DELETE", format!("/v1/admin/tokens/{id}"), None),
        ("POST", format!("/v1/admin/tokens/{id}/rotate"), None),
    ] {
        let refused = as_caller(&world, &reader, method, &path, body).await;
        assert_eq!(refused.refusal(), (403, "permission_denied"), "{method} {path}");
        assert_eq!(refused.body["reason"], "insufficient_relation");
    }
}

#[tokio::test]
async fn nobody_outlives_their_own_token_by_this_road_and_others_get_what_is_asked() {
    let world = world().await;
    let me = format!("user:{}", whoami(&world, &world.admin).await.text("subject"));
    let person = format!("user:{}", user(&world, None).await);
    let year = |owner: &str| json!({ "identity_ref": owner, "env_prefix": "dev", "ttl_seconds": 31_536_000 });
    let end = |answer: &Answer| Timestamp::parse(&answer.text("expires_at")).unwrap();
    let mine = world.post("/v1/admin/tokens", year(&me)).await;
    assert_eq!(end(&mine), world.clock.now().plus(DAY * 30));
    let theirs = world.post("/v1/admin/tokens", year(&person)).await;
    assert_eq!(end(&theirs), world.clock.now().plus(DAY * 365));
    let id = mine.text("id");
    world.clock.advance(DAY);
    let rotated = world.call_as(&world.admin, "POST", &format!("/v1/admin/tokens/{id}/rotate"), None).await;
    assert_eq!(end(&rotated), world.clock.now().plus(DAY * 29));
}

#[tokio::test]
async fn an_identity_has_a_hundred_live_tokens_also_when_two_ask_for_the_last() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let robot = service(&world, &domain).await;
    sqlx::query(
        "INSERT INTO identity.api_tokens
             (id, service_identity_id, env_prefix, digest, ttl_seconds, created_at, expires_at)
         SELECT gen_random_uuid(), $1, 'dev', sha256(i::text::bytea), 60, now(), '2100-01-01'
         FROM generate_series(1, 99) AS i",
    )
    .bind(robot)
    .execute(&world.database.pool())
    .await
    .unwrap();
    let body = wanted(&format!("service:{robot}"));
    let (a, b) =
        tokio::join!(world.post("/v1/admin/tokens", body.clone()), world.post("/v1/admin/tokens", body.clone()));
    let mut seen = [a.refusal(), b.refusal()];
    seen.sort_unstable();
    assert_eq!(seen, [(201, ""), (400, "invalid_api_token")]);
}

#[tokio::test]
async fn a_token_belongs_to_one_owner_and_the_database_says_so() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let (person, robot) = (user(&world, Some(&domain)).await, service(&world, &domain).await);
    for (user, service) in [(None, None), (Some(person), Some(robot))] {
        let refused = sqlx::query(
            "INSERT INTO identity.api_tokens
                 (id, user_id, service_identity_id, env_prefix, digest, ttl_seconds, created_at, expires_at)
             VALUES (gen_random_uuid(), $1, $2, 'dev', sha256(''), 60, now(), now())",
        )
        .bind(user)
        .bind(service)
        .execute(&world.database.pool())
        .await
        .unwrap_err();
        assert!(refused.to_string().contains("api_tokens_owner_check"), "{refused}");
    }
}
