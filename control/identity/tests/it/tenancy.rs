use serde_json::{Value, json};

use crate::world::{demand, world};

#[tokio::test]
async fn a_domain_is_created_with_its_defaults_and_read_back() {
    let world = world().await;
    let body = json!({ "name": " Acme ", "slug": "acme", "mesh_cidr": "100.64.0.0/10", "region": "" });
    let made = world.post("/v1/domains", body).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let path = made.headers["location"].to_str().unwrap().to_owned();
    assert_eq!(path, format!("/v1/domains/{}", made.text("id")));
    let read = world.get(&path).await;
    assert_eq!(read.body, made.body);
    assert_eq!(read.body["name"], "Acme");
    assert_eq!(read.body["description"], "");
    assert!(read.body.get("region").is_none());
    let policy = json!({ "heartbeat_interval": "30s", "stale_after": "90s", "unreachable_after": "300s" });
    assert_eq!(read.body["reachability"], policy);
    assert_eq!(world.count("SELECT count(*) FROM signing.keys").await, 1);
    assert_eq!(world.count("SELECT count(*) FROM kernel.outbox WHERE event_name = 'DomainCreated'").await, 1);
    assert_eq!(world.count("SELECT count(DISTINCT key) FROM kernel.directory_changes").await, 1);
}

#[tokio::test]
async fn a_domain_takes_its_signing_keys_with_it_and_their_public_halves_stay() {
    let world = world().await;
    let domain = world.domain("acme", "10.1.0.0/16").await;
    world.domain("other", "10.2.0.0/16").await;
    assert_eq!(world.delete(&format!("/v1/domains/{domain}")).await.status, 204);
    let gone = "SELECT count(*) FROM signing.keys WHERE state = 'destroyed' AND wrapped_seed IS NULL
        AND domain_id NOT IN (SELECT id FROM identity.domains)";
    assert_eq!(world.count(gone).await, 1);
    let stays = "SELECT count(*) FROM signing.keys WHERE state = 'current' AND wrapped_seed IS NOT NULL
        AND domain_id IN (SELECT id FROM identity.domains)";
    assert_eq!(world.count(stays).await, 1);
    let told = "SELECT count(*) FROM kernel.outbox WHERE event_name = 'SigningKeyDestroyed'";
    assert_eq!(world.count(told).await, 1);
}

#[tokio::test]
async fn a_domains_members_are_judged_one_by_one() {
    let world = world().await;
    let base = json!({ "name": "a", "slug": "a", "mesh_cidr": "10.0.0.0/8" });
    let reach =
        |a: &str, b: &str, c: &str| json!({ "heartbeat_interval": a, "stale_after": b, "unreachable_after": c });
    for (member, value, code) in [
        ("name", json!("  "), "invalid_domain"),
        ("name", json!("x".repeat(256)), "invalid_domain"),
        ("name", json!("a\u{7}b"), "invalid_domain"),
        ("slug", json!("A"), "invalid_domain"),
        ("slug", json!("a--b"), "invalid_domain"),
        ("slug", json!("-a"), "invalid_domain"),
        ("slug", json!("a".repeat(65)), "invalid_domain"),
        ("description", json!("   "), "invalid_domain"),
        ("description", json!("x".repeat(1_025)), "invalid_domain"),
        ("region", json!("EU"), "invalid_domain"),
        ("mesh_cidr", json!("10.0.0.1/8"), "invalid_domain"),
        ("mesh_cidr", json!("127.0.0.0/8"), "invalid_domain"),
        ("reachability", reach("0s", "90s", "300s"), "invalid_reachability_policy"),
        ("reachability", reach("30s", "60s", "300s"), "invalid_reachability_policy"),
        ("reachability", json!({ "heartbeat_interval": "30s" }), "invalid_body"),
        ("name", Value::Null, "invalid_body"),
        ("extra", json!(1), "invalid_body"),
        ("name", json!("a\u{0}b"), "invalid_body"),
    ] {
        let mut body = base.clone();
        body[member] = value;
        assert_eq!(world.post("/v1/domains", body.clone()).await.refusal(), (400, code), "{body}");
    }
    assert_eq!(world.count("SELECT count(*) FROM identity.domains").await, 0);
}

