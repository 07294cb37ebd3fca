use std::collections::HashMap;
use std::time::Instant;

use futures_util::StreamExt as _;
use plexsphere_kernel::relay::{DOMAIN_EVENTS_STREAM, requeue};
use plexsphere_kernel::{Event, EventAudience, Outbox, SignerFault};
use plexsphere_testkit::{eventually, nats, nats_own, postgres_own};
use plexsphere_wire::DomainId;
use plexsphere_wire::envelope::EventType::{NodeStateUpdated, PeerRegistered};
use serde_json::json;
use sqlx::Row as _;

use crate::rig::{GRACE, Rig, SCHEMA, append, now, payloads};

#[tokio::test]
async fn what_a_producer_rolled_back_is_never_published() {
    let rig = Rig::new().await;
    let domain = DomainId::mint(now());
    let (_tasks, _) = rig.relay();
    let mut tx = rig.db.begin().await.unwrap();
    append(&mut tx, domain, NodeStateUpdated, json!({ "n": 1 })).await;
    tx.rollback().await.unwrap();
    rig.append(domain, NodeStateUpdated, json!({ "n": 2 })).await;
    assert_eq!(payloads(&rig.until_published(1).await), [r#"{"n":2}"#]);
    eventually!(rig.waiting().await == 0, "the row is marked");
}

#[tokio::test]
async fn a_crash_between_publication_and_mark_repeats_the_same_id_and_the_stream_drops_it() {
    let rig = Rig::new().await;
    let domain = DomainId::mint(now());
    let (tasks, _) = rig.relay();
    rig.append(domain, NodeStateUpdated, json!({ "n": 1 })).await;
    eventually!(rig.waiting().await == 0, "the first relay marks the row");
    assert!(tasks.drain(GRACE).await);
    // As it stood before the mark.
    sqlx::query("UPDATE kernel.outbox SET published_at = NULL").execute(&rig.database.pool()).await.unwrap();
    let (_tasks, _) = rig.relay();
    rig.append(domain, NodeStateUpdated, json!({ "n": 2 })).await;
    eventually!(rig.waiting().await == 0, "the next relay marks both rows");
    assert_eq!(payloads(&rig.published().await), [r#"{"n":1}"#, r#"{"n":2}"#]);
}

#[tokio::test]
async fn of_two_transactions_that_commit_in_reverse_order_neither_is_lost_nor_overtaken() {
    let rig = Rig::new().await;
    let domain = DomainId::mint(now());
    let (_tasks, relay) = rig.relay();
    rig.append(domain, NodeStateUpdated, json!({ "n": "first" })).await;
    rig.until_published(1).await;
    let (mut early, mut late) = (rig.db.begin().await.unwrap(), rig.db.begin().await.unwrap());
    append(&mut early, domain, NodeStateUpdated, json!({ "n": "early" })).await;
    append(&mut late, domain, NodeStateUpdated, json!({ "n": "late" })).await;
    late.commit().await.unwrap();
    // An event of the same Domain that commits meanwhile has to wait for the open transaction as well.
    rig.append(domain, NodeStateUpdated, json!({ "n": "later" })).await;
    let committed = now();
    let looked = || relay.status().last.is_some_and(|run| run.started_at > committed);
    eventually!(looked(), "the relay has looked at what was committed");
    assert_eq!(rig.published().await.len(), 1);
    early.commit().await.unwrap();
    let all = payloads(&rig.until_published(4).await);
    assert_eq!(all[1..], [r#"{"n":"early"}"#, r#"{"n":"late"}"#, r#"{"n":"later"}"#]);
}

#[tokio::test]
async fn twenty_domains_publish_at_once_and_each_keeps_its_order() {
    let rig = Rig::new().await;
    let (_tasks, _) = rig.relay();
    let domains: Vec<_> = (0..20).map(|_| DomainId::mint(now())).collect();
    let writers = domains.iter().map(|domain| async {
        for n in 0..10 {
            rig.append(*domain, NodeStateUpdated, json!({ "n": n })).await;
        }
    });
    futures_util::future::join_all(writers).await;
    let mut by_domain: HashMap<DomainId, Vec<String>> = HashMap::new();
    for envelope in rig.until_published(200).await {
        by_domain.entry(envelope.unsigned.domain).or_default().push(envelope.unsigned.payload);
    }
    let expected: Vec<_> = (0..10).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
    for domain in domains {
        assert_eq!(by_domain[&domain], expected);
    }
}

#[tokio::test]
async fn a_domain_that_cannot_be_signed_blocks_no_other_and_is_published_once_it_can() {
    let rig = Rig::new().await;
    let (_tasks, _) = rig.relay();
    let (broken, sound) = (DomainId::mint(now()), DomainId::mint(now()));
    rig.signer.refuses.lock().insert(broken);
    rig.append(broken, NodeStateUpdated, json!({ "n": 1 })).await;
    rig.append(broken, NodeStateUpdated, json!({ "n": 2 })).await;
    rig.append(sound, NodeStateUpdated, json!({ "n": 3 })).await;
    let first = rig.until_published(1).await;
    assert_eq!(first[0].unsigned.domain, sound);
    assert_eq!(rig.waiting().await, 2);
    rig.signer.refuses.lock().clear();
    assert_eq!(payloads(&rig.until_published(3).await)[1..], [r#"{"n":1}"#, r#"{"n":2}"#]);
}

#[tokio::test]
async fn events_of_a_bus_outage_arrive_afterwards_with_a_fresh_time() {
    let mut rig = Rig::on(nats_own().await).await;
    let domain = DomainId::mint(now());
    let (tasks, relay) = rig.relay();
    rig.append(domain, NodeStateUpdated, json!({ "n": 1 })).await;
    rig.until_published(1).await;
    rig.nats.kill9().await;
    rig.append(domain, NodeStateUpdated, json!({ "n": 2 })).await;
    rig.append(domain, NodeStateUpdated, json!({ "n": 3 })).await;
    eventually!(
        rig.probes.readings().iter().any(|probe| probe.name == "outbox-relay" && probe.detail.contains("unreachable")),
        "the relay sees that the bus is gone"
    );
    assert!(rig.probes.readings().iter().all(|probe| probe.ready), "the bus does not fail readiness");
    rig.nats.restart().await;
    let back = now();
    let all = rig.until_published(3).await;
    assert_eq!(payloads(&all), [r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#]);
    assert!(all[2].unsigned.issued_at >= back.whole_second());
    assert_eq!(relay.status().failures, 0);
    assert!(tasks.drain(GRACE).await);
}

#[tokio::test]
async fn a_lone_broadcast_goes_out_at_once_and_its_followers_within_a_second_become_one() {
    let rig = Rig::new().await;
    let domain = DomainId::mint(now());
    let (_tasks, _) = rig.relay();
    let peer = |n: u32| json!({ "peers": [{ "node_id": format!("n{n}") }] });
    rig.append(domain, PeerRegistered, peer(0)).await;
    rig.until_published(1).await;
    for n in 1..=5 {
        rig.append(domain, PeerRegistered, peer(n)).await;
    }
    eventually!(rig.waiting().await == 0, "the followers are published");
    let all = rig.published().await;
    assert_eq!(all.len(), 2, "{:?}", payloads(&all));
    assert_eq!(all[1].unsigned.payload.matches("node_id").count(), 5);
}

#[tokio::test]
async fn an_event_that_is_too_large_is_parked_recorded_and_passed_over() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("cannot be published and is parked");
    let rig = Rig::new().await;
    let domain = DomainId::mint(now());
    let (_tasks, _) = rig.relay();
    rig.append(domain, NodeStateUpdated, json!({ "text": "x".repeat(40_000) })).await;
    rig.append(domain, NodeStateUpdated, json!({ "n": 1 })).await;
    assert_eq!(payloads(&rig.until_published(1).await), [r#"{"n":1}"#]);
    let parked = sqlx::query("SELECT id, last_error FROM kernel.outbox WHERE state = 'parked'")
        .fetch_one(&rig.database.pool())
        .await
        .unwrap();
    assert_eq!(parked.get::<String, _>("last_error"), "too large");
    assert_eq!(rig.audit.0.lock()[0].relation, "event_bus.row_parked");
    let mut tx = rig.db.begin().await.unwrap();
    assert_eq!(requeue(&mut tx, parked.get("id")).await.unwrap(), 1);
    tx.commit().await.unwrap();
    eventually!(rig.audit.0.lock().len() == 2, "the row is tried again and parked again");
}

#[tokio::test]
async fn what_a_hand_over_made_outdated_is_tried_again_and_not_parked() {
    let rig = Rig::new().await;
    let domain = DomainId::mint(now());
    rig.signer.setbacks.lock().extend([SignerFault::NotAnnounced, SignerFault::Untimely]);
    rig.append(domain, NodeStateUpdated, json!({ "n": 1 })).await;
    let (_tasks, _) = rig.relay();
    assert_eq!(payloads(&rig.until_published(1).await), [r#"{"n":1}"#]);
    assert!(rig.audit.0.lock().is_empty(), "nothing is parked");
}

#[tokio::test]
async fn what_another_worker_published_meanwhile_is_not_parked() {
    let rig = Rig::new().await;
    let domain = DomainId::mint(now());
    rig.signer.setbacks.lock().push(SignerFault::Refused("of a worker that lost its shard"));
    *rig.signer.other_worker.lock() = Some(rig.database.pool());
    rig.append(domain, NodeStateUpdated, json!({ "n": 1 })).await;
    let (_tasks, _) = rig.relay();
    eventually!(rig.signer.setbacks.lock().is_empty(), "the first event is refused");
    rig.append(domain, NodeStateUpdated, json!({ "n": 2 })).await;
    assert_eq!(payloads(&rig.until_published(1).await), [r#"{"n":2}"#]);
    let parked = "SELECT count(*) FROM kernel.outbox WHERE state = 'parked'";
    assert_eq!(sqlx::query_scalar::<_, i64>(parked).fetch_one(&rig.database.pool()).await.unwrap(), 0);
    assert!(rig.audit.0.lock().is_empty());
}

#[tokio::test]
async fn an_internal_event_goes_to_its_own_stream_unsigned() {
    let rig = Rig::new().await;
    let (_tasks, _) = rig.relay();
    let event = Event {
        domain: None,
        context: "identity",
        name: "CloudRegistered",
        audience: EventAudience::Internal,
        payload: json!({ "a": 1 }),
    };
    let mut tx = rig.db.begin().await.unwrap();
    Outbox.append(&mut tx, event, now()).await.unwrap();
    tx.commit().await.unwrap();
    eventually!(rig.waiting().await == 0, "the event is published");
    let stream = rig.nats.jetstream().await.get_stream(DOMAIN_EVENTS_STREAM).await.unwrap();
    let message = stream.get_raw_message(1).await.unwrap();
    assert_eq!(message.subject.as_str(), "plexsphere.domain.v1.identity.CloudRegistered");
    let body: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!((&body["payload"]["a"], &body["event"]), (&json!(1), &json!("CloudRegistered")));
}

#[tokio::test]
async fn when_one_replica_ends_the_other_takes_its_shards() {
    let rig = Rig::new().await;
    let domain = DomainId::mint(now());
    let (first, _) = rig.relay();
    rig.append(domain, NodeStateUpdated, json!({ "n": 1 })).await;
    rig.until_published(1).await;
    let (_second, _) = rig.relay();
    assert!(first.drain(GRACE).await);
    drop(first);
    rig.append(domain, NodeStateUpdated, json!({ "n": 2 })).await;
    assert_eq!(rig.until_published(2).await.len(), 2);
}

#[tokio::test]
async fn the_relay_goes_on_after_the_database_was_killed_and_restarted() {
    let mut server = postgres_own().await;
    let rig = Rig::of(server.database(&SCHEMA).await, nats().await).await;
    let domain = DomainId::mint(now());
    let (tasks, relay) = rig.relay();
    rig.append(domain, NodeStateUpdated, json!({ "n": 1 })).await;
    rig.until_published(1).await;
    server.kill9().await;
    eventually!(relay.status().failures > 0, "the relay notices");
    server.restart().await;
    eventually!(rig.db.begin().await.is_ok(), "the pool reaches the server again");
    rig.append(domain, NodeStateUpdated, json!({ "n": 2 })).await;
    assert_eq!(payloads(&rig.until_published(2).await)[1], r#"{"n":2}"#);
    eventually!(relay.status().failures == 0, "the relay is well again");
    assert!(tasks.drain(GRACE).await);
}

/// Prints how long a lone event takes from its commit to a subscriber; run it with `-- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
async fn commit_to_publish_latency() {
    let rig = Rig::new().await;
    let (_tasks, _) = rig.relay();
    let mut heard = rig.nats.client().await.subscribe("plexsphere.events.v1.>").await.unwrap();
    let mut micros = Vec::new();
    for n in 0..200 {
        rig.append(DomainId::mint(now()), NodeStateUpdated, json!({ "n": n })).await;
        let committed = Instant::now();
        heard.next().await.unwrap();
        micros.push(committed.elapsed().as_micros());
        eventually!(rig.waiting().await == 0, "the event is marked");
    }
    micros.sort_unstable();
    println!("commit to subscriber: p50 {} µs, p99 {} µs", micros[100], micros[198]);
}
