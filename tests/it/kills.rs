//! The crash rig: a fleet sends while every part of the installation is killed at random and started again.

use std::time::Duration;

use plexsphere_load::api::EncodingChoice;
use plexsphere_load::fleet::{self, Access, FleetConfig, Progress};
use plexsphere_load::transport::{BackoffPolicy, Protocol, Trust};
use plexsphere_load::verify;
use rand::Rng as _;

use crate::installation::{Installation, Role};

/// How long the fleet sends; a longer run is asked for by this variable.
fn seconds() -> u64 {
    std::env::var("KILL_RIG_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_record_arrives_once_while_each_part_is_killed_at_random() {
    let mut installation = Installation::start(1, &[]).await;
    let out = tempfile::tempdir().unwrap();
    let config = FleetConfig {
        name: "kills".to_owned(),
        url: installation.http_url(0).parse().unwrap(),
        trust: Trust::from_option(None),
        nodes: 6,
        access: Access::Admin { token: installation.admin_token().into(), domains: 2 },
        protocols: vec![Protocol::H1],
        duration: Duration::from_secs(seconds()),
        interval: Duration::from_millis(500),
        log_lines: 20,
        audit_events: 5,
        heartbeat: Duration::from_secs(1),
        encoding: EncodingChoice::Agent,
        events: true,
        pulls: true,
        cut_streams: None,
        joins: 0,
        drain: Duration::from_secs(60),
        backoff: BackoffPolicy {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(1),
            ..Default::default()
        },
        seed: 7,
        out: out.path().to_owned(),
        sink: None,
        progress: Progress::Silent,
    };
    let (begun, started) = tokio::sync::oneshot::channel();
    let run = tokio::spawn(async move {
        let _ = begun.send(());
        fleet::run(config, tokio::sync::watch::channel(false).1).await
    });
    started.await.unwrap();
    // Enrolment is not what is killed here: a lost 201 costs its token by design.
    while !out
        .path()
        .read_dir()
        .unwrap()
        .any(|entry| entry.unwrap().path().to_string_lossy().ends_with(".ledger.ndjson"))
    {
        assert!(!run.is_finished(), "the fleet ended before it began to send");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let kills = kill_at_random(&mut installation, Duration::from_secs(seconds())).await;
    installation.ready().await;
    run.await.unwrap().unwrap();
    let ledgers: Vec<_> = out
        .path()
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".ledger.ndjson"))
        .collect();
    let deadline = std::time::Instant::now() + Duration::from_secs(90);
    let counts = loop {
        let counts = verify::compare_all(&ledgers, &installation.telemetry()).unwrap();
        if counts.holds() || std::time::Instant::now() > deadline {
            break counts;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    println!("{kills} kills\n{}", counts.table());
    assert!(counts.holds(), "{}\n{}", counts.table(), installation.tail(Role::Pipelines));
    assert!(counts.signals.values().all(|signal| signal.acknowledged > 0), "{}", counts.table());
}

async fn kill_at_random(installation: &mut Installation, time: Duration) -> usize {
    let until = std::time::Instant::now() + time;
    let mut kills = 0;
    while std::time::Instant::now() < until {
        let pause = rand::rng().random_range(400..1_500);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        // Each part in turn, so that a short run kills each of them; the moments are random.
        match kills % 5 {
            0 => installation.kill_and_restart(Role::Edge(0)).await,
            1 => installation.kill_and_restart(Role::Control).await,
            2 => installation.kill_and_restart(Role::Pipelines).await,
            3 => {
                installation.nats.kill9().await;
                installation.nats.restart().await;
            }
            _ => {
                installation.postgres.kill9().await;
                installation.postgres.restart().await;
            }
        }
        kills += 1;
    }
    kills
}
