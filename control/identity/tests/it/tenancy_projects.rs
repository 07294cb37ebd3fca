//! Changing and deleting Projects, and the tuples of the tree.

use std::time::Duration;

use serde_json::json;

use crate::callers::waiting_for_locks;
use crate::tenancy_rig::{NOBODY, events, patch};
use crate::tuples::tuples_on;
use crate::world::{demand, world};

#[tokio::test]
async fn a_change_of_a_project_says_what_it_did_once() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let id = world.project(&domain, "one", None).await;
    let path = format!("/v1/projects/{id}");
    let before = world.get(&path).await.body;
    world.clock.advance(Duration::from_secs(60));
    let body = json!({ "name": "One", "description": "d", "sub_range_cidr": "10.1.0.0/16" });
    let changed = patch(&world, &path, body.clone()).await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    assert_eq!(world.get(&path).await.body, changed.body);
    assert_eq!(
        (&changed.body["name"], &changed.body["description"], &changed.body["sub_range_cidr"]),
        (&json!("One"), &json!("d"), &json!("10.1.0.0/16"))
    );
    assert_ne!(changed.body["updated_at"], before["updated_at"]);
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(patch(&world, &path, body).await.body, changed.body);
    let told = events(&world, "ProjectUpdated").await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["changed"], json!(["name", "description", "sub_range_cidr"]));
    let released = patch(&world, &path, json!({ "release_sub_range": true })).await;
    assert!(released.body.get("sub_range_cidr").is_none());
    // Not to release is nothing, and releasing nothing changes nothing.
    assert_eq!(patch(&world, &path, json!({ "release_sub_range": true })).await.status, 200);
    assert_eq!(events(&world, "ProjectUpdated").await.len(), 2);
    assert_eq!(world.count("SELECT count(*) FROM identity.sub_ranges").await, 0);
    let kept = patch(&world, &path, json!({ "sub_range_cidr": "10.2.0.0/16", "release_sub_range": false })).await;
    assert_eq!(kept.body["sub_range_cidr"], "10.2.0.0/16");
}

#[tokio::test]
async fn a_change_of_a_project_is_judged_member_by_member() {
    let world = world().await;
    let domain = world.domain("acme", "10.42.0.0/16").await;
    let id = world.project(&domain, "one", Some("10.42.0.0/22")).await;
    let sibling = world.project(&domain, "two", Some("10.42.4.0/22")).await;
    let path = format!("/v1/projects/{id}");
    for (body, status, code) in [
        (json!({}), 400, "empty_patch"),
        (json!({ "release_sub_range": false }), 400, "empty_patch"),
        (json!({ "slug": "one" }), 400, "slug_immutable"),
        (json!({ "domain_id": domain }), 400, "invalid_body"),
        (json!({ "name": null }), 400, "invalid_body"),
        (json!({ "release_sub_range": "true" }), 400, "invalid_body"),
        (json!({ "name": "" }), 400, "invalid_project"),
        (json!({ "description": "  " }), 400, "invalid_project"),
        (json!({ "sub_range_cidr": "10.42.0.1/22" }), 400, "invalid_project"),
        (json!({ "sub_range_cidr": "x" }), 400, "invalid_project"),
        (
            json!({ "sub_range_cidr": "10.42.8.0/22", "release_sub_range": true }),
            422,
            "sub_range_invalidates_allocation",
        ),
        (json!({ "sub_range_cidr": "10.43.0.0/22" }), 422, "sub_range_invalidates_allocation"),
        (json!({ "sub_range_cidr": "fd00::/64" }), 422, "sub_range_invalidates_allocation"),
        (json!({ "sub_range_cidr": "10.42.0.0/15" }), 422, "sub_range_invalidates_allocation"),
        (json!({ "sub_range_cidr": "10.40.0.0/14" }), 422, "sub_range_invalidates_allocation"),
        (json!({ "sub_range_cidr": "10.42.6.0/23" }), 422, "sub_range_invalidates_allocation"),
    ] {
        assert_eq!(patch(&world, &path, body.clone()).await.refusal(), (status, code), "{body}");
    }
    let detail = patch(&world, &path, json!({ "sub_range_cidr": "10.42.0.0/20" })).await.text("detail");
    assert!(detail.contains(&sibling) && detail.contains("10.42.4.0/22"), "{detail}");
    assert_eq!(patch(&world, &path, json!({ "sub_range_cidr": "10.42.0.0/23" })).await.status, 200);
    for (id, status, code) in [(NOBODY, 404, "project_not_found"), ("x", 400, "invalid_project_id")] {
        let path = format!("/v1/projects/{id}");
        assert_eq!(patch(&world, &path, json!({ "name": "x" })).await.refusal(), (status, code));
        assert_eq!(world.delete(&path).await.refusal(), (status, code));
    }
}

