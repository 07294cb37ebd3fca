//! Groups and their members, over HTTP.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::callers::{Grants, caller, service, user, waiting_for_locks};
use crate::tuples::tuples_on;
use crate::world::{Answer, World, world};

pub(crate) const NOBODY: &str = "0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a3";
const NIL: &str = "00000000-0000-0000-0000-000000000000";

pub(crate) fn manual(domain: &str, slug: &str) -> Value {
    json!({ "domain_id": domain, "slug": slug, "display_name": slug, "source": "manual" })
}

pub(crate) fn filled(domain: &str, slug: &str, binding: &str, value: &str) -> Value {
    json!({
        "domain_id": domain, "slug": slug, "display_name": slug, "source": "idp",
        "idp_binding_id": binding, "idp_claim_value": value,
    })
}

pub(crate) async fn made(world: &World, body: Value) -> String {
    let answer = world.post("/v1/admin/groups", body).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.text("id")
}

/// A binding of a Domain, or of the platform.
pub(crate) async fn binding(world: &World, domain: Option<&str>) -> String {
    let mut body = json!({
        "issuer": "https://idp.example", "client_id": "c", "client_secret_ref": "env:X",
        "discovery_url": "https://idp.example", "jit_policy": "deny",
    });
    let path = match domain {
        Some(domain) => {
            body["domain_id"] = json!(domain);
            body["client_secret_ref"] = json!(format!("secret:{domain}/idp"));
            "/v1/admin/idp"
        }
        None => "/v1/admin/platform-idp",
    };
    world.post(path, body).await.text("id")
}

pub(crate) async fn add(world: &World, group: &str, kind: &str, member: impl ToString, source: &str) -> Answer {
    let body = json!({ "principal_id": member.to_string(), "principal_kind": kind, "source": source });
    world.post(&format!("/v1/admin/groups/{group}/members"), body).await
}

pub(crate) async fn remove(world: &World, group: &str, kind: &str, member: impl ToString) -> Answer {
    world.delete(&format!("/v1/admin/groups/{group}/members/{}?kind={kind}", member.to_string())).await
}

#[tokio::test]
async fn a_group_is_made_with_its_edge_renamed_listed_and_deleted() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let mut body = manual(&domain, "ops--eu");
    body["display_name"] = json!("  Operators EU ");
    let answer = world.post("/v1/admin/groups", body).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let path = answer.headers["location"].to_str().unwrap().to_owned();
    assert_eq!(path, format!("/v1/admin/groups/{}", answer.text("id")));
    assert_eq!(answer.text("display_name"), "Operators EU");
    assert!(answer.body.get("idp_binding_id").is_none() && answer.body.get("idp_claim_value").is_none());
    assert_eq!(world.get(&path).await.body, answer.body);
    let (pool, object) = (world.database.pool(), format!("group:{}", answer.text("id")));
    assert_eq!(tuples_on(&pool, &object).await, [format!("parent@domain:{domain}")]);
    world.clock.advance(std::time::Duration::from_secs(1));
    let rename = |body: Value| world.call_as(&world.admin, "PATCH", &path, Some(body));
    let renamed = rename(json!({ "display_name": "Ops" })).await;
    assert_eq!((renamed.text("display_name"), renamed.text("slug")), ("Ops".into(), "ops--eu".into()));
    assert_ne!(renamed.text("updated_at"), renamed.text("created_at"));
    for (body, code) in [
        (json!({}), "invalid_body"),
        (json!({ "display_name": "a", "slug": "ops--eu" }), "invalid_body"),
        (json!({ "display_name": null }), "invalid_body"),
        (json!({ "display_name": " " }), "invalid_group"),
        (json!({ "display_name": "x".repeat(129) }), "invalid_group"),
        (json!({ "display_name": "a\u{7}" }), "invalid_group"),
    ] {
        assert_eq!(rename(body.clone()).await.refusal(), (400, code), "{body}");
    }
    assert_eq!(world.delete(&path).await.status, 204);
    assert_eq!(world.delete(&path).await.refusal(), (404, "group_not_found"));
    assert!(tuples_on(&pool, &object).await.is_empty());
    let chain: Uuid = domain.parse().unwrap();
    for action in ["group.create", "group.read", "group.update", "group.delete"] {
        let rows = world.rows(action).await;
        assert_eq!(rows, [("group".to_owned(), answer.text("id"), chain)], "{action}");
    }
    for event in ["Created", "Updated", "Deleted"] {
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM kernel.outbox WHERE event_name = $1 AND domain_id = $2")
                .bind(format!("identity.Group{event}"))
                .bind(chain)
                .fetch_one(&pool)
                .await
                .unwrap();
        assert_eq!(count, 1, "{event}");
    }
}

