use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plexsphere_kernel::Clock as _;
use plexsphere_wire::NodeId;
use plexsphere_wire::nsk::render_bearer;
use serde_json::{Value, json};

use crate::world::{Answer, World, demand, world};

async fn ground(world: &World) -> (String, String) {
    let domain = world.domain("acme", "100.64.0.0/10").await;
    let project = world.project(&domain, "one", None).await;
    (domain, project)
}

pub(crate) fn bearer(enrolled: &Answer) -> String {
    let node: NodeId = enrolled.text("node_id").parse().unwrap();
    let key: [u8; 32] = STANDARD.decode(enrolled.text("nsk")).unwrap().try_into().unwrap();
    render_bearer("plexd", node, &key).to_string()
}

#[tokio::test]
async fn a_machine_becomes_a_node_and_its_key_authenticates_it() {
    let world = world().await;
    let (_, project) = ground(&world).await;
    world.resource(&project, "kubernetes-node", "host").await;
    let (id, token) = world.token(&project, "node").await;
    let mut body = demand(&project, "host", &token, 1);
    body["agent_of_tomorrow"] = json!({ "x": [1] });
    let first = world.register(body).await;
    assert_eq!(first.status, 201, "{}", first.body);
    assert_eq!(first.headers["cache-control"], "no-store");
    assert_eq!(first.body["mesh_ip"], "100.64.0.1");
    assert_eq!(first.body["domain_mesh_cidr"], "100.64.0.0/10");
    assert_eq!(first.body["peer_snapshot"], json!([]));
    assert_eq!(STANDARD.decode(first.text("signing_public_key")).unwrap().len(), 32);
    assert_eq!(first.text("nsk").len(), 44);

    let (_, token) = world.token(&project, "node").await;
    let second = world.register(demand(&project, "host", &token, 2)).await;
    let peers = second.body["peer_snapshot"].as_array().unwrap();
    assert_eq!(peers.len(), 1);
    assert_eq!(peers[0]["node_id"], first.body["node_id"]);

    let authenticator = world.identity.authenticator();
    let proven = authenticator.node(&bearer(&first)).await.unwrap().principal();
    assert_eq!(proven.subject.uuid().to_string(), first.text("node_id"));
    let metadata = world.get(&format!("/v1/projects/{project}/bootstrap-tokens/{id}")).await;
    assert!(metadata.body.get("consumed_at").is_some() && metadata.body.get("revoked_at").is_none());
    assert_eq!(world.count("SELECT count(*) FROM kernel.outbox WHERE event_name = 'NodeRegistered'").await, 2);
    assert_eq!(world.count("SELECT count(*) FROM kernel.outbox WHERE wire_type = 'peer_registered'").await, 2);
    let node: NodeId = first.text("node_id").parse().unwrap();
    let entry = world.identity.node_entries().node_entry(node).await.unwrap().unwrap();
    assert_eq!(entry.pinned_kid, first.text("signing_key_id"));
}

#[tokio::test]
async fn of_two_registrations_that_race_for_one_token_exactly_one_wins() {
    let world = world().await;
    let (_, project) = ground(&world).await;
    world.resource(&project, "kubernetes-node", "host").await;
    let (_, token) = world.token(&project, "node").await;
    let (a, b) = tokio::join!(
        world.register(demand(&project, "host", &token, 1)),
        world.register(demand(&project, "host", &token, 2)),
    );
    let mut seen = [a.refusal(), b.refusal()];
    seen.sort_unstable();
    assert_eq!(seen, [(201, ""), (403, "token_consumed")]);
    assert_eq!(world.count("SELECT count(*) FROM identity.nodes").await, 1);
}

#[tokio::test]
async fn a_revocation_that_races_a_redemption_has_one_winner_and_the_loser_is_told() {
    let world = world().await;
    let (_, project) = ground(&world).await;
    world.resource(&project, "kubernetes-node", "host").await;
    let (id, token) = world.token(&project, "node").await;
    let path = format!("/v1/projects/{project}/bootstrap-tokens/{id}");
    let (registered, revoked) = tokio::join!(world.register(demand(&project, "host", &token, 1)), world.delete(&path));
    match registered.refusal() {
        (201, _) => assert_eq!(revoked.refusal(), (409, "token_consumed")),
        lost => {
            assert_eq!(lost, (403, "token_revoked"));
            assert_eq!(revoked.status, 204);
        }
    }
}

