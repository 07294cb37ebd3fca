//! The principals of a Domain, and its Nodes as a list.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::tenancy_rig::{Held, NOBODY, Seen, events, person, raw};
use crate::tuples::tuples_on;
use crate::world::{demand, world};

fn service(subject: &str) -> Value {
    json!({ "display_name": "CI", "subject": subject, "audience": "plexsphere", "federation_kind": "oidc_cc" })
}

fn ids(list: &Value) -> Vec<String> {
    list["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_service_identity_is_made_with_its_place_and_its_subject_is_never_echoed() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let path = format!("/v1/domains/{domain}/service-identities");
    let made = world.post(&path, service(" repo:acme/x ")).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let id = made.text("id");
    assert_eq!(made.headers["location"], format!("/v1/domains/{domain}/identities/{id}"));
    assert_eq!((&made.body["kind"], &made.body["display_name"]), (&json!("service-identity"), &json!("CI")));
    assert!(!made.body.to_string().contains("repo:acme"));
    assert_eq!(made.text("external_subject_pseudonym").len(), 64);
    assert_eq!(
        tuples_on(&world.database.pool(), &format!("serviceaccount:{id}")).await,
        [format!("parent@domain:{domain}")]
    );
    let told = events(&world, "ServiceIdentityProvisioned").await;
    assert_eq!(told.len(), 1);
    assert!(!told[0].to_string().contains("repo:acme"));
    assert_eq!(world.rows("service-identity.create").await.len(), 1);
    assert_eq!(world.post(&path, service("repo:acme/x")).await.refusal(), (409, "service_identity_already_exists"));
    let other = world.domain("other", "11.0.0.0/8").await;
    let twin = world.post(&format!("/v1/domains/{other}/service-identities"), service("repo:acme/x")).await;
    assert_eq!(twin.status, 201);
    assert_ne!(twin.body["external_subject_pseudonym"], made.body["external_subject_pseudonym"]);
    let known = world.identity.identities().service_identity(id.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((known.subject.as_str(), known.domain.to_string()), ("repo:acme/x", domain));
}

#[tokio::test]
async fn a_service_identity_is_judged_member_by_member() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let path = format!("/v1/domains/{domain}/service-identities");
    for (member, value, code) in [
        ("display_name", json!(" "), "invalid_service_identity"),
        ("display_name", json!("x".repeat(257)), "invalid_service_identity"),
        ("subject", json!(""), "invalid_service_identity"),
        ("subject", json!("x".repeat(2_049)), "invalid_service_identity"),
        ("subject", json!("a\u{7}"), "invalid_service_identity"),
        ("audience", json!("\t"), "invalid_service_identity"),
        ("audience", json!("x".repeat(257)), "invalid_service_identity"),
        ("federation_kind", json!("oidc"), "invalid_service_identity"),
        ("federation_kind", json!("spiffe_svid"), "invalid_service_identity"),
        ("federation_kind", json!(null), "invalid_body"),
        ("federation_kind", json!(["oidc_cc"]), "invalid_body"),
        ("id", json!(NOBODY), "invalid_body"),
    ] {
        let mut body = service("s");
        body[member] = value;
        assert_eq!(world.post(&path, body.clone()).await.refusal(), (400, code), "{body}");
    }
    for member in ["display_name", "subject", "audience", "federation_kind"] {
        let mut body = service("s");
        body.as_object_mut().unwrap().remove(member);
        assert_eq!(world.post(&path, body).await.refusal(), (400, "invalid_body"), "{member}");
    }
    assert_eq!(raw(&world, "POST", &path, &" ".repeat(8_193)).await.refusal(), (413, "request_body_too_large"));
    // As long as may be, which is longer than an index entry.
    let long = world.post(&path, service(&"é".repeat(2_048))).await;
    assert_eq!(long.status, 201, "{}", long.body);
    let mut spiffe = service("spiffe://example.org/ns/ci");
    spiffe["federation_kind"] = json!("spiffe_svid");
    assert_eq!(world.post(&path, spiffe).await.status, 201);
    let nowhere = format!("/v1/domains/{NOBODY}/service-identities");
    assert_eq!(world.post(&nowhere, service("s")).await.refusal(), (404, "domain_not_found"));
    assert_eq!(
        world.post("/v1/domains/x/service-identities", service("s")).await.refusal(),
        (400, "invalid_domain_id")
    );
}

#[tokio::test]
async fn of_two_service_identities_that_race_for_a_subject_one_is_made() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let path = format!("/v1/domains/{domain}/service-identities");
    let (a, b) = tokio::join!(world.post(&path, service("s")), world.post(&path, service("s")));
    let mut seen = [a.refusal(), b.refusal()];
    seen.sort_unstable();
    assert_eq!(seen, [(201, ""), (409, "service_identity_already_exists")]);
    assert_eq!(events(&world, "ServiceIdentityProvisioned").await.len(), 1);
}

