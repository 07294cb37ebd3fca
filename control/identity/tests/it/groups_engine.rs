//! Groups, bindings and tokens of others over the real relation engine.

use plexsphere_kernel::{ObjectRef, RelationTuple, SubjectRef};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::bindings::{of_domain, of_platform};
use crate::callers::{service, user, waiting_for_locks};
use crate::groups::{add, made, manual, remove};
use crate::tenancy_engine::{governed, token_of};
use crate::world::World;

/// Gives `relation` on a Domain, as tuple administration does.
async fn give(world: &World, domain: &str, relation: &str, subject: SubjectRef) {
    let object = ObjectRef::domain(domain.parse().unwrap());
    let mut tx = world.db.begin().await.unwrap();
    let tuple = RelationTuple::new(object, relation, subject);
    world.deps.tuples.write(&mut tx, Some(domain.parse().unwrap()), &[tuple]).await.unwrap();
    tx.commit().await.unwrap();
}

fn object(kind: &'static str, id: impl ToString) -> ObjectRef {
    ObjectRef { kind, id: id.to_string() }
}

#[tokio::test]
async fn a_member_of_a_nested_group_has_its_rights_from_the_next_request_to_the_last() {
    let world = governed().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let ada = user(&world, Some(&domain)).await;
    let token = token_of(&world, ada).await;
    let (outer, inner) = (made(&world, manual(&domain, "outer")).await, made(&world, manual(&domain, "inner")).await);
    give(&world, &domain, "operator", SubjectRef::userset(object("group", &outer), "member")).await;
    assert_eq!(add(&world, &outer, "group", &inner, "manual").await.status, 201);
    let path = format!("/v1/domains/{domain}");
    let status = async |path: &str| world.call_as(&token, "GET", path, None).await.status.as_u16();
    assert_eq!(status(&path).await, 403);
    assert_eq!(status(&format!("/v1/admin/groups/{inner}")).await, 404);
    assert_eq!(add(&world, &inner, "user", ada, "manual").await.status, 201);
    assert_eq!(status(&path).await, 200);
    for group in [&inner, &outer] {
        assert_eq!(status(&format!("/v1/admin/groups/{group}")).await, 200);
        assert_eq!(status(&format!("/v1/admin/groups/{group}/members")).await, 200);
        let refused = world.call_as(&token, "DELETE", &format!("/v1/admin/groups/{group}"), None).await;
        assert_eq!(
            (refused.refusal(), &refused.body["reason"]),
            ((403, "permission_denied"), &json!("insufficient_relation"))
        );
    }
    assert_eq!(remove(&world, &inner, "user", ada).await.status, 204);
    assert_eq!(status(&path).await, 403);
    assert_eq!(add(&world, &inner, "user", ada, "manual").await.status, 201);
    assert_eq!(status(&path).await, 200);
    // With the Group that holds the right, the right goes.
    assert_eq!(world.delete(&format!("/v1/admin/groups/{outer}")).await.status, 204);
    assert_eq!(status(&path).await, 403);
    assert_eq!(status(&format!("/v1/admin/groups/{inner}")).await, 200);
    assert_eq!(world.delete(&format!("/v1/admin/groups/{inner}")).await.status, 204);
    assert_eq!(world.count("SELECT count(*) FROM rebac.tuples WHERE 'group' IN (object_kind, subject_kind)").await, 0);
}