#[tokio::test]
async fn a_single_machine_resource_supersedes_its_node_and_a_cluster_keeps_all() {
    let world = world().await;
    let (_, project) = ground(&world).await;
    world.resource(&project, "vm", "host").await;
    let (_, token) = world.token(&project, "node").await;
    let old = world.register(demand(&project, "host", &token, 1)).await;
    let (_, token) = world.token(&project, "node").await;
    let mut again = demand(&project, "host", &token, 1);
    again["nonce"] = json!("another");
    let new = world.register(again).await;
    assert_eq!(new.status, 201, "{}", new.body);
    assert_eq!(new.body["peer_snapshot"], json!([]));
    let authenticator = world.identity.authenticator();
    assert_eq!(authenticator.node(&bearer(&old)).await.unwrap_err().code().as_str(), "nsk_revoked");
    authenticator.node(&bearer(&new)).await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM kernel.outbox WHERE wire_type = 'peer_deregistered'").await, 1);
}

#[tokio::test]
async fn only_the_exact_envelope_of_a_live_key_authenticates() {
    let world = world().await;
    let (_, project) = ground(&world).await;
    world.resource(&project, "kubernetes-node", "host").await;
    let mut enrolled = Vec::new();
    for byte in [1, 2] {
        let (_, token) = world.token(&project, "node").await;
        enrolled.push(world.register(demand(&project, "host", &token, byte)).await);
    }
    let authenticator = world.identity.authenticator();
    let raw = enrolled[0].text("nsk");
    assert_eq!(authenticator.node(&raw).await.unwrap_err().code().as_str(), "unauthorized");
    let node: NodeId = enrolled[0].text("node_id").parse().unwrap();
    let other: [u8; 32] = STANDARD.decode(enrolled[1].text("nsk")).unwrap().try_into().unwrap();
    let crossed = render_bearer("plexd", node, &other);
    assert_eq!(authenticator.node(&crossed).await.unwrap_err().code().as_str(), "nsk_invalid");
    let unknown = render_bearer("plexd", NodeId::mint(world.clock.now()), &other);
    assert_eq!(authenticator.node(&unknown).await.unwrap_err().code().as_str(), "nsk_invalid");
    // The published vector is well-formed, and of no Node here.
    let vector = render_bearer("plexd", "0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a3".parse().unwrap(), &[0x2a; 32]);
    assert_eq!(authenticator.node(&vector).await.unwrap_err().code().as_str(), "nsk_invalid");
}

#[tokio::test]
async fn a_sealed_key_opens_in_its_own_row_only() {
    let world = world().await;
    let (_, project) = ground(&world).await;
    world.resource(&project, "kubernetes-node", "host").await;
    let mut enrolled = Vec::new();
    for byte in [1, 2] {
        let (_, token) = world.token(&project, "node").await;
        enrolled.push(world.register(demand(&project, "host", &token, byte)).await);
    }
    let node: NodeId = enrolled[0].text("node_id").parse().unwrap();
    let pool = world.database.pool();
    let kid: String = sqlx::query_scalar("SELECT kid FROM identity.node_secret_keys WHERE node_id = $1")
        .bind(node.uuid())
        .fetch_one(&pool)
        .await
        .unwrap();
    let custodian = world.identity.nsk_custodian();
    let opened = custodian.open(node, &kid).await.unwrap().unwrap();
    assert_eq!(STANDARD.encode(opened.as_slice()), enrolled[0].text("nsk"));
    sqlx::query(
        "UPDATE identity.node_secret_keys k SET wrapped = o.wrapped FROM identity.node_secret_keys o
                 WHERE k.node_id = $1 AND o.node_id <> $1",
    )
    .bind(node.uuid())
    .execute(&pool)
    .await
    .unwrap();
    assert!(custodian.open(node, &kid).await.is_err());
}