#[tokio::test]
async fn of_two_domains_that_race_for_overlapping_pools_one_wins() {
    let world = world().await;
    let body = |slug: &str, pool: &str| json!({ "name": slug, "slug": slug, "mesh_cidr": pool });
    let (a, b) = tokio::join!(
        world.post("/v1/domains", body("a", "10.0.0.0/8")),
        world.post("/v1/domains", body("b", "10.9.0.0/16")),
    );
    let mut seen = [a.refusal(), b.refusal()];
    seen.sort_unstable();
    assert_eq!(seen, [(201, ""), (409, "mesh_cidr_overlap")]);
    let slug = if a.status == 201 { "a" } else { "b" };
    assert_eq!(world.post("/v1/domains", body(slug, "11.0.0.0/8")).await.refusal(), (409, "domain_slug_conflict"));
    world.domain("v6", "fd00:10::/32").await;
    // Without a race just as well.
    for pool in ["10.9.128.0/17", "10.0.0.0/8"] {
        assert_eq!(world.post("/v1/domains", body("c", pool)).await.refusal(), (409, "mesh_cidr_overlap"), "{pool}");
    }
}

#[tokio::test]
async fn lists_page_by_slug_and_their_cursors_belong_to_their_list() {
    let world = world().await;
    for (index, slug) in ["c", "a", "b"].iter().enumerate() {
        world.domain(slug, &format!("10.{index}.0.0/16")).await;
    }
    let first = world.get("/v1/domains?limit=2").await;
    let slugs = |body: &Value| -> Vec<String> {
        body["items"].as_array().unwrap().iter().map(|item| item["slug"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(slugs(&first.body), ["a", "b"]);
    let cursor = first.text("next_cursor");
    let second = world.get(&format!("/v1/domains?limit=2&cursor={cursor}")).await;
    assert_eq!(slugs(&second.body), ["c"]);
    assert!(second.body.get("next_cursor").is_none());
    assert_eq!(world.get(&format!("/v1/projects?cursor={cursor}")).await.refusal(), (400, "invalid_cursor"));
    for bad in ["0", "201", "abc", "1&limit=2", "-1"] {
        assert_eq!(world.get(&format!("/v1/domains?limit={bad}")).await.refusal(), (400, "invalid_limit"), "{bad}");
    }
    assert_eq!(world.get("/v1/projects?domain_id=x").await.refusal(), (400, "invalid_domain_filter"));
}

#[tokio::test]
async fn a_caller_without_a_grant_is_out_of_scope_everywhere_and_told_why_a_list_is_empty() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let stranger = stranger(&world).await;
    let refused = world.call_as(&stranger, "GET", &format!("/v1/domains/{domain}"), None).await;
    assert_eq!(refused.refusal(), (403, "permission_denied"));
    assert_eq!(refused.body["reason"], "out_of_scope");
    let unknown = "/v1/domains/0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a3";
    assert_eq!(world.call_as(&stranger, "GET", unknown, None).await.refusal(), (403, "permission_denied"));
    assert_eq!(world.get(unknown).await.refusal(), (404, "domain_not_found"));
    assert_eq!(
        world.get("/v1/domains/00000000-0000-0000-0000-000000000000").await.refusal(),
        (400, "invalid_domain_id")
    );
    let listed = world.call_as(&stranger, "GET", "/v1/domains", None).await;
    assert_eq!(listed.body, json!({ "items": [], "empty_reason": "no_rebac_membership" }));
}

/// A platform User without grants, with a token made by its own hand.
pub(crate) async fn stranger(world: &crate::world::World) -> String {
    let text = plexsphere_identity::ApiTokenText::mint(plexsphere_wire::TokenId::mint(
        plexsphere_wire::Timestamp::from_unix_seconds(1_790_000_000),
    ))
    .unwrap();
    let pool = world.database.pool();
    let user = "0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a4";
    sqlx::query(
        "INSERT INTO identity.users (id, issuer, external_subject, display_name, created_at)
         VALUES ($1::uuid, 'https://idp', 's', 'u', now())",
    )
    .bind(user)
    .execute(&pool)
    .await
    .unwrap();
    sqlx::query(
        "INSERT INTO identity.api_tokens (id, user_id, env_prefix, digest, ttl_seconds, created_at, expires_at)
         VALUES ($1, $2::uuid, 'dev', $3, 60, now(), '2100-01-01')",
    )
    .bind(text.id.uuid())
    .bind(user)
    .bind(plexsphere_identity::TokenPepper::new([9; 32]).digest(text.secret()).as_slice())
    .execute(&pool)
    .await
    .unwrap();
    text.render("dev").to_string()
}

#[tokio::test]
async fn a_project_keeps_its_sub_range_inside_the_pool_and_off_its_siblings() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    world.project(&domain, "one", Some("10.1.0.0/16")).await;
    let ask =
        |slug: &str, range: &str| json!({ "domain_id": domain, "name": "x", "slug": slug, "sub_range_cidr": range });
    for (slug, range, status, code) in [
        ("two", "10.1.2.0/24", 409, "sub_range_overlap"),
        ("two", "11.0.0.0/16", 400, "invalid_project"),
        ("two", "fd00::/32", 400, "invalid_project"),
        ("two", "10.2.0.1/16", 400, "invalid_project"),
        ("one", "10.2.0.0/16", 409, "project_slug_conflict"),
        ("T", "10.2.0.0/16", 400, "invalid_project"),
    ] {
        assert_eq!(world.post("/v1/projects", ask(slug, range)).await.refusal(), (status, code), "{slug} {range}");
    }
    for id in ["x", "", "00000000-0000-0000-0000-000000000000"] {
        let body = json!({ "domain_id": id, "name": "x", "slug": "x" });
        assert_eq!(world.post("/v1/projects", body).await.refusal(), (400, "invalid_project"), "{id}");
    }
    let other = world.domain("other", "11.0.0.0/8").await;
    world.project(&other, "one", None).await;
    let gone = json!({ "domain_id": "0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a3", "name": "x", "slug": "x" });
    assert_eq!(world.post("/v1/projects", gone).await.refusal(), (409, "parent_domain_missing"));
    let listed = world.get(&format!("/v1/projects?domain_id={domain}")).await;
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(listed.body["items"][0]["sub_range_cidr"], "10.1.0.0/16");
}

#[tokio::test]
async fn a_resource_is_adopted_once_per_handle_and_its_body_belongs_to_its_origin() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let project = world.project(&domain, "one", None).await;
    let path = format!("/v1/projects/{project}/resources");
    let id = world.resource(&project, "vm", "host-1").await;
    let uuid = "0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a3";
    for (body, status, code) in [
        (json!({ "origin": "adopted", "kind": "vm", "external_ref": "host-1" }), 422, "external_ref_conflict"),
        (json!({ "kind": "vm" }), 400, "invalid_resource_origin"),
        (json!({ "origin": "Adopted", "x": 1 }), 400, "invalid_resource_origin"),
        (json!({ "origin": "adopted", "kind": "vm", "x": 1 }), 400, "invalid_body"),
        (json!({ "origin": "adopted", "kind": "  " }), 400, "invalid_body"),
        (json!({ "origin": "adopted", "kind": "vm", "external_ref": " " }), 400, "invalid_body"),
        (json!({ "origin": "adopted", "kind": "vm", "blueprint_version_id": uuid }), 400, "invalid_body"),
        (json!({ "origin": "provisioned", "kind": "vm", "external_ref": "y" }), 400, "invalid_body"),
        (
            json!({ "origin": "provisioned", "kind": "vm", "blueprint_version_id": uuid, "cloud_credential_id": uuid }),
            422,
            "blueprint_not_found",
        ),
    ] {
        assert_eq!(world.post(&path, body.clone()).await.refusal(), (status, code), "{body}");
    }
    let read = world.get(&format!("/v1/resources/{id}")).await;
    assert_eq!((read.text("origin"), read.text("external_ref")), ("adopted".into(), "host-1".into()));
    assert!(read.body.get("provisioning").is_none());
    let nowhere = format!("/v1/projects/{uuid}/resources");
    let body = json!({ "origin": "adopted", "kind": "vm" });
    assert_eq!(world.post(&nowhere, body).await.refusal(), (404, "project_not_found"));
    assert_eq!(world.get(&format!("/v1/resources/{uuid}")).await.refusal(), (404, "resource_not_found"));
}