#[tokio::test]
async fn a_sibling_that_the_guard_cannot_see_meets_the_constraint() {
    let world = world().await;
    let domain = world.domain("acme", "10.42.0.0/16").await;
    let id = world.project(&domain, "one", None).await;
    let sibling = world.project(&domain, "two", None).await;
    let mut other = world.database.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO identity.sub_ranges (project_id, domain_id, range, pool)
         VALUES ($1::uuid, $2::uuid, '10.42.4.0/22', '10.42.0.0/16')",
    )
    .bind(&sibling)
    .bind(&domain)
    .execute(&mut *other)
    .await
    .unwrap();
    let path = format!("/v1/projects/{id}");
    let wanted = patch(&world, &path, json!({ "sub_range_cidr": "10.42.6.0/23" }));
    let commit = async {
        waiting_for_locks(&world, 1).await;
        other.commit().await.unwrap();
    };
    let (refused, ()) = tokio::join!(wanted, commit);
    assert_eq!(refused.refusal(), (409, "sub_range_overlap"));
}

#[tokio::test]
async fn of_two_projects_that_race_for_the_same_range_one_gets_it() {
    let world = world().await;
    let domain = world.domain("acme", "10.42.0.0/16").await;
    let a = world.project(&domain, "one", None).await;
    let b = world.project(&domain, "two", None).await;
    let (path_a, path_b) = (format!("/v1/projects/{a}"), format!("/v1/projects/{b}"));
    let (one, two) = tokio::join!(
        patch(&world, &path_a, json!({ "sub_range_cidr": "10.42.0.0/22" })),
        patch(&world, &path_b, json!({ "sub_range_cidr": "10.42.2.0/23" })),
    );
    let mut seen = [one.refusal(), two.refusal()];
    seen.sort_unstable();
    assert_eq!(seen, [(200, ""), (422, "sub_range_invalidates_allocation")]);
}

#[tokio::test]
async fn two_changes_of_one_range_follow_each_other() {
    let world = world().await;
    let domain = world.domain("acme", "10.42.0.0/16").await;
    let id = world.project(&domain, "one", Some("10.42.0.0/24")).await;
    let path = format!("/v1/projects/{id}");
    let (a, b) = tokio::join!(
        patch(&world, &path, json!({ "sub_range_cidr": "10.42.1.0/24" })),
        patch(&world, &path, json!({ "sub_range_cidr": "10.42.2.0/24" })),
    );
    assert_eq!((a.status.as_u16(), b.status.as_u16()), (200, 200));
    let told = events(&world, "ProjectUpdated").await;
    assert_eq!(told[0]["old_sub_range_cidr"], "10.42.0.0/24");
    assert_eq!(told[1]["old_sub_range_cidr"], told[0]["new_sub_range_cidr"], "the second saw the first");
}

#[tokio::test]
async fn a_range_keeps_the_addresses_that_came_from_it_until_it_is_released() {
    let world = world().await;
    let domain = world.domain("acme", "10.42.0.0/16").await;
    let id = world.project(&domain, "one", Some("10.42.4.0/22")).await;
    world.resource(&id, "vm", "host").await;
    let (_, token) = world.token(&id, "node").await;
    let node = world.register(demand(&id, "host", &token, 1)).await;
    assert_eq!(node.body["mesh_ip"], "10.42.4.1", "{}", node.body);
    let path = format!("/v1/projects/{id}");
    let refused = patch(&world, &path, json!({ "sub_range_cidr": "10.42.6.0/23" })).await;
    assert_eq!(refused.refusal(), (422, "sub_range_invalidates_allocation"));
    assert!(refused.text("detail").contains(&id));
    assert_eq!(patch(&world, &path, json!({ "sub_range_cidr": "10.42.4.0/24" })).await.status, 200);
    assert_eq!(patch(&world, &path, json!({ "release_sub_range": true })).await.status, 200);
    // The address is a flat one now: no range has a claim on it.
    assert_eq!(patch(&world, &path, json!({ "sub_range_cidr": "10.42.6.0/23" })).await.status, 200);
    assert_eq!(world.count("SELECT count(*) FROM identity.nodes WHERE mesh_ip = '10.42.4.1'").await, 1);
}

