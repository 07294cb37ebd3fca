//! The same ingest run over HTTP/1.1, HTTP/2 and HTTP/3.

use std::time::Duration;

use plexsphere_load::api::EncodingChoice;
use plexsphere_load::fleet::{self, Access, FleetConfig, Progress};
use plexsphere_load::transport::{BackoffPolicy, Protocol, Trust};

use crate::installation::Installation;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h1_h2_and_h3_carry_the_same_run_and_the_report_shows_them_side_by_side() {
    let installation = Installation::start(1, &[]).await;
    let out = tempfile::tempdir().unwrap();
    let config = FleetConfig {
        name: "protocols".to_owned(),
        url: installation.https_url(0).parse().unwrap(),
        trust: Trust::from_option(Some(installation.ca_cert())),
        nodes: 4,
        access: Access::Admin { token: installation.admin_token().into(), domains: 1 },
        protocols: vec![Protocol::H1, Protocol::H2, Protocol::H3],
        duration: Duration::from_secs(2),
        interval: Duration::from_millis(500),
        log_lines: 20,
        audit_events: 2,
        heartbeat: Duration::from_secs(1),
        encoding: EncodingChoice::Agent,
        events: true,
        pulls: true,
        cut_streams: None,
        joins: 0,
        drain: Duration::from_secs(30),
        backoff: BackoffPolicy::default(),
        seed: 3,
        out: out.path().to_owned(),
        sink: Some(installation.telemetry()),
        progress: Progress::Silent,
    };
    let result = fleet::run(config, tokio::sync::watch::channel(false).1).await.unwrap();
    assert!(result.holds(), "{}", serde_json::to_string_pretty(&result).unwrap());
    let protocols: Vec<_> = result.phases.iter().map(|phase| phase.protocol.as_str()).collect();
    assert_eq!(protocols, ["h1", "h2", "h3"]);
    let made: Vec<_> = result.phases.iter().map(|phase| phase.signals["logs"].made).collect();
    assert!(made.iter().all(|count| *count > 0 && *count == made[0]), "{made:?}");
    let report = std::fs::read_to_string(out.path().join("report.html")).unwrap();
    assert!(["h1", "h2", "h3"].iter().all(|protocol| report.contains(protocol)) && report.contains("<svg"));
}