#[tokio::test]
async fn a_cluster_of_thousands_ends_within_a_request() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let project = world.project(&domain, "one", None).await;
    let id = world.resource(&project, "kubernetes-node", "cluster").await;
    let (_, token) = world.token(&project, "node").await;
    assert_eq!(world.register(demand(&project, "cluster", &token, 1)).await.status, 201);
    for copy in [
        "INSERT INTO identity.nodes (id, domain_id, project_id, resource_id, public_key, mesh_ip,
             pinned_signing_key_id, created_at)
         SELECT gen_random_uuid(), domain_id, project_id, resource_id, sha256(i::text::bytea), mesh_ip + i,
             pinned_signing_key_id, created_at
         FROM identity.nodes, generate_series(1, 2999) AS i",
        "INSERT INTO identity.node_secret_keys (kid, node_id, wrapped, wrap_key_version, digest, created_at)
         SELECT 'nsk-' || id, id, 'x', 1, public_key, created_at FROM identity.nodes n
         WHERE NOT EXISTS (SELECT FROM identity.node_secret_keys k WHERE k.node_id = n.id)",
        "INSERT INTO mesh.peers (peer_id, node_id, domain_id, project_id, public_key, mesh_ip, node_version_at,
             created_at)
         SELECT gen_random_uuid(), id, domain_id, project_id, public_key, mesh_ip, created_at, created_at
         FROM identity.nodes n WHERE NOT EXISTS (SELECT FROM mesh.peers p WHERE p.node_id = n.id)",
        "INSERT INTO mesh.allocations (domain_id, ip, node_id, allocated_at)
         SELECT domain_id, mesh_ip, id, created_at FROM identity.nodes ON CONFLICT DO NOTHING",
        "INSERT INTO mesh.reachability (node_id, domain_id, state, changed_at, told_state)
         SELECT id, domain_id, 'healthy', created_at, 'healthy' FROM identity.nodes ON CONFLICT DO NOTHING",
    ] {
        sqlx::query(copy).execute(&world.database.pool()).await.unwrap();
    }
    let begun = std::time::Instant::now();
    assert_eq!(world.delete(&format!("/v1/resources/{id}")).await.status, 204);
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
    for none in [
        "SELECT count(*) FROM identity.nodes WHERE deregistered_at IS NULL",
        "SELECT count(*) FROM identity.node_secret_keys WHERE revoked_at IS NULL",
        "SELECT count(*) FROM mesh.peers WHERE deregistered_at IS NULL",
        "SELECT count(*) FROM mesh.allocations WHERE cooling_until IS NULL",
        "SELECT count(*) FROM mesh.reachability",
    ] {
        assert_eq!(world.count(none).await, 0, "{none}");
    }
    for every in [
        "SELECT count(*) FROM kernel.outbox WHERE event_name = 'NodeDeregistered'",
        "SELECT sum(json_array_length(payload -> 'peers')) FROM kernel.outbox WHERE wire_type = 'peer_deregistered'",
        "SELECT count(DISTINCT key) FROM kernel.directory_changes WHERE key LIKE 'node.%'",
        "SELECT count(*) FROM audit.pending WHERE relation = 'node.deregister'",
        "SELECT count(*) FROM audit.pending WHERE relation = 'nsk.revoke'",
    ] {
        assert_eq!(world.count(every).await, 3_000, "{every}");
    }
}

