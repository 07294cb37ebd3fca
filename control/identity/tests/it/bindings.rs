//! Bindings to identity providers, over HTTP.

use plexsphere_identity::{Actor, BindingEvent, BindingStatus};
use plexsphere_kernel::{Clock as _, Subject};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::callers::user;
use crate::tuples::tuples_on;
use crate::world::{Answer, World, world, world_with};

pub(crate) const NOBODY: &str = "0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a3";
const PLATFORM_CHAIN: Uuid = Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001);

pub(crate) fn of_domain(domain: &str, issuer: &str) -> Value {
    json!({
        "domain_id": domain,
        "issuer": issuer,
        "client_id": "plexsphere",
        "client_secret_ref": format!("secret:{domain}/idp/client"),
        "discovery_url": format!("{issuer}/.well-known/openid-configuration"),
        "jit_policy": "allow",
    })
}

pub(crate) fn of_platform(issuer: &str) -> Value {
    let mut body = of_domain(NOBODY, issuer);
    body.as_object_mut().unwrap().remove("domain_id");
    body["client_secret_ref"] = json!("env:IDP_SECRET");
    body
}

pub(crate) fn with(mut body: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

pub(crate) async fn patch(world: &World, id: &str, body: Value) -> Answer {
    world.call_as(&world.admin, "PATCH", &format!("/v1/admin/idp/{id}"), Some(body)).await
}

async fn set_status(world: &World, id: &str, status: &str) -> Answer {
    let path = format!("/v1/admin/idp/{id}/status");
    world.call_as(&world.admin, "PATCH", &path, Some(json!({ "status": status }))).await
}

pub(crate) async fn made(world: &World, body: Value) -> String {
    let path = if body.get("domain_id").is_some() { "/v1/admin/idp" } else { "/v1/admin/platform-idp" };
    let answer = world.post(path, body).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.text("id")
}

/// Tells what the probe found; where the binding stands then.
async fn found_by_probe(world: &World, id: &str, finding: BindingEvent) -> BindingStatus {
    let prober = Actor::background(Subject::System(Uuid::from_u128(1)), world.clock.now());
    world.identity.bindings().observe(&prober, id.parse().unwrap(), finding).await.unwrap()
}

#[tokio::test]
async fn a_binding_is_made_read_back_and_written_to_both_ledgers() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let body = with(
        of_domain(&domain, "https://idp.example"),
        json!({
            "alias": "GitHub EU", "primary": true, "required_acr": ["urn:high"], "required_amr": ["otp", "hwk"],
            "claim_mappings": { "groups": "roles", "shoe_size": "size" },
        }),
    );
    let answer = world.post("/v1/admin/idp", body).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let path = answer.headers["location"].to_str().unwrap().to_owned();
    assert_eq!(path, format!("/v1/admin/idp/{}", answer.text("id")));
    assert_eq!((answer.text("alias"), answer.text("status")), ("github-eu".into(), "active".into()));
    assert_eq!(answer.body["primary"], true);
    assert!(answer.body.get("version").is_none());
    assert_eq!(world.get(&path).await.body, answer.body);
    let bare = made(&world, of_platform("https://shared.example")).await;
    let bare = world.get(&format!("/v1/admin/idp/{bare}")).await.body;
    for absent in ["domain_id", "alias", "claim_mappings", "required_acr", "required_amr"] {
        assert!(bare.get(absent).is_none(), "{absent}: {bare}");
    }
    let chain: Uuid = domain.parse().unwrap();
    let rows = world.rows("idp-binding.create").await;
    assert_eq!(rows[0], ("idp_binding".to_owned(), answer.text("id"), chain));
    assert_eq!(rows[1].2, PLATFORM_CHAIN);
    assert_eq!(world.rows("idp-binding.read").await[0].2, chain);
    let payload: Value = sqlx::query_scalar(
        "SELECT payload FROM kernel.outbox WHERE event_name = 'identity.IdPBindingCreated' ORDER BY seq LIMIT 1",
    )
    .fetch_one(&world.database.pool())
    .await
    .unwrap();
    assert_eq!((&payload["idp_binding_id"], &payload["domain_id"]), (&answer.body["id"], &json!(domain)));
    for secret in ["secret:", "idp.example", "plexsphere"] {
        assert!(!payload.to_string().contains(secret), "{payload}");
    }
}

