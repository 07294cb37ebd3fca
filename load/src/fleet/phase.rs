//! One phase: the fleet's work over one protocol.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, interval_at, sleep, timeout};

use super::member::{Common, Sender};
use super::progress::Display;
use super::recording::Recording;
use super::result::{EventCounts, Latency, PhaseResult, Point};
use super::setup::{Ground, join_one};
use super::stream::{self, Seen};
use super::tally::{Counts, Tally};
use super::{FleetConfig, FleetError};
use crate::agent;
use crate::api::NodeApi;
use crate::events::{FollowOptions, Follower, KeyRing};
use crate::histogram::Histogram;
use crate::ledger::{Entry, LedgerWriter};
use crate::transport::{Client, Dialer, Protocol};

/// How long all event streams may take to open before work begins.
const STREAMS_PATIENCE: Duration = Duration::from_secs(30);
/// How long after the work the last events may take.
const LAST_EVENTS: Duration = Duration::from_secs(3);
/// Nodes that open their connections at once before the work begins.
const CONNECTING_AT_ONCE: usize = 64;
/// Ledger lines between the Nodes and the file.
const LEDGER_LINES: usize = 4_096;

/// What every phase of a run works with.
pub(super) struct Scene {
    pub(super) config: Arc<FleetConfig>,
    pub(super) dialer: Arc<Dialer>,
    pub(super) ground: Ground,
    pub(super) display: Arc<Display>,
    pub(super) stop: watch::Receiver<bool>,
}

pub(super) async fn run(scene: &Scene, protocol: Protocol) -> Result<PhaseResult, FleetError> {
    let Scene { config, ground, display, stop, .. } = scene;
    let ledger_path = config.out.join(format!("{protocol}.ledger.ndjson"));
    let (ledger, writer) = ledger(ledger_path.clone())?;
    let tally = Arc::new(Tally::default());
    let apis = apis(scene, protocol)?;
    let listeners = listen(scene, &apis, &tally).await;
    let common = Common {
        config: Arc::clone(config),
        recording: Arc::new(Recording::load()),
        tally: Arc::clone(&tally),
        ledger,
        stop: stop.clone(),
        marker: format!("{}.{protocol}", ground.run),
        checksum: agent::binary_checksum().into(),
    };
    warm_up(&common, &apis).await;
    let began = Instant::now();
    let (over, phase_over) = oneshot::channel();
    let watching = watch_over(Arc::clone(&tally), Arc::clone(display), protocol, config.duration, phase_over);
    let watcher = tokio::spawn(watching);
    let mut senders = spawn(&common, apis, began);
    let mut stopped = common.stop.clone();
    drop(common);
    let joined = joins(scene, protocol, &tally);
    let joins = tokio::select! {
        joined = Box::pin(joined) => joined,
        () = agent::until(&mut stopped) => 0,
    };
    while senders.join_next().await.is_some() {}
    let elapsed = began.elapsed();
    let _ = over.send(());
    let timeline = watcher.await.unwrap_or_default();
    let events = match listeners {
        Some(listeners) => Some(listeners.finish(joins).await),
        None => None,
    };
    let written = writer.await.unwrap_or_else(|_| Err(std::io::Error::other("the ledger's task was cancelled")));
    written.map_err(|error| FleetError::Io(ledger_path.clone(), error))?;
    Ok(outcome(
        &tally,
        elapsed,
        PhaseResult { protocol: protocol.to_string(), events, timeline, ledger: ledger_path, ..PhaseResult::default() },
    ))
}

fn ledger(path: PathBuf) -> Result<(mpsc::Sender<Entry>, JoinHandle<std::io::Result<()>>), FleetError> {
    let mut file = LedgerWriter::create(&path).map_err(|error| FleetError::Io(path, error))?;
    let (sender, mut receiver) = mpsc::channel::<Entry>(LEDGER_LINES);
    let writer = tokio::task::spawn_blocking(move || {
        while let Some(entry) = receiver.blocking_recv() {
            file.write(&entry)?;
        }
        file.flush()
    });
    Ok((sender, writer))
}

fn apis(scene: &Scene, protocol: Protocol) -> Result<Vec<(usize, NodeApi)>, FleetError> {
    let Scene { config, dialer, ground, .. } = scene;
    let mut apis = Vec::with_capacity(ground.members.len());
    for member in &ground.members {
        let client = Arc::new(Client::new(dialer, &config.url, protocol)?);
        let api = NodeApi::new(client, member.registered.node, &member.registered.nsk)
            .map_err(|source| FleetError::SetUp { step: "credential", source })?;
        apis.push((member.index, api));
    }
    Ok(apis)
}

/// Spreads the Nodes' first batches over one interval, as a real fleet's are.
fn spawn(common: &Common, apis: Vec<(usize, NodeApi)>, began: Instant) -> JoinSet<()> {
    let config = &common.config;
    let (end, nodes) = (began + config.duration, u32::try_from(apis.len()).unwrap_or(u32::MAX).max(1));
    let mut senders = JoinSet::new();
    for (place, (index, api)) in apis.into_iter().enumerate() {
        let offset = config.interval.saturating_mul(u32::try_from(place).unwrap_or(0)) / nodes;
        let sender = Sender::new(common.clone(), index, api);
        senders.spawn(sender.run(began + offset, end));
    }
    senders
}

/// Every Node proves that it lives before the clock starts: a fleet at work has its connections open.
async fn warm_up(common: &Common, apis: &[(usize, NodeApi)]) {
    let permits = Arc::new(Semaphore::new(CONNECTING_AT_ONCE));
    let mut beats = JoinSet::new();
    for (_, api) in apis {
        let (common, api, permits) = (common.clone(), api.clone(), Arc::clone(&permits));
        beats.spawn(async move {
            let _permit = permits.acquire().await;
            common.beat(&api).await;
        });
    }
    while beats.join_next().await.is_some() {}
}

