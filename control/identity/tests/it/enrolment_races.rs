//! Registrations that meet changes of the tree, and tokens that meet each other.

use serde_json::{Value, json};
use sqlx::Row as _;
use uuid::Uuid;

use crate::callers::waiting_for_locks;
use crate::races::queued;
use crate::tenancy_rig::{events, patch};
use crate::world::{World, demand, world};

const DOMAINS: &str = "SELECT FROM identity.domains FOR UPDATE";
const PROJECTS: &str = "SELECT FROM identity.projects FOR UPDATE";
const RESOURCES: &str = "SELECT FROM identity.resources FOR UPDATE";
const TOKENS: &str = "SELECT FROM identity.bootstrap_tokens FOR UPDATE";

/// A Domain with a Project, and what a machine of it presents.
struct Ground {
    world: World,
    domain: String,
    project: String,
    resource: String,
    demand: Value,
}

async fn ground(range: Option<&str>) -> Ground {
    let world = world().await;
    let domain = world.domain("acme", "10.42.0.0/16").await;
    let project = world.project(&domain, "one", range).await;
    let resource = world.resource(&project, "vm", "host").await;
    let (_, token) = world.token(&project, "node").await;
    let demand = demand(&project, "host", &token, 1);
    Ground { world, domain, project, resource, demand }
}

#[tokio::test]
async fn a_registration_draws_from_the_range_as_it_is_when_its_turn_has_come() {
    for (change, drawn) in [
        (json!({ "sub_range_cidr": "10.42.8.0/24" }), "10.42.8.1"),
        (json!({ "release_sub_range": true }), "10.42.0.1"),
    ] {
        let Ground { world, project, demand, .. } = ground(Some("10.42.4.0/24")).await;
        let path = format!("/v1/projects/{project}");
        let changed = patch(&world, &path, change.clone());
        let (changed, node) = queued(&world, PROJECTS, changed, world.register(demand)).await;
        assert_eq!((changed.status.as_u16(), node.text("mesh_ip").as_str()), (200, drawn), "{change}");
    }
}

#[tokio::test]
async fn a_range_does_not_move_away_from_a_registration_that_came_first() {
    let Ground { world, project, demand, .. } = ground(Some("10.42.4.0/24")).await;
    let path = format!("/v1/projects/{project}");
    let moved = patch(&world, &path, json!({ "sub_range_cidr": "10.42.8.0/24" }));
    let (node, moved) = queued(&world, PROJECTS, world.register(demand), moved).await;
    assert_eq!(node.text("mesh_ip"), "10.42.4.1");
    assert_eq!(moved.refusal(), (422, "sub_range_invalidates_allocation"));
}

#[tokio::test]
async fn a_pool_and_a_registration_follow_each_other() {
    let moved = json!({ "mesh_cidr": "10.43.0.0/16" });
    let Ground { world, domain, demand, .. } = ground(None).await;
    let path = format!("/v1/domains/{domain}");
    let (changed, node) = queued(&world, DOMAINS, patch(&world, &path, moved.clone()), world.register(demand)).await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    let told = (node.text("mesh_ip"), node.text("domain_mesh_cidr"));
    assert_eq!(told, ("10.43.0.1".to_owned(), "10.43.0.0/16".to_owned()));

    let Ground { world, domain, demand, .. } = ground(None).await;
    let path = format!("/v1/domains/{domain}");
    let (node, changed) = queued(&world, DOMAINS, world.register(demand), patch(&world, &path, moved)).await;
    assert_eq!(node.status, 201, "{}", node.body);
    assert_eq!(changed.refusal(), (422, "mesh_cidr_invalidates_subrange"));
}

#[tokio::test]
async fn a_registration_holds_no_token_while_it_waits_for_its_project() {
    let Ground { world, project, resource, demand, .. } = ground(None).await;
    assert_eq!(world.delete(&format!("/v1/resources/{resource}")).await.status, 204);
    let mut holder = world.database.begin().await.unwrap();
    sqlx::query(PROJECTS).execute(&mut *holder).await.unwrap();
    let (refused, ()) = tokio::join!(world.register(demand), async {
        waiting_for_locks(&world, 1).await;
        // The deletion of a Project takes its tokens, behind the Project.
        let free = "SELECT count(*) AS tokens FROM (SELECT FROM identity.bootstrap_tokens FOR UPDATE NOWAIT) AS t";
        let tokens = sqlx::query(free).fetch_one(&mut *holder).await.unwrap();
        assert_eq!(tokens.get::<i64, _>("tokens"), 1);
        sqlx::query("DELETE FROM identity.projects WHERE id = $1")
            .bind(project.parse::<Uuid>().unwrap())
            .execute(&mut *holder)
            .await
            .unwrap();
        holder.commit().await.unwrap();
    });
    assert_eq!(refused.refusal(), (404, "project_not_found"));
}