#[tokio::test]
async fn rights_on_bindings_stop_at_the_boundary_of_the_domain_and_of_the_platform() {
    let world = governed().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let own = world.post("/v1/admin/idp", of_domain(&domain, "https://own.example")).await.text("id");
    let shared = world.post("/v1/admin/platform-idp", of_platform("https://shared.example")).await.text("id");
    // Whoever has a right in a Domain may browse the platform, and so is told that it does not suffice there.
    let people = [
        (user(&world, Some(&domain)).await, Some("admin"), [200, 403, 201, 403, 204]),
        (user(&world, Some(&domain)).await, Some("member"), [200, 403, 403, 403, 403]),
        (user(&world, Some(&domain)).await, None, [404, 404, 403, 403, 404]),
    ];
    let mut platform = (user(&world, None).await, None::<&str>, [404, 200, 403, 201, 404]);
    let mut tx = world.db.begin().await.unwrap();
    let admin = RelationTuple::new(ObjectRef::platform(), "admin", object("user", platform.0));
    world.deps.tuples.write(&mut tx, None, &[admin]).await.unwrap();
    tx.commit().await.unwrap();
    // The administrator of the Domain comes last, for it deletes the binding.
    platform.2[4] = 404;
    let order = [platform, people[2], people[1], people[0]];
    for (index, (who, relation, expected)) in order.into_iter().enumerate() {
        if let Some(relation) = relation {
            give(&world, &domain, relation, object("user", who).into()).await;
        }
        let token = token_of(&world, who).await;
        let call = |method: &'static str, path: String, body: Option<Value>| {
            let (world, token) = (&world, &token);
            async move { world.call_as(token, method, &path, body).await.status.as_u16() }
        };
        let of_this_domain = Some(of_domain(&domain, &format!("https://{index}.example")));
        let of_the_platform = Some(of_platform(&format!("https://{index}.example")));
        let seen = [
            call("GET", format!("/v1/admin/idp/{own}"), None).await,
            call("GET", format!("/v1/admin/idp/{shared}"), None).await,
            call("POST", "/v1/admin/idp".into(), of_this_domain).await,
            call("POST", "/v1/admin/platform-idp".into(), of_the_platform).await,
            call("DELETE", format!("/v1/admin/idp/{own}"), None).await,
        ];
        assert_eq!(seen, expected, "{relation:?}");
    }
}

#[tokio::test]
async fn a_token_made_for_a_service_identity_carries_its_rights() {
    let world = governed().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let robot = service(&world, &domain).await;
    let body = json!({ "identity_ref": format!("service:{robot}"), "env_prefix": "dev" });
    let token = world.post("/v1/admin/tokens", body.clone()).await.text("plaintext");
    let path = format!("/v1/domains/{domain}");
    assert_eq!(world.call_as(&token, "GET", &path, None).await.refusal(), (403, "permission_denied"));
    give(&world, &domain, "member", object("serviceaccount", robot).into()).await;
    assert_eq!(world.call_as(&token, "GET", &path, None).await.status, 200);
    // A member reads, and tends nobody's tokens but its own.
    let refused = world.call_as(&token, "POST", "/v1/admin/tokens", Some(body)).await;
    assert_eq!(
        (refused.refusal(), &refused.body["reason"]),
        ((403, "permission_denied"), &json!("insufficient_relation"))
    );
    let nobody = json!({ "identity_ref": format!("service:{}", Uuid::from_u128(7)), "env_prefix": "dev" });
    let refused = world.call_as(&token, "POST", "/v1/admin/tokens", Some(nobody)).await;
    assert_eq!((refused.refusal(), &refused.body["reason"]), ((403, "permission_denied"), &json!("out_of_scope")));
}

#[tokio::test]
async fn a_domain_with_a_group_or_a_binding_stays_until_both_are_gone() {
    let world = governed().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let group = made(&world, manual(&domain, "a")).await;
    let binding = world.post("/v1/admin/idp", of_domain(&domain, "https://own.example")).await.text("id");
    let path = format!("/v1/domains/{domain}");
    for (left, groups, bindings) in
        [(format!("/v1/admin/groups/{group}"), 1, 1), (format!("/v1/admin/idp/{binding}"), 0, 1)]
    {
        let refused = world.delete(&path).await;
        assert_eq!(refused.refusal(), (409, "domain_not_empty"));
        let counts = &refused.body["child_counts"];
        assert_eq!((&counts["groups"], &counts["idp_bindings"]), (&json!(groups), &json!(bindings)));
        assert_eq!(world.delete(&left).await.status, 204);
    }
    assert_eq!(world.delete(&path).await.status, 204);
}