#[tokio::test]
async fn no_table_holds_a_token_or_a_key_in_clear() {
    let world = world().await;
    let (_, project) = ground(&world).await;
    world.resource(&project, "vm", "host").await;
    let (_, token) = world.token(&project, "node").await;
    let enrolled = world.register(demand(&project, "host", &token, 1)).await;
    let nsk = enrolled.text("nsk");
    let raw = STANDARD.decode(&nsk).unwrap();
    let hex: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
    let secret = world.admin.rsplit('_').next().unwrap().to_owned();
    let random = token.rsplit('_').next().unwrap().to_owned();
    let pool = world.database.pool();
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
         WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert!(tables.len() > 10);
    for table in tables {
        let sql = sqlx::AssertSqlSafe(format!("SELECT coalesce(string_agg(t::text, E'\\n'), '') FROM {table} t"));
        let dump: String = sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap();
        for clear in [&token, &random, &nsk, &hex, &world.admin, &secret] {
            assert!(!dump.contains(clear.as_str()), "{table}");
        }
    }
}

#[tokio::test]
async fn tokens_are_listed_in_pages_and_end_once() {
    let world = world().await;
    let (_, project) = ground(&world).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(world.token(&project, "node").await.0);
        world.clock.advance(Duration::from_secs(1));
    }
    let path = format!("/v1/projects/{project}/bootstrap-tokens");
    let first = world.get(&format!("{path}?limit=2")).await;
    let shown = |body: &Value| -> Vec<String> {
        body["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(shown(&first.body), ids[..2]);
    let rest = world.get(&format!("{path}?limit=2&cursor={}", first.text("next_cursor"))).await;
    assert_eq!(shown(&rest.body), ids[2..]);
    world.clock.advance(Duration::from_secs(300));
    let one = format!("{path}/{}", ids[0]);
    assert_eq!(world.delete(&one).await.status, 204);
    assert_eq!(world.delete(&one).await.refusal(), (409, "token_revoked"));
    let elsewhere = world.domain("other", "10.0.0.0/8").await;
    let elsewhere = world.project(&elsewhere, "two", None).await;
    let foreign = format!("/v1/projects/{elsewhere}/bootstrap-tokens/{}", ids[1]);
    assert_eq!(world.get(&foreign).await.refusal(), (404, "bootstrap_token_not_found"));
    assert_eq!(world.delete(&foreign).await.refusal(), (404, "bootstrap_token_not_found"));
    // No 400 is declared where the path names a token.
    let of_none = format!("/v1/projects/x/bootstrap-tokens/{}", ids[1]);
    for (path, code) in [(of_none, "project_not_found"), (format!("{path}/x"), "bootstrap_token_not_found")] {
        assert_eq!(world.get(&path).await.refusal(), (404, code), "{path}");
        assert_eq!(world.delete(&path).await.refusal(), (404, code), "{path}");
    }
    let nowhere = "/v1/projects/0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a3/bootstrap-tokens";
    assert_eq!(world.get(nowhere).await.refusal(), (404, "project_not_found"));
}

#[tokio::test]
async fn a_list_of_tokens_waits_for_nobody() {
    let world = world().await;
    let (_, project) = ground(&world).await;
    world.token(&project, "node").await;
    let mut holder = world.database.begin().await.unwrap();
    sqlx::query("SELECT FROM identity.projects FOR UPDATE").execute(&mut *holder).await.unwrap();
    let listed = world.get(&format!("/v1/projects/{project}/bootstrap-tokens")).await;
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 1);
    holder.rollback().await.unwrap();
}

#[tokio::test]
async fn sweepers_remove_what_ended_long_ago_and_nothing_else() {
    let world = world().await;
    let (_, project) = ground(&world).await;
    let resource = world.resource(&project, "vm", "host").await;
    let (_, token) = world.token(&project, "node").await;
    let enrolled = world.register(demand(&project, "host", &token, 1)).await;
    assert_eq!(world.delete(&format!("/v1/resources/{resource}")).await.status, 204);
    let sweep = || async {
        let mut done = Vec::new();
        for sweeper in world.identity.sweepers() {
            done.push(sweeper.sweep_once().await.unwrap());
        }
        done
    };
    assert_eq!(sweep().await, [0, 0, 0, 0, 0]);
    world.clock.advance(Duration::from_secs(31 * 86_400));
    assert_eq!(sweep().await, [0, 0, 0, 0, 1]);
    let node: NodeId = enrolled.text("node_id").parse().unwrap();
    assert!(world.identity.node_entries().node_entry(node).await.unwrap().is_none());
    world.clock.advance(Duration::from_secs(60 * 86_400));
    assert_eq!(sweep().await, [0, 0, 1, 1, 0]);
}
