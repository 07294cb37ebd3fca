use std::time::Duration;

use plexsphere_pipelines::{Route, SinkChoice};
use plexsphere_testkit::{eventually, logs};
use plexsphere_wire::telemetry::Signal;

use crate::world::{World, audit, log, metric, origin};
use plexsphere_testkit::receiver::{Answer, Push};

#[tokio::test]
async fn a_metrics_batch_is_one_push_under_its_domain_with_a_prefixed_name() {
    let _logs = logs::guard();
    let mut world = World::new().await;
    let running = world.start().await;
    let from = origin();
    world.publish(Signal::Metrics, &from, &metric("cpu.load", 0.5)).await;
    world.until_settled(Route::MimirMetrics).await;
    let [push] = world.receiver.accepted().try_into().unwrap();
    assert_eq!(push.tenant, from.domain.to_string());
    let Push::Mimir(request) = &push.push else { panic!("not mimir") };
    let labels = &request.timeseries[0].labels;
    let value = |name: &str| labels.iter().find(|label| label.name == name).unwrap().value.clone();
    assert_eq!(value("__name__"), "node_cpu_load");
    assert_eq!(value("node_id"), from.node.to_string());
    eventually!(
        world.metric(r#"plexsphere_obs_route_batches_total{consumer="mimir-metrics",outcome="delivered"}"#) == 1,
        "the batch is counted"
    );
    world.end(running).await;
}

#[tokio::test]
async fn batches_of_two_domains_in_one_fetch_are_two_requests() {
    let _logs = logs::guard();
    let mut world = World::new().await;
    let (one, other) = (origin(), origin());
    for n in 0..3 {
        world.publish(Signal::Logs, &one, &log(&format!("one {n}"))).await;
        world.publish(Signal::Logs, &other, &log(&format!("other {n}"))).await;
    }
    let running = world.start().await;
    world.until_settled(Route::LokiLogs).await;
    let pushes = world.receiver.accepted();
    assert_eq!(pushes.len(), 2);
    for push in pushes {
        let (mine, foreign) = if push.tenant == one.domain.to_string() { ("one", "other") } else { ("other", "one") };
        assert_eq!(push.records(), 3);
        assert!(push.mentions(mine) && !push.mentions(foreign));
    }
    world.end(running).await;
}

#[tokio::test]
async fn without_a_siem_both_of_its_consumers_drain_and_count_what_they_skip() {
    let _logs = logs::guard();
    let mut world = World::new().await;
    let running = world.start().await;
    world.publish(Signal::Audit, &origin(), &audit("login")).await;
    world.publish(Signal::Logs, &origin(), &log("line")).await;
    world.until_settled(Route::SiemAudit).await;
    world.until_settled(Route::SiemLogs).await;
    for consumer in ["siem-audit", "siem-logs"] {
        let line = format!("plexsphere_obs_route_skipped_total{{consumer=\"{consumer}\"}}");
        eventually!(world.metric(&line) == 1, "{consumer} counts");
    }
    eventually!(world.receiver.accepted().len() == 2, "loki has both");
    world.end(running).await;
}

#[tokio::test]
async fn audit_reaches_loki_and_the_siem_and_logs_reach_the_siem_only_for_the_listed_domains() {
    let _logs = logs::guard();
    let mut world = World::new().await.with_siem();
    let (listed, other) = (origin(), origin());
    world.config.siem.logs = true;
    world.config.siem.log_domains = vec![listed.domain];
    let running = world.start().await;
    world.publish(Signal::Audit, &other, &audit("login")).await;
    world.publish(Signal::Logs, &other, &log("unlisted line")).await;
    world.publish(Signal::Logs, &listed, &log("listed line")).await;
    for route in [Route::LokiAudit, Route::LokiLogs, Route::SiemAudit, Route::SiemLogs] {
        world.until_settled(route).await;
    }
    let siem: Vec<_> = world.receiver.accepted().into_iter().filter(|push| push.is_siem()).collect();
    assert_eq!(siem.len(), 2);
    assert!(siem.iter().any(|push| push.mentions("listed line") && push.tenant == listed.domain.to_string()));
    assert!(siem.iter().any(|push| push.mentions("login")));
    assert!(siem.iter().all(|push| push.batch_id.as_ref().is_some_and(|id| id.len() == 64)));
    world.end(running).await;
}

#[tokio::test]
async fn a_credential_is_sent_and_a_changed_one_is_sent_from_then_on() {
    let _logs = logs::guard();
    let mut world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "Bearer first").unwrap();
    world.config.loki.authorization_file = Some(file.clone());
    let running = world.start().await;
    world.publish(Signal::Logs, &origin(), &log("a")).await;
    eventually!(world.receiver.accepted().len() == 1, "the first line arrives");
    std::fs::write(&file, "Bearer the second").unwrap();
    world.publish(Signal::Logs, &origin(), &log("b")).await;
    eventually!(world.receiver.accepted().len() == 2, "the second line arrives");
    let sent: Vec<_> = world.receiver.accepted().into_iter().map(|push| push.authorization.unwrap()).collect();
    assert_eq!(sent, ["Bearer first", "Bearer the second"]);
    world.end(running).await;
}