#[tokio::test]
async fn a_project_is_deleted_only_when_nothing_belongs_to_it_and_is_told_what_does() {
    let world = world().await;
    let domain = world.domain("acme", "10.42.0.0/16").await;
    let id = world.project(&domain, "one", Some("10.42.0.0/24")).await;
    let path = format!("/v1/projects/{id}");
    let resource = world.resource(&id, "vm", "host").await;
    let (_, token) = world.token(&id, "node").await;
    assert_eq!(world.register(demand(&id, "host", &token, 1)).await.status, 201);
    world.token(&id, "node").await;
    let pool = world.database.pool();
    sqlx::query(
        "INSERT INTO public.recorded_tuples (object, relation, subject, subject_relation, project_id)
         VALUES ('project:' || $1, 'viewer', 'user:x', '', $1::uuid)",
    )
    .bind(&id)
    .execute(&pool)
    .await
    .unwrap();
    let refused = world.delete(&path).await;
    assert_eq!(refused.refusal(), (409, "project_not_empty"));
    assert_eq!(refused.body["project_child_counts"], json!({ "resources": 1, "nodes": 1, "relation_tuples": 1 }));
    assert!(refused.body.get("child_counts").is_none());
    assert_eq!(world.delete(&format!("/v1/resources/{resource}")).await.status, 204);
    let refused = world.delete(&path).await;
    assert_eq!(refused.body["project_child_counts"], json!({ "resources": 0, "nodes": 0, "relation_tuples": 1 }));
    sqlx::query("DELETE FROM public.recorded_tuples WHERE project_id IS NOT NULL").execute(&pool).await.unwrap();
    // What it has of its own does not count: its place in the Domain, its tokens, its slice of the pool.
    assert_eq!(tuples_on(&pool, &format!("project:{id}")).await, [format!("parent@domain:{domain}")]);
    assert_eq!(world.delete(&path).await.status, 204);
    assert_eq!(world.delete(&path).await.refusal(), (404, "project_not_found"));
    assert_eq!(tuples_on(&pool, &format!("project:{id}")).await, Vec::<String>::new());
    for none in ["SELECT count(*) FROM identity.sub_ranges", "SELECT count(*) FROM identity.bootstrap_tokens"] {
        assert_eq!(world.count(none).await, 0, "{none}");
    }
    assert_eq!(events(&world, "ProjectDeleted").await[0]["slug"], "one");
    let expected: (String, String, uuid::Uuid) = ("project".into(), id.clone(), domain.parse().unwrap());
    assert_eq!(world.rows("project.delete").await, [expected]);
    world.project(&domain, "one", Some("10.42.0.0/24")).await;
}