#[tokio::test]
async fn a_bindings_members_are_judged_one_by_one_and_nothing_is_made() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let other = world.domain("other", "11.0.0.0/8").await;
    let many: Vec<String> = (0..17).map(|i| format!("a{i}")).collect();
    let long = "x".repeat(4_097);
    let of_both = [
        ("issuer", json!("http://idp.example"), "invalid_idp_binding"),
        ("issuer", json!("https://u:p@idp.example"), "invalid_idp_binding"),
        ("issuer", json!("https://idp.example?x"), "invalid_idp_binding"),
        ("issuer", json!("idp.example"), "invalid_idp_binding"),
        ("issuer", json!(format!("https://idp.example/{long}")), "invalid_idp_binding"),
        ("client_id", json!(""), "invalid_idp_binding"),
        ("client_id", json!(long), "invalid_idp_binding"),
        ("client_id", json!("a\u{7}"), "invalid_idp_binding"),
        ("client_secret_ref", json!(""), "invalid_idp_binding"),
        ("client_secret_ref", json!(format!("secret:{other}/idp")), "invalid_idp_binding"),
        ("client_secret_ref", json!("secret:/idp"), "invalid_idp_binding"),
        ("discovery_url", json!("file:///etc/passwd"), "invalid_idp_binding"),
        ("discovery_url", json!("https://idp.example/#x"), "invalid_idp_binding"),
        ("claim_mappings", json!({ "email": "" }), "invalid_idp_binding"),
        ("claim_mappings", json!({ "spiffe_bundle_url": "http://spire" }), "invalid_idp_binding"),
        ("claim_mappings", json!({ "email": 7 }), "invalid_body"),
        ("claim_mappings", json!({ "email": null }), "invalid_body"),
        ("claim_mappings", json!([]), "invalid_body"),
        ("required_acr", json!(many), "invalid_idp_binding"),
        ("required_acr", json!(["a b"]), "invalid_idp_binding"),
        ("required_amr", json!([""]), "invalid_idp_binding"),
        ("required_amr", json!([["a"]]), "invalid_body"),
        ("jit_policy", json!("Allow"), "invalid_jit_policy"),
        ("jit_policy", json!(""), "invalid_jit_policy"),
        ("jit_policy", json!(true), "invalid_body"),
        ("alias", json!("ä"), "invalid_idp_binding"),
        ("alias", json!("x".repeat(65)), "invalid_idp_binding"),
        ("alias", Value::Null, "invalid_body"),
        ("version", json!(1), "invalid_body"),
        ("status", json!("active"), "invalid_body"),
    ];
    let of_one = [
        ("domain_id", json!("x"), "invalid_idp_binding"),
        ("domain_id", json!("00000000-0000-0000-0000-000000000000"), "invalid_idp_binding"),
        ("client_secret_ref", json!("file:/etc/passwd"), "invalid_idp_binding"),
        ("client_secret_ref", json!("env:PLEXSPHERE_TOKEN_PEPPER"), "invalid_idp_binding"),
        ("client_secret_ref", json!(format!("secret:{domain}/../{other}/idp")), "invalid_idp_binding"),
        ("primary", json!("true"), "invalid_body"),
    ];
    let of_the_platform = [
        ("client_secret_ref", json!(format!("secret:{domain}/idp")), "invalid_idp_binding"),
        ("client_secret_ref", json!("file:/a/../b"), "invalid_idp_binding"),
        ("primary", json!(true), "invalid_body"),
        ("domain_id", json!(domain), "invalid_body"),
    ];
    for (member, value, code) in of_both.iter().chain(&of_one) {
        let body = with(of_domain(&domain, "https://idp.example"), json!({ *member: value }));
        assert_eq!(world.post("/v1/admin/idp", body.clone()).await.refusal(), (400, *code), "{body}");
    }
    for (member, value, code) in of_both.iter().chain(&of_the_platform) {
        let body = with(of_platform("https://idp.example"), json!({ *member: value }));
        assert_eq!(world.post("/v1/admin/platform-idp", body.clone()).await.refusal(), (400, *code), "{body}");
    }
    let gone = of_domain(NOBODY, "https://idp.example");
    assert_eq!(world.post("/v1/admin/idp", gone).await.refusal(), (400, "invalid_idp_binding"));
    assert_eq!(world.count("SELECT count(*) FROM identity.idp_bindings").await, 0);
    let big = with(of_platform("https://idp.example"), json!({ "alias": "x".repeat(17_000) }));
    assert_eq!(world.post("/v1/admin/platform-idp", big).await.refusal(), (413, "request_body_too_large"));
}

