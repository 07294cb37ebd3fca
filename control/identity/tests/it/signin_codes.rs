//! How a sign-in fails and whom it makes what, over HTTP through a real OpenID provider.

use axum::body::Body;
use http::Request;
use plexsphere_kernel::Subject;
use serde_json::json;

use crate::erasure::departures;
use crate::signin::{Scene, binding, by_cookie, cookies_of, made, scene, scene_with};

const SUBJECT_OF_ADA: &str = "ada";

impl Scene {
    /// Code and status of a callback that happens after something else did.
    async fn refused_after(&self, sql: &'static str) -> (u16, String) {
        let (query, login) = self.through(&mut self.provider.browser(), SUBJECT_OF_ADA, self.own()).await;
        sqlx::query(sql).execute(&self.world.database.pool()).await.unwrap();
        let answer = self.callback(&query, &login, "application/json").await;
        assert!(cookies_of(&answer).iter().all(|line| !line.starts_with("plexsphere_session=")), "{answer:?}");
        (answer.refusal().0, answer.refusal().1.to_owned())
    }
}

impl std::fmt::Debug for crate::world::Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status, self.body)
    }
}

#[tokio::test]
async fn a_code_that_the_provider_does_not_take_is_refused_as_the_browser_or_the_program_understands_it() {
    let Some(scene) = scene("allow").await else { return };
    for (accept, expected) in [("application/json", 400), ("text/html", 303)] {
        let (query, login) = scene.through(&mut scene.provider.browser(), SUBJECT_OF_ADA, scene.own()).await;
        let spoilt = query.replacen("code=", "code=spoilt", 1);
        let answer = scene.callback(&spoilt, &login, accept).await;
        assert_eq!(answer.status, expected, "{answer:?}");
        if expected == 400 {
            assert_eq!(answer.refusal().1, "token_exchange_rejected");
        } else {
            let to = answer.headers["location"].to_str().unwrap();
            let start = "/?auth_error_kind=token_exchange_rejected&auth_error_status=400&auth_error_detail=";
            assert!(to.starts_with(start), "{to}");
        }
    }
}

#[tokio::test]
async fn what_has_changed_between_the_beginning_and_the_callback_has_its_code() {
    let Some(scene) = scene("allow").await else { return };
    let nonce = scene.refused_after("UPDATE identity.auth_flows SET nonce = 'another'").await;
    assert_eq!(nonce, (400, "nonce_mismatch".to_owned()));
    let weak = scene.refused_after("UPDATE identity.idp_bindings SET required_acr = '{urn:example:none}'").await;
    assert_eq!(weak, (400, "assurance_not_met".to_owned()));
    let off = scene.refused_after("UPDATE identity.idp_bindings SET required_acr = '{}', status = 'inactive'").await;
    assert_eq!(off, (400, "binding_inactive".to_owned()));
    sqlx::query("UPDATE identity.idp_bindings SET status = 'active'")
        .execute(&scene.world.database.pool())
        .await
        .unwrap();
    let (query, login) = scene.through(&mut scene.provider.browser(), SUBJECT_OF_ADA, scene.own()).await;
    scene.provider.stop().await;
    let gone = scene.callback(&query, &login, "application/json").await;
    assert_eq!(gone.refusal(), (502, "idp_unreachable"));
    assert_eq!(scene.world.count("SELECT count(*) FROM identity.sessions").await, 0);
}

#[tokio::test]
async fn who_signs_in_to_the_platform_belongs_to_no_domain_and_administers_it_if_the_settings_name_them() {
    let named = |config: &mut plexsphere_identity::IdentityConfig, issuer: &str| {
        config.platform_admins = vec![(issuer.to_owned(), SUBJECT_OF_ADA.to_owned())];
        config.platform_device_login = true;
    };
    let Some(scene) = scene_with("allow", named).await else { return };
    let world = &scene.world;
    let platform = made(world, binding(&scene.provider, None, "allow")).await;
    let body = json!({ "idp_binding_id": platform });
    let device = world.call_as("", "POST", "/v1/auth/device-code", Some(body.clone())).await;
    assert_eq!(device.status, 200, "the settings let devices in: {device:?}");
    let (bob, ada) = (scene.sign_in("bob", body.clone()).await, scene.sign_in(SUBJECT_OF_ADA, body).await);
    let whoami = by_cookie(world, &ada, "GET", "/v1/auth/whoami", None).await;
    assert_eq!(whoami.body["principal_scope"], "platform");
    assert!(whoami.body.get("domain_id").is_none(), "{whoami:?}");
    let list = async |cookies| by_cookie(world, cookies, "GET", "/v1/admin/platform-idp", None).await.status.as_u16();
    assert_eq!((list(&ada).await, list(&bob).await), (200, 403));
}

#[tokio::test]
async fn a_code_of_another_domain_cannot_be_approved_and_a_token_in_the_cookie_ends_no_session() {
    let Some(scene) = scene("allow").await else { return };
    let world = &scene.world;
    let other = world.domain("other", "10.43.0.0/16").await;
    made(world, binding(&scene.provider, Some(&other), "allow")).await;
    let ada = scene.sign_in(SUBJECT_OF_ADA, json!({ "domain_id": other })).await;
    let asked = world.call_as("", "POST", "/v1/auth/device-code", Some(scene.own())).await;
    let code = json!({ "user_code": asked.text("user_code") });
    let refused = by_cookie(world, &ada, "POST", "/v1/auth/device/approve", Some(code)).await;
    assert_eq!(refused.refusal(), (404, "device_code_not_found"));

    let owner = by_cookie(world, &ada, "GET", "/v1/auth/whoami", None).await.text("subject");
    let wanted = json!({ "identity_ref": format!("user:{owner}"), "env_prefix": "dev", "ttl_seconds": 600 });
    let token = world.post("/v1/admin/tokens", wanted).await.text("plaintext");
    let request = Request::post("/v1/auth/sign-out/global")
        .header("cookie", format!("plexsphere_session={token}; plexsphere_csrf=x"))
        .header("origin", "https://plexsphere.test")
        .header("x-plexsphere-csrf", "x");
    let answer = world.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.refusal(), (403, "api_token_not_allowed"));
    assert!(cookies_of(&answer).iter().any(|line| line.starts_with("plexsphere_session=;")));
    assert_eq!(by_cookie(world, &ada, "GET", "/v1/auth/whoami", None).await.status, 200);
    assert_eq!(world.call_as(&token, "GET", "/v1/auth/whoami", None).await.status, 200);
}

#[tokio::test]
async fn a_suspended_person_loses_the_session_and_cannot_sign_in_until_resumed() {
    let Some(scene) = scene("allow").await else { return };
    let world = &scene.world;
    let cookies = scene.sign_in(SUBJECT_OF_ADA, scene.own()).await;
    let whoami = by_cookie(world, &cookies, "GET", "/v1/auth/whoami", None).await;
    let ada = Subject::User(whoami.text("subject").parse().unwrap());
    let (departures, actor) = departures(world).await;
    departures.suspend(&actor, ada).await.unwrap();
    let refused = scene.refused(SUBJECT_OF_ADA, scene.own()).await;
    assert_eq!(refused, (400, "user_not_provisioned".to_owned()));
    world.clock.advance(std::time::Duration::from_secs(6));
    assert_eq!(by_cookie(world, &cookies, "GET", "/v1/auth/whoami", None).await.status, 401);
    departures.resume(&actor, ada).await.unwrap();
    scene.sign_in(SUBJECT_OF_ADA, scene.own()).await;
}