#[tokio::test]
async fn a_groups_members_are_judged_and_its_binding_must_be_in_reach() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let other = world.domain("other", "11.0.0.0/8").await;
    let (own, foreign) = (binding(&world, Some(&domain)).await, binding(&world, Some(&other)).await);
    let shared = binding(&world, None).await;
    let with = |member: &str, value: Value| {
        let mut body = manual(&domain, "a");
        body[member] = value;
        body
    };
    for (body, code) in [
        (with("slug", json!("A")), "invalid_group"),
        (with("slug", json!("a-")), "invalid_group"),
        (with("slug", json!("a".repeat(65))), "invalid_group"),
        (with("display_name", json!("")), "invalid_group"),
        (with("source", json!("ldap")), "invalid_group"),
        (with("source", json!("idp")), "invalid_group"),
        (with("idp_claim_value", json!("x")), "invalid_group"),
        (with("idp_binding_id", json!(own)), "invalid_group"),
        (with("domain_id", json!("x")), "invalid_group"),
        (with("domain_id", json!(NOBODY)), "invalid_group"),
        (filled(&domain, "a", &foreign, "ops"), "invalid_group"),
        (filled(&domain, "a", NOBODY, "ops"), "invalid_group"),
        (filled(&domain, "a", &own, ""), "invalid_group"),
        (filled(&domain, "a", &own, &"x".repeat(4_097)), "invalid_group"),
        (with("idp_binding_id", Value::Null), "invalid_body"),
        (with("members", json!([])), "invalid_body"),
        (with("slug", json!(7)), "invalid_body"),
    ] {
        assert_eq!(world.post("/v1/admin/groups", body.clone()).await.refusal(), (400, code), "{body}");
    }
    assert_eq!(world.count("SELECT count(*) FROM identity.groups").await, 0);
    for (slug, binding) in [("own", &own), ("shared", &shared)] {
        let body = filled(&domain, slug, binding, "ops");
        let answer = world.post("/v1/admin/groups", body.clone()).await;
        assert_eq!((answer.text("idp_binding_id"), answer.text("idp_claim_value")), (binding.clone(), "ops".into()));
    }
    let again = world.post("/v1/admin/groups", manual(&domain, "own")).await;
    assert_eq!(again.refusal(), (409, "group_slug_conflict"));
    made(&world, manual(&other, "own")).await;
}

#[tokio::test]
async fn of_two_groups_that_race_for_a_slug_one_is_made() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let (a, b) = tokio::join!(
        world.post("/v1/admin/groups", manual(&domain, "a")),
        world.post("/v1/admin/groups", manual(&domain, "a")),
    );
    let mut seen = [a.refusal(), b.refusal()];
    seen.sort_unstable();
    assert_eq!(seen, [(201, ""), (409, "group_slug_conflict")]);
    assert_eq!(world.count("SELECT count(*) FROM public.recorded_tuples WHERE object LIKE 'group:%'").await, 1);
}

