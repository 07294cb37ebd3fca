//! The crash rig: a fleet sends while every part of the installation is killed at random and started again.

mod sinks;

use std::path::PathBuf;
use std::time::Duration;

use plexsphere_load::api::EncodingChoice;
use plexsphere_load::fleet::{self, Access, FleetConfig, Progress};
use plexsphere_load::transport::{BackoffPolicy, Protocol, Trust};
use plexsphere_load::verify;
use rand::Rng as _;

use crate::chains;
use crate::installation::{Installation, Role};

/// How long the fleet sends; a longer run is asked for by this variable.
fn seconds() -> u64 {
    std::env::var("KILL_RIG_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// How long a sink may take to show the last record after the last kill.
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_record_arrives_once_in_files_while_each_part_is_killed_at_random() {
    let mut installation = Installation::start(1, &[]).await;
    let out = tempfile::tempdir().unwrap();
    let (kills, ledgers) = send_under_fire(&mut installation, out.path().to_owned()).await;
    let deadline = std::time::Instant::now() + PATIENCE;
    let counts = loop {
        let counts = verify::compare_all(&ledgers, &installation.telemetry()).unwrap();
        if counts.holds() || std::time::Instant::now() > deadline {
            break counts;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let chains = chains::all_hold(&installation.database_url).await;
    println!("{kills} kills, file sink, {} audit chains hold\n{}", chains.len(), counts.table());
    assert!(counts.holds(), "{}\n{}", counts.table(), installation.tail(Role::Pipelines));
    assert!(counts.signals.values().all(|signal| signal.acknowledged > 0), "{}", counts.table());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_record_arrives_at_mimir_loki_and_the_siem_while_each_part_is_killed_at_random() {
    let backends = sinks::Backends::start().await;
    let settings = backends.settings();
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut installation = Installation::start(1, &settings).await;
    let out = tempfile::tempdir().unwrap();
    let (kills, ledgers) = send_under_fire(&mut installation, out.path().to_owned()).await;
    chains::all_hold(&installation.database_url).await;
    let expected = verify::Arrivals::of(&ledgers).unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    let routes = loop {
        let routes = backends.routes(&expected);
        if routes.iter().all(|route| route.counts.at_least_once()) || std::time::Instant::now() > deadline {
            break routes;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let table = sinks::table(&routes);
    println!("{kills} kills, {} refusals by the backends\n{table}", backends.refused());
    assert!(routes.iter().all(|route| route.counts.at_least_once()), "{table}\n{}", installation.tail(Role::Pipelines));
    assert!(backends.refused() > 0, "the backends refused nothing");
    backends.assert_no_violation();
}

/// Runs a fleet while everything is killed in turn; returns the number of kills and the ledgers of what was sent.
async fn send_under_fire(installation: &mut Installation, out: PathBuf) -> (usize, Vec<PathBuf>) {
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
        out: out.clone(),
        sink: None,
        progress: Progress::Silent,
    };
    let run = tokio::spawn(async move { fleet::run(config, tokio::sync::watch::channel(false).1).await });
    // Enrolment is not what is killed here: a lost 201 costs its token by design.
    while ledgers(&out).is_empty() {
        assert!(!run.is_finished(), "the fleet ended before it began to send");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let kills = kill_at_random(installation, Duration::from_secs(seconds())).await;
    installation.ready().await;
    run.await.unwrap().unwrap();
    (kills, ledgers(&out))
}

fn ledgers(out: &std::path::Path) -> Vec<PathBuf> {
    let entries = out.read_dir().unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_string_lossy().ends_with(".ledger.ndjson")).collect()
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