#[tokio::test]
async fn plain_http_is_taken_where_an_installation_says_so_but_never_for_a_bundle() {
    let world = world_with(|config| config.allow_insecure_idp = true).await;
    let body = of_platform("http://idp.example");
    made(&world, body.clone()).await;
    let bundle = with(body, json!({ "claim_mappings": { "spiffe_bundle_url": "http://spire.example" } }));
    assert_eq!(world.post("/v1/admin/platform-idp", bundle).await.refusal(), (400, "invalid_idp_binding"));
}

#[tokio::test]
async fn issuer_alias_and_primary_are_unique_among_an_owners_bindings_that_are_not_deactivated() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let other = world.domain("other", "11.0.0.0/8").await;
    let first = with(of_domain(&domain, "https://a.example"), json!({ "alias": "a", "primary": true }));
    let first_id = made(&world, first.clone()).await;
    // Another owner is another room.
    made(&world, with(of_domain(&other, "https://a.example"), json!({ "alias": "a", "primary": true }))).await;
    made(&world, with(of_platform("https://a.example"), json!({ "alias": "a" }))).await;
    let again = |changes: Value| with(of_domain(&domain, "https://b.example"), changes);
    for (body, code) in [
        (again(json!({ "issuer": "https://a.example" })), "issuer_conflict"),
        (again(json!({ "alias": "A" })), "alias_conflict"),
        (again(json!({ "primary": true })), "primary_conflict"),
    ] {
        assert_eq!(world.post("/v1/admin/idp", body.clone()).await.refusal(), (409, code), "{body}");
    }
    for (changes, code) in
        [(json!({ "issuer": "https://a.example" }), "issuer_conflict"), (json!({ "alias": "a" }), "alias_conflict")]
    {
        let body = with(of_platform("https://b.example"), changes);
        assert_eq!(world.post("/v1/admin/platform-idp", body).await.refusal(), (409, code));
    }
    let second = made(&world, again(json!({}))).await;
    assert_eq!(patch(&world, &second, json!({ "alias": "a" })).await.refusal(), (409, "alias_conflict"));
    assert_eq!(patch(&world, &second, json!({ "primary": true })).await.refusal(), (409, "primary_conflict"));
    // Demote first, and the place is free.
    assert_eq!(patch(&world, &first_id, json!({ "primary": false })).await.status, 200);
    assert_eq!(patch(&world, &second, json!({ "primary": true })).await.body["primary"], true);
    assert_eq!(patch(&world, &first_id, json!({ "primary": true })).await.refusal(), (409, "primary_conflict"));

    // A deactivated one holds nothing, and comes back only into what is still free.
    assert_eq!(set_status(&world, &first_id, "deactivated").await.text("status"), "deactivated");
    let heir = made(&world, with(first, json!({ "primary": false }))).await;
    assert_eq!(set_status(&world, &first_id, "active").await.refusal(), (409, "issuer_conflict"));
    assert_eq!(set_status(&world, &heir, "deactivated").await.status, 200);
    assert_eq!(patch(&world, &second, json!({ "alias": "a" })).await.status, 200);
    assert_eq!(set_status(&world, &first_id, "active").await.refusal(), (409, "alias_conflict"));
    assert_eq!(patch(&world, &second, json!({ "alias": "" })).await.status, 200);
    assert_eq!(patch(&world, &first_id, json!({ "primary": true })).await.status, 200);
    assert_eq!(set_status(&world, &first_id, "active").await.refusal(), (409, "primary_conflict"));
    assert_eq!(patch(&world, &second, json!({ "primary": false })).await.status, 200);
    assert_eq!(set_status(&world, &first_id, "active").await.text("status"), "active");
}