#[tokio::test]
async fn groups_page_by_slug_within_their_domain() {
    let mut world = world().await;
    let grants = Grants::seat(&mut world);
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let other = world.domain("other", "11.0.0.0/8").await;
    for slug in ["c", "a", "b"] {
        made(&world, manual(&domain, slug)).await;
    }
    made(&world, manual(&other, "aa")).await;
    let slugs = |answer: &Answer| -> Vec<String> {
        let items = answer.body["items"].as_array().unwrap();
        items.iter().map(|item| item["slug"].as_str().unwrap().to_owned()).collect()
    };
    let first = world.get(&format!("/v1/admin/groups?domain_id={domain}&limit=2")).await;
    assert_eq!(slugs(&first), ["a", "b"]);
    let cursor = first.text("next_cursor");
    let second = world.get(&format!("/v1/admin/groups?domain_id={domain}&limit=2&cursor={cursor}")).await;
    assert_eq!(slugs(&second), ["c"]);
    assert!(second.body.get("next_cursor").is_none());
    let elsewhere = world.get(&format!("/v1/admin/groups?domain_id={other}&cursor={cursor}")).await;
    assert_eq!(elsewhere.refusal(), (400, "invalid_cursor"));
    let reader = caller(&world, &grants, Some(&domain)).await;
    grants.give(&reader, "read", format!("domain:{domain}"));
    let path = format!("/v1/admin/groups?domain_id={domain}");
    let replayed = world.call_as(&reader.token, "GET", &format!("{path}&cursor={cursor}"), None).await;
    assert_eq!(replayed.refusal(), (400, "invalid_cursor"));
    assert_eq!(slugs(&world.call_as(&reader.token, "GET", &path, None).await), ["a", "b", "c"]);
    let elsewhere = format!("/v1/admin/groups?domain_id={other}");
    assert_eq!(world.call_as(&reader.token, "GET", &elsewhere, None).await.refusal(), (403, "permission_denied"));
    for bad in [
        "",
        "domain_id=",
        "domain_id=x",
        &format!("domain_id={NIL}"),
        &format!("domain_id={domain}&domain_id={domain}"),
    ] {
        assert_eq!(world.get(&format!("/v1/admin/groups?{bad}")).await.refusal(), (400, "invalid_domain_id"), "{bad}");
    }
    for bad in ["0", "201", "x"] {
        assert_eq!(world.get(&format!("{path}&limit={bad}")).await.refusal(), (400, "invalid_limit"), "{bad}");
    }
    assert_eq!(world.rows("group.list").await.len(), 3);
}

#[tokio::test]
async fn members_come_and_go_with_their_tuples() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let (person, robot) = (user(&world, Some(&domain)).await, service(&world, &domain).await);
    let (group, inner) = (made(&world, manual(&domain, "a")).await, made(&world, manual(&domain, "b")).await);
    for (kind, member) in
        [("user", person.to_string()), ("service_identity", robot.to_string()), ("group", inner.clone())]
    {
        world.clock.advance(std::time::Duration::from_secs(1));
        let answer = add(&world, &group, kind, &member, "manual").await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        let said = (answer.text("group_id"), answer.text("principal_kind"), answer.text("principal_id"));
        assert_eq!(said, (group.clone(), kind.to_owned(), member.clone()));
        assert_eq!(answer.text("source"), "manual");
        assert!(answer.headers.get("location").is_none());
        assert_eq!(add(&world, &group, kind, &member, "manual").await.refusal(), (409, "membership_conflict"));
    }
    let pool = world.database.pool();
    let mut expected = vec![
        format!("member@group:{inner}#member"),
        format!("member@serviceaccount:{robot}"),
        format!("member@user:{person}"),
        format!("parent@domain:{domain}"),
    ];
    assert_eq!(tuples_on(&pool, &format!("group:{group}")).await, expected);
    let listed = world.get(&format!("/v1/admin/groups/{group}/members")).await;
    let kinds: Vec<_> =
        listed.body["items"].as_array().unwrap().iter().map(|item| item["principal_kind"].clone()).collect();
    assert_eq!(kinds, [json!("user"), json!("service_identity"), json!("group")]);
    assert!(listed.body.get("next_cursor").is_none());

    assert_eq!(remove(&world, &group, "service_identity", person).await.refusal(), (404, "membership_not_found"));
    for (kind, member) in [("user", person.to_string()), ("service_identity", robot.to_string()), ("group", inner)] {
        assert_eq!(remove(&world, &group, kind, &member).await.status, 204);
        assert_eq!(remove(&world, &group, kind, &member).await.refusal(), (404, "membership_not_found"));
    }
    expected.retain(|tuple| tuple.starts_with("parent"));
    assert_eq!(tuples_on(&pool, &format!("group:{group}")).await, expected);
    for (action, event) in [("group.member-add", "MembershipAdded"), ("group.member-remove", "MembershipRemoved")] {
        assert_eq!(world.rows(action).await.len(), 3, "{action}");
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM kernel.outbox WHERE event_name = $1")
            .bind(format!("identity.{event}"))
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(count, 3, "{event}");
    }
}

