//! What the database itself keeps of the tree, whoever writes.

use uuid::Uuid;

use crate::world::{demand, world};

#[tokio::test]
async fn whatever_names_a_project_names_its_domain_too() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let other = world.domain("other", "11.0.0.0/8").await;
    let project = world.project(&domain, "one", Some("10.1.0.0/16")).await;
    world.resource(&project, "vm", "host").await;
    let (_, token) = world.token(&project, "node").await;
    assert_eq!(world.register(demand(&project, "host", &token, 1)).await.status, 201);
    let mut connection = world.database.acquire().await.unwrap();
    for (sql, constraint) in [
        ("UPDATE identity.resources SET domain_id = $1", "fkey"),
        ("UPDATE identity.bootstrap_tokens SET domain_id = $1", "bootstrap_tokens_project_fkey"),
        ("UPDATE identity.nodes SET domain_id = $1", "nodes_resource_fkey"),
        ("UPDATE identity.nodes SET resource_id = $1", "nodes_resource_fkey"),
        (
            "UPDATE identity.sub_ranges SET domain_id = $1, pool = '11.0.0.0/8', range = '11.1.0.0/16'",
            "sub_ranges_project_fkey",
        ),
    ] {
        let refused = sqlx::query(sql).bind(other.parse::<Uuid>().unwrap()).execute(&mut *connection).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(constraint), "{sql}: {refused}");
    }
}

#[tokio::test]
async fn a_row_that_breaks_a_rule_of_its_own_is_refused() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let project = world.project(&domain, "one", None).await;
    world.resource(&project, "vm", "host").await;
    let mut connection = world.database.acquire().await.unwrap();
    for (sql, constraint) in [
        ("UPDATE identity.domains SET name = ''", "domains_name_check"),
        ("UPDATE identity.domains SET name = repeat('x', 256)", "domains_name_check"),
        ("UPDATE identity.domains SET slug = 'a--b'", "domains_slug_check"),
        ("UPDATE identity.domains SET slug = repeat('x', 65)", "domains_slug_check"),
        ("UPDATE identity.domains SET description = repeat('x', 1025)", "domains_description_check"),
        ("UPDATE identity.domains SET region = 'EU'", "domains_region_check"),
        ("UPDATE identity.domains SET heartbeat_interval_ns = 9999999999", "domains_reachability_check"),
        ("UPDATE identity.domains SET stale_after_ns = 89999999999", "domains_reachability_check"),
        ("UPDATE identity.domains SET unreachable_after_ns = 179999999999", "domains_reachability_check"),
        ("UPDATE identity.domains SET unreachable_after_ns = 3600000000001", "domains_reachability_check"),
        ("UPDATE identity.projects SET name = ''", "projects_name_check"),
        ("UPDATE identity.projects SET slug = 'A'", "projects_slug_check"),
        ("UPDATE identity.projects SET description = repeat('x', 1025)", "projects_description_check"),
        ("UPDATE identity.resources SET kind = ''", "resources_kind_check"),
        ("UPDATE identity.resources SET external_ref = repeat('x', 257)", "resources_external_ref_check"),
    ] {
        let refused = sqlx::query(sql).execute(&mut *connection).await.unwrap_err().to_string();
        assert!(refused.contains(constraint), "{sql}: {refused}");
    }
    let longest = "UPDATE identity.domains SET heartbeat_interval_ns = 600000000000, stale_after_ns = 1800000000000,
        unreachable_after_ns = 3600000000000, region = 'eu', description = ''";
    sqlx::query(longest).execute(&mut *connection).await.unwrap();
}
