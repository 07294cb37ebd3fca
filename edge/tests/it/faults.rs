use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use plexsphere_edge::{Clock, SystemClock};
use plexsphere_testkit as testkit;
use plexsphere_wire::Timestamp;

use crate::harness::{self, browser, now, rig, rig_with};

struct Brittle {
    clock: SystemClock,
    broken: AtomicBool,
}

impl Clock for Brittle {
    fn now(&self) -> Timestamp {
        assert!(!self.broken.load(Ordering::SeqCst), "the clock is broken");
        self.clock.now()
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
}

#[tokio::test]
async fn a_panic_is_a_500_and_the_connection_lives() {
    let logs = testkit::logs::guard();
    logs.expect("handler panicked");
    let nats = testkit::nats().await;
    let clock = Arc::new(Brittle { clock: SystemClock::new(), broken: AtomicBool::new(false) });
    let rig = rig_with(nats.client().await, clock.clone(), |config| config.events.check_millis = 600_000).await;
    let client = browser();
    let beat = || {
        client
            .post(rig.path("heartbeat"))
            .header("authorization", rig.bearer())
            .header("x-correlation-id", "c-7")
            .header("content-type", "application/json")
            .body("{}")
    };
    clock.broken.store(true, Ordering::SeqCst);
    let response = beat().send().await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["x-correlation-id"]), (500, &"c-7".parse().unwrap()));
    let body: serde_json::Value = response.json().await.unwrap();
    assert_eq!(body["code"], "internal");
    clock.broken.store(false, Ordering::SeqCst);
    assert_eq!(beat().send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn telemetry_outlives_the_directory_feed_for_the_grace_time() {
    let mut own = testkit::nats_own().await;
    let rig = harness::rig_on(own.client().await, |config| config.directory.grace_seconds = 4).await;
    let code = || async {
        let request = browser().post(rig.path("logs")).header("authorization", rig.bearer());
        let answer = harness::send(request.header("x-plexsphere-sent-at", now().to_string()).body("x")).await;
        answer.json()["code"].as_str().unwrap().to_owned()
    };
    own.kill9().await;
    assert_eq!(code().await, "ingest_batch_malformed", "the map is still believed");
    testkit::eventually!(code().await == "datastore_unavailable", "the map is no longer believed");
    testkit::eventually!(rig.probes.iter().any(|probe| !probe.ready()), "readiness says so");
    own.restart().await;
    testkit::eventually!(code().await == "ingest_batch_malformed", "the map is believed again");
}

#[tokio::test]
async fn every_probe_has_its_name_and_the_registry_its_metrics() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    let names: Vec<_> = rig.probes.iter().map(|probe| probe.name()).collect();
    assert_eq!(names, ["edge-directory", "event-stream", "obs-ingest-buffer"]);
    assert!(rig.probes.iter().all(|probe| probe.reading().0));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &rig.registry).unwrap();
    assert!(text.contains("plexsphere_edge_streams 0"));
}

#[tokio::test]
async fn a_missing_durable_closes_the_surface_and_a_new_one_opens_it() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    let code = || async {
        let request = browser().post(rig.path("logs")).header("authorization", rig.bearer());
        let response = request.header("x-plexsphere-sent-at", now().to_string()).body("x").send().await.unwrap();
        let body: serde_json::Value = response.json().await.unwrap();
        body["code"].as_str().unwrap().to_owned()
    };
    let stream = rig.jetstream.get_stream("PLEXSPHERE_OBS_AUDIT").await.unwrap();
    stream.delete_consumer("siem-audit").await.unwrap();
    testkit::eventually!(code().await == "ingest_buffer_unavailable", "the surface closes");
    let config =
        async_nats::jetstream::consumer::pull::Config { durable_name: Some("siem-audit".into()), ..Default::default() };
    stream.create_consumer(config).await.unwrap();
    testkit::eventually!(code().await == "ingest_batch_malformed", "the surface opens");
}