#[tokio::test]
async fn a_request_about_a_member_is_judged_and_strangers_are_none() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let other = world.domain("other", "11.0.0.0/8").await;
    let group = made(&world, manual(&domain, "a")).await;
    let bound = binding(&world, Some(&domain)).await;
    let idp = made(&world, filled(&domain, "idp", &bound, "ops")).await;
    let person = user(&world, Some(&domain)).await;
    let foreign = [
        ("user", user(&world, Some(&other)).await.to_string()),
        ("user", user(&world, None).await.to_string()),
        ("user", service(&world, &domain).await.to_string()),
        ("user", NOBODY.to_owned()),
        ("service_identity", service(&world, &other).await.to_string()),
        ("service_identity", person.to_string()),
        ("group", made(&world, manual(&other, "a")).await),
        ("group", NOBODY.to_owned()),
        ("group", group.clone()),
    ];
    for (kind, member) in &foreign {
        let refused = add(&world, &group, kind, member, "manual").await;
        assert_eq!(refused.refusal(), (400, "invalid_membership"), "{kind} {member}");
    }
    for (kind, member, source, code) in [
        ("user", "x", "manual", "invalid_membership"),
        ("user", NIL, "manual", "invalid_membership"),
        ("service", NOBODY, "manual", "invalid_membership"),
        ("service-identity", NOBODY, "manual", "invalid_membership"),
        ("user", NOBODY, "Manual", "invalid_membership"),
    ] {
        assert_eq!(add(&world, &group, kind, member, source).await.refusal(), (400, code), "{kind} {member} {source}");
    }
    for (of, source) in [(&group, "idp"), (&idp, "manual")] {
        assert_eq!(add(&world, of, "user", person, source).await.refusal(), (409, "source_conflict"));
    }
    assert_eq!(add(&world, &idp, "user", person, "idp").await.text("source"), "idp");
    let path = format!("/v1/admin/groups/{group}/members");
    for body in [json!({}), json!({ "principal_id": person, "principal_kind": "user" }), json!({ "x": 1 }), json!([])] {
        assert_eq!(world.post(&path, body.clone()).await.refusal(), (400, "invalid_body"), "{body}");
    }
    for bad in ["", "?kind=", "?kind=service", "?kind=User", "?kind=user&kind=user"] {
        let refused = world.delete(&format!("{path}/{person}{bad}")).await;
        assert_eq!(refused.refusal(), (400, "invalid_kind"), "{bad}");
    }
    for bad in ["x", NIL, "%00"] {
        assert_eq!(remove(&world, &group, "user", bad).await.refusal(), (404, "membership_not_found"), "{bad}");
        assert_eq!(remove(&world, bad, "user", person).await.refusal(), (404, "group_not_found"), "{bad}");
    }
    assert_eq!(world.count("SELECT count(*) FROM identity.memberships").await, 1);
}

