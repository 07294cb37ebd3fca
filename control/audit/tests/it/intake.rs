use std::sync::Arc;
use std::time::Duration;

use plexsphere_audit::{AuditIntakeConsumer, AuditIntakeSweeper};
use plexsphere_kernel::tasks::{Task as _, Tasks, TasksContext};
use plexsphere_kernel::{Probes, SystemClock};
use plexsphere_testkit::{TestNats, eventually};
use plexsphere_wire::intake::{AuditIntake, COMMAND_LINE, EVENT_GATEWAY, SystemIntake};
use plexsphere_wire::subjects::{AUDIT_INTAKE, AUDIT_INTAKE_STREAM};
use plexsphere_wire::{CorrelationId, DenialReason, DomainId, NodeId};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::rig::{Rig, now};

fn refusal() -> AuditIntake {
    let node = NodeId::mint(now());
    AuditIntake {
        domain: DomainId::mint(now()),
        node,
        relation: "telemetry_ingest".to_owned(),
        object_type: "node".to_owned(),
        object_id: node.to_string(),
        reason: DenialReason::InsufficientRelation,
        repeated: 4,
        correlation_id: CorrelationId::mint(now()),
        occurred_at: now(),
        client_ip: Some("192.0.2.9".to_owned()),
        user_agent: None,
    }
}

async fn consume(rig: &Rig, nats: &TestNats) -> Tasks {
    let context = TasksContext { db: rig.db.clone(), clock: Arc::new(SystemClock), probes: Probes::default() };
    let mut tasks = Tasks::new(context, &mut Registry::default(), CancellationToken::new());
    let mut registry = Registry::default();
    let bus = nats.client().await;
    tasks.serve(Arc::new(AuditIntakeConsumer::new(bus, Arc::clone(&rig.log), 1, &mut registry)));
    tasks.start();
    let jetstream = nats.jetstream().await;
    eventually!(jetstream.get_stream(AUDIT_INTAKE_STREAM).await.is_ok(), "the stream is there");
    tasks
}

async fn publish(nats: &TestNats, body: Vec<u8>, id: Option<&str>) {
    let mut message = async_nats::jetstream::message::PublishMessage::build().payload(body.into());
    if let Some(id) = id {
        message = message.message_id(id);
    }
    nats.jetstream().await.send_publish(AUDIT_INTAKE, message).await.unwrap().await.unwrap();
}

#[tokio::test]
async fn a_refusal_of_an_edge_becomes_a_row_on_the_nodes_domain_and_a_malformed_one_stops_nothing() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("is malformed");
    let (rig, nats) = (Rig::new().await, plexsphere_testkit::nats().await);
    let _tasks = consume(&rig, &nats).await;
    let refusal = refusal();
    publish(&nats, b"{".to_vec(), None).await;
    let bad = AuditIntake { relation: "No Name".to_owned(), ..refusal.clone() };
    publish(&nats, serde_json::to_vec(&bad).unwrap(), None).await;
    publish(&nats, serde_json::to_vec(&refusal).unwrap(), None).await;
    eventually!(rig.rows().await == 1, "the row is written");
    let (chain, reason, repeated): (uuid::Uuid, String, i32) =
        sqlx::query_as("SELECT chain, reason, repeated FROM audit.pending")
            .fetch_one(&rig.database.pool())
            .await
            .unwrap();
    assert_eq!((chain, reason.as_str(), repeated), (refusal.domain.uuid(), "insufficient_relation", 4));
}

#[tokio::test]
async fn what_a_part_of_the_system_did_or_refused_becomes_a_row_on_the_platforms_chain() {
    let (rig, nats) = (Rig::new().await, plexsphere_testkit::nats().await);
    let _tasks = consume(&rig, &nats).await;
    let deed = SystemIntake {
        domain: None,
        subject: COMMAND_LINE,
        relation: "telemetry.replay_dead".to_owned(),
        object_type: "dead_letters".to_owned(),
        object_id: "loki-logs".to_owned(),
        denied: None,
        repeated: 0,
        correlation_id: CorrelationId::mint(now()),
        occurred_at: now(),
    };
    let rejection = SystemIntake {
        subject: EVENT_GATEWAY,
        relation: "event_bus.envelope_rejected".to_owned(),
        object_type: "envelope".to_owned(),
        object_id: "7/signature".to_owned(),
        denied: Some(DenialReason::OutOfScope),
        correlation_id: CorrelationId::mint(now()),
        ..deed.clone()
    };
    publish(&nats, serde_json::to_vec(&deed).unwrap(), None).await;
    publish(&nats, serde_json::to_vec(&rejection).unwrap(), Some("event_bus.envelope_rejected:1")).await;
    eventually!(rig.rows().await == 2, "the rows are written");
    let rows: Vec<(uuid::Uuid, String, String, String)> =
        sqlx::query_as("SELECT chain, reason, object_type, object_id FROM audit.pending ORDER BY object_type")
            .fetch_all(&rig.database.pool())
            .await
            .unwrap();
    let row = |reason: &str, kind: &str, id: &str| {
        (plexsphere_audit::PLATFORM_ANCHOR, reason.to_owned(), kind.to_owned(), id.to_owned())
    };
    let expected = [row("granted", "dead_letters", "loki-logs"), row("out_of_scope", "envelope", "7/signature")];
    assert_eq!(rows, expected);
}

/// I4: the consumer begins anew, as after a crash before its acknowledgements.
#[tokio::test]
async fn a_redelivered_message_writes_no_second_row() {
    let (rig, nats) = (Rig::new().await, plexsphere_testkit::nats().await);
    let tasks = consume(&rig, &nats).await;
    publish(&nats, serde_json::to_vec(&refusal()).unwrap(), Some("edge-1")).await;
    publish(&nats, serde_json::to_vec(&refusal()).unwrap(), None).await;
    eventually!(rig.rows().await == 2, "both rows are written");
    assert!(tasks.drain(Duration::from_secs(10)).await);
    let stream = nats.jetstream().await.get_stream(AUDIT_INTAKE_STREAM).await.unwrap();
    stream.delete_consumer("control-audit-intake").await.unwrap();
    let _tasks = consume(&rig, &nats).await;
    publish(&nats, serde_json::to_vec(&refusal()).unwrap(), None).await;
    eventually!(rig.rows().await >= 3, "the new one is written");
    eventually!(
        match stream.consumer_info("control-audit-intake").await {
            Ok(info) => info.num_pending == 0 && info.num_ack_pending == 0,
            Err(_) => false,
        },
        "everything is acknowledged"
    );
    assert_eq!(rig.rows().await, 3);
    assert_eq!(AuditIntakeSweeper::new(Arc::clone(&rig.log)).run().await.unwrap().done, 0);
}
