//! Signing in through a real OpenID provider, over HTTP: sessions, devices, service tokens.

use std::time::Duration;

use axum::body::Body;
use http::Request;
use plexsphere_identity::IdentityConfig;
use plexsphere_kernel::{Clock as _, SystemClock};
use plexsphere_testkit::{Browser, OpenIdSettings, TestOpenId, openid_with};
use serde_json::{Value, json};

use crate::races::queued;
use crate::world::{Answer, World, world_with};

const CALLBACK: &str = "https://plexsphere.test/v1/auth/callback";

/// A world whose clock is the real one's, with a provider and a Domain that trusts it.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) provider: TestOpenId,
    pub(crate) domain: String,
    pub(crate) binding: String,
}

/// What a browser holds of this installation.
#[derive(Clone, Debug)]
pub(crate) struct Cookies {
    pub(crate) session: String,
    pub(crate) csrf: String,
}

pub(crate) async fn scene(policy: &str) -> Option<Scene> {
    scene_with(policy, |_, _| {}).await
}

/// As [`scene`], with other settings; the provider's issuer is known then.
pub(crate) async fn scene_with(policy: &str, change: impl FnOnce(&mut IdentityConfig, &str)) -> Option<Scene> {
    let provider = openid_with(OpenIdSettings::default()).await?;
    let mut world = world_with(|config| {
        config.allow_insecure_idp = true;
        config.public_base_url = "https://plexsphere.test".to_owned();
        change(config, &provider.issuer());
    })
    .await;
    world.clock.set(SystemClock.now());
    // The first administrator's token may have ended in that jump; then there is a new one.
    let day = Duration::from_secs(86_400);
    let admin = world.identity.first_administrator().ensure("dev", day, world.clock.now()).await.unwrap();
    if let Some(admin) = admin {
        world.admin = admin.as_str().to_owned();
    }
    let domain = world.domain("acme", "10.42.0.0/16").await;
    let binding = made(&world, binding(&provider, Some(&domain), policy)).await;
    Some(Scene { world, provider, domain, binding })
}

pub(crate) fn binding(provider: &TestOpenId, domain: Option<&str>, policy: &str) -> Value {
    let mut body = json!({
        "issuer": provider.issuer(),
        "client_id": TestOpenId::CLIENT_ID,
        "client_secret_ref": "env:IDP_SECRET",
        "discovery_url": provider.discovery_url(),
        "jit_policy": policy,
        "claim_mappings": { "groups": "groups" },
    });
    if let Some(domain) = domain {
        body["domain_id"] = json!(domain);
        body["client_secret_ref"] = json!(format!("secret:{domain}/idp/client"));
    }
    body
}

pub(crate) async fn made(world: &World, body: Value) -> String {
    let path = if body.get("domain_id").is_some() { "/v1/admin/idp" } else { "/v1/admin/platform-idp" };
    let answer = world.post(path, body).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.text("id")
}

pub(crate) fn cookies_of(answer: &Answer) -> Vec<String> {
    answer.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap().to_owned()).collect()
}

fn cookie_value(lines: &[String], name: &str) -> Option<String> {
    let line = lines.iter().find(|line| line.starts_with(&format!("{name}=")))?;
    let value = line.split(';').next()?.split_once('=')?.1;
    (!value.is_empty()).then(|| value.to_owned())
}

fn location(answer: &Answer) -> &str {
    answer.headers["location"].to_str().unwrap()
}

impl Scene {
    pub(crate) async fn begin(&self, body: Value) -> (Answer, String) {
        let answer = self.world.call_as("", "POST", "/v1/auth/sign-in", Some(body)).await;
        let login = cookie_value(&cookies_of(&answer), "plexsphere_login").unwrap_or_default();
        (answer, login)
    }

