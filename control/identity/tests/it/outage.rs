use std::time::Duration;

use plexsphere_kernel::audit::RequestContext;
use plexsphere_testkit::postgres_own;
use plexsphere_wire::CorrelationId;
use serde_json::json;

use crate::enrolment::bearer;
use crate::world::{Bounds, MIGRATOR, World, world, world_on};

/// A dead database is known after a second.
fn impatient() -> Bounds {
    Bounds { acquire: Duration::from_secs(1), ..Bounds::default() }
}

async fn enrolled(world: &World, byte: u8) -> (String, String) {
    let answer = world.enrol("vm", byte).await;
    (answer.text("node_id"), bearer(&answer))
}

#[tokio::test]
async fn a_node_that_was_here_pulls_what_memory_knows_while_the_database_is_dead() {
    let server = postgres_own().await;
    let world = world_on(server.database(MIGRATOR).await, impatient()).await;
    let (warm, warm_key) = enrolled(&world, 1).await;
    let (cold, cold_key) = enrolled(&world, 2).await;
    let path = format!("/v1/nodes/{warm}/state");
    let report = format!("{path}/reports/load");
    let put = async |value: &str| world.call_as(&warm_key, "PUT", &report, Some(json!({ "value": value }))).await;
    assert_eq!(put("low").await.status, 200);
    let mut last = world.call_as(&warm_key, "GET", &path, None).await;
    assert_eq!(last.status, 200);
    assert_eq!(last.body["state"]["reports"], json!([{ "key": "load", "value": "low" }]));
    server.kill9().await;

    let stale = world.call_as(&warm_key, "GET", &path, None).await;
    last.body["sessions"] = json!(null);
    assert_eq!((stale.status.as_u16(), &stale.body), (200, &last.body));
    assert_eq!(stale.body["executions"], json!([]));
    assert_eq!(put("high").await.refusal(), (503, "datastore_unavailable"));
    // Past its freshness the verdict serves the outage, and past its use nothing is said of the key.
    world.clock.advance(Duration::from_secs(599));
    let authenticator = world.identity.authenticator();
    authenticator.node(&warm_key).await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(authenticator.node(&warm_key).await.unwrap_err().code().as_str(), "datastore_unavailable");
    let path = format!("/v1/nodes/{cold}/state");
    assert_eq!(world.call_as(&cold_key, "GET", &path, None).await.refusal(), (503, "datastore_unavailable"));
}

#[tokio::test]
async fn a_revoked_node_passes_no_more_once_its_revocation_has_committed() {
    let server = postgres_own().await;
    let world = world_on(server.database(MIGRATOR).await, impatient()).await;
    let (_, superseded) = enrolled(&world, 1).await;
    let (_, deleted) = enrolled(&world, 2).await;
    let authenticator = world.identity.authenticator();
    for key in [&superseded, &deleted] {
        authenticator.node(key).await.unwrap();
    }
    assert_eq!(world.delete(&format!("/v1/resources/{}", world.resource_of(2).await)).await.status, 204);
    let again = world.enrol_again(1, 3).await;
    for key in [&superseded, &deleted] {
        assert_eq!(authenticator.node(key).await.unwrap_err().code().as_str(), "nsk_revoked");
    }
    authenticator.node(&bearer(&again)).await.unwrap();
    server.kill9().await;
    for key in [&superseded, &deleted] {
        assert_eq!(authenticator.node(key).await.unwrap_err().code().as_str(), "datastore_unavailable");
    }
    authenticator.node(&bearer(&again)).await.unwrap();
}

#[tokio::test]
async fn a_deletion_that_fails_takes_no_node_its_key() {
    let world = world().await;
    let (_, key) = enrolled(&world, 1).await;
    let authenticator = world.identity.authenticator();
    authenticator.node(&key).await.unwrap();
    let broken = "ALTER TABLE kernel.outbox ADD CONSTRAINT broken CHECK (event_name <> 'ResourceDeleted') NOT VALID";
    sqlx::query(broken).execute(&world.database.pool()).await.unwrap();
    assert_eq!(
        world.delete(&format!("/v1/resources/{}", world.resource_of(1).await)).await.refusal(),
        (500, "internal")
    );
    authenticator.node(&key).await.unwrap();
}

#[tokio::test]
async fn a_revoked_key_leaves_one_row_a_minute_that_says_where_it_came_from() {
    let world = world().await;
    let (_, key) = enrolled(&world, 1).await;
    world.delete(&format!("/v1/resources/{}", world.resource_of(1).await)).await;
    let authenticator = world.identity.authenticator();
    let context = RequestContext { ip: Some("192.0.2.9".into()), user_agent: Some("plexd/1".into()) };
    let correlation = CorrelationId::accept("the-request").unwrap();
    for _ in 0..3 {
        let refused = authenticator.node_of(&key, &correlation, &context).await.unwrap_err();
        assert_eq!(refused.code().as_str(), "nsk_revoked");
    }
    let rows: Vec<(String, Option<String>, Option<String>)> =
        sqlx::query_as("SELECT correlation_id, ip, user_agent FROM audit.pending WHERE relation = 'node.authenticate'")
            .fetch_all(&world.database.pool())
            .await
            .unwrap();
    assert_eq!(rows, [("the-request".to_owned(), context.ip.clone(), context.user_agent.clone())]);
    world.clock.advance(Duration::from_secs(60));
    authenticator.node_of(&key, &correlation, &context).await.unwrap_err();
    assert_eq!(world.rows("node.authenticate").await.len(), 2);
}