#[tokio::test]
async fn a_lost_bus_keeps_open_streams_and_refuses_new_ones() {
    let mut own = testkit::nats_own().await;
    let rig = harness::rig_on(own.client().await, |config| config.events.keep_alive_millis = 200).await;
    let ask = || browser().get(rig.path("events")).header("authorization", rig.bearer()).send();
    let mut stream = ask().await.unwrap();
    own.kill9().await;
    let refused = async {
        let response = ask().await.unwrap();
        response.status() == 503 && response.headers().contains_key("retry-after")
    };
    assert!(refused.await);
    for _ in 0..5 {
        assert!(stream.chunk().await.unwrap().is_some(), "the open stream still hears keep-alives");
    }
    own.restart().await;
    testkit::eventually!(ask().await.unwrap().status() == 200, "new streams open again");
    let sequence = rig
        .publish(
            plexsphere_wire::subjects::domain_events(rig.domain),
            plexsphere_wire::envelope::EventType::PeerRegistered,
        )
        .await;
    let mut parser = plexsphere_wire::sse::Parser::default();
    let heard = tokio::time::timeout(Duration::from_secs(40), async {
        loop {
            let items = parser.feed(&stream.chunk().await.unwrap().expect("the stream stays open"));
            if items
                .iter()
                .any(|item| matches!(item, plexsphere_wire::sse::Item::Frame { id, .. } if *id == sequence.to_string()))
            {
                return;
            }
        }
    });
    heard.await.expect("the stream that was open before the loss hears what comes after it");
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up() {
    let _logs = testkit::logs::guard();
    let rig = rig(|config| config.listen.body_timeout_seconds = 1).await;
    let body = reqwest::Body::wrap_stream(futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
    let request = browser().post(rig.path("logs")).header("authorization", rig.bearer());
    let response = request.header("x-plexsphere-sent-at", now().to_string()).body(body).send().await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["connection"]), (408, &"close".parse().unwrap()));
}

#[tokio::test]
async fn bodies_that_one_node_dribbles_delay_no_other_and_end_at_the_deadline() {
    let _logs = testkit::logs::guard();
    let rig = rig(|config| {
        config.listen.body_timeout_seconds = 3;
        config.ingest.max_in_flight = 9;
    })
    .await;
    let other = harness::new_node(rig.domain);
    harness::put_node(&rig.store, &other).await;
    let post = |node: plexsphere_wire::NodeId, operation: &str, body: reqwest::Body| {
        let request = browser().post(format!("{}/v1/nodes/{node}/{operation}", rig.http()));
        let request = request.header("authorization", harness::bearer(node)).header("content-type", "application/json");
        request.header("x-plexsphere-sent-at", now().to_string()).body(body).send()
    };
    let dribble = || {
        let ticks = tokio::time::interval(Duration::from_millis(50));
        reqwest::Body::wrap_stream(futures_util::stream::unfold(ticks, async |mut ticks| {
            ticks.tick().await;
            Some((Ok::<_, std::io::Error>(bytes::Bytes::from_static(b" ")), ticks))
        }))
    };
    let slow = rig.node.node;
    let mut dribbles: Vec<_> = (0..8).map(|_| tokio::spawn(post(slow, "logs", dribble()))).collect();
    dribbles.push(tokio::spawn(post(slow, "heartbeat", dribble())));
    testkit::eventually!(post(slow, "logs", "x".into()).await.unwrap().status() == 503, "all its places are taken");
    let line = r#"{"severity":"info","message":"up","timestamp":"2026-11-24T08:00:00.5Z"}"#;
    testkit::eventually!(post(other.node, "logs", line.into()).await.unwrap().status() == 202, "the other is served");
    for _ in 0..5 {
        assert_eq!(post(other.node, "logs", line.into()).await.unwrap().status(), 202);
        assert_eq!(post(other.node, "heartbeat", "{}".into()).await.unwrap().status(), 400, "read and judged");
    }
    assert!(dribbles.iter().all(|dribble| !dribble.is_finished()), "and has not waited for them");
    for dribble in dribbles {
        let response = dribble.await.unwrap().unwrap();
        assert_eq!((response.status().as_u16(), &response.headers()["connection"]), (408, &"close".parse().unwrap()));
        let problem: serde_json::Value = response.json().await.unwrap();
        assert_eq!(problem["code"], "request_timeout");
    }
    assert_eq!(post(slow, "logs", line.into()).await.unwrap().status(), 202, "its places are free again");
}

#[tokio::test]
async fn more_batches_than_the_ceiling_wait_for_another_time() {
    let _logs = testkit::logs::guard();
    let rig = rig(|config| {
        config.ingest.max_in_flight = 1;
        config.listen.body_timeout_seconds = 2;
    })
    .await;
    let post = |body: reqwest::Body| {
        let request = browser().post(rig.path("logs")).header("authorization", rig.bearer());
        request.header("x-plexsphere-sent-at", now().to_string()).body(body).send()
    };
    let never = futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
    let held = tokio::spawn(post(reqwest::Body::wrap_stream(never)));
    testkit::eventually!(post("x".into()).await.unwrap().status() == 503, "the second one is refused");
    assert_eq!(held.await.unwrap().unwrap().status(), 408);
    assert_eq!(post("x".into()).await.unwrap().status(), 400);
}
