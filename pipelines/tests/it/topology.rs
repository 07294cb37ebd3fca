use plexsphere_pipelines::streams::{self, Ensured, TopologyError, ensure, stream_names};
use plexsphere_pipelines::{Route, TopologyConfig};
use plexsphere_testkit::{eventually, logs};
use plexsphere_wire::subjects;
use plexsphere_wire::telemetry::Signal;

use crate::world::{World, log, origin, topology};

#[tokio::test]
async fn four_streams_and_five_durables_are_created_once_with_the_settings_of_the_design() {
    let _logs = logs::guard();
    let jetstream = plexsphere_testkit::nats().await.jetstream().await;
    let first = ensure(&jetstream, &topology()).await.unwrap();
    assert_eq!(first.created_streams.len(), 4);
    assert!(first.recreated.is_empty());
    assert_eq!(ensure(&jetstream, &topology()).await.unwrap(), Ensured::default());
    for name in stream_names() {
        let config = jetstream.get_stream(name).await.unwrap().cached_info().config.clone();
        let dead = name == subjects::DEAD_STREAM;
        let interest = async_nats::jetstream::stream::RetentionPolicy::Interest;
        assert_eq!(config.retention == interest, !dead, "{name}");
        assert_eq!(config.discard == async_nats::jetstream::stream::DiscardPolicy::New, !dead, "{name}");
        assert_eq!(config.duplicate_window.as_secs(), 600, "{name}");
        assert_eq!(config.storage, async_nats::jetstream::stream::StorageType::File, "{name}");
    }
    for route in Route::ALL {
        let stream = jetstream.get_stream(route.stream()).await.unwrap();
        let config = stream.consumer_info(route.durable()).await.unwrap().config;
        assert_eq!((config.ack_wait.as_secs(), config.max_ack_pending, config.max_deliver), (60, 4_096, -1));
        assert!(config.filter_subject.is_empty());
    }
}

#[tokio::test]
async fn sizes_that_the_server_does_not_have_are_halved_until_they_fit_and_then_left_alone() {
    let _logs = logs::guard();
    let jetstream = plexsphere_testkit::nats().await.jetstream().await;
    let absurd = TopologyConfig { logs_max_bytes: 1 << 60, ..topology() };
    let ensured = ensure(&jetstream, &absurd).await.unwrap();
    assert!(ensured.halvings > 0);
    assert_eq!(ensure(&jetstream, &absurd).await.unwrap(), Ensured::default());
    let logs = jetstream.get_stream(subjects::telemetry_stream(Signal::Logs)).await.unwrap();
    assert!(logs.cached_info().config.max_bytes < 1 << 60);
    assert!(logs.cached_info().config.max_bytes >= streams::MIN_STREAM_BYTES);
}

#[tokio::test]
async fn a_changed_age_is_applied_and_a_changed_retention_is_an_error() {
    let _logs = logs::guard();
    let jetstream = plexsphere_testkit::nats().await.jetstream().await;
    ensure(&jetstream, &topology()).await.unwrap();
    let longer = TopologyConfig { metrics_max_age_seconds: 90_000, ack_wait_seconds: 45, ..topology() };
    ensure(&jetstream, &longer).await.unwrap();
    let metrics = jetstream.get_stream(Route::MimirMetrics.stream()).await.unwrap();
    assert_eq!(metrics.cached_info().config.max_age.as_secs(), 90_000);
    assert_eq!(metrics.consumer_info("mimir-metrics").await.unwrap().config.ack_wait.as_secs(), 45);

    jetstream.delete_stream(subjects::DEAD_STREAM).await.unwrap();
    let other = async_nats::jetstream::stream::Config {
        name: subjects::DEAD_STREAM.to_owned(),
        subjects: vec![subjects::DEAD_ALL.to_owned()],
        retention: async_nats::jetstream::stream::RetentionPolicy::WorkQueue,
        max_bytes: 16 << 20,
        ..Default::default()
    };
    jetstream.create_stream(other).await.unwrap();
    let error = ensure(&jetstream, &longer).await.unwrap_err();
    assert!(matches!(error, TopologyError::Settings { setting: "retention", .. }), "{error}");
}

#[tokio::test]
async fn a_durable_that_vanishes_is_recreated_counted_and_drained_again() {
    let logs = logs::guard();
    logs.expect("durable had vanished");
    let mut world = World::new().await;
    let running = world.start().await;
    let stream = world.jetstream.get_stream_no_info(Route::LokiLogs.stream()).await.unwrap();
    stream.delete_consumer("loki-logs").await.unwrap();
    let line = "plexsphere_obs_route_consumer_recreated_total{consumer=\"loki-logs\"}";
    eventually!(world.metric(line) == 1, "the durable is recreated");
    world.publish(Signal::Logs, &origin(), &log("after")).await;
    eventually!(world.receiver.accepted().len() == 1, "the line arrives");
    world.end(running).await;
}
