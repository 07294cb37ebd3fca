//! Changing and deleting Domains.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::tenancy::stranger;
use crate::tenancy_rig::{Held, NOBODY, Seen, events, group, patch, person, raw};
use crate::tuples::tuples_on;
use crate::world::world;

/// The platform's chain.
const PLATFORM: Uuid = Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001);

fn reach(interval: &str, stale: &str, unreachable: &str) -> Value {
    json!({ "heartbeat_interval": interval, "stale_after": stale, "unreachable_after": unreachable })
}

#[tokio::test]
async fn a_change_says_what_it_did_once_and_changes_only_what_it_names() {
    let world = world().await;
    let id = world.domain("acme", "10.0.0.0/8").await;
    let path = format!("/v1/domains/{id}");
    let before = world.get(&path).await.body;
    world.clock.advance(Duration::from_secs(60));
    let body =
        json!({ "name": " Acme ", "description": "x", "region": "eu", "reachability": reach("10s", "30s", "1m") });
    let changed = patch(&world, &path, body.clone()).await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    let mut expected = before.clone();
    expected["name"] = json!("Acme");
    expected["description"] = json!("x");
    expected["region"] = json!("eu");
    expected["reachability"] = reach("10s", "30s", "60s");
    expected["updated_at"] = changed.body["updated_at"].clone();
    assert_eq!(changed.body, expected);
    assert_ne!(changed.body["updated_at"], before["updated_at"]);
    assert_eq!(world.get(&path).await.body, expected);
    let told = events(&world, "DomainUpdated").await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["changed"], json!(["name", "description", "region", "reachability"]));
    assert_eq!(world.count("SELECT heartbeat_interval_ms FROM mesh.domains").await, 10_000);
    assert_eq!(world.count("SELECT mesh_version FROM mesh.domains").await, 1);
    // The same again, later: nothing to tell.
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(patch(&world, &path, body).await.body, expected);
    assert_eq!(events(&world, "DomainUpdated").await.len(), 1);
    assert_eq!(patch(&world, &path, json!({ "description": "" })).await.body["description"], "");
    assert_eq!(
        patch(&world, &path, json!({ "reachability": reach("0", "0s", "0s") })).await.body["reachability"],
        reach("30s", "90s", "300s")
    );
    assert_eq!(world.rows("domain.update").await.len(), 4);
}

#[tokio::test]
async fn a_change_is_judged_slug_first_then_form_then_rules() {
    let world = world().await;
    let id = world.domain("acme", "10.0.0.0/8").await;
    let path = format!("/v1/domains/{id}");
    for (body, code) in [
        (json!({}), "empty_patch"),
        (json!({ "slug": "acme" }), "slug_immutable"),
        (json!({ "slug": null, "x": 1, "name": "" }), "slug_immutable"),
        (json!({ "x": 1 }), "invalid_body"),
        (json!({ "name": null }), "invalid_body"),
        (json!({ "name": 1 }), "invalid_body"),
        (json!([]), "invalid_body"),
        (json!({ "reachability": null }), "invalid_body"),
        (json!({ "reachability": { "stale_after": "90s" } }), "invalid_body"),
        (json!({ "name": "  " }), "invalid_domain"),
        (json!({ "name": "a\u{1}" }), "invalid_domain"),
        (json!({ "name": "x".repeat(256) }), "invalid_domain"),
        (json!({ "description": " \n " }), "invalid_domain"),
        (json!({ "region": "" }), "invalid_domain"),
        (json!({ "region": "EU" }), "invalid_domain"),
        (json!({ "mesh_cidr": "10.0.0.1/8" }), "invalid_domain"),
        (json!({ "mesh_cidr": "10.0.0.0/31" }), "invalid_domain"),
        (json!({ "mesh_cidr": "" }), "invalid_domain"),
        (json!({ "reachability": reach("30s", "60s", "300s") }), "invalid_reachability_policy"),
        (json!({ "reachability": reach("0s", "90s", "300s") }), "invalid_reachability_policy"),
    ] {
        assert_eq!(patch(&world, &path, body.clone()).await.refusal(), (400, code), "{body}");
    }
    for body in ["", "{", "{\"name\":\"a\",\"name\":\"b\"}", "{\"name\":\"a\"} x", "{\"name\":\"\\u0000\"}"] {
        assert_eq!(raw(&world, "PATCH", &path, body).await.refusal(), (400, "invalid_body"), "{body}");
    }
    let long = json!({ "description": "x".repeat(8_200) }).to_string();
    assert_eq!(raw(&world, "PATCH", &path, &long).await.refusal(), (413, "request_body_too_large"));
    assert_eq!(events(&world, "DomainUpdated").await.len(), 0);
    let good = json!({ "name": "b" });
    for (id, status, code) in [
        (NOBODY, 404, "domain_not_found"),
        ("x", 400, "invalid_domain_id"),
        ("00000000-0000-0000-0000-000000000000", 400, "invalid_domain_id"),
    ] {
        assert_eq!(patch(&world, &format!("/v1/domains/{id}"), good.clone()).await.refusal(), (status, code));
        assert_eq!(world.delete(&format!("/v1/domains/{id}")).await.refusal(), (status, code));
    }
}