#[tokio::test]
async fn people_and_services_are_one_list_newest_first_in_pages_that_belong_to_their_reader() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let other = world.domain("other", "11.0.0.0/8").await;
    person(&world, &other, "eve", 99).await;
    let path = format!("/v1/domains/{domain}/identities");
    let old = person(&world, &domain, "ada", -10).await.to_string();
    let made = world.post(&format!("/v1/domains/{domain}/service-identities"), service("s")).await.text("id");
    let new = person(&world, &domain, "bob", 10).await.to_string();
    let all = world.get(&path).await;
    assert_eq!(ids(&all.body), [new.clone(), made.clone(), old.clone()]);
    assert!(all.body.get("next_cursor").is_none());
    for secret in ["ada@example.com", "\"ada\"", "https://idp"] {
        assert!(!all.body.to_string().contains(secret), "{secret}");
    }
    assert_eq!(all.body["items"][0]["kind"], "user");
    assert!(all.body["items"][0]["last_sign_in_at"].is_string());
    assert!(all.body["items"][1].get("last_sign_in_at").is_none());
    let first = world.get(&format!("{path}?limit=2")).await;
    assert_eq!(ids(&first.body), [new.clone(), made.clone()]);
    let cursor = first.text("next_cursor");
    assert_eq!(ids(&world.get(&format!("{path}?limit=2&cursor={cursor}")).await.body), [old.as_str()]);
    let narrowed = world.get(&format!("{path}?kind=user&cursor={cursor}")).await;
    assert_eq!(narrowed.refusal(), (400, "invalid_cursor"), "other filters");
    let elsewhere = world.get(&format!("/v1/domains/{other}/identities?cursor={cursor}")).await;
    assert_eq!(elsewhere.refusal(), (400, "invalid_cursor"), "another Domain");
    assert_eq!(ids(&world.get(&format!("{path}?kind=user")).await.body), [new, old]);
    assert_eq!(ids(&world.get(&format!("{path}?kind=service-identity")).await.body), [made]);
    for (query, code) in [
        ("kind=", "invalid_kind"),
        ("kind=User", "invalid_kind"),
        ("kind=service_identity", "invalid_kind"),
        ("kind=user&kind=user", "invalid_kind"),
        ("limit=0", "invalid_limit"),
        ("limit=201", "invalid_limit"),
        ("cursor=x.y", "invalid_cursor"),
    ] {
        assert_eq!(world.get(&format!("{path}?{query}")).await.refusal(), (400, code), "{query}");
    }
    let nowhere = format!("/v1/domains/{NOBODY}/identities");
    assert_eq!(world.get(&nowhere).await.refusal(), (404, "domain_not_found"));
    assert_eq!(world.get("/v1/domains/x/identities").await.refusal(), (400, "invalid_domain_id"));
    // One row per page that was served.
    assert_eq!(world.rows("identity.list").await.len(), 5);
}