#[tokio::test]
async fn groups_lie_ten_deep_one_inside_the_other_and_never_within_themselves() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let mut chain = Vec::new();
    for index in 0..11 {
        chain.push(made(&world, manual(&domain, &format!("g{index}"))).await);
    }
    // From both ends, so that what lies outwards and what lies inwards both count.
    for index in [4, 5, 3, 6, 2, 7, 1, 8, 0] {
        let answer = add(&world, &chain[index], "group", &chain[index + 1], "manual").await;
        assert_eq!(answer.status, 201, "{index} {}", answer.body);
    }
    assert_eq!(add(&world, &chain[9], "group", &chain[10], "manual").await.refusal(), (400, "invalid_membership"));
    assert_eq!(add(&world, &chain[10], "group", &chain[0], "manual").await.refusal(), (400, "invalid_membership"));
    assert_eq!(add(&world, &chain[8], "group", &chain[10], "manual").await.status, 201);
    for index in 0..10 {
        let refused = add(&world, &chain[9], "group", &chain[index], "manual").await;
        assert_eq!(refused.refusal(), (400, "invalid_membership"), "{index}");
    }
    // A short cut is no cycle.
    assert_eq!(add(&world, &chain[0], "group", &chain[9], "manual").await.status, 201);
    // A Group in the middle takes its edges with it.
    assert_eq!(world.delete(&format!("/v1/admin/groups/{}", chain[5])).await.status, 204);
    assert_eq!(add(&world, &chain[9], "group", &chain[0], "manual").await.refusal(), (400, "invalid_membership"));
    assert_eq!(remove(&world, &chain[0], "group", &chain[9]).await.status, 204);
    assert_eq!(add(&world, &chain[9], "group", &chain[0], "manual").await.status, 201);
}

#[tokio::test]
async fn of_two_nestings_that_would_close_a_cycle_together_one_is_refused() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let (a, b) = (made(&world, manual(&domain, "a")).await, made(&world, manual(&domain, "b")).await);
    // Both requests stand before the first of them commits.
    let mut holder = world.database.pool().begin().await.unwrap();
    sqlx::query("SELECT id FROM identity.groups FOR UPDATE").execute(&mut *holder).await.unwrap();
    let (one, two, ()) =
        tokio::join!(add(&world, &a, "group", &b, "manual"), add(&world, &b, "group", &a, "manual"), async {
            waiting_for_locks(&world, 2).await;
            holder.rollback().await.unwrap();
        });
    let mut seen = [one.refusal(), two.refusal()];
    seen.sort_unstable();
    assert_eq!(seen, [(201, ""), (400, "invalid_membership")]);
    assert_eq!(world.count("SELECT count(*) FROM identity.memberships").await, 1);
}

#[tokio::test]
async fn a_member_that_is_added_while_its_group_goes_is_added_to_nothing() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let (outer, inner) = (made(&world, manual(&domain, "a")).await, made(&world, manual(&domain, "b")).await);
    let person = user(&world, Some(&domain)).await;
    for (group, kind, member, expected) in [
        (&inner, "user", person.to_string(), (404, "group_not_found")),
        (&outer, "group", inner.clone(), (400, "invalid_membership")),
    ] {
        let mut holder = world.database.pool().begin().await.unwrap();
        sqlx::query("DELETE FROM identity.groups WHERE id = $1::uuid")
            .bind(&inner)
            .execute(&mut *holder)
            .await
            .unwrap();
        let (added, ()) = tokio::join!(add(&world, group, kind, member, "manual"), async {
            waiting_for_locks(&world, 1).await;
            if kind == "group" {
                holder.commit().await.unwrap();
            } else {
                holder.rollback().await.unwrap();
            }
        });
        if kind == "group" {
            assert_eq!(added.refusal(), expected);
        } else {
            // The deletion was taken back, so the member is in.
            assert_eq!(added.status, 201, "{}", added.body);
            assert_eq!(remove(&world, group, "user", person).await.status, 204);
        }
    }
    assert_eq!(add(&world, &inner, "user", person, "manual").await.refusal(), (404, "group_not_found"));
    assert_eq!(world.count("SELECT count(*) FROM identity.memberships").await, 0);
}