#[tokio::test]
async fn a_pool_moves_only_with_everything_that_lies_in_it() {
    let world = world().await;
    let acme = world.domain("acme", "10.42.0.0/16").await;
    world.domain("other", "10.44.0.0/16").await;
    let project = world.project(&acme, "one", Some("10.42.4.0/22")).await;
    let path = format!("/v1/domains/{acme}");
    let to = |pool: &str| json!({ "mesh_cidr": pool });
    let refused = patch(&world, &path, to("10.43.0.0/16")).await;
    assert_eq!(refused.refusal(), (422, "mesh_cidr_invalidates_subrange"));
    let detail = refused.text("detail");
    assert!(detail.contains(&project) && detail.contains("10.42.4.0/22"), "{detail}");
    assert_eq!(patch(&world, &path, to("fd00::/64")).await.refusal(), (422, "mesh_cidr_invalidates_subrange"));
    assert_eq!(patch(&world, &path, to("10.40.0.0/13")).await.refusal(), (409, "mesh_cidr_overlap"));
    assert_eq!(patch(&world, &path, to("10.42.0.0/17")).await.body["mesh_cidr"], "10.42.0.0/17");
    // The sub-range moved with its pool, or it could not be released.
    let released = patch(&world, &format!("/v1/projects/{project}"), json!({ "release_sub_range": true })).await;
    assert!(released.body.get("sub_range_cidr").is_none(), "{}", released.body);
    assert_eq!(patch(&world, &path, to("10.43.0.0/16")).await.status, 200);
    let told = events(&world, "DomainUpdated").await;
    assert_eq!(
        (&told[1]["old_mesh_cidr"], &told[1]["new_mesh_cidr"]),
        (&json!("10.42.0.0/17"), &json!("10.43.0.0/16"))
    );
    assert_eq!(world.count("SELECT mesh_version FROM mesh.domains ORDER BY mesh_version DESC LIMIT 1").await, 2);
}

#[tokio::test]
async fn a_pool_does_not_move_away_from_the_address_of_a_node() {
    let world = world().await;
    let node = world.enrol("vm", 1).await;
    let id: Uuid =
        sqlx::query_scalar("SELECT id FROM identity.domains").fetch_one(&world.database.pool()).await.unwrap();
    let path = format!("/v1/domains/{id}");
    let refused = patch(&world, &path, json!({ "mesh_cidr": "100.80.0.0/12" })).await;
    assert_eq!(refused.refusal(), (422, "mesh_cidr_invalidates_subrange"));
    assert!(refused.text("detail").contains("1 nodes"), "{}", refused.text("detail"));
    assert_eq!(patch(&world, &path, json!({ "mesh_cidr": "100.64.0.0/16" })).await.status, 200, "{}", node.body);
    assert_eq!(world.delete(&format!("/v1/resources/{}", world.resource_of(1).await)).await.status, 204);
    assert_eq!(patch(&world, &path, json!({ "mesh_cidr": "100.80.0.0/12" })).await.status, 200);
}

#[tokio::test]
async fn the_database_itself_keeps_a_sub_range_inside_its_pool() {
    let world = world().await;
    let acme = world.domain("acme", "10.42.0.0/16").await;
    world.project(&acme, "one", Some("10.42.4.0/22")).await;
    for sql in [
        "UPDATE identity.domains SET mesh_cidr = '10.43.0.0/16'",
        "UPDATE identity.sub_ranges SET range = '10.43.0.0/24'",
    ] {
        let refused = sqlx::query(sql).execute(&world.database.pool()).await.unwrap_err().to_string();
        assert!(refused.contains("sub_ranges_inside_pool"), "{refused}");
    }
    sqlx::query("UPDATE identity.domains SET mesh_cidr = '10.42.0.0/17'")
        .execute(&world.database.pool())
        .await
        .unwrap();
    assert_eq!(world.count("SELECT count(*) FROM identity.sub_ranges WHERE pool = '10.42.0.0/17'").await, 1);
}

