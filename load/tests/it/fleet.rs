use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use plexsphere_load::api::EncodingChoice;
use plexsphere_load::fleet::{Access, FleetConfig, FleetError, Progress, TokenLine, run};
use plexsphere_load::transport::{Protocol, Trust};
use plexsphere_load::verify::compare_all;
use plexsphere_wire::ProjectId;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::platform::{ADMIN, Platform};
use crate::transport::{ALL, quick};

fn config(platform: &Platform, out: &Path) -> FleetConfig {
    FleetConfig {
        name: "test".to_owned(),
        url: platform.url(),
        trust: Trust::File(platform.ca.clone()),
        nodes: 6,
        access: Access::Admin { token: Zeroizing::new(ADMIN.to_owned()), domains: 1 },
        protocols: ALL.to_vec(),
        duration: Duration::from_millis(600),
        interval: Duration::from_millis(100),
        log_lines: 5,
        audit_events: 2,
        heartbeat: Duration::from_secs(30),
        encoding: EncodingChoice::Agent,
        events: false,
        cut_streams: None,
        pulls: false,
        joins: 0,
        drain: Duration::from_secs(10),
        backoff: quick(),
        seed: 7,
        out: out.to_path_buf(),
        sink: None,
        progress: Progress::Silent,
    }
}

/// Writes what the platform accepted as its file sink would.
fn sink(platform: &Platform, root: &Path) {
    let mut rows: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (number, batch) in platform.lock().accepted.iter().enumerate() {
        for (index, record) in batch.records.iter().enumerate() {
            let mut row = record.clone();
            row["batch_id"] = number.to_string().into();
            row["index"] = index.into();
            row["domain_id"] = platform.domain.to_string().into();
            row["node_id"] = batch.node.to_string().into();
            rows.entry(batch.signal.clone()).or_default().push(row.to_string());
        }
    }
    for (signal, rows) in rows {
        let folder = root.join(platform.domain.to_string()).join(signal);
        fs::create_dir_all(&folder).unwrap();
        let text = rows.join("\n") + "\n";
        fs::write(folder.join("0.ndjson.zst"), zstd::bulk::compress(text.as_bytes(), 1).unwrap()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_work_runs_over_every_protocol_and_every_record_is_accounted_for() {
    let platform = Platform::start().await;
    let folder = tempfile::tempdir().unwrap();
    for signal in ["metrics", "logs", "audit", "logs"] {
        platform.refuse_next(signal, 503, "ingest_buffer_unavailable");
    }
    let result = run(config(&platform, folder.path()), watch::channel(false).1).await.unwrap();
    assert!(result.holds(), "{:?}", result.phases);
    assert_eq!(result.phases.len(), 3);
    let made: Vec<u64> = result.phases.iter().map(|phase| phase.signals["logs"].made).collect();
    assert_eq!(made, [6 * 6 * 5; 3]);
    assert_eq!(result.phases[0].errors["ingest_buffer_unavailable"], 4);
    assert_eq!(result.phases[1].latency_all.count, 6 * 6 * 3);
    assert!(result.phases.iter().all(|phase| phase.heartbeat.count == 6));

    let ledgers: Vec<_> = result.phases.iter().map(|phase| phase.ledger.clone()).collect();
    let root = folder.path().join("sink");
    let empty = compare_all(&ledgers, &root).unwrap();
    assert_eq!(empty.signals["logs"].missing, 6 * 6 * 5 * 3);
    sink(&platform, &root);
    let counts = compare_all(&ledgers, &root).unwrap();
    assert!(counts.holds(), "{}", counts.table());
    for (signal, counts) in &counts.signals {
        assert_eq!((counts.sent, counts.arrived, counts.unknown), (counts.acknowledged, counts.sent, 0), "{signal}");
        assert!(counts.sent > 0);
    }
    let page = fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.contains("verdict good"));
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join("result.json")).unwrap()).unwrap();
    assert_eq!(json["phases"][2]["protocol"], "h3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_cut_again_and_again_lose_and_repeat_nothing() {
    let platform = Platform::start().await;
    let folder = tempfile::tempdir().unwrap();
    let publisher = {
        let platform = platform.clone();
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            loop {
                ticks.tick().await;
                platform.publish(plexsphere_wire::envelope::EventType::PeerRegistered, r#"{"peers":[]}"#);
            }
        })
    };
    let config = FleetConfig {
        protocols: vec![Protocol::H2],
        events: true,
        cut_streams: Some(Duration::from_millis(150)),
        pulls: true,
        duration: Duration::from_secs(1),
        joins: 2,
        ..config(&platform, folder.path())
    };
    let result = run(config, watch::channel(false).1).await.unwrap();
    publisher.abort();
    let events = result.phases[0].events.clone().unwrap();
    assert!(events.resumed > 6 && events.believed > 100, "{events:?}");
    assert_eq!((events.distrusted, events.repeated, events.backwards), (0, 0, 0));
    assert_eq!(events.joins, 2);
    // A pull that is under way at the end is not counted.
    let pulls = result.phases[0].pull.count;
    assert!((6..=platform.lock().pulls).contains(&pulls), "{pulls}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issued_tokens_do_without_an_operator_and_unsettled_batches_are_written_down() {
    let platform = Platform::start().await;
    let folder = tempfile::tempdir().unwrap();
    let line = || TokenLine {
        project: ProjectId::mint(plexsphere_load::clock::now()),
        resource: "web".to_owned(),
        token: Zeroizing::new(platform.issue_token()),
    };
    let tokens = FleetConfig {
        access: Access::Tokens(vec![line(), line()]),
        nodes: 2,
        protocols: vec![Protocol::H1],
        drain: Duration::ZERO,
        duration: Duration::from_millis(100),
        ..config(&platform, folder.path())
    };
    for _ in 0..1_000 {
        platform.refuse_next("logs", 429, "per_node_rate_limited");
    }
    let result = run(tokens.clone(), watch::channel(false).1).await.unwrap();
    let logs = result.phases[0].signals["logs"];
    assert_eq!((logs.made, logs.sent, logs.acknowledged, logs.unsettled), (10, 10, 0, 10));
    assert!(!result.holds());
    let refused = run(FleetConfig { nodes: 3, ..tokens }, watch::channel(false).1).await;
    assert!(matches!(refused, Err(FleetError::Config(_))));
}
