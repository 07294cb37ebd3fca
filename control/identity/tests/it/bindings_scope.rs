//! Who sees and who changes bindings.

use serde_json::{Value, json};

use crate::bindings::{NOBODY, issuers, made, of_domain, of_platform};
use crate::callers::{Grants, caller};
use crate::world::world;

#[tokio::test]
async fn a_caller_sees_the_bindings_of_owners_that_it_may_read_and_cannot_probe_others() {
    let mut world = world().await;
    let grants = Grants::seat(&mut world);
    let (own, other) = (world.domain("own", "10.0.0.0/8").await, world.domain("other", "11.0.0.0/8").await);
    let reader = caller(&world, &grants, Some(&own)).await;
    grants.give(&reader, "read", format!("domain:{own}"));
    let mine = made(&world, of_domain(&own, "https://own.example")).await;
    let theirs = made(&world, of_domain(&other, "https://other.example")).await;
    let shared = made(&world, of_platform("https://shared.example")).await;
    let call = |method: &'static str, path: String, body: Option<Value>| {
        let (world, token) = (&world, &reader.token);
        async move { world.call_as(token, method, &path, body).await }
    };
    assert_eq!(issuers(&call("GET", "/v1/admin/idp".into(), None).await), ["https://own.example"]);
    assert_eq!(issuers(&call("GET", format!("/v1/admin/idp?domain_id={own}"), None).await), ["https://own.example"]);
    for named in [other.as_str(), NOBODY, "x", "", "%00", "00000000-0000-0000-0000-000000000000"] {
        let refused = call("GET", format!("/v1/admin/idp?domain_id={named}"), None).await;
        assert_eq!(refused.refusal(), (403, "permission_denied"), "{named}");
        assert_eq!(refused.body["reason"], "out_of_scope");
    }
    let twice = call("GET", format!("/v1/admin/idp?domain_id={own}&domain_id={own}"), None).await;
    assert_eq!(twice.refusal(), (403, "permission_denied"));
    // Where the caller belongs: two lists, and a refusal for each text that is no id, with what stands twice.
    let lists = world.rows("idp-binding.list").await;
    let here = ("domain".to_owned(), own.clone(), own.parse().unwrap());
    assert!(lists.iter().all(|row| *row == here), "{lists:?}");
    assert_eq!(lists.len(), 2 + 5);

    assert_eq!(call("GET", format!("/v1/admin/idp/{mine}"), None).await.status, 200);
    let mut bodies = Vec::new();
    for id in [theirs.as_str(), shared.as_str(), NOBODY, "x", "00000000-0000-0000-0000-000000000000"] {
        for (method, tail, body) in [
            ("GET", "", None),
            ("DELETE", "", None),
            ("PATCH", "", Some(json!({ "alias": "a" }))),
            ("PATCH", "/status", Some(json!({ "status": "deactivated" }))),
        ] {
            let mut refused = call(method, format!("/v1/admin/idp/{id}{tail}"), body).await;
            assert_eq!(refused.refusal(), (404, "binding_not_found"), "{method} {id}{tail}");
            let members = refused.body.as_object_mut().unwrap();
            members.remove("instance");
            members.remove("correlation_id");
            bodies.push(refused.body);
        }
    }
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]));
    // Whoever reaches the owner by another relation is told so.
    for (method, tail, body) in [
        ("DELETE", "", None),
        ("PATCH", "", Some(json!({ "alias": "a" }))),
        ("PATCH", "/status", Some(json!({ "status": "deactivated" }))),
    ] {
        let refused = call(method, format!("/v1/admin/idp/{mine}{tail}"), body).await;
        assert_eq!(refused.refusal(), (403, "permission_denied"), "{method}{tail}");
        assert_eq!(refused.body["reason"], "insufficient_relation");
    }
    let refused = call("POST", "/v1/admin/idp".into(), Some(of_domain(&own, "https://x.example"))).await;
    assert_eq!(
        (refused.refusal(), &refused.body["reason"]),
        ((403, "permission_denied"), &json!("insufficient_relation"))
    );
    let refused = call("POST", "/v1/admin/idp".into(), Some(of_domain(NOBODY, "https://x.example"))).await;
    assert_eq!((refused.refusal(), &refused.body["reason"]), ((403, "permission_denied"), &json!("out_of_scope")));
    for (method, body) in [("GET", None), ("POST", Some(of_platform("https://x.example")))] {
        let refused = call(method, "/v1/admin/platform-idp".into(), body).await;
        assert_eq!(refused.refusal(), (403, "permission_denied"), "{method}");
    }
    assert_eq!(world.count("SELECT count(*) FROM identity.idp_bindings WHERE version = 1").await, 3);
    // A refusal about another Domain stands on that Domain's chain.
    let denials = world.rows("manage").await;
    assert!(denials.contains(&("domain".to_owned(), other.clone(), other.parse().unwrap())), "{denials:?}");
}

#[tokio::test]
async fn a_manager_of_a_domain_does_all_of_it_there_and_nothing_for_the_platform() {
    let mut world = world().await;
    let grants = Grants::seat(&mut world);
    let own = world.domain("own", "10.0.0.0/8").await;
    let manager = caller(&world, &grants, Some(&own)).await;
    for relation in ["read", "manage"] {
        grants.give(&manager, relation, format!("domain:{own}"));
    }
    let call = |method: &'static str, path: String, body: Option<Value>| {
        let (world, token) = (&world, &manager.token);
        async move { world.call_as(token, method, &path, body).await }
    };
    let made = call("POST", "/v1/admin/idp".into(), Some(of_domain(&own, "https://own.example"))).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let path = format!("/v1/admin/idp/{}", made.text("id"));
    assert_eq!(call("PATCH", path.clone(), Some(json!({ "alias": "a" }))).await.status, 200);
    let off = Some(json!({ "status": "deactivated" }));
    assert_eq!(call("PATCH", format!("{path}/status"), off).await.status, 200);
    assert_eq!(call("DELETE", path.clone(), None).await.status, 204);
    assert_eq!(call("DELETE", path, None).await.refusal(), (404, "binding_not_found"));
    let refused = call("POST", "/v1/admin/platform-idp".into(), Some(of_platform("https://x.example"))).await;
    assert_eq!(refused.refusal(), (403, "permission_denied"));
}
