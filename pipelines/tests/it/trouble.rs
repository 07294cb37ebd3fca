use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use plexsphere_pipelines::{Route, batch};
use plexsphere_testkit::{eventually, logs};
use plexsphere_wire::subjects;
use plexsphere_wire::telemetry::{Encoding, Inflater, Limits, PayloadFormat, Signal};

use crate::world::{World, audit, headers, log, metric, origin};
use plexsphere_testkit::receiver::{Answer, Receiver};

/// Fails so many requests, then takes everything.
fn failing(times: usize, answer: Answer) -> impl Fn(&plexsphere_testkit::receiver::Seen) -> Answer + Send + Sync {
    let failed = AtomicUsize::new(0);
    move |_| if failed.fetch_add(1, Ordering::Relaxed) < times { answer.clone() } else { Answer::status(204) }
}

#[tokio::test]
async fn a_loki_that_fails_three_times_is_tried_again_with_doubling_pauses() {
    let _logs = logs::guard();
    let mut world = World::new().await;
    world.config.backoff_base_ms = 200;
    world.receiver.script(failing(3, Answer::status(503)));
    let running = world.start().await;
    world.publish(Signal::Logs, &origin(), &log("once")).await;
    world.until_settled(Route::LokiLogs).await;
    let seen = world.receiver.seen();
    assert_eq!(seen.iter().map(|seen| seen.status).collect::<Vec<_>>(), [503, 503, 503, 204]);
    for (pair, least) in seen.windows(2).zip([200, 400, 800]) {
        assert!(pair[1].at - pair[0].at >= Duration::from_millis(least), "{least}");
    }
    world.end(running).await;
}

/// All of the tier and this test share one thread here, so a batch that were opened on it would stop the clock.
#[tokio::test]
async fn a_large_batch_is_opened_away_from_the_network_threads() {
    let logs = logs::guard();
    logs.expect("dead letter stored");
    let mut world = World::new().await;
    let running = world.start().await;
    let from = origin();
    // Ten megabytes that are read to the end and are no batch only there, so that no sink has work with them.
    let text = log(&"x".repeat(2_000)).repeat(4_900) + "{}\n";
    let wire = zstd::bulk::compress(text.as_bytes(), 1).unwrap();
    let mut headers = headers(Signal::Logs, &from, &wire);
    headers.insert(subjects::HEADER_PAYLOAD, PayloadFormat::as_received(Signal::Logs, Encoding::Zstd).as_str());
    let subject = subjects::telemetry(Signal::Logs, &from);
    let limits = Limits { wire_bytes: 1 << 20, inflated_bytes: 11 << 20, records: 5_500 };
    let begun = Instant::now();
    let opened = batch::open(&subject, Some(&headers), &wire, &limits, &mut Inflater::new());
    let takes = begun.elapsed();
    assert!(matches!(opened, Err(batch::Poison::PayloadInvalid(_))), "{opened:?}");

    let longest = Arc::new(AtomicU64::new(0));
    let ticking = tokio::spawn({
        let longest = Arc::clone(&longest);
        async move {
            loop {
                let begun = Instant::now();
                tokio::time::sleep(Duration::from_millis(1)).await;
                longest.fetch_max(u64::try_from(begun.elapsed().as_micros()).unwrap(), Ordering::Relaxed);
            }
        }
    });
    // A busy machine may stop the clock as well, but hardly each time.
    let mut stood_still = Duration::MAX;
    for number in 1..=3 {
        longest.store(0, Ordering::Relaxed);
        headers.insert(subjects::HEADER_MSG_ID, format!("message-{number}"));
        world.publish_raw(&subject, headers.clone(), &wire).await;
        eventually!(world.dead_letters().await.len() == number, "it is buried");
        stood_still = stood_still.min(Duration::from_micros(longest.load(Ordering::Relaxed)));
    }
    ticking.abort();
    assert!(stood_still < takes / 2, "the thread stood still for {stood_still:?}; opening takes {takes:?}");
    world.end(running).await;
}

#[tokio::test]
async fn a_retry_after_raises_the_pause() {
    let _logs = logs::guard();
    let mut world = World::new().await;
    world.receiver.script(failing(1, Answer { retry_after: Some(1), ..Answer::status(503) }));
    let running = world.start().await;
    world.publish(Signal::Logs, &origin(), &log("once")).await;
    world.until_settled(Route::LokiLogs).await;
    let seen = world.receiver.seen();
    assert!(seen[1].at - seen[0].at >= Duration::from_secs(1));
    world.end(running).await;
}