#[tokio::test]
async fn a_group_answers_whoever_reaches_it_and_is_missing_to_everybody_else() {
    let mut world = world().await;
    let grants = Grants::seat(&mut world);
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let (seen, hidden) = (made(&world, manual(&domain, "a")).await, made(&world, manual(&domain, "b")).await);
    let reader = caller(&world, &grants, Some(&domain)).await;
    grants.give(&reader, "read", format!("group:{seen}"));
    let call = |method: &'static str, path: String, body: Option<Value>| {
        let (world, token) = (&world, &reader.token);
        async move { world.call_as(token, method, &path, body).await }
    };
    assert_eq!(call("GET", format!("/v1/admin/groups/{seen}"), None).await.status, 200);
    assert_eq!(call("GET", format!("/v1/admin/groups/{seen}/members"), None).await.status, 200);
    let member = json!({ "principal_id": reader.id, "principal_kind": "user", "source": "manual" });
    let own = format!("/members/{}?kind=user", reader.id);
    let writes = [
        ("PATCH", String::new(), Some(json!({ "display_name": "x" }))),
        ("DELETE", String::new(), None),
        ("POST", "/members".to_owned(), Some(member)),
        ("DELETE", own, None),
    ];
    for (method, tail, body) in &writes {
        let refused = call(method, format!("/v1/admin/groups/{seen}{tail}"), body.clone()).await;
        assert_eq!(refused.refusal(), (403, "permission_denied"), "{method} {tail}");
        assert_eq!(refused.body["reason"], "insufficient_relation");
    }
    let mut bodies = Vec::new();
    for id in [hidden.as_str(), NOBODY, NIL, "x", "%00"] {
        let reads = [("GET", String::new(), None), ("GET", "/members".to_owned(), None)];
        for (method, tail, body) in writes.iter().chain(&reads) {
            let mut refused = call(method, format!("/v1/admin/groups/{id}{tail}"), body.clone()).await;
            assert_eq!(refused.refusal(), (404, "group_not_found"), "{method} {id}{tail}");
            let members = refused.body.as_object_mut().unwrap();
            members.remove("instance");
            members.remove("correlation_id");
            bodies.push(refused.body);
        }
    }
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]));
    let refused = call("POST", "/v1/admin/groups".into(), Some(manual(&domain, "c"))).await;
    assert_eq!(refused.refusal(), (403, "permission_denied"));
    let denials = world.rows("manage").await;
    assert!(denials.contains(&("group".to_owned(), seen, domain.parse().unwrap())), "{denials:?}");
    assert_eq!(world.count("SELECT count(*) FROM identity.groups").await, 2);
}

#[tokio::test]
async fn a_fault_at_the_commit_leaves_no_member_and_no_tuple() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let group = made(&world, manual(&domain, "a")).await;
    let person = user(&world, Some(&domain)).await;
    let broken = "ALTER TABLE kernel.outbox ADD CONSTRAINT broken
        CHECK (event_name <> 'identity.MembershipAdded') NOT VALID";
    sqlx::query(broken).execute(&world.database.pool()).await.unwrap();
    assert_eq!(add(&world, &group, "user", person, "manual").await.refusal(), (500, "internal"));
    assert_eq!(world.count("SELECT count(*) FROM identity.memberships").await, 0);
    let tuples = tuples_on(&world.database.pool(), &format!("group:{group}")).await;
    assert_eq!(tuples, [format!("parent@domain:{domain}")]);
}