#[tokio::test]
async fn a_change_touches_what_it_names_and_what_is_for_life_is_no_member_of_it() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let body = with(
        of_domain(&domain, "https://idp.example"),
        json!({ "alias": "a", "claim_mappings": { "groups": "roles" }, "required_acr": ["x"] }),
    );
    let id = made(&world, body).await;
    let before = world.get(&format!("/v1/admin/idp/{id}")).await.body;
    world.clock.advance(std::time::Duration::from_secs(1));
    let changed = patch(&world, &id, json!({ "jit_policy": "deny", "required_amr": ["otp"] })).await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    let mut expected = with(before, json!({ "jit_policy": "deny", "required_amr": ["otp"] }));
    expected["updated_at"] = changed.body["updated_at"].clone();
    assert_eq!(changed.body, expected);
    assert_ne!(changed.body["updated_at"], changed.body["created_at"]);
    let cleared = patch(&world, &id, json!({ "claim_mappings": {}, "required_acr": [], "alias": "" })).await;
    for absent in ["alias", "claim_mappings", "required_acr"] {
        assert!(cleared.body.get(absent).is_none(), "{absent}: {}", cleared.body);
    }
    for (body, code) in [
        (json!({}), "empty_patch"),
        (json!({ "jit_policy": "maybe" }), "invalid_jit_policy"),
        (json!({ "discovery_url": "http://idp.example" }), "invalid_idp_binding"),
        (json!({ "alias": "ä" }), "invalid_idp_binding"),
        (json!({ "issuer": "https://idp.example" }), "invalid_body"),
        (json!({ "client_secret_ref": format!("secret:{domain}/other") }), "invalid_body"),
        (json!({ "domain_id": domain }), "invalid_body"),
        (json!({ "status": "deactivated" }), "invalid_body"),
        (json!({ "primary": null }), "invalid_body"),
        (json!([]), "invalid_body"),
    ] {
        assert_eq!(patch(&world, &id, body.clone()).await.refusal(), (400, code), "{body}");
    }
    let shared = made(&world, of_platform("https://idp.example")).await;
    assert_eq!(patch(&world, &shared, json!({ "primary": true })).await.refusal(), (400, "invalid_idp_binding"));
    assert_eq!(patch(&world, &shared, json!({ "primary": false })).await.status, 200);
    assert_eq!(world.rows("idp-binding.update").await.len(), 3);
    assert_eq!(
        world.count("SELECT count(*) FROM kernel.outbox WHERE event_name = 'identity.IdPBindingUpdated'").await,
        3
    );
}

#[tokio::test]
async fn an_operator_switches_off_and_on_and_the_probe_alone_ends_what_it_found() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let id = made(&world, of_domain(&domain, "https://idp.example")).await;
    for word in ["degraded", "inactive", "Active", "", "deleted"] {
        assert_eq!(set_status(&world, &id, word).await.refusal(), (400, "invalid_status"), "{word}");
    }
    let path = format!("/v1/admin/idp/{id}/status");
    for body in [json!({}), json!({ "status": 1 }), json!({ "status": "active", "x": 1 })] {
        let refused = world.call_as(&world.admin, "PATCH", &path, Some(body.clone())).await;
        assert_eq!(refused.refusal(), (400, "invalid_body"), "{body}");
    }
    assert_eq!(set_status(&world, &id, "active").await.text("status"), "active");
    for (finding, found) in
        [(BindingEvent::ProbeFailed, BindingStatus::Degraded), (BindingEvent::ProbeFoundFault, BindingStatus::Inactive)]
    {
        assert_eq!(found_by_probe(&world, &id, finding).await, found);
        assert_eq!(found_by_probe(&world, &id, finding).await, found);
        assert_eq!(set_status(&world, &id, "active").await.refusal(), (400, "invalid_status"), "{found:?}");
        assert_eq!(set_status(&world, &id, "deactivated").await.text("status"), "deactivated");
        assert_eq!(found_by_probe(&world, &id, BindingEvent::ProbeSucceeded).await, BindingStatus::Deactivated);
        assert_eq!(set_status(&world, &id, "deactivated").await.text("status"), "deactivated");
        assert_eq!(set_status(&world, &id, "active").await.text("status"), "active");
    }
    found_by_probe(&world, &id, BindingEvent::ProbeFoundFault).await;
    assert_eq!(found_by_probe(&world, &id, BindingEvent::ProbeSucceeded).await, BindingStatus::Active);
    let announced = "SELECT count(*) FROM kernel.outbox WHERE event_name = 'identity.IdPBindingStatusChanged'";
    assert_eq!(world.count(announced).await, 8);
    let payload: Value = sqlx::query_scalar(
        "SELECT payload FROM kernel.outbox WHERE event_name = 'identity.IdPBindingStatusChanged' ORDER BY seq LIMIT 1",
    )
    .fetch_one(&world.database.pool())
    .await
    .unwrap();
    assert_eq!((&payload["from"], &payload["to"]), (&json!("active"), &json!("degraded")));
}