#[tokio::test]
async fn a_siem_that_is_down_does_not_hold_loki_back() {
    let _logs = logs::guard();
    let mut world = World::new().await.with_siem();
    // Nobody listens there.
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    world.config.siem.url = Some(format!("http://{unused}/siem").parse().unwrap());
    let running = world.start().await;
    for n in 0..6 {
        world.publish(Signal::Audit, &origin(), &audit(&format!("a{n}"))).await;
    }
    world.until_settled(Route::LokiAudit).await;
    assert_eq!(world.receiver.accepted().len(), 6);
    assert_eq!(world.unacknowledged(Route::SiemAudit).await, 6);
    eventually!(running.health().degraded, "the breaker of the siem opens");
    let health = running.health();
    let open: Vec<_> = health.routes.iter().filter(|route| route.breaker_open).map(|route| route.consumer).collect();
    assert_eq!(open, ["siem-audit"]);
    assert!(running.probes()[0].ready);
    assert!(world.dead_letters().await.is_empty());
    world.end(running).await;
}

#[tokio::test]
async fn a_siem_that_answers_401_opens_the_breaker_buries_nothing_and_is_taken_up_again() {
    let _logs = logs::guard();
    let mut world = World::new().await.with_siem();
    world.receiver.script(|seen| Answer::status(if seen.is_siem() { 401 } else { 204 }));
    let running = world.start().await;
    world.publish(Signal::Audit, &origin(), &audit("login")).await;
    eventually!(running.health().degraded, "the health is degraded");
    assert!(world.dead_letters().await.is_empty());
    assert_eq!(world.unacknowledged(Route::SiemAudit).await, 1);
    assert!(world.metric(r#"plexsphere_obs_route_batches_total{consumer="siem-audit",outcome="misconfigured"}"#) >= 1);
    world.receiver.script(|_| Answer::status(204));
    world.until_settled(Route::SiemAudit).await;
    eventually!(!running.health().degraded, "the breaker closes");
    world.end(running).await;
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_counts_as_misconfigured() {
    let _logs = logs::guard();
    let mut world = World::new().await;
    let elsewhere = Receiver::start().await;
    let location = format!("{}/api/v1/push", elsewhere.url);
    world.receiver.script(move |_| Answer { location: Some(location.clone()), ..Answer::status(302) });
    let running = world.start().await;
    world.publish(Signal::Metrics, &origin(), &metric("x", 1.0)).await;
    let line = r#"plexsphere_obs_route_batches_total{consumer="mimir-metrics",outcome="misconfigured"}"#;
    eventually!(world.metric(line) >= 1, "the redirect is counted");
    eventually!(running.health().degraded, "the breaker opens");
    assert!(elsewhere.seen().is_empty());
    world.end(running).await;
}

#[tokio::test]
async fn one_throttled_tenant_leaves_the_others_alone_and_the_breaker_closed() {
    let _logs = logs::guard();
    let mut world = World::new().await;
    world.config.backoff_base_ms = 100;
    let (throttled, other) = (origin(), origin());
    let tenant = throttled.domain.to_string();
    world.receiver.script(move |seen| Answer::status(if seen.tenant == tenant { 429 } else { 204 }));
    let running = world.start().await;
    world.publish(Signal::Metrics, &throttled, &metric("x", 0.0)).await;
    for n in 0..5 {
        world.publish(Signal::Metrics, &other, &metric("x", f64::from(n))).await;
        eventually!(world.unacknowledged(Route::MimirMetrics).await == 1, "batch {n} of the other passes");
    }
    let refused = |world: &World| world.receiver.seen().iter().filter(|seen| seen.status == 429).count();
    eventually!(refused(&world) >= 3, "the throttled one is tried again");
    assert!(!running.health().degraded);
    assert_eq!(world.metric(r#"plexsphere_obs_route_breaker_state{consumer="mimir-metrics"}"#), 0);
    world.end(running).await;
}

#[tokio::test]
async fn a_bus_that_is_killed_and_comes_back_is_drained_again() {
    let logs = logs::guard();
    logs.expect("async_nats");
    let mut world = World::on(plexsphere_testkit::nats_own().await).await;
    let running = world.start().await;
    world.publish(Signal::Logs, &origin(), &log("before")).await;
    eventually!(world.receiver.accepted().len() == 1, "the first line arrives");
    world.nats.kill9().await;
    world.nats.restart().await;
    let client = world.nats.client().await;
    world.jetstream = async_nats::jetstream::new(client);
    world.publish(Signal::Logs, &origin(), &log("after")).await;
    eventually!(world.receiver.accepted().len() >= 2, "the second line arrives");
    assert!(running.probes()[0].ready);
    world.end(running).await;
}