#[tokio::test]
async fn a_token_that_ended_says_so_before_its_resource_is_looked_for() {
    let Ground { world, resource, demand, .. } = ground(None).await;
    assert_eq!(world.register(demand.clone()).await.status, 201);
    assert_eq!(world.delete(&format!("/v1/resources/{resource}")).await.status, 204);
    assert_eq!(world.register(demand).await.refusal(), (403, "token_consumed"));
}

#[tokio::test]
async fn a_project_meets_a_token_that_is_issued_and_a_machine_that_comes() {
    let Ground { world, domain, project, demand, .. } = ground(None).await;
    let path = format!("/v1/projects/{project}");
    let (deleted, node) = queued(&world, PROJECTS, world.delete(&path), world.register(demand)).await;
    assert_eq!((deleted.refusal(), node.status.as_u16()), ((409, "project_not_empty"), 201));

    let ask = json!({ "kind": "node", "env_prefix": "dev", "ttl_seconds": 300 });
    let empty = world.project(&domain, "two", None).await;
    let (path, tokens) = (format!("/v1/projects/{empty}"), format!("/v1/projects/{empty}/bootstrap-tokens"));
    let (issued, deleted) = queued(&world, PROJECTS, world.post(&tokens, ask.clone()), world.delete(&path)).await;
    assert_eq!((issued.status.as_u16(), deleted.status.as_u16()), (201, 204));
    let empty = world.project(&domain, "three", None).await;
    let (path, tokens) = (format!("/v1/projects/{empty}"), format!("/v1/projects/{empty}/bootstrap-tokens"));
    let (deleted, issued) = queued(&world, PROJECTS, world.delete(&path), world.post(&tokens, ask)).await;
    assert_eq!((deleted.status.as_u16(), issued.refusal()), (204, (404, "project_not_found")));
    let left = "SELECT count(*) FROM identity.bootstrap_tokens WHERE consumed_at IS NULL";
    assert_eq!(world.count(left).await, 0);
}

#[tokio::test]
async fn a_resource_is_deleted_once_and_leaves_no_node_behind() {
    let Ground { world, resource, demand, .. } = ground(None).await;
    let path = format!("/v1/resources/{resource}");
    let (deleted, node) = queued(&world, RESOURCES, world.delete(&path), world.register(demand)).await;
    assert_eq!((deleted.status.as_u16(), node.refusal()), (204, (404, "resource_not_found")));

    let Ground { world, resource, demand, .. } = ground(None).await;
    let path = format!("/v1/resources/{resource}");
    let (node, deleted) = queued(&world, RESOURCES, world.register(demand), world.delete(&path)).await;
    assert_eq!((node.status.as_u16(), deleted.status.as_u16()), (201, 204));
    assert_eq!(world.count("SELECT count(*) FROM identity.nodes WHERE deregistered_at IS NULL").await, 0);

    let Ground { world, resource, .. } = ground(None).await;
    let path = format!("/v1/resources/{resource}");
    let (a, b) = queued(&world, RESOURCES, world.delete(&path), world.delete(&path)).await;
    assert_eq!((a.refusal(), b.refusal()), ((204, ""), (404, "resource_not_found")));
    assert_eq!(events(&world, "ResourceDeleted").await.len(), 1);
}

#[tokio::test]
async fn a_token_is_revoked_once_and_never_after_it_was_redeemed() {
    let Ground { world, project, demand, .. } = ground(None).await;
    let (id, _) = world.token(&project, "node").await;
    let path = format!("/v1/projects/{project}/bootstrap-tokens/{id}");
    let (a, b) = queued(&world, TOKENS, world.delete(&path), world.delete(&path)).await;
    assert_eq!((a.refusal(), b.refusal()), ((204, ""), (409, "token_revoked")));
    assert_eq!(events(&world, "BootstrapTokenRevoked").await.len(), 1);

    assert_eq!(world.register(demand).await.status, 201);
    let consumed: Uuid = sqlx::query_scalar("SELECT id FROM identity.bootstrap_tokens WHERE consumed_at IS NOT NULL")
        .fetch_one(&world.database.pool())
        .await
        .unwrap();
    let refused = world.delete(&format!("/v1/projects/{project}/bootstrap-tokens/{consumed}")).await;
    assert_eq!(refused.refusal(), (409, "token_consumed"));
    assert!(refused.text("detail").contains("consumed"), "{}", refused.text("detail"));
    assert_eq!(events(&world, "BootstrapTokenRevoked").await.len(), 1);
}
