use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use plexsphere_pipelines::{Pipelines, PipelinesConfig, Route, read_records};
use plexsphere_testkit::{eventually, logs};
use plexsphere_wire::telemetry::Signal;

use crate::world::{World, audit, log, metric, origin};

/// How often each log message is in the folder.
fn messages(world: &World) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for record in read_records(&world.config.file.folder).unwrap() {
        let (_, record) = record.unwrap();
        let message = record.record.get("message").and_then(|message| message.as_str()).unwrap_or_default();
        *counts.entry(message.to_owned()).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn without_mimir_and_loki_every_signal_ends_in_the_folder_of_its_domain() {
    let _logs = logs::guard();
    let mut world = World::new().await.with_files();
    let running = world.start().await;
    let from = origin();
    world.publish(Signal::Metrics, &from, &metric("cpu.load", 0.5)).await;
    world.publish(Signal::Logs, &from, &log("line")).await;
    world.publish(Signal::Audit, &from, &audit("login")).await;
    for route in [Route::MimirMetrics, Route::LokiLogs, Route::LokiAudit] {
        world.until_settled(route).await;
    }
    let records: Vec<_> = read_records(&world.config.file.folder).unwrap().map(Result::unwrap).collect();
    let signals: Vec<_> = records.iter().map(|(signal, _)| *signal).collect();
    assert_eq!(signals, [Signal::Metrics, Signal::Logs, Signal::Audit]);
    assert!(records.iter().all(|(_, record)| record.node_id == from.node && record.index == 0));
    assert_eq!(records[0].1.record["name"], "cpu.load");
    world.end(running).await;
}

#[tokio::test]
async fn a_batch_sent_again_under_another_message_is_in_the_folder_once() {
    let _logs = logs::guard();
    let mut world = World::new().await.with_files();
    let running = world.start().await;
    let from = origin();
    let body = log("once");
    world.publish(Signal::Logs, &from, &body).await;
    world.until_settled(Route::LokiLogs).await;
    // The bus forgot the message id, as it does when it loses its window.
    let mut headers = crate::world::headers(Signal::Logs, &from, body.as_bytes());
    headers.insert("Nats-Msg-Id", "another");
    let subject = plexsphere_wire::subjects::telemetry(Signal::Logs, &from);
    world.publish_raw(&subject, headers, body.as_bytes()).await;
    eventually!(
        world.metric(r#"plexsphere_obs_route_duplicates_total{consumer="loki-logs"}"#) == 1,
        "the duplicate is recognised"
    );
    assert_eq!(messages(&world), BTreeMap::from([("once".to_owned(), 1)]));
    world.end(running).await;
}

#[tokio::test]
async fn killing_the_bus_and_the_tier_again_and_again_leaves_each_record_exactly_once() {
    let logs = logs::guard();
    logs.expect("async_nats");
    let mut world = World::on(plexsphere_testkit::nats_own().await).await.with_files();
    world.config.topology.ack_wait_seconds = 1;
    world.config.drain_seconds = 0;
    let from = [origin(), origin(), origin()];
    let mut wanted = BTreeMap::new();
    for round in 0..4 {
        let running = world.start().await;
        for n in 0..60 {
            let message = format!("{round}/{n}");
            world.publish(Signal::Logs, &from[n % 3], &log(&message)).await;
            wanted.insert(message, 1);
        }
        if round % 2 == 0 {
            world.nats.kill9().await;
            running.shutdown().await;
            world.nats.restart().await;
            world.client = world.nats.client().await;
            world.jetstream = async_nats::jetstream::new(world.client.clone());
            // The agents had no answer to their last batches and send them again.
            for n in 40..60 {
                world.publish(Signal::Logs, &from[n % 3], &log(&format!("{round}/{n}"))).await;
            }
        } else {
            running.shutdown().await;
        }
    }
    let running = world.start().await;
    world.until_settled(Route::LokiLogs).await;
    assert_eq!(messages(&world), wanted);
    world.end(running).await;
}

/// The variable through which the victim gets its orders: address, user, password and configuration, one a line.
const ORDERS: &str = "PLEXSPHERE_TEST_VICTIM";

#[tokio::test]
#[ignore = "the process that the next test kills"]
async fn victim() {
    let Ok(orders) = std::env::var(ORDERS) else { return };
    let [address, user, password, config] = orders.split('\n').collect::<Vec<_>>().try_into().unwrap();
    let options = async_nats::ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned());
    let client = options.connect(address).await.unwrap();
    let config: PipelinesConfig = serde_json::from_str(config).unwrap();
    let _running = Pipelines::start(config, client, &mut Default::default()).await.unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_tier_that_is_sigkilled_while_it_writes_leaves_each_record_exactly_once() {
    let _logs = logs::guard();
    let mut world = World::new().await.with_files();
    world.config.topology.ack_wait_seconds = 1;
    world.config.file.segment_bytes = 2_000;
    let config = serde_json::to_string(&world.config).unwrap();
    let orders = [&world.nats.address(), world.nats.user(), world.nats.password(), &config].join("\n");
    let from = [origin(), origin()];
    let mut wanted = BTreeMap::new();
    for round in 0..6 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "file::victim", "--ignored"])
            .env(ORDERS, &orders)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let before = messages(&world).len();
        for n in 0..100 {
            let message = format!("{round}/{n}");
            world.publish(Signal::Logs, &from[n % 2], &log(&message)).await;
            wanted.insert(message, 1);
        }
        // Somewhere in the middle of what it writes.
        eventually!(messages(&world).len() > before + round * 15, "the victim of round {round} writes");
        victim.kill().unwrap();
        victim.wait().unwrap();
    }
    let running = world.start().await;
    world.until_settled(Route::LokiLogs).await;
    assert_eq!(messages(&world), wanted);
    world.end(running).await;
}
