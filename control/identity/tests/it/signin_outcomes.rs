//! How browser sign-ins end that meet something else, and what is recorded of those that are refused.

use axum::body::Body;
use http::Request;
use plexsphere_kernel::{Clock as _, SystemClock};
use plexsphere_testkit::{TestOpenId, openid};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use uuid::Uuid;

use crate::bindings::{made, of_platform};
use crate::people::{holding, home, meet, session, switch_off, whoami};
use crate::world::{Answer, World, world, world_with};

const CALLBACK: &str = "https://plexsphere.test/v1/auth/callback";

/// Keeps a flow of the installation's one binding under a state; its answer may only be a refusal.
async fn flow(world: &World, state: &str) {
    sqlx::query(
        "INSERT INTO identity.auth_flows (state_digest, binding_id, domain_id, nonce, verifier_version, verifier,
             return_to, prompted_login, created_at, expires_at)
         SELECT $1, id, domain_id, 'n', 1, '\\x00', '/', false, $2, $2::timestamptz + interval '10 minutes'
         FROM identity.idp_bindings",
    )
    .bind(Sha256::digest(state).as_slice())
    .bind(world.clock.now().inner())
    .execute(&world.database.pool())
    .await
    .unwrap();
}

async fn callback(world: &World, query: &str, login: &str) -> Answer {
    let request = Request::get(format!("/v1/auth/callback{query}"))
        .header("cookie", format!("plexsphere_login={login}"))
        .header("accept", "application/json");
    world.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_refusal_of_the_provider_is_told_whatever_became_of_the_binding() {
    let world = world().await;
    home(&world).await;
    sqlx::query("UPDATE identity.idp_bindings SET status = 'inactive'").execute(&world.database.pool()).await.unwrap();
    flow(&world, "s").await;
    let denied = callback(&world, "?state=s&error=access_denied", "s").await;
    assert_eq!(denied.refusal(), (400, "idp_denied"));
    flow(&world, "t").await;
    assert_eq!(callback(&world, "?state=t&code=c", "t").await.refusal(), (400, "binding_inactive"));
}

#[tokio::test]
async fn a_sign_in_that_another_browser_spends_leaves_a_row_and_one_that_was_never_begun_none() {
    let world = world().await;
    let (domain, binding) = home(&world).await;
    flow(&world, "s").await;
    assert_eq!(callback(&world, "?state=s&code=c", "other").await.refusal(), (400, "state_mismatch"));
    let own: Uuid = domain.parse().unwrap();
    let expected = [("idp_binding".to_owned(), binding, own)];
    assert_eq!(world.rows("identity.sign-in-denied").await, expected);
    assert_eq!(callback(&world, "?state=s&code=c", "s").await.refusal(), (400, "state_mismatch"));
    assert_eq!(world.rows("identity.sign-in-denied").await, expected);
}

#[tokio::test]
async fn of_two_callbacks_with_one_state_one_is_judged() {
    let world = world().await;
    home(&world).await;
    flow(&world, "s").await;
    let holder = holding(&world, "SELECT state_digest FROM identity.auth_flows FOR UPDATE").await;
    let come_back = || callback(&world, "?state=s&error=access_denied", "s");
    let (one, two) = meet(&world, holder, come_back(), come_back()).await;
    let mut seen = [one.refusal(), two.refusal()];
    seen.sort_unstable();
    assert_eq!(seen, [(400, "idp_denied"), (400, "state_mismatch")]);
}

/// A world whose clock is the real one's, with a real provider and a Domain that trusts it.
struct Scene {
    world: World,
    provider: TestOpenId,
    domain: String,
    binding: String,
}

async fn scene(changes: Value) -> Option<Scene> {
    let provider = openid().await?;
    let mut world = world_with(|config| {
        config.allow_insecure_idp = true;
        config.public_base_url = "https://plexsphere.test".to_owned();
        config.platform_admins = vec![(provider.issuer(), "ada".to_owned())];
    })
    .await;
    world.clock.set(SystemClock.now());
    let day = Duration::from_secs(86_400);
    if let Some(admin) = world.identity.first_administrator().ensure("dev", day, world.clock.now()).await.unwrap() {
        world.admin = admin.as_str().to_owned();
    }
    let domain = world.domain("acme", "10.42.0.0/16").await;
    let body = json!({
        "domain_id": domain,
        "issuer": provider.issuer(),
        "client_id": TestOpenId::CLIENT_ID,
        "client_secret_ref": format!("secret:{domain}/idp/client"),
        "discovery_url": provider.discovery_url(),
        "jit_policy": "allow",
    });
    let binding = made(&world, crate::bindings::with(body, changes)).await;
    Some(Scene { world, provider, domain, binding })
}

impl Scene {
    /// Where the provider sends Ada's browser back to, and the cookie of the sign-in.
    async fn through(&self) -> (String, String) {
        self.through_by(json!({ "domain_id": self.domain })).await
    }

    async fn through_by(&self, body: Value) -> (String, String) {
        let begun = self.world.call_as("", "POST", "/v1/auth/sign-in", Some(body)).await;
        assert_eq!(begun.status, 200, "{}", begun.body);
        let back = self.provider.browser().sign_in(&begun.text("authorization_url"), "ada").await;
        (back.strip_prefix(CALLBACK).unwrap().to_owned(), begun.text("state"))
    }

    async fn sign_in(&self) -> Answer {
        let (query, login) = self.through().await;
        callback(&self.world, &query, &login).await
    }
}

#[tokio::test]
async fn a_sign_in_of_a_named_administrator_ends_every_token_of_the_first_one_at_once() {
    let Some(scene) = scene(json!({})).await else { return };
    let world = &scene.world;
    let mut platform = of_platform(&scene.provider.issuer());
    platform["discovery_url"] = json!(scene.provider.discovery_url());
    let binding = made(world, platform).await;
    let me = world.get("/v1/auth/whoami").await.text("subject");
    let body = json!({ "identity_ref": format!("user:{me}"), "env_prefix": "dev", "ttl_seconds": 3_600 });
    let spare = world.post("/v1/auth/tokens", body).await.text("plaintext");
    assert_eq!(whoami(world, &spare).await, 200);
    let (query, login) = scene.through_by(json!({ "idp_binding_id": binding })).await;
    let back = callback(world, &query, &login).await;
    assert_eq!(back.status, 303, "{}", back.body);
    assert_eq!((whoami(world, &world.admin).await, whoami(world, &spare).await), (401, 401));
}

async fn live_sessions(world: &World) -> i64 {
    world.count("SELECT count(*) FROM identity.sessions WHERE revoked_at IS NULL").await
}

#[tokio::test]
async fn a_sign_in_under_way_leaves_no_session_that_outlives_its_binding() {
    let Some(scene) = scene(json!({})).await else { return };
    let world = &scene.world;
    let (query, login) = scene.through().await;
    let holder = holding(world, "SELECT id FROM identity.domains FOR UPDATE").await;
    let (back, off) = meet(world, holder, callback(world, &query, &login), switch_off(world, &scene.binding)).await;
    assert_eq!((back.status.as_u16(), off.status.as_u16()), (303, 200), "{}", back.body);
    assert_eq!(live_sessions(world).await, 0);
}

#[tokio::test]
async fn a_sign_in_behind_the_end_of_its_binding_is_refused_and_names_whom_the_provider_vouched_for() {
    let Some(scene) = scene(json!({})).await else { return };
    let world = &scene.world;
    let (query, login) = scene.through().await;
    let holder = holding(world, "UPDATE identity.idp_bindings SET status = 'deactivated'").await;
    let (back, ()) = meet(world, holder, callback(world, &query, &login), async {}).await;
    assert_eq!(back.refusal(), (400, "binding_inactive"));
    assert_eq!(world.count("SELECT count(*) FROM identity.users WHERE domain_id IS NOT NULL").await, 0);
    let rows = world.rows("identity.sign-in-denied").await;
    assert_eq!((rows.len(), rows[0].0.as_str(), rows[0].1.len()), (1, "identity", 64), "{rows:?}");
}

#[tokio::test]
async fn refusals_of_one_person_bear_one_pseudonym_and_not_the_name() {
    let Some(scene) = scene(json!({ "jit_policy": "deny" })).await else { return };
    let world = &scene.world;
    assert_eq!(scene.sign_in().await.refusal(), (400, "user_not_provisioned"));
    let strict = json!({ "required_acr": ["urn:example:gold"] });
    assert_eq!(crate::bindings::patch(world, &scene.binding, strict).await.status, 200);
    assert_eq!(scene.sign_in().await.refusal(), (400, "assurance_not_met"));
    let rows = world.rows("identity.sign-in-denied").await;
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert_eq!(rows[0], rows[1]);
    assert_eq!(rows[0].0, "identity");
    assert!(!rows[0].1.contains("ada"), "{rows:?}");
}

#[tokio::test]
async fn of_sign_ins_that_meet_at_the_most_sessions_of_a_person_each_ends_the_oldest_then() {
    let Some(scene) = scene(json!({})).await else { return };
    let world = &scene.world;
    assert_eq!(scene.sign_in().await.status, 303);
    let ada: Uuid =
        sqlx::query_scalar("SELECT user_id FROM identity.sessions").fetch_one(&world.database.pool()).await.unwrap();
    for _ in 1..20 {
        session(world, ada, &scene.binding).await;
    }
    let (one, two) = (scene.through().await, scene.through().await);
    let holder = holding(world, "SELECT id FROM identity.users FOR UPDATE").await;
    let back = |(query, login): (String, String)| async move { callback(world, &query, &login).await };
    let (one, two) = meet(world, holder, back(one), back(two)).await;
    assert_eq!((one.status.as_u16(), two.status.as_u16()), (303, 303), "{} {}", one.body, two.body);
    assert_eq!(live_sessions(world).await, 20);
}