struct Listeners {
    streams: JoinSet<()>,
    seen: JoinSet<Seen>,
}

/// Opens every Node's event stream, when the run wants events, and waits until all are open.
async fn listen(scene: &Scene, apis: &[(usize, NodeApi)], tally: &Arc<Tally>) -> Option<Listeners> {
    let Scene { config, ground, .. } = scene;
    if !config.events {
        return None;
    }
    let mut listeners = Listeners { streams: JoinSet::new(), seen: JoinSet::new() };
    let (connected, mut connections) = mpsc::channel(apis.len().max(1));
    for ((_, api), member) in apis.iter().zip(&ground.members) {
        let registered = &member.registered;
        let keys = KeyRing::new(registered.signing_key_id.clone(), registered.signing_key);
        let options =
            FollowOptions { backoff: config.backoff, cut_after: config.cut_streams, ..FollowOptions::default() };
        let (sender, receiver) = mpsc::channel(256);
        listeners.streams.spawn(Follower::new(api.clone(), keys, options).run(sender));
        let pull = Arc::new(Notify::new());
        if config.pulls {
            listeners.streams.spawn(stream::pull(api.clone(), Arc::clone(tally), Arc::clone(&pull)));
        }
        listeners.seen.spawn(stream::listen(receiver, connected.clone(), pull));
    }
    drop(connected);
    let all_open = async {
        for _ in apis {
            if connections.recv().await.is_none() {
                break;
            }
        }
    };
    // Streams that do not open show in the result; they are no reason not to send telemetry.
    let _ = timeout(STREAMS_PATIENCE, all_open).await;
    Some(listeners)
}

impl Listeners {
    async fn finish(mut self, joins: u64) -> EventCounts {
        sleep(LAST_EVENTS).await;
        self.streams.shutdown().await;
        let mut all = Vec::new();
        while let Some(seen) = self.seen.join_next().await {
            all.extend(seen.ok());
        }
        stream::sum(all, joins)
    }
}

/// Enrols the extra Nodes, evenly over the phase.
async fn joins(scene: &Scene, protocol: Protocol, tally: &Tally) -> u64 {
    let Scene { config, dialer, ground, .. } = scene;
    let pause = config.duration / u32::try_from(config.joins).unwrap_or(u32::MAX).saturating_add(1);
    let mut joined = 0;
    for index in 0..config.joins {
        sleep(pause).await;
        match join_one(config, dialer, ground, protocol, index).await {
            Ok(()) => joined += 1,
            Err(error) => tally.failed(&error.to_string(), false),
        }
    }
    joined
}

/// Takes one point per second until it is told that the phase is over.
async fn watch_over(
    tally: Arc<Tally>,
    display: Arc<Display>,
    protocol: Protocol,
    length: Duration,
    mut over: oneshot::Receiver<()>,
) -> Vec<Point> {
    let began = Instant::now();
    let mut ticks = interval_at(began + Duration::from_secs(1), Duration::from_secs(1));
    let (mut points, mut last) = (Vec::new(), Counts::default());
    loop {
        let ended = tokio::select! {
            _ = ticks.tick() => false,
            _ = &mut over => true,
        };
        let (counts, window) = tally.sample();
        let point = point(began.elapsed(), &counts, &last, &window);
        if ended {
            // The rest of a second belongs to the last point, unless there is none yet.
            if points.is_empty() {
                points.push(point);
            }
            return points;
        }
        let waiting = counts.signals.values().map(|totals| totals.made).sum::<u64>() - settled(&counts);
        display.point(protocol.as_str(), length.as_secs(), &point, waiting);
        points.push(point);
        last = counts;
    }
}

fn settled(counts: &Counts) -> u64 {
    let totals = counts.signals.values();
    totals.map(|one| one.acknowledged + one.dropped + one.evicted + one.unsettled).sum()
}

fn point(elapsed: Duration, now: &Counts, last: &Counts, window: &Histogram) -> Point {
    let errors = |counts: &Counts| counts.errors.values().sum::<u64>();
    let latency = Latency::from(window);
    Point {
        seconds: elapsed.as_secs_f64().round(),
        records: now.accepted_records - last.accepted_records,
        wire_bytes: now.wire_bytes - last.wire_bytes,
        errors: errors(now) - errors(last),
        p50: latency.p50,
        p99: latency.p99,
    }
}

#[allow(clippy::cast_precision_loss, reason = "a rate for people")]
fn outcome(tally: &Tally, elapsed: Duration, phase: PhaseResult) -> PhaseResult {
    let (counts, _) = tally.sample();
    let mut all = Histogram::default();
    for latency in counts.latencies.values() {
        all.merge(latency);
    }
    let named = |word: &&'static str| (*word).to_owned();
    PhaseResult {
        elapsed_millis: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        requests: counts.requests,
        wire_bytes: counts.wire_bytes,
        records_per_second: (counts.accepted_records as f64 / elapsed.as_secs_f64().max(0.001)).round(),
        signals: counts.signals.iter().map(|(word, totals)| (named(word), *totals)).collect(),
        latency: counts.latencies.iter().map(|(word, latency)| (named(word), latency.into())).collect(),
        latency_all: (&all).into(),
        heartbeat: (&counts.heartbeats).into(),
        pull: (&counts.pulls).into(),
        errors: counts.errors,
        ..phase
    }
}
