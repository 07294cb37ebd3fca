//! JWT-SVIDs that are presented twice.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::Router;
use axum::routing::get;
use data_encoding::BASE64URL_NOPAD;
use plexsphere_kernel::Clock as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::people::{home, meet};
use crate::world::{Answer, World, world};

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
        let now = world.clock.now().unix_seconds();
        let claims = json!({ "sub": SPIFFE_ID, "aud": [AUDIENCE], "exp": now + 60, "iat": now, "jti": "once" });
        let part = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let message = format!("{}.{}", part(json!({ "alg": "ES256", "kid": "k", "typ": "JWT" })), part(claims));
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