#[tokio::test]
async fn a_page_of_identities_that_is_not_served_leaves_no_row() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    person(&world, &domain, "ada", 0).await;
    let held = Held::these([format!("domain:{domain}#read")]);
    held.lose("user");
    let path = format!("/v1/domains/{domain}/identities");
    let caller = Seen::by(&world, &held);
    assert_eq!(caller.call("GET", &path, None).await.refusal(), (503, "authz_unavailable"));
    assert!(world.rows("identity.list").await.is_empty());
}

#[tokio::test]
async fn a_list_shows_only_what_its_reader_may_read_and_its_cursor_is_of_no_use_to_others() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let path = format!("/v1/domains/{domain}/identities");
    let hidden = person(&world, &domain, "ada", 10).await;
    let shown = person(&world, &domain, "bob", 5).await;
    let held = Held::these([format!("domain:{domain}#read"), format!("user:{shown}#read")]);
    let reader = Seen::by(&world, &held);
    assert_eq!(ids(&reader.call("GET", &path, None).await.body), [shown.to_string()]);
    let first = reader.call("GET", &format!("{path}?limit=1"), None).await;
    assert_eq!(ids(&first.body), Vec::<String>::new(), "cut before the filter, whatever {hidden} is");
    assert!(first.body.get("empty_reason").is_none());
    let cursor = first.text("next_cursor");
    assert_eq!(
        ids(&reader.call("GET", &format!("{path}?limit=1&cursor={cursor}"), None).await.body),
        [shown.to_string()]
    );
    let stranger = crate::tenancy::stranger(&world).await;
    assert_eq!(world.call_as(&stranger, "GET", &path, None).await.refusal(), (403, "permission_denied"));
    let foreign = world.call_as(&stranger, "GET", &format!("/v1/nodes?cursor={cursor}"), None).await;
    assert_eq!(foreign.refusal(), (400, "invalid_cursor"));
}

#[tokio::test]
async fn who_somebody_is_is_told_to_auditors_of_the_domain_alone() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let ada = person(&world, &domain, "ada", 0).await;
    let service = world.post(&format!("/v1/domains/{domain}/service-identities"), service("repo")).await.text("id");
    let path = format!("/v1/domains/{domain}/identities/{ada}");
    let held = Held::these([format!("domain:{domain}#read"), format!("domain:{domain}#admin")]);
    let reader = Seen::by(&world, &held);
    let masked = reader.call("GET", &path, None).await;
    assert_eq!(masked.status, 200, "{}", masked.body);
    assert!(masked.body.get("external_subject").is_none() && masked.body.get("email").is_none());
    assert_eq!(masked.body["display_name"], "Person ada");
    assert_eq!(masked.body["domain_id"], domain);
    held.add(format!("domain:{domain}#auditor"));
    let plain = reader.call("GET", &path, None).await;
    assert_eq!(plain.body["external_subject"], "ada");
    assert_eq!(plain.body["email"], "ada@example.com");
    assert_eq!(plain.body["external_subject_pseudonym"], masked.body["external_subject_pseudonym"]);
    let machine = reader.call("GET", &format!("/v1/domains/{domain}/identities/{service}"), None).await;
    assert_eq!(machine.body["external_subject"], "repo");
    assert_eq!(machine.body["updated_at"], machine.body["created_at"]);
    assert!(machine.body.get("email").is_none());
    assert_eq!(world.rows("identity.read").await.len(), 3);
}

