//! JWT-SVIDs: what they prove, once, and what they do not.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::Router;
use axum::routing::get;
use data_encoding::BASE64URL_NOPAD;
use plexsphere_identity::{Deps, Identity, IdentityConfig};
use plexsphere_kernel::Clock as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::people::{home, meet};
use crate::world::{Answer, DEPLOYMENT, World, gates, watched, world};

const SPIFFE_ID: &str = "spiffe://example.org/agent";
const AUDIENCE: &str = "https://plexsphere.test";

/// A workload's authority, whose bundle the binding of a Domain names.
struct Authority {
    key: EcdsaKeyPair,
    client: String,
}

impl Authority {
    async fn of(world: &World) -> Self {
        let (domain, _) = home(world).await;
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point = key.public_key().as_ref();
        let coordinate = |from: usize| BASE64URL_NOPAD.encode(&point[from..from + 32]);
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "kid": "k", "use": "jwt-svid", "x": coordinate(1), "y": coordinate(33),
        });
        let bundle = json!({ "keys": [jwk] }).to_string();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/bundle", listener.local_addr().unwrap());
        let router = Router::new().route("/bundle", get(move || async move { bundle }));
        tokio::spawn(async move { axum::serve(listener, router).await });
        // A binding takes https alone; the tests' client reaches loopback without.
        sqlx::query(
            "UPDATE identity.idp_bindings SET claim_mappings = jsonb_build_object('spiffe_bundle_url', $1::text)",
        )
        .bind(url)
        .execute(&world.database.pool())
        .await
        .unwrap();
        let body = json!({
            "display_name": "agent", "subject": SPIFFE_ID, "audience": AUDIENCE, "federation_kind": "spiffe_svid",
        });
        let made = world.post(&format!("/v1/domains/{domain}/service-identities"), body).await;
        assert_eq!(made.status, 201, "{}", made.body);
        Self { key, client: made.text("id") }
    }

    /// An SVID that lives for a minute.
    fn svid(&self, world: &World) -> String {
        self.document(world, "k", json!({}))
    }

    /// As [`Self::svid`], under a key id and with other claims.
    fn document(&self, world: &World, kid: &str, other: Value) -> String {
        let now = world.clock.now().unix_seconds();
        let mut claims = json!({ "sub": SPIFFE_ID, "aud": [AUDIENCE], "exp": now + 60, "iat": now, "jti": "once" });
        claims.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
        let part = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let message = format!("{}.{}", part(json!({ "alg": "ES256", "kid": kid, "typ": "JWT" })), part(claims));
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
    }

    async fn present(&self, world: &World, svid: &str) -> Answer {
        let body = json!({
            "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "client_id": self.client,
            "client_assertion": svid,
        });
        world.call_as("", "POST", "/v1/auth/service/token", Some(body)).await
    }
}

#[tokio::test]
async fn an_assertion_works_once_for_as_long_as_it_is_accepted() {
    let world = world().await;
    let authority = Authority::of(&world).await;
    let svid = authority.svid(&world);
    let granted = authority.present(&world, &svid).await;
    assert_eq!(granted.status, 200, "{}", granted.body);
    let sweeper = world.identity.sweepers().into_iter().next().unwrap();
    for _ in 0..4 {
        world.clock.advance(Duration::from_secs(29));
        sweeper.sweep_once().await.unwrap();
        assert_eq!(authority.present(&world, &svid).await.refusal(), (401, "spiffe_verification_failed"));
    }
    assert_eq!(world.count("SELECT count(*) FROM identity.access_tokens").await, 1);
    world.clock.advance(Duration::from_secs(4));
    sweeper.sweep_once().await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM identity.used_assertions").await, 0);
}

#[tokio::test]
async fn of_two_presentations_of_one_assertion_one_gets_a_token() {
    let world = world().await;
    let authority = Authority::of(&world).await;
    let svid = authority.svid(&world);
    // Whoever wants to be the first to write it waits until this one has not.
    let mut holder = world.database.pool().begin().await.unwrap();
    sqlx::query("LOCK TABLE identity.used_assertions IN SHARE MODE").execute(&mut *holder).await.unwrap();
    let (one, two) = meet(&world, holder, authority.present(&world, &svid), authority.present(&world, &svid)).await;
    let mut seen = [one.refusal(), two.refusal()];
    seen.sort_unstable();
    assert_eq!(seen, [(200, ""), (401, "spiffe_verification_failed")]);
    assert_eq!(world.count("SELECT count(*) FROM identity.access_tokens").await, 1);
}

#[tokio::test]
async fn a_document_that_proves_something_else_gets_no_token() {
    let world = world().await;
    let authority = Authority::of(&world).await;
    let now = world.clock.now().unix_seconds();
    let refused = (401, "spiffe_verification_failed");
    for (kid, claims, expected) in [
        ("k", json!({ "sub": "spiffe://example.org/other" }), (403, "federation_kind_mismatch")),
        ("k", json!({ "aud": ["https://elsewhere.test"] }), refused),
        ("k", json!({ "exp": now - 120 }), refused),
        ("unknown", json!({}), refused),
    ] {
        let document = authority.document(&world, kid, claims.clone());
        assert_eq!(authority.present(&world, &document).await.refusal(), expected, "{kid} {claims}");
    }
    let mut forged = authority.svid(&world);
    forged.replace_range(forged.len() - 4.., "AAAA");
    assert_eq!(authority.present(&world, &forged).await.refusal(), refused);
    assert_eq!(authority.present(&world, "no.token.at-all").await.refusal(), refused);
    assert_eq!(world.count("SELECT count(*) FROM identity.access_tokens").await, 0);
}

#[tokio::test]
async fn a_bundle_that_nobody_named_or_nobody_serves_is_told_from_a_bad_document() {
    let world = world().await;
    let authority = Authority::of(&world).await;
    let svid = authority.svid(&world);
    let bundle_at = |mappings: &'static str| {
        let pool = world.database.pool();
        async move {
            let change = format!("UPDATE identity.idp_bindings SET claim_mappings = '{mappings}'::jsonb");
            sqlx::query(sqlx::AssertSqlSafe(change)).execute(&pool).await.unwrap();
        }
    };
    bundle_at("{}").await;
    assert_eq!(authority.present(&world, &svid).await.refusal(), (502, "spiffe_bundle_unconfigured"));
    bundle_at(r#"{"spiffe_bundle_url": "http://127.0.0.1:9/bundle"}"#).await;
    assert_eq!(authority.present(&world, &svid).await.refusal(), (502, "spiffe_bundle_unreachable"));
}

#[tokio::test]
async fn an_installation_without_the_verifier_says_so_behind_the_kind_of_the_grant() {
    let mut world = world().await;
    let authority = Authority::of(&world).await;
    let deps = Deps { bundles: None, ..world.deps.clone() };
    world.identity = Arc::new(Identity::new(&IdentityConfig::new(DEPLOYMENT), deps));
    let gates = gates(&world.identity, &world.db, &world.clock);
    world.router = watched(world.identity.operations(), &gates);
    let svid = authority.svid(&world);
    assert_eq!(authority.present(&world, &svid).await.refusal(), (501, "not_provisioned"));
    let body = json!({ "grant_type": "client_credentials", "client_id": authority.client, "client_secret": "s" });
    let refused = world.call_as("", "POST", "/v1/auth/service/token", Some(body)).await;
    assert_eq!(refused.refusal(), (403, "federation_kind_mismatch"));
}