#[tokio::test]
async fn what_was_provisioned_is_not_forgotten_while_it_stands() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let project = world.project(&domain, "one", None).await;
    let id = world.resource(&project, "vm", "host").await;
    let provisioned = "UPDATE identity.resources SET origin = 'provisioned', external_ref = NULL";
    sqlx::query(provisioned).execute(&world.database.pool()).await.unwrap();
    assert_eq!(world.delete(&format!("/v1/resources/{id}")).await.refusal(), (500, "internal"));
    assert_eq!(world.get(&format!("/v1/resources/{id}")).await.status, 200);
}

#[tokio::test]
async fn deleting_a_resource_ends_its_nodes_in_the_same_step() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let project = world.project(&domain, "one", None).await;
    let id = world.resource(&project, "kubernetes-node", "cluster").await;
    for byte in [1, 2] {
        let (_, token) = world.token(&project, "node").await;
        assert_eq!(world.register(demand(&project, "cluster", &token, byte)).await.status, 201);
    }
    assert_eq!(world.delete(&format!("/v1/resources/{id}")).await.status, 204);
    assert_eq!(world.delete(&format!("/v1/resources/{id}")).await.refusal(), (404, "resource_not_found"));
    assert_eq!(world.count("SELECT count(*) FROM identity.nodes WHERE deregistered_at IS NULL").await, 0);
    assert_eq!(world.count("SELECT count(*) FROM identity.node_secret_keys WHERE revoked_at IS NULL").await, 0);
    let told =
        "SELECT sum(json_array_length(payload -> 'peers')) FROM kernel.outbox WHERE wire_type = 'peer_deregistered'";
    assert_eq!(world.count(told).await, 2);
}