#[tokio::test]
async fn of_two_pools_that_race_for_the_same_space_one_moves() {
    let world = world().await;
    let a = world.domain("a", "10.0.0.0/16").await;
    let b = world.domain("b", "10.1.0.0/16").await;
    let (path_a, path_b) = (format!("/v1/domains/{a}"), format!("/v1/domains/{b}"));
    let (one, two) = tokio::join!(
        patch(&world, &path_a, json!({ "mesh_cidr": "10.8.0.0/13" })),
        patch(&world, &path_b, json!({ "mesh_cidr": "10.9.0.0/16" })),
    );
    let mut seen = [one.refusal(), two.refusal()];
    seen.sort_unstable();
    assert_eq!(seen, [(200, ""), (409, "mesh_cidr_overlap")]);
    assert_eq!(events(&world, "DomainUpdated").await.len(), 1);
}

#[tokio::test]
async fn two_changes_of_one_domain_both_stand() {
    let world = world().await;
    let id = world.domain("acme", "10.0.0.0/8").await;
    let path = format!("/v1/domains/{id}");
    let (a, b) = tokio::join!(
        patch(&world, &path, json!({ "name": "new" })),
        patch(&world, &path, json!({ "mesh_cidr": "10.0.0.0/9" })),
    );
    assert_eq!((a.status.as_u16(), b.status.as_u16()), (200, 200));
    let read = world.get(&path).await.body;
    assert_eq!((&read["name"], &read["mesh_cidr"]), (&json!("new"), &json!("10.0.0.0/9")));
}

#[tokio::test]
async fn a_domain_is_deleted_only_when_nothing_belongs_to_it_and_is_told_what_does() {
    let world = world().await;
    world.enrol("vm", 1).await;
    let pool = world.database.pool();
    let id: Uuid = sqlx::query_scalar("SELECT id FROM identity.domains").fetch_one(&pool).await.unwrap();
    let id = id.to_string();
    let path = format!("/v1/domains/{id}");
    person(&world, &id, "ada", 0).await;
    group(&world, &id, "g").await;
    let service = json!({ "display_name": "s", "subject": "s", "audience": "a", "federation_kind": "api_token" });
    assert_eq!(world.post(&format!("{path}/service-identities"), service).await.status, 201);
    sqlx::query(
        "INSERT INTO identity.idp_bindings (id, domain_id, issuer, client_id, client_secret_ref, discovery_url,
             claim_mappings, required_acr, required_amr, jit_policy, is_primary, status, created_at, updated_at)
         VALUES (gen_random_uuid(), $1::uuid, 'i', 'c', 'secret:' || $1 || '/x', 'd', '{}', '{}', '{}', 'deny', false,
             'active', now(), now())",
    )
    .bind(&id)
    .execute(&pool)
    .await
    .unwrap();
    let refused = world.delete(&path).await;
    assert_eq!(refused.refusal(), (409, "domain_not_empty"));
    let counts = json!({ "projects": 1, "groups": 1, "identities": 2, "idp_bindings": 1, "nodes": 1 });
    assert_eq!(refused.body["child_counts"], counts);
    assert!(refused.body.get("project_child_counts").is_none());

    assert_eq!(world.delete(&format!("/v1/resources/{}", world.resource_of(1).await)).await.status, 204);
    let project: Uuid = sqlx::query_scalar("SELECT id FROM identity.projects").fetch_one(&pool).await.unwrap();
    assert_eq!(world.delete(&format!("/v1/projects/{project}")).await.status, 204);
    for table in ["idp_bindings", "groups", "service_identities"] {
        sqlx::query(sqlx::AssertSqlSafe(format!("DELETE FROM identity.{table}"))).execute(&pool).await.unwrap();
    }
    let refused = world.delete(&path).await;
    assert_eq!(
        refused.body["child_counts"],
        json!({ "projects": 0, "groups": 0, "identities": 1, "idp_bindings": 0, "nodes": 0 })
    );
    sqlx::query("DELETE FROM identity.users WHERE domain_id IS NOT NULL").execute(&pool).await.unwrap();
    let invited = world.post(&format!("{path}/invitations"), json!({ "external_subject": "ada" })).await;
    assert_eq!(invited.status, 201, "{}", invited.body);
    let marks = "SELECT count(*) FROM kernel.directory_changes WHERE key LIKE 'domain.%'";
    let marked = world.count(marks).await;
    assert_eq!(world.delete(&path).await.status, 204);
    assert_eq!(world.count(marks).await, marked + 1);

    assert_eq!(world.delete(&path).await.refusal(), (404, "domain_not_found"));
    assert_eq!(world.get(&path).await.refusal(), (404, "domain_not_found"));
    assert_eq!(world.count("SELECT count(*) FROM identity.invitations").await, 0);
    for none in ["domains", "allocations", "allocation_floors"] {
        let count = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM mesh.{none}")));
        let count: i64 = count.fetch_one(&pool).await.unwrap();
        assert_eq!(count, 0, "mesh.{none}");
    }
    assert_eq!(tuples_on(&pool, &format!("domain:{id}")).await, Vec::<String>::new());
    let platform = tuples_on(&pool, "platform:plexsphere").await;
    assert!(!platform.iter().any(|tuple| tuple.contains(&id)), "{platform:?}");
    assert_eq!(events(&world, "DomainDeleted").await[0]["domain_id"], id);
    let mut chains: Vec<Uuid> = world.rows("domain.delete").await.into_iter().map(|(_, _, chain)| chain).collect();
    chains.sort_unstable();
    assert_eq!(chains, [PLATFORM, id.parse().unwrap()]);
    // What it held is free again.
    world.domain("acme", "100.64.0.0/10").await;
}

