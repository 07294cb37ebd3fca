use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use crate::enrolment::bearer;
use crate::tenancy::stranger;
use crate::tenancy_engine::{governed, token_of};
use crate::tenancy_rig::person;
use crate::world::world;

const NOBODY: &str = "0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a3";
/// The platform's chain.
const PLATFORM: Uuid = Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001);

#[tokio::test]
async fn a_refusal_stands_on_the_chain_of_the_domain_that_it_concerns() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let project = world.project(&domain, "one", None).await;
    let resource = world.resource(&project, "vm", "host").await;
    let stranger = stranger(&world).await;
    let token = world.token(&project, "node").await.0;
    for (method, path, body) in [
        ("GET", format!("/v1/domains/{domain}"), None),
        ("GET", format!("/v1/projects/{project}"), None),
        ("GET", format!("/v1/resources/{resource}"), None),
        ("DELETE", format!("/v1/projects/{project}/bootstrap-tokens/{token}"), None),
        ("POST", "/v1/projects".to_owned(), Some(json!({ "domain_id": domain, "name": "x", "slug": "x" }))),
    ] {
        let answer = world.call_as(&stranger, method, &path, body).await;
        assert!(answer.status.is_client_error(), "{path} {}", answer.status);
    }
    let denied: Vec<(String, Uuid)> =
        sqlx::query_as("SELECT object_type, chain FROM audit.pending WHERE reason <> 'granted' ORDER BY object_type")
            .fetch_all(&world.database.pool())
            .await
            .unwrap();
    let own: Uuid = domain.parse().unwrap();
    let expected = ["domain", "domain", "project", "project", "project"].map(|kind| (kind.to_owned(), own));
    assert_eq!(denied, expected);
    // What nobody has lies in no Domain.
    world.call_as(&stranger, "GET", &format!("/v1/domains/{NOBODY}"), None).await;
    assert!(world.rows("read").await.contains(&("domain".into(), NOBODY.into(), PLATFORM)));
}

/// Where a caller belongs says nothing of where a refusal belongs.
#[tokio::test]
async fn what_the_platform_refuses_a_caller_of_a_domain_stands_on_its_own_chain() {
    let world = governed().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let other = world.domain("other", "11.0.0.0/8").await;
    let token = token_of(&world, person(&world, &domain, "ada", 0).await).await;
    let create = json!({ "name": "x", "slug": "x", "mesh_cidr": "12.0.0.0/8" });
    for (method, path, body) in [
        ("POST", "/v1/domains".to_owned(), Some(create)),
        ("GET", format!("/v1/domains/{NOBODY}"), None),
        ("GET", format!("/v1/domains/{other}"), None),
        ("GET", format!("/v1/domains/{domain}"), None),
    ] {
        let answer = world.call_as(&token, method, &path, body).await;
        assert_eq!(answer.status, 403, "{path}");
    }
    let denied: Vec<(String, Uuid)> = sqlx::query_as(
        "SELECT object_id, chain FROM audit.pending WHERE reason <> 'granted' AND object_type IN ('platform', 'domain') ORDER BY n",
    )
    .fetch_all(&world.database.pool())
    .await
    .unwrap();
    let on = |object: &str, chain: Uuid| (object.to_owned(), chain);
    let (own, foreign) = (domain.parse().unwrap(), other.parse().unwrap());
    let expected = [on("plexsphere", PLATFORM), on(NOBODY, PLATFORM), on(&other, foreign), on(&domain, own)];
    assert_eq!(denied, expected);
}

#[tokio::test]
async fn what_is_done_in_a_domain_stands_on_its_chain_and_lists_of_nothing_too() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let own: Uuid = domain.parse().unwrap();
    let project = world.project(&domain, "one", None).await;
    world.get(&format!("/v1/projects/{project}/resources")).await;
    world.get(&format!("/v1/projects?domain_id={domain}")).await;
    world.get("/v1/projects").await;
    world.get(&format!("/v1/projects?domain_id={NOBODY}")).await;
    let chains = |rows: Vec<(String, String, Uuid)>| {
        let mut chains: Vec<Uuid> = rows.into_iter().map(|(_, _, chain)| chain).collect();
        chains.sort_unstable();
        chains
    };
    assert_eq!(chains(world.rows("domain.create").await), [own]);
    assert_eq!(chains(world.rows("resource.list").await), [own]);
    assert_eq!(chains(world.rows("project.list").await), [PLATFORM, PLATFORM, own]);
}

#[tokio::test]
async fn rows_about_tokens_name_the_token_and_hold_nothing_of_it() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let project = world.project(&domain, "one", None).await;
    let (bootstrap, _) = world.token(&project, "node").await;
    world.delete(&format!("/v1/projects/{project}/bootstrap-tokens/{bootstrap}")).await;
    let me = format!("user:{}", world.get("/v1/auth/whoami").await.text("subject"));
    let body = json!({ "identity_ref": me, "env_prefix": "dev", "ttl_seconds": 300 });
    let api = world.post("/v1/auth/tokens", body).await.text("id");
    world.post(&format!("/v1/auth/tokens/{api}/rotate"), json!({})).await;
    world.delete(&format!("/v1/auth/tokens/{api}")).await;
    for (relation, kind, id) in [
        ("bootstrap_token.issue", "bootstrap_token", &bootstrap),
        ("bootstrap_token.revoke", "bootstrap_token", &bootstrap),
        ("api-token.issue", "api_token", &api),
        ("api-token.rotate", "api_token", &api),
        ("api-token.revoke", "api_token", &api),
    ] {
        let rows = world.rows(relation).await;
        let named: Vec<_> = rows.iter().map(|(kind, id, _)| (kind.as_str(), id)).collect();
        assert_eq!(named, [(kind, id)], "{relation}");
    }
}

#[tokio::test]
async fn a_node_on_the_path_of_another_leaves_one_row_a_minute_about_its_credential() {
    let world = world().await;
    let enrolled = world.enrol("vm", 1).await;
    let key = bearer(&enrolled);
    for other in [NOBODY, "0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a4", NOBODY] {
        let refused = world.call_as(&key, "GET", &format!("/v1/nodes/{other}/state"), None).await;
        assert_eq!(refused.refusal(), (403, "node_id_mismatch"));
    }
    let rows = world.rows("node.authenticate").await;
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].0.as_str(), rows[0].1.as_str()), ("node", NOBODY));
    assert!(world.rows("node-agent").await.is_empty());
    world.clock.advance(Duration::from_secs(60));
    world.call_as(&key, "GET", &format!("/v1/nodes/{NOBODY}/state"), None).await;
    assert_eq!(world.rows("node.authenticate").await.len(), 2);
}
