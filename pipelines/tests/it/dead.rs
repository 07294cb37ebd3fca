use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::jetstream::stream::{Config, Stream};
use plexsphere_pipelines::{ReplayError, Route, replay_dead, streams};
use plexsphere_testkit::{eventually, logs};
use plexsphere_wire::intake::{COMMAND_LINE, SystemIntake};
use plexsphere_wire::subjects;
use plexsphere_wire::telemetry::{Encoding, PayloadFormat, Signal};

use crate::world::{World, audit, headers, log, metric, origin, reason};
use plexsphere_testkit::receiver::{Answer, Push};

const STORED: &str = "dead letter stored";

#[tokio::test]
async fn an_audit_batch_of_which_loki_keeps_a_part_is_acknowledged_counted_and_kept_as_a_dead_letter() {
    let logs = logs::guard();
    logs.expect(STORED);
    let mut world = World::new().await;
    world.receiver.script(|_| Answer::status(400));
    let running = world.start().await;
    let from = origin();
    world.publish(Signal::Audit, &from, &[audit("old"), audit("new")].concat()).await;
    world.until_settled(Route::LokiAudit).await;
    let [letter] = world.dead_letters().await.try_into().unwrap();
    assert_eq!(reason(&letter), "partial");
    assert_eq!(letter.subject.as_str(), subjects::dead_letter("loki-audit", Some(from.domain)));
    assert_eq!(letter.headers.get("Plexsphere-Dead-Detail").unwrap().as_str(), "said the receiver");
    assert!(world.metric(r#"plexsphere_obs_route_partial_records_total{consumer="loki-audit"}"#) >= 1);
    assert!(running.health().degraded);
    world.end(running).await;
}

#[tokio::test]
async fn metrics_of_which_mimir_keeps_a_part_are_acknowledged_without_a_dead_letter() {
    let _logs = logs::guard();
    let mut world = World::new().await;
    world.receiver.script(|_| Answer::status(400));
    let running = world.start().await;
    world.publish(Signal::Metrics, &origin(), &metric("x", 1.0)).await;
    world.until_settled(Route::MimirMetrics).await;
    assert!(world.dead_letters().await.is_empty());
    world.end(running).await;
}

#[tokio::test]
async fn a_message_whose_header_names_another_domain_reaches_no_sink() {
    let logs = logs::guard();
    logs.expect(STORED);
    let mut world = World::new().await;
    let running = world.start().await;
    let (subject, header) = (origin(), origin());
    let body = metric("x", 1.0);
    let headers = headers(Signal::Metrics, &header, body.as_bytes());
    world.publish_raw(&subjects::telemetry(Signal::Metrics, &subject), headers, body.as_bytes()).await;
    world.until_settled(Route::MimirMetrics).await;
    let [letter] = world.dead_letters().await.try_into().unwrap();
    assert_eq!(reason(&letter), "identity_mismatch");
    assert_eq!(letter.subject.as_str(), subjects::dead_letter("mimir-metrics", None));
    assert_eq!(letter.payload, body.as_bytes());
    assert!(world.receiver.seen().is_empty());
    world.end(running).await;
}

#[tokio::test]
async fn a_payload_that_inflates_past_its_cap_is_a_dead_letter_and_reaches_no_sink() {
    let logs = logs::guard();
    logs.expect(STORED);
    let mut world = World::new().await;
    let running = world.start().await;
    let from = origin();
    let bomb = zstd::bulk::compress(&vec![b' '; 64 << 20], 1).unwrap();
    let mut headers = headers(Signal::Metrics, &from, &bomb);
    headers.insert(subjects::HEADER_PAYLOAD, PayloadFormat::rewritten(Encoding::Zstd).as_str());
    world.publish_raw(&subjects::telemetry(Signal::Metrics, &from), headers, &bomb).await;
    world.until_settled(Route::MimirMetrics).await;
    let [letter] = world.dead_letters().await.try_into().unwrap();
    assert_eq!(reason(&letter), "payload_invalid");
    assert!(world.receiver.seen().is_empty());
    world.end(running).await;
}

#[tokio::test]
async fn of_two_merged_batches_the_good_one_is_delivered_and_the_poison_is_buried() {
    let logs = logs::guard();
    logs.expect(STORED);
    let mut world = World::new().await;
    let from = origin();
    world.publish(Signal::Metrics, &from, &metric("good", 1.0)).await;
    let poison = metric("poison", 1.0);
    let sequence = world.publish(Signal::Metrics, &from, &poison).await;
    world.receiver.script(|seen| Answer::status(if seen.mentions("poison") { 409 } else { 204 }));
    let running = world.start().await;
    world.until_settled(Route::MimirMetrics).await;
    let [accepted] = world.receiver.accepted().try_into().unwrap();
    assert!(accepted.mentions("node_good"));
    let [letter] = world.dead_letters().await.try_into().unwrap();
    assert_eq!((reason(&letter), letter.payload.as_ref()), ("permanent_rejection", poison.as_bytes()));
    assert_eq!(letter.headers.get("Plexsphere-Dead-Status").unwrap().as_str(), "409");
    assert_eq!(letter.headers.get("Nats-Msg-Id").unwrap().as_str(), format!("mimir-metrics:{sequence}"));
    world.end(running).await;
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_halved_until_only_the_record_that_is_too_large_alone_is_buried() {
    let logs = logs::guard();
    logs.expect(STORED);
    let mut world = World::new().await;
    world.receiver.script(|seen| {
        let huge = seen.mentions("huge");
        Answer::status(if huge || seen.records() > 2 { 413 } else { 204 })
    });
    let running = world.start().await;
    let body: String = ["a", "b", "huge", "c", "d"].map(log).concat();
    world.publish(Signal::Logs, &origin(), &body).await;
    world.until_settled(Route::LokiLogs).await;
    let delivered: usize = world.receiver.accepted().iter().map(|seen| seen.records()).sum();
    assert_eq!(delivered, 4);
    let [letter] = world.dead_letters().await.try_into().unwrap();
    assert_eq!(reason(&letter), "record_too_large");
    assert!(std::str::from_utf8(&letter.payload).unwrap().contains("huge"));
    assert!(letter.headers.get("Nats-Msg-Id").unwrap().as_str().ends_with(":2"));
    world.end(running).await;
}

#[tokio::test]
async fn while_dead_letters_cannot_be_stored_the_poison_is_given_back_and_not_lost() {
    let logs = logs::guard();
    logs.expect("dead letter not stored").expect(STORED);
    let mut world = World::new().await;
    world.receiver.script(|_| Answer::status(409));
    let running = world.start().await;
    world.jetstream.delete_stream(subjects::DEAD_STREAM).await.unwrap();
    world.publish(Signal::Metrics, &origin(), &metric("x", 1.0)).await;
    eventually!(world.receiver.seen().len() >= 2, "the poison comes again");
    assert_eq!(world.unacknowledged(Route::MimirMetrics).await, 1);
    streams::ensure(&world.jetstream, &world.config.topology).await.unwrap();
    world.until_settled(Route::MimirMetrics).await;
    assert_eq!(world.dead_letters().await.len(), 1);
    world.end(running).await;
}

#[tokio::test]
async fn a_batch_that_is_retried_past_the_horizon_is_buried_before_the_server_deletes_it() {
    let logs = logs::guard();
    logs.expect(STORED);
    let mut world = World::new().await;
    world.config.topology.metrics_max_age_seconds = 600;
    world.receiver.script(|_| Answer::status(503));
    // The horizon of ten minutes of retention is five; the tier's clock is six minutes ahead.
    let clock = plexsphere_pipelines::Clock::system();
    let ahead = plexsphere_pipelines::Clock::from_fn(move || clock.now().plus(std::time::Duration::from_secs(360)));
    let client = world.nats.client().await;
    let config = world.config.clone();
    world.publish(Signal::Metrics, &origin(), &metric("x", 1.0)).await;
    let running =
        plexsphere_pipelines::Pipelines::start_with_clock(config, client, &mut world.registry, ahead).await.unwrap();
    world.until_settled(Route::MimirMetrics).await;
    let [letter] = world.dead_letters().await.try_into().unwrap();
    assert_eq!(reason(&letter), "retry_exhausted");
    world.end(running).await;
}

#[tokio::test]
async fn while_the_breaker_is_open_all_that_grows_too_old_is_buried_without_an_attempt_and_the_rest_is_kept() {
    const OLD: usize = 50;
    let logs = logs::guard();
    logs.expect(STORED);
    let mut world = World::new().await;
    world.config.topology.metrics_max_age_seconds = 600;
    // The breaker opens at the first 401 and stays open for longer than the test lasts.
    world.config.backoff_base_ms = 300_000;
    world.receiver.script(|_| Answer::status(401));
    let (system, ahead) = (plexsphere_pipelines::Clock::system(), Arc::new(AtomicU64::new(0)));
    let seconds = Arc::clone(&ahead);
    let clock = plexsphere_pipelines::Clock::from_fn(move || {
        system.now().plus(std::time::Duration::from_secs(seconds.load(Ordering::SeqCst)))
    });
    let (client, config) = (world.nats.client().await, world.config.clone());
    let running =
        plexsphere_pipelines::Pipelines::start_with_clock(config, client, &mut world.registry, clock).await.unwrap();
    world.publish(Signal::Metrics, &origin(), &metric("first", 1.0)).await;
    eventually!(running.health().degraded, "the breaker opens");
    let domains = [origin(), origin()];
    for (n, from) in (0..OLD).zip(domains.iter().cycle()) {
        world.publish(Signal::Metrics, from, &metric(&format!("m{n}"), 1.0)).await;
    }
    assert!(world.dead_letters().await.is_empty());
    // The horizon of ten minutes of retention is five minutes.
    ahead.store(301, Ordering::SeqCst);
    eventually!(world.dead_letters().await.len() >= OLD, "all that is old is buried");
    let letters = world.dead_letters().await;
    assert!(letters.iter().all(|letter| reason(letter) == "retry_exhausted"));
    assert_eq!(
        letters.iter().filter(|letter| letter.headers.get("Plexsphere-Dead-Status").unwrap().as_str() == "0").count(),
        OLD
    );
    ahead.store(0, Ordering::SeqCst);
    world.publish(Signal::Metrics, &domains[0], &metric("young", 1.0)).await;
    assert!(world.unacknowledged(Route::MimirMetrics).await >= 1);
    assert_eq!(world.receiver.seen().len(), 1);
    world.end(running).await;
}

/// The stream of audit rows, as control and edges make it.
async fn audit_intake(world: &World) -> Stream {
    let config = Config {
        name: subjects::AUDIT_INTAKE_STREAM.to_owned(),
        subjects: vec![subjects::AUDIT_INTAKE.to_owned()],
        ..Config::default()
    };
    world.jetstream.create_stream(config).await.unwrap()
}

#[tokio::test]
async fn replayed_dead_letters_go_round_again_within_the_duplicate_window_and_leave_the_stream() {
    let logs = logs::guard();
    logs.expect(STORED);
    let mut world = World::new().await;
    world.receiver.script(|_| Answer::status(409));
    let running = world.start().await;
    let (from, other) = (origin(), origin());
    world.publish(Signal::Logs, &from, &log("mine")).await;
    world.publish(Signal::Logs, &other, &log("not mine")).await;
    eventually!(world.dead_letters().await.len() == 2, "both are buried");
    world.receiver.script(|_| Answer::status(204));
    let unrecorded = replay_dead(&world.jetstream, Route::LokiLogs, from.domain).await;
    assert!(matches!(unrecorded, Err(ReplayError::Unrecordable(_))), "{unrecorded:?}");
    assert_eq!(world.dead_letters().await.len(), 2, "what cannot be recorded is not done");
    let rows = audit_intake(&world).await;
    assert_eq!(replay_dead(&world.jetstream, Route::LokiLogs, from.domain).await.unwrap(), 1);
    let row: SystemIntake = serde_json::from_slice(&rows.get_raw_message(1).await.unwrap().payload).unwrap();
    assert_eq!((row.domain, row.subject, row.denied), (None, COMMAND_LINE, None));
    assert_eq!((row.relation.as_str(), row.object_type.as_str()), ("telemetry.replay_dead", "dead_letters"));
    assert_eq!(row.object_id, format!("loki-logs/{}/1", from.domain));
    eventually!(world.receiver.accepted().len() == 1, "the replayed one arrives");
    let accepted = &world.receiver.accepted()[0];
    let Push::Loki(push) = &accepted.push else { panic!("not loki") };
    assert_eq!(push.streams[0].entries[0].line, "mine");
    assert_eq!(world.dead_letters().await.len(), 1);
    assert_eq!(replay_dead(&world.jetstream, Route::LokiLogs, from.domain).await.unwrap(), 0);
    world.end(running).await;
}

#[tokio::test]
async fn a_batch_that_was_committed_in_an_atomic_group_is_buried_and_replayed_like_any_other() {
    let logs = logs::guard();
    logs.expect(STORED);
    let mut world = World::new().await;
    world.receiver.script(|_| Answer::status(409));
    let running = world.start().await;
    let from = origin();
    for (sequence, body) in [log("first"), log("second")].iter().enumerate() {
        let mut headers = headers(Signal::Logs, &from, body.as_bytes());
        headers.insert("Nats-Batch-Id", "group");
        headers.insert("Nats-Batch-Sequence", (sequence + 1).to_string());
        if sequence == 1 {
            headers.insert("Nats-Batch-Commit", "1");
        }
        let subject = subjects::telemetry(Signal::Logs, &from);
        let reply = world.client.request_with_headers(subject, headers, body.clone().into()).await.unwrap();
        assert!(!std::str::from_utf8(&reply.payload).unwrap().contains("error"), "{:?}", reply.payload);
    }
    eventually!(world.dead_letters().await.len() == 2, "both are buried");
    world.receiver.script(|_| Answer::status(204));
    audit_intake(&world).await;
    assert_eq!(replay_dead(&world.jetstream, Route::LokiLogs, from.domain).await.unwrap(), 2);
    world.until_settled(Route::LokiLogs).await;
    assert_eq!(world.receiver.accepted().iter().map(|seen| seen.records()).sum::<usize>(), 2);
    world.end(running).await;
}