#[tokio::test]
async fn a_resource_that_races_the_end_of_its_project_never_outlives_it() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    for round in 0..8 {
        let id = world.project(&domain, &format!("p{round}"), None).await;
        let body = json!({ "origin": "adopted", "kind": "vm", "external_ref": "x" });
        let (resources, path) = (format!("/v1/projects/{id}/resources"), format!("/v1/projects/{id}"));
        let (made, deleted) = tokio::join!(world.post(&resources, body), world.delete(&path));
        match (made.refusal(), deleted.refusal()) {
            ((201, _), (409, "project_not_empty")) | ((404, "project_not_found"), (204, _)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_is_made_knows_its_place_from_the_same_moment_and_loses_it_at_its_end() {
    let world = world().await;
    let pool = world.database.pool();
    let me = world.get("/v1/auth/whoami").await.text("subject");
    let domain = world.domain("acme", "100.64.0.0/10").await;
    let project = world.project(&domain, "one", None).await;
    let resource = world.resource(&project, "vm", "host").await;
    let (_, token) = world.token(&project, "node").await;
    let node = world.register(demand(&project, "host", &token, 1)).await.text("node_id");
    let on = async |object: String| tuples_on(&pool, &object).await;
    assert_eq!(
        on(format!("domain:{domain}")).await,
        [format!("admin@user:{me}"), "parent@platform:plexsphere".to_owned()]
    );
    assert!(on("platform:plexsphere".to_owned()).await.contains(&format!("tenant@domain:{domain}#read")));
    assert_eq!(
        on(format!("project:{project}")).await,
        [format!("node@node:{node}"), format!("parent@domain:{domain}")]
    );
    assert_eq!(on(format!("resource:{resource}")).await, [format!("parent@project:{project}")]);
    assert_eq!(on(format!("node:{node}")).await, [format!("parent@resource:{resource}")]);
    let platforms = "SELECT count(*) FROM public.recorded_tuples WHERE domain_id IS NULL AND subject LIKE 'domain:%'
        OR domain_id IS NULL AND object NOT LIKE 'platform:%' AND object NOT LIKE 'user:%'";
    assert_eq!(world.count(platforms).await, 1, "only the tenant edge is the platform's");
    assert_eq!(world.delete(&format!("/v1/resources/{resource}")).await.status, 204);
    assert_eq!(on(format!("project:{project}")).await, [format!("parent@domain:{domain}")]);
    assert!(on(format!("resource:{resource}")).await.is_empty());
    assert!(on(format!("node:{node}")).await.is_empty());
}

#[tokio::test]
async fn nothing_is_made_whose_place_cannot_be_written() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let project = world.project(&domain, "one", None).await;
    world.resource(&project, "vm", "host").await;
    let (_, token) = world.token(&project, "node").await;
    let broken = "ALTER TABLE public.recorded_tuples ADD CONSTRAINT broken CHECK (relation = '') NOT VALID";
    sqlx::query(broken).execute(&world.database.pool()).await.unwrap();
    let service = json!({ "display_name": "s", "subject": "s", "audience": "a", "federation_kind": "api_token" });
    let answers = [
        world.post("/v1/domains", json!({ "name": "b", "slug": "b", "mesh_cidr": "11.0.0.0/8" })).await,
        world.post("/v1/projects", json!({ "domain_id": domain, "name": "b", "slug": "b" })).await,
        world.post(&format!("/v1/projects/{project}/resources"), json!({ "origin": "adopted", "kind": "vm" })).await,
        world.post(&format!("/v1/domains/{domain}/service-identities"), service).await,
        world.register(demand(&project, "host", &token, 1)).await,
    ];
    for answer in &answers {
        assert_eq!(answer.refusal(), (500, "internal"), "{}", answer.body);
    }
    for (one, sql) in [
        (1, "SELECT count(*) FROM identity.domains"),
        (1, "SELECT count(*) FROM identity.projects"),
        (1, "SELECT count(*) FROM identity.resources"),
        (0, "SELECT count(*) FROM identity.service_identities"),
        (0, "SELECT count(*) FROM identity.nodes"),
    ] {
        assert_eq!(world.count(sql).await, one, "{sql}");
    }
}

#[tokio::test]
async fn edges_that_are_missing_are_written_anew_and_nothing_else_is_touched() {
    let world = world().await;
    let pool = world.database.pool();
    let domain = world.domain("acme", "100.64.0.0/10").await;
    let project = world.project(&domain, "one", None).await;
    let resource = world.resource(&project, "vm", "host").await;
    let (_, token) = world.token(&project, "node").await;
    assert_eq!(world.register(demand(&project, "host", &token, 1)).await.status, 201);
    let service = json!({ "display_name": "s", "subject": "s", "audience": "a", "federation_kind": "api_token" });
    assert_eq!(world.post(&format!("/v1/domains/{domain}/service-identities"), service).await.status, 201);
    let all =
        "SELECT object || '#' || relation || '@' || subject || '#' || subject_relation || coalesce(domain_id::text, '')
        FROM public.recorded_tuples ORDER BY 1";
    let read = async || -> Vec<String> { sqlx::query_scalar(all).fetch_all(&pool).await.unwrap() };
    let repair = world.identity.tuple_repair();
    repair.repair_once().await.unwrap();
    let whole = read().await;
    for tuple in
        [format!("project:{project}#parent@domain:{domain}"), format!("resource:{resource}#parent@project:{project}")]
    {
        assert!(whole.iter().any(|there| there.starts_with(&tuple)), "{tuple} {whole:?}");
    }
    let lost = "DELETE FROM public.recorded_tuples WHERE relation IN ('parent', 'tenant', 'node')";
    assert!(sqlx::query(lost).execute(&pool).await.unwrap().rows_affected() >= 7);
    assert!(repair.repair_once().await.unwrap() >= 7);
    assert_eq!(read().await, whole);
    // What has ended gets no edge.
    assert_eq!(world.delete(&format!("/v1/resources/{resource}")).await.status, 204);
    repair.repair_once().await.unwrap();
    let left = read().await;
    assert!(!left.iter().any(|tuple| tuple.contains(&resource) || tuple.contains("node:")), "{left:?}");
}