pub(crate) fn issuers(answer: &Answer) -> Vec<String> {
    answer.body.as_array().unwrap().iter().map(|item| item["issuer"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_domains_list_has_the_platforms_bindings_only_while_none_of_its_own_is_usable() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let list = format!("/v1/admin/idp?domain_id={domain}");
    assert_eq!(world.get(&list).await.body, json!([]));
    made(&world, of_platform("https://shared.example")).await;
    assert_eq!(issuers(&world.get(&list).await), ["https://shared.example"]);
    let a = made(&world, of_domain(&domain, "https://a.example")).await;
    world.clock.advance(std::time::Duration::from_secs(1));
    let b = made(&world, of_domain(&domain, "https://b.example")).await;
    assert_eq!(issuers(&world.get(&list).await), ["https://a.example", "https://b.example"]);
    set_status(&world, &a, "deactivated").await;
    assert_eq!(found_by_probe(&world, &b, BindingEvent::ProbeFailed).await, BindingStatus::Degraded);
    assert_eq!(issuers(&world.get(&list).await), ["https://a.example", "https://b.example"]);
    assert_eq!(found_by_probe(&world, &b, BindingEvent::ProbeFoundFault).await, BindingStatus::Inactive);
    let all = ["https://a.example", "https://b.example", "https://shared.example"];
    assert_eq!(issuers(&world.get(&list).await), all);
    assert_eq!(issuers(&world.get("/v1/admin/platform-idp").await), ["https://shared.example"]);
    assert_eq!(world.get("/v1/admin/idp").await.body.as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_binding_takes_its_groups_with_it_and_leaves_the_users() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let person = user(&world, Some(&domain)).await;
    let id = made(&world, of_domain(&domain, "https://idp.example")).await;
    let group = |slug: &str, rest: Value| {
        with(json!({ "domain_id": domain, "slug": slug, "display_name": slug, "source": "manual" }), rest)
    };
    let idp = json!({ "source": "idp", "idp_binding_id": id, "idp_claim_value": "ops" });
    let filled = world.post("/v1/admin/groups", group("filled", idp)).await.text("id");
    let manual = world.post("/v1/admin/groups", group("manual", json!({}))).await.text("id");
    for (group, kind, member, source) in
        [(&filled, "user", person.to_string(), "idp"), (&manual, "group", filled.clone(), "manual")]
    {
        let body = json!({ "principal_id": member, "principal_kind": kind, "source": source });
        let answer = world.post(&format!("/v1/admin/groups/{group}/members"), body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
    }
    assert_eq!(world.delete(&format!("/v1/admin/idp/{id}")).await.status, 204);
    assert_eq!(world.get(&format!("/v1/admin/groups/{filled}")).await.refusal(), (404, "group_not_found"));
    assert_eq!(world.get(&format!("/v1/admin/groups/{manual}/members")).await.body, json!({ "items": [] }));
    let pool = world.database.pool();
    assert!(tuples_on(&pool, &format!("group:{filled}")).await.is_empty());
    assert_eq!(tuples_on(&pool, &format!("group:{manual}")).await, [format!("parent@domain:{domain}")]);
    assert_eq!(world.count("SELECT count(*) FROM identity.memberships").await, 0);
    assert_eq!(world.count("SELECT count(*) FROM identity.users WHERE domain_id IS NOT NULL").await, 1);
    assert_eq!(world.rows("idp-binding.delete").await.len(), 1);
    assert_eq!(world.rows("group.delete").await.len(), 1);
    assert_eq!(world.get(&format!("/v1/admin/idp/{id}")).await.refusal(), (404, "binding_not_found"));
}

#[tokio::test]
async fn a_fault_at_the_commit_leaves_no_binding_and_no_row() {
    let world = world().await;
    let broken =
        "ALTER TABLE kernel.outbox ADD CONSTRAINT broken CHECK (event_name NOT LIKE 'identity.IdP%') NOT VALID";
    sqlx::query(broken).execute(&world.database.pool()).await.unwrap();
    let refused = world.post("/v1/admin/platform-idp", of_platform("https://idp.example")).await;
    assert_eq!(refused.refusal(), (500, "internal"));
    assert_eq!(world.count("SELECT count(*) FROM identity.idp_bindings").await, 0);
    assert!(world.rows("idp-binding.create").await.is_empty());
}