#[tokio::test]
async fn a_signal_that_is_switched_off_is_drained_to_nowhere() {
    let _logs = logs::guard();
    let mut world = World::new().await;
    world.config.metrics = SinkChoice::Off;
    let running = world.start().await;
    world.publish(Signal::Metrics, &origin(), &metric("x", 1.0)).await;
    world.until_settled(Route::MimirMetrics).await;
    assert!(world.receiver.seen().is_empty());
    world.end(running).await;
}

#[tokio::test]
async fn shutdown_finishes_what_is_in_flight_and_loses_nothing() {
    let _logs = logs::guard();
    let mut world = World::new().await;
    world.config.topology.ack_wait_seconds = 2;
    world.receiver.script(|_| Answer { delay: Duration::from_millis(400), ..Answer::status(204) });
    let running = world.start().await;
    for n in 0..10 {
        world.publish(Signal::Logs, &origin(), &log(&format!("line-{n}."))).await;
    }
    eventually!(!world.receiver.seen().is_empty(), "requests are in flight");
    let before = std::time::Instant::now();
    running.shutdown().await;
    assert!(before.elapsed() < Duration::from_secs(5));
    let running = world.start().await;
    world.until_settled(Route::LokiLogs).await;
    let pushes = world.receiver.accepted();
    for n in 0..10 {
        let times = pushes.iter().filter(|push| push.mentions(&format!("line-{n}."))).count();
        assert_eq!(times, 1, "line {n}");
    }
    world.end(running).await;
}

#[tokio::test]
async fn a_process_that_dies_before_the_acknowledgement_is_followed_by_the_same_bytes() {
    let _logs = logs::guard();
    let mut world = World::new().await;
    world.config.topology.ack_wait_seconds = 1;
    world.config.drain_seconds = 0;
    world.receiver.script(|_| Answer { delay: Duration::from_secs(30), ..Answer::status(200) });
    let from = origin();
    world.publish(Signal::Metrics, &from, &metric("a", 1.0)).await;
    world.publish(Signal::Metrics, &from, &metric("b", 2.0)).await;
    let running = world.start().await;
    eventually!(world.receiver.seen().len() == 1, "the request is taken");
    running.shutdown().await;
    world.receiver.script(|_| Answer::status(200));
    let running = world.start().await;
    world.until_settled(Route::MimirMetrics).await;
    let [first, second] = world.receiver.seen().try_into().unwrap();
    assert_eq!(first.bytes, second.bytes);
    world.end(running).await;
}

#[tokio::test]
async fn a_replica_that_does_not_route_keeps_the_streams_and_drains_nothing() {
    let _logs = logs::guard();
    let mut world = World::new().await;
    world.config.routing_enabled = false;
    let running = world.start().await;
    world.publish(Signal::Logs, &origin(), &log("waits")).await;
    running.shutdown().await;
    assert_eq!(world.unacknowledged(Route::LokiLogs).await, 1);
    assert!(world.receiver.seen().is_empty());
}

#[tokio::test]
async fn a_backlog_of_large_batches_is_fetched_piece_by_piece() {
    let _logs = logs::guard();
    let mut world = World::new().await;
    world.config.topology.logs_max_bytes = 128 << 20;
    plexsphere_pipelines::streams::ensure(&world.jetstream, &world.config.topology).await.unwrap();
    let from = origin();
    let line = "x".repeat(60_000);
    for n in 0..40 {
        let body: String = (0..18).map(|record| log(&format!("{n}/{record} {line}"))).collect();
        world.publish(Signal::Logs, &from, &body).await;
    }
    let running = world.start().await;
    world.until_settled(Route::LokiLogs).await;
    assert_eq!(world.receiver.accepted().iter().map(|seen| seen.records()).sum::<usize>(), 40 * 18);
    world.end(running).await;
}