    /// Where the provider sends the browser of a person.
    pub(crate) async fn through(&self, browser: &mut Browser, person: &str, body: Value) -> (String, String) {
        let (answer, login) = self.begin(body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let back = browser.sign_in(&answer.text("authorization_url"), person).await;
        (back.strip_prefix(CALLBACK).unwrap().to_owned(), login)
    }

    pub(crate) async fn callback(&self, query: &str, login: &str, accept: &str) -> Answer {
        let request = Request::get(format!("/v1/auth/callback{query}"))
            .header("cookie", format!("plexsphere_login={login}"))
            .header("accept", accept)
            .header("x-forwarded-proto", "https");
        self.world.send(request.body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn sign_in(&self, person: &str, body: Value) -> Cookies {
        let (query, login) = self.through(&mut self.provider.browser(), person, body).await;
        let answer = self.callback(&query, &login, "text/html").await;
        assert_eq!((answer.status.as_u16(), location(&answer)), (303, "/"), "{}", answer.body);
        let lines = cookies_of(&answer);
        let value = |name| cookie_value(&lines, name).unwrap();
        Cookies { session: value("plexsphere_session"), csrf: value("plexsphere_csrf") }
    }

    pub(crate) fn own(&self) -> Value {
        json!({ "domain_id": self.domain })
    }

    pub(crate) async fn refused(&self, person: &str, body: Value) -> (u16, String) {
        let (query, login) = self.through(&mut self.provider.browser(), person, body).await;
        let answer = self.callback(&query, &login, "application/json").await;
        (answer.status.as_u16(), answer.refusal().1.to_owned())
    }
}

pub(crate) async fn by_cookie(
    world: &World,
    cookies: &Cookies,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> Answer {
    let line = format!("plexsphere_session={}; plexsphere_csrf={}", cookies.session, cookies.csrf);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("cookie", line)
        .header("origin", "https://plexsphere.test")
        .header("x-plexsphere-csrf", &cookies.csrf);
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    world.send(request.body(body.map_or_else(Body::empty, |body| Body::from(body.to_string()))).unwrap()).await
}

#[tokio::test]
async fn a_person_signs_in_through_the_domains_provider_and_is_known_by_cookie() {
    let Some(scene) = scene("allow").await else { return };
    let (query, login) = scene.through(&mut scene.provider.browser(), "ada", scene.own()).await;
    let answer = scene.callback(&query, &login, "text/html").await;
    assert_eq!((answer.status.as_u16(), location(&answer)), (303, "/"));
    let lines = cookies_of(&answer);
    let line = |name: &str| lines.iter().find(|line| line.starts_with(name)).unwrap().clone();
    let session = line("plexsphere_session=");
    assert!(session.ends_with("; Path=/v1/; HttpOnly; SameSite=Strict; Secure"), "{session}");
    let csrf = line("plexsphere_csrf=");
    assert!(csrf.ends_with("; Path=/; SameSite=Strict; Secure"), "{csrf}");
    assert!(line("plexsphere_login=;").contains("Max-Age=0"), "{lines:?}");
    let value = |name| cookie_value(&lines, name).unwrap();
    let cookies = Cookies { session: value("plexsphere_session"), csrf: value("plexsphere_csrf") };
    let whoami = by_cookie(&scene.world, &cookies, "GET", "/v1/auth/whoami", None).await;
    assert_eq!(whoami.status, 200, "{}", whoami.body);
    assert_eq!(whoami.body["principal_type"], "user");
    assert_eq!(whoami.body["principal_scope"], "domain");
    assert_eq!(whoami.body["domain_id"], scene.domain.as_str());
    assert_eq!(whoami.body["email"], "ada@example.test");
    // The cookie is stored as a digest, and no secret of the flow is left.
    assert_eq!(scene.world.count("SELECT count(*) FROM identity.auth_flows").await, 0);
    let again = scene.callback(&query, &login, "application/json").await;
    assert_eq!(again.refusal(), (400, "state_mismatch"));
    assert_eq!(by_cookie(&scene.world, &cookies, "GET", "/v1/auth/whoami", None).await.status, 200);
}

#[tokio::test]
async fn a_second_sign_in_finds_the_same_user_and_other_browsers_cannot_finish_it() {
    let Some(scene) = scene("allow").await else { return };
    let first = scene.sign_in("ada", scene.own()).await;
    let second = scene.sign_in("ada", scene.own()).await;
    let subject = async |cookies: &Cookies| {
        by_cookie(&scene.world, cookies, "GET", "/v1/auth/whoami", None).await.text("subject")
    };
    assert_eq!(subject(&first).await, subject(&second).await);
    assert_ne!(first.session, second.session);
    let (query, _) = scene.through(&mut scene.provider.browser(), "eve", scene.own()).await;
    let (_, other) = scene.begin(scene.own()).await;
    let stolen = scene.callback(&query, &other, "application/json").await;
    assert_eq!(stolen.refusal(), (400, "state_mismatch"));
    assert!(cookie_value(&cookies_of(&stolen), "plexsphere_session").is_none());
    assert_eq!(scene.world.count("SELECT count(*) FROM identity.users WHERE external_subject = 'eve'").await, 0);
}

#[tokio::test]
async fn an_unknown_person_needs_an_invitation_where_the_policy_says_so_and_refusals_suit_who_asks() {
    let Some(scene) = scene("deny").await else { return };
    assert_eq!(scene.refused("ada", scene.own()).await, (400, "user_not_provisioned".to_owned()));
    let (query, login) = scene.through(&mut scene.provider.browser(), "ada", scene.own()).await;
    let answer = scene.callback(&query, &login, "text/html").await;
    assert_eq!(answer.status, 303);
    let to = location(&answer).to_owned();
    assert!(to.starts_with("/?auth_error_kind=user_not_provisioned&auth_error_status=400&auth_error_detail="), "{to}");
    assert_eq!(scene.world.count("SELECT count(*) FROM identity.users WHERE domain_id IS NOT NULL").await, 0);
    let invitation = json!({
        "external_subject": "ada@example.test",
        "initial_tuples": [{ "relation": "member", "object": format!("domain:{}", scene.domain) }],
    });
    let path = format!("/v1/domains/{}/invitations", scene.domain);
    let invited = scene.world.post(&path, invitation).await;
    assert_eq!(invited.status, 201, "{}", invited.body);
    // An address that the provider does not vouch for could be anybody's.
    let one = format!("{path}/{}", invited.text("id"));
    let claims = |verified: bool| json!({ "email": "ada@example.test", "email_verified": verified });
    scene.provider.person("ada", &claims(false)).await;
    assert_eq!(scene.refused("ada", scene.own()).await, (400, "user_not_provisioned".to_owned()));
    assert_eq!(scene.world.get(&one).await.text("status"), "pending");
    scene.provider.person("ada", &claims(true)).await;
    scene.sign_in("ada", scene.own()).await;
    assert_eq!(scene.world.get(&one).await.text("status"), "accepted");
}

#[tokio::test]
async fn a_sign_in_and_a_revocation_that_meet_over_an_invitation_have_one_winner() {
    let Some(scene) = scene("deny").await else { return };
    let path = format!("/v1/domains/{}/invitations", scene.domain);
    let held = "SELECT FROM identity.invitations WHERE status = 'pending' FOR UPDATE";
    for (person, sign_in_first) in [("ada", true), ("bob", false)] {
        let invitation = json!({ "external_subject": format!("{person}@example.test") });
        let one = format!("{path}/{}", scene.world.post(&path, invitation).await.text("id"));
        let (query, login) = scene.through(&mut scene.provider.browser(), person, scene.own()).await;
        let back = scene.callback(&query, &login, "application/json");
        let revoked = scene.world.delete(&one);
        let (back, revoked) = if sign_in_first {
            queued(&scene.world, held, back, revoked).await
        } else {
            let (revoked, back) = queued(&scene.world, held, revoked, back).await;
            (back, revoked)
        };
        let status = scene.world.get(&one).await.text("status");
        if sign_in_first {
            assert_eq!((back.status.as_u16(), status.as_str()), (303, "accepted"), "{}", back.body);
            assert_eq!(revoked.refusal(), (409, "invitation_already_accepted"));
        } else {
            assert_eq!((back.refusal(), status.as_str()), ((400, "user_not_provisioned"), "revoked"));
            assert_eq!(revoked.status, 204);
        }
    }
}

#[tokio::test]
async fn a_provider_that_refuses_and_a_binding_that_is_off_have_their_codes() {
    let Some(scene) = scene("allow").await else { return };
    let (answer, login) = scene.begin(scene.own()).await;
    let back = scene.provider.browser().cancel(&answer.text("authorization_url")).await;
    let denied = scene.callback(back.strip_prefix(CALLBACK).unwrap(), &login, "application/json").await;
    assert_eq!(denied.refusal(), (400, "idp_denied"));
    let (query, login) = scene.through(&mut scene.provider.browser(), "ada", scene.own()).await;
    scene.world.clock.advance(Duration::from_secs(601));
    let late = scene.callback(&query, &login, "application/json").await;
    assert_eq!(late.refusal(), (400, "verifier_expired"));
    let strict = json!({ "required_acr": ["urn:example:gold"] });
    let path = format!("/v1/admin/idp/{}", scene.binding);
    assert_eq!(scene.world.call_as(&scene.world.admin, "PATCH", &path, Some(strict)).await.status, 200);
}

#[tokio::test]
async fn what_selects_no_provider_or_leads_elsewhere_is_refused_before_anything_is_made() {
    let Some(scene) = scene("allow").await else { return };
    let nobody = "0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a3";
    for (body, code) in [
        (json!({}), "invalid_sign_in_request"),
        (json!({ "domain_id": "x" }), "invalid_sign_in_request"),
        (json!({ "idp_binding_id": scene.binding }), "invalid_sign_in_request"),
        (json!({ "domain_id": scene.domain, "idp_binding_id": nobody }), "binding_not_found"),
        (json!({ "domain_id": nobody }), "binding_not_found"),
        (json!({ "domain_id": nobody, "idp_binding_id": scene.binding }), "binding_not_found"),
        (json!({ "domain_id": scene.domain, "return_to": "//evil.example" }), "invalid_return_to"),
        (json!({ "domain_id": scene.domain, "return_to": "/\\evil" }), "invalid_return_to"),
        (json!({ "domain_id": scene.domain, "return_to": "https://evil.example/" }), "invalid_return_to"),
        (json!({ "domain_id": scene.domain, "x": 1 }), "invalid_body"),
    ] {
        let (answer, login) = scene.begin(body.clone()).await;
        assert_eq!((answer.refusal().1, login.as_str()), (code, ""), "{body}");
    }
    let chooser =
        async |query: &str| scene.world.call_as("", "GET", &format!("/v1/auth/idp-bindings{query}"), None).await;
    let listed = chooser(&format!("?domain_id={}", scene.domain)).await;
    assert_eq!(listed.body[0]["id"], scene.binding.as_str());
    assert_eq!(listed.body[0]["platform_scoped"], false);
    for query in ["", &format!("?domain_id={nobody}"), "?scope=platform"] {
        assert_eq!(chooser(query).await.body, json!([]), "{query}");
    }
    assert_eq!(chooser("?domain_id=x").await.refusal(), (400, "invalid_domain_id"));
    assert_eq!(scene.world.count("SELECT count(*) FROM identity.auth_flows").await, 0);
}

#[tokio::test]
async fn sessions_end_by_sign_out_by_age_and_with_their_binding() {
    let Some(scene) = scene("allow").await else { return };
    let world = &scene.world;
    let known = async |cookies: &Cookies| by_cookie(world, cookies, "GET", "/v1/auth/whoami", None).await.status == 200;
    let (one, two, three) = (
        scene.sign_in("ada", scene.own()).await,
        scene.sign_in("ada", scene.own()).await,
        scene.sign_in("bob", scene.own()).await,
    );
    let out = by_cookie(world, &one, "DELETE", "/v1/auth/whoami", None).await;
    assert_eq!(out.status, 204);
    assert_eq!(cookies_of(&out).iter().filter(|line| line.contains("Max-Age=0")).count(), 2);
    assert!(!known(&one).await && known(&two).await);
    let nobody = world.call_as("", "DELETE", "/v1/auth/whoami", None).await;
    assert_eq!(nobody.status, 204);
    let by_token = world.call_as(&world.admin, "POST", "/v1/auth/sign-out/global", None).await;
    assert_eq!(by_token.refusal(), (403, "api_token_not_allowed"));
    assert_eq!(cookies_of(&by_token).len(), 2);
    let anonymous = world.call_as("", "POST", "/v1/auth/sign-out/global", None).await;
    assert_eq!((anonymous.refusal().0, cookies_of(&anonymous).len()), (401, 2));
    let four = scene.sign_in("ada", scene.own()).await;
    assert_eq!(by_cookie(world, &two, "POST", "/v1/auth/sign-out/global", None).await.status, 204);
    assert!(!known(&two).await && !known(&four).await && known(&three).await);
    world.clock.advance(Duration::from_secs(3_601));
    assert!(!known(&three).await);
    let five = scene.sign_in_later("bob").await;
    assert!(known(&five).await);
    let off = json!({ "status": "deactivated" });
    let path = format!("/v1/admin/idp/{}/status", scene.binding);
    assert_eq!(world.call_as(&world.admin, "PATCH", &path, Some(off)).await.status, 200);
    assert!(!known(&five).await);
}

impl Scene {
    /// A sign-in after the world's clock ran ahead: the provider's is set back to by going back.
    async fn sign_in_later(&self, person: &str) -> Cookies {
        self.world.clock.set(SystemClock.now());
        self.sign_in(person, self.own()).await
    }
}

#[tokio::test]
async fn a_device_gets_the_token_of_whoever_approves_it_once() {
    let Some(scene) = scene("allow").await else { return };
    let world = &scene.world;
    let ask = async || world.call_as("", "POST", "/v1/auth/device-code", Some(scene.own())).await;
    let poll = async |code: &str| {
        let body = json!({ "device_code": code });
        world.call_as("", "POST", "/v1/auth/device-token", Some(body)).await
    };
    let asked = ask().await;
    assert_eq!(asked.status, 200, "{}", asked.body);
    let (device, user) = (asked.text("device_code"), asked.text("user_code"));
    assert_eq!(asked.text("verification_uri_complete"), format!("https://plexsphere.test/device?user_code={user}"));
    assert_eq!(poll(&device).await.refusal(), (400, "authorization_pending"));
    assert_eq!(poll(&device).await.refusal(), (400, "slow_down"));
    assert_eq!(poll("x").await.refusal(), (400, "invalid_grant"));
    let cookies = scene.sign_in("ada", scene.own()).await;
    let approve = async |cookies: &Cookies, code: &str| {
        by_cookie(world, cookies, "POST", "/v1/auth/device/approve", Some(json!({ "user_code": code }))).await
    };
    assert_eq!(approve(&cookies, "nonsense").await.refusal(), (400, "invalid_user_code"));
    assert_eq!(approve(&cookies, "AAAA-AAAA").await.refusal(), (404, "device_code_not_found"));
    let by_token = world.post("/v1/auth/device/approve", json!({ "user_code": user })).await;
    assert_eq!(by_token.refusal(), (403, "api_token_not_allowed"));
    let approved = approve(&cookies, &user.replace('-', "")).await;
    assert_eq!((approved.status.as_u16(), approved.text("status")), (200, "approved".to_owned()));
    assert_eq!(approve(&cookies, &user).await.refusal(), (409, "device_code_already_approved"));
    world.clock.advance(Duration::from_secs(30));
    let granted = poll(&device).await;
    assert_eq!(granted.status, 200, "{}", granted.body);
    assert_eq!(granted.body["expires_in"], 28_800);
    assert_eq!(poll(&device).await.refusal(), (400, "invalid_grant"));
    let token = granted.text("access_token");
    let whoami = world.call_as(&token, "GET", "/v1/auth/whoami", None).await;
    let owner = by_cookie(world, &cookies, "GET", "/v1/auth/whoami", None).await;
    assert_eq!(whoami.text("subject"), owner.text("subject"));
    assert_eq!(by_cookie(world, &cookies, "POST", "/v1/auth/sign-out/global", None).await.status, 204);
    assert_eq!(world.call_as(&token, "GET", "/v1/auth/whoami", None).await.status, 401);
    let late = ask().await;
    world.clock.advance(Duration::from_secs(601));
    assert_eq!(poll(&late.text("device_code")).await.refusal(), (400, "expired_token"));
    let platform = world.call_as("", "POST", "/v1/auth/device-code", Some(json!({}))).await;
    assert_eq!(platform.refusal(), (400, "invalid_device_code_request"));
}

#[tokio::test]
async fn a_service_identity_redeems_its_own_secret_and_nothing_that_does_not_fit_it() {
    let Some(scene) = scene("allow").await else { return };
    let world = &scene.world;
    let path = format!("/v1/domains/{}/service-identities", scene.domain);
    let create = async |subject: &str, kind: &str| {
        let body = json!({
            "display_name": "machine", "subject": subject, "audience": TestOpenId::AUDIENCE, "federation_kind": kind,
        });
        let answer = world.post(&path, body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.text("id")
    };
    let machine = create(TestOpenId::MACHINE_ID, "oidc_cc").await;
    let token_only = create("token-only", "api_token").await;
    let redeem = async |body: Value| world.call_as("", "POST", "/v1/auth/service/token", Some(body)).await;
    let by_secret = |client: &str, secret: &str| json!({ "grant_type": "client_credentials", "client_id": client, "client_secret": secret });
    let good = redeem(by_secret(&machine, TestOpenId::MACHINE_SECRET)).await;
    assert_eq!((good.status.as_u16(), good.body["token_type"].as_str()), (200, Some("Bearer")), "{}", good.body);
    assert_eq!(good.body["expires_in"], 3_600);
    let whoami = world.call_as(&good.text("access_token"), "GET", "/v1/auth/whoami", None).await;
    assert_eq!((whoami.text("principal_type"), whoami.text("subject")), ("service".to_owned(), machine.clone()));
    let nobody = "0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a3";
    let jwt = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    for (body, expected) in [
        (by_secret(&machine, "wrong"), (502, "invalid_client")),
        (by_secret(nobody, "x"), (401, "invalid_client")),
        (by_secret("x", "x"), (401, "invalid_client")),
        (by_secret(&token_only, "x"), (403, "federation_kind_mismatch")),
        (
            json!({ "grant_type": jwt, "client_id": machine, "client_assertion": "x" }),
            (403, "federation_kind_mismatch"),
        ),
        (json!({ "grant_type": "password", "client_id": machine }), (400, "unsupported_grant_type")),
        (json!({ "grant_type": "client_credentials", "client_id": machine }), (400, "invalid_request")),
        (json!({ "grant_type": "client_credentials", "client_secret": "x" }), (400, "invalid_request")),
    ] {
        assert_eq!(redeem(body.clone()).await.refusal(), expected, "{body}");
    }
    let both = json!({
        "grant_type": "client_credentials", "client_id": machine, "client_secret": "x", "client_assertion": "x",
    });
    assert_eq!(redeem(both).await.refusal(), (400, "invalid_request"));
}

#[tokio::test]
async fn a_provider_that_is_gone_three_times_degrades_its_binding_and_a_missing_secret_ends_it() {
    let Some(scene) = scene("allow").await else { return };
    let world = &scene.world;
    let mut keyless = binding(&scene.provider, None, "allow");
    keyless["client_secret_ref"] = json!("env:NOTHING");
    let keyless = made(world, keyless).await;
    let status = async |id: &str| world.get(&format!("/v1/admin/idp/{id}")).await.text("status");
    let probe = world.identity.idp_health_probe();
    assert_eq!(probe.probe_once().await.unwrap(), 1);
    assert_eq!((status(&scene.binding).await, status(&keyless).await), ("active".to_owned(), "inactive".to_owned()));
    scene.provider.stop().await;
    for expected in ["active", "active", "degraded", "degraded"] {
        probe.probe_once().await.unwrap();
        assert_eq!(status(&scene.binding).await, expected);
    }
}