#[tokio::test]
async fn the_last_administrator_of_a_domain_is_not_lost_with_its_group() {
    let world = governed().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let (outer, inner) = (made(&world, manual(&domain, "outer")).await, made(&world, manual(&domain, "inner")).await);
    let ada = user(&world, Some(&domain)).await;
    give(&world, &domain, "admin", SubjectRef::userset(object("group", &outer), "member")).await;
    assert_eq!(add(&world, &outer, "group", &inner, "manual").await.status, 201);
    assert_eq!(add(&world, &inner, "user", ada, "manual").await.status, 201);
    // The maker of the Domain goes, so that its only administrator is Ada by both Groups.
    let maker =
        "DELETE FROM rebac.tuples WHERE relation = 'admin' AND object_kind = 'domain' AND subject_kind = 'user'";
    sqlx::query(maker).execute(&world.database.pool()).await.unwrap();
    let token = token_of(&world, ada).await;
    let call = async |path: String| world.call_as(&token, "DELETE", &path, None).await;
    for (path, refusal) in [
        (format!("/v1/admin/groups/{inner}/members/{ada}?kind=user"), (400, "invalid_membership")),
        (format!("/v1/admin/groups/{outer}/members/{inner}?kind=group"), (400, "invalid_membership")),
        (format!("/v1/admin/groups/{inner}"), (403, "permission_denied")),
        (format!("/v1/admin/groups/{outer}"), (403, "permission_denied")),
    ] {
        assert_eq!(call(path.clone()).await.refusal(), refusal, "{path}");
    }
    assert_eq!(world.rows("group.delete").await.len(), 2);
    let bob = user(&world, Some(&domain)).await;
    give(&world, &domain, "admin", object("user", bob).into()).await;
    assert_eq!(call(format!("/v1/admin/groups/{inner}")).await.status, 204);
    // Ada was an administrator by that Group, and the other one has nobody left.
    assert_eq!(call(format!("/v1/admin/groups/{outer}")).await.refusal().0, 404);
    let token = token_of(&world, bob).await;
    assert_eq!(world.call_as(&token, "DELETE", &format!("/v1/admin/groups/{outer}"), None).await.status, 204);
}

#[tokio::test]
async fn of_two_memberships_that_make_the_last_administrators_one_stays() {
    let world = governed().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let group = made(&world, manual(&domain, "a")).await;
    let (ada, bob) = (user(&world, Some(&domain)).await, user(&world, Some(&domain)).await);
    give(&world, &domain, "admin", SubjectRef::userset(object("group", &group), "member")).await;
    for who in [ada, bob] {
        assert_eq!(add(&world, &group, "user", who, "manual").await.status, 201);
    }
    let maker =
        "DELETE FROM rebac.tuples WHERE relation = 'admin' AND object_kind = 'domain' AND subject_kind = 'user'";
    sqlx::query(maker).execute(&world.database.pool()).await.unwrap();
    let (a, b) = (token_of(&world, ada).await, token_of(&world, bob).await);
    let mut holder = world.database.pool().begin().await.unwrap();
    sqlx::query("SELECT scope FROM rebac.generations FOR UPDATE").execute(&mut *holder).await.unwrap();
    let path = |who: Uuid| format!("/v1/admin/groups/{group}/members/{who}?kind=user");
    let (path_a, path_b) = (path(ada), path(bob));
    let (one, other, ()) =
        tokio::join!(world.call_as(&a, "DELETE", &path_a, None), world.call_as(&b, "DELETE", &path_b, None), async {
            waiting_for_locks(&world, 2).await;
            holder.rollback().await.unwrap();
        },);
    let mut statuses = [one.status.as_u16(), other.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 400]);
}