#[tokio::test]
async fn a_project_that_races_the_end_of_its_domain_never_outlives_it() {
    let world = world().await;
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..12 {
        let id = world.domain(&format!("d{round}"), &format!("10.{round}.0.0/16")).await;
        let body = json!({ "domain_id": id, "name": "x", "slug": "x" });
        let path = format!("/v1/domains/{id}");
        let (made, deleted) = if round % 2 == 0 {
            tokio::join!(world.post("/v1/projects", body), world.delete(&path))
        } else {
            let (deleted, made) = tokio::join!(world.delete(&path), world.post("/v1/projects", body));
            (made, deleted)
        };
        let outcome = (made.refusal(), deleted.refusal());
        match outcome {
            ((201, _), (409, "domain_not_empty")) | ((409, "parent_domain_missing"), (204, _)) => {}
            other => panic!("{other:?}"),
        }
        seen.insert(made.status.as_u16());
    }
    assert!(!seen.is_empty());
    let orphans = "SELECT count(*) FROM identity.projects p WHERE NOT EXISTS
        (SELECT FROM identity.domains d WHERE d.id = p.domain_id)";
    assert_eq!(world.count(orphans).await, 0);
}

#[tokio::test]
async fn a_deletion_waits_for_whoever_hangs_something_under_the_domain() {
    let world = world().await;
    let id = world.domain("acme", "10.0.0.0/8").await;
    let path = format!("/v1/domains/{id}");
    let mut other = world.database.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO identity.service_identities (id, domain_id, display_name, subject, audience, federation_kind,
             created_at) VALUES (gen_random_uuid(), $1::uuid, 'a', 'a', 'a', 'api_token', now())",
    )
    .bind(&id)
    .execute(&mut *other)
    .await
    .unwrap();
    let (deleted, ()) = tokio::join!(world.delete(&path), async { other.commit().await.unwrap() });
    assert_eq!(deleted.refusal(), (409, "domain_not_empty"));
    assert_eq!(deleted.body["child_counts"]["identities"], 1);
}

#[tokio::test]
async fn changes_and_deletions_need_the_right_to_manage_and_reveal_nothing_without_it() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let project = world.project(&domain, "one", None).await;
    let stranger = stranger(&world).await;
    for (path, body) in [
        (format!("/v1/domains/{domain}"), json!({ "slug": "x" })),
        (format!("/v1/domains/{NOBODY}"), json!({ "slug": "x" })),
        (format!("/v1/projects/{project}"), json!({ "slug": "x" })),
        (format!("/v1/projects/{NOBODY}"), json!({ "slug": "x" })),
    ] {
        for (method, body) in [("PATCH", Some(body.clone())), ("DELETE", None)] {
            let refused = world.call_as(&stranger, method, &path, body).await;
            assert_eq!(refused.refusal(), (403, "permission_denied"), "{method} {path}");
            assert_eq!(refused.body["reason"], "out_of_scope");
        }
    }
    let held = Held::these([format!("domain:{domain}#read"), format!("project:{project}#maintainer")]);
    let reader = Seen::by(&world, &held);
    for (method, path) in [
        ("PATCH", format!("/v1/domains/{domain}")),
        ("DELETE", format!("/v1/domains/{domain}")),
        ("PATCH", format!("/v1/projects/{project}")),
        ("DELETE", format!("/v1/projects/{project}")),
    ] {
        let refused = reader.call(method, &path, Some(json!({ "name": "x" }))).await;
        assert_eq!(refused.body["reason"], "insufficient_relation", "{method} {path}");
    }
    held.add(format!("domain:{domain}#manage"));
    held.add(format!("project:{project}#manage"));
    assert_eq!(reader.call("PATCH", &format!("/v1/domains/{domain}"), Some(json!({ "name": "x" }))).await.status, 200);
    assert_eq!(reader.call("DELETE", &format!("/v1/projects/{project}"), None).await.status, 204);
    assert_eq!(reader.call("DELETE", &format!("/v1/domains/{domain}"), None).await.status, 204);
}