#[tokio::test]
async fn a_principal_of_another_domain_reads_like_nobody() {
    let world = world().await;
    let a = world.domain("a", "10.0.0.0/8").await;
    let b = world.domain("b", "11.0.0.0/8").await;
    let foreign = person(&world, &b, "eve", 0).await.to_string();
    let me = world.get("/v1/auth/whoami").await.text("subject");
    let mut bodies = Vec::new();
    for id in [foreign.as_str(), NOBODY, me.as_str()] {
        let refused = world.get(&format!("/v1/domains/{a}/identities/{id}")).await;
        assert_eq!(refused.refusal(), (404, "identity_not_found"));
        bodies.push(refused.text("detail"));
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1);
    for id in ["x", "00000000-0000-0000-0000-000000000000"] {
        let path = format!("/v1/domains/{a}/identities/{id}");
        assert_eq!(world.get(&path).await.refusal(), (400, "invalid_principal_id"), "{id}");
        assert_eq!(
            world.get(&format!("/v1/domains/{id}/identities/{foreign}")).await.refusal(),
            (400, "invalid_domain_id")
        );
    }
    let nowhere = format!("/v1/domains/{NOBODY}/identities/{foreign}");
    assert_eq!(world.get(&nowhere).await.refusal(), (404, "identity_not_found"));
    assert!(world.rows("identity.read").await.is_empty(), "nothing was served");
}

#[tokio::test]
async fn live_nodes_are_listed_in_the_order_of_their_registration_by_what_their_resource_calls_them() {
    let world = world().await;
    let first = world.enrol("vm", 1).await.text("node_id");
    world.clock.advance(std::time::Duration::from_secs(1));
    let second = world.enrol("worker", 2).await.text("node_id");
    let other = world.domain("other", "10.0.0.0/8").await;
    let project = world.project(&other, "p", None).await;
    let nameless =
        world.post(&format!("/v1/projects/{project}/resources"), json!({ "origin": "adopted", "kind": "vm" })).await;
    let (_, token) = world.token(&project, "node").await;
    world.clock.advance(std::time::Duration::from_secs(1));
    let third = world.register(demand(&project, &nameless.text("id"), &token, 3)).await.text("node_id");
    let all = world.get("/v1/nodes").await;
    assert_eq!(ids(&all.body), [first.clone(), second.clone(), third.clone()]);
    assert_eq!((&all.body["items"][0]["name"], &all.body["items"][0]["kind"]), (&json!("host-1"), &json!("vm")));
    assert!(all.body["items"][2].get("name").is_none());
    assert_eq!(all.body["items"][2]["domain_id"], other);
    assert!(all.body.get("empty_reason").is_none());
    let page = world.get("/v1/nodes?limit=1").await;
    let cursor = page.text("next_cursor");
    let page = world.get(&format!("/v1/nodes?limit=1&cursor={cursor}")).await;
    assert_eq!(ids(&page.body), [second.as_str()]);
    assert_eq!(
        world.get(&format!("/v1/nodes?domain_id={other}&cursor={cursor}")).await.refusal(),
        (400, "invalid_cursor")
    );
    assert_eq!(ids(&world.get(&format!("/v1/nodes?domain_id={other}")).await.body), [third.as_str()]);
    assert_eq!(ids(&world.get(&format!("/v1/nodes?domain_id={NOBODY}")).await.body), Vec::<String>::new());
    for bad in ["domain_id=x", "domain_id=", &format!("domain_id={other}&domain_id={other}")] {
        assert_eq!(world.get(&format!("/v1/nodes?{bad}")).await.refusal(), (400, "invalid_domain_filter"), "{bad}");
    }
    let held = Held::these([format!("node:{second}#read")]);
    let seen = Seen::by(&world, &held).call("GET", "/v1/nodes", None).await;
    assert_eq!(ids(&seen.body), [second.as_str()]);
    let none = Seen::by(&world, &Held::these([])).call("GET", "/v1/nodes", None).await;
    assert_eq!(none.body, json!({ "items": [] }));
    assert_eq!(world.delete(&format!("/v1/resources/{}", world.resource_of(1).await)).await.status, 204);
    assert_eq!(ids(&world.get("/v1/nodes").await.body), [second, third]);
    assert_eq!(world.call_as("", "GET", "/v1/nodes", None).await.refusal(), (401, "unauthenticated"));
    let chains: Vec<Uuid> = world.rows("node.list").await.into_iter().map(|(_, _, chain)| chain).collect();
    assert_eq!(chains.iter().filter(|chain| **chain == other.parse::<Uuid>().unwrap()).count(), 1);
}
