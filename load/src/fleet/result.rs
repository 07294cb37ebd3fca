//! The result of a run, as `result.json` holds it. Times are milliseconds, sizes bytes, counts records unless said.

use std::collections::BTreeMap;
use std::path::PathBuf;

use plexsphere_wire::Timestamp;
use serde::{Deserialize, Serialize};

use super::FleetConfig;
use crate::histogram::Histogram;
use crate::verify;

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FleetResult {
    /// Version of this form: 1.
    pub schema: u32,
    /// The run's name.
    pub name: String,
    /// When set-up began.
    pub started_at: Timestamp,
    /// When the last phase and the comparison were done.
    pub finished_at: Timestamp,
    /// Nodes.
    pub nodes: usize,
    /// Domains that they are spread over; 0 when tokens were given.
    pub domains: usize,
    /// Milliseconds between two batches of one signal of one Node.
    pub interval_millis: u64,
    /// Milliseconds in which a phase made batches.
    pub duration_millis: u64,
    /// `agent`, `gzip`, `zstd` or `identity`.
    pub encoding: String,
    /// The seed.
    pub seed: u64,
    /// How long registrations took.
    pub registration: Latency,
    /// One entry per protocol.
    pub phases: Vec<PhaseResult>,
    /// The comparison with a file sink, when one was given.
    pub verification: Option<verify::Counts>,
}

/// One run of the work over one protocol.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PhaseResult {
    /// `h1`, `h2` or `h3`.
    pub protocol: String,
    /// Milliseconds from the first batch due to the last batch settled.
    pub elapsed_millis: u64,
    /// Requests with telemetry, accepted or not.
    pub requests: u64,
    /// Bytes of accepted bodies as sent.
    pub wire_bytes: u64,
    /// Accepted records per second of `elapsed_millis`.
    pub records_per_second: f64,
    /// Per signal.
    pub signals: BTreeMap<String, SignalTotals>,
    /// Per signal: from due to accepted.
    pub latency: BTreeMap<String, Latency>,
    /// All signals together.
    pub latency_all: Latency,
    /// Heartbeats.
    pub heartbeat: Latency,
    /// Pulls of the state.
    pub pull: Latency,
    /// How often each problem code or transport fault was met.
    pub errors: BTreeMap<String, u64>,
    /// What the event streams carried, when they were open.
    pub events: Option<EventCounts>,
    /// One point per second.
    pub timeline: Vec<Point>,
    /// The phase's ledger.
    pub ledger: PathBuf,
}

/// Counted when the ledger did not take a line.
pub(super) const LEDGER_NOT_WRITTEN: &str = "ledger_not_written";
/// Counted when a record has nothing by which a sink's row could be recognised.
pub(super) const RECORD_WITHOUT_KEY: &str = "record_without_key";
/// Faults of the rig itself, after which its counts prove nothing.
const RIG_FAULTS: [&str; 2] = [LEDGER_NOT_WRITTEN, RECORD_WITHOUT_KEY];

/// Counts of one signal, in records; `made` is the sum of the settled ones once a phase has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalTotals {
    /// Made because they were due.
    pub made: u64,
    /// Of batches that were sent at least once.
    pub sent: u64,
    /// Of batches answered with 202.
    pub acknowledged: u64,
    /// Of batches that the platform refused for good.
    pub dropped: u64,
    /// Of batches pushed out of a full buffer.
    pub evicted: u64,
    /// Of batches still waiting at the end.
    pub unsettled: u64,
    /// Batches answered with 202.
    pub batches: u64,
}

/// A latency distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// Longest.
    pub max: f64,
}

/// What event streams carried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventCounts {
    /// Streams opened.
    pub connects: u64,
    /// Of these with a cursor.
    pub resumed: u64,
    /// Believed events.
    pub believed: u64,
    /// Events that were not believed.
    pub distrusted: u64,
    /// Frames seen twice by one Node.
    pub repeated: u64,
    /// Frames below one seen before.
    pub backwards: u64,
    /// Domain-wide events that one Node saw and another Node of its Domain, already listening, did not.
    pub missed: u64,
    /// Nodes that enrolled while the phase ran.
    pub joins: u64,
    /// Believed events per type.
    pub by_type: BTreeMap<String, u64>,
}

/// One second of a phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Seconds since the phase began.
    pub seconds: f64,
    /// Records accepted in this second.
    pub records: u64,
    /// Bytes accepted in this second, as sent.
    pub wire_bytes: u64,
    /// Failures in this second.
    pub errors: u64,
    /// Median latency of this second.
    pub p50: f64,
    /// 99 % of this second.
    pub p99: f64,
}

impl From<&Histogram> for Latency {
    fn from(histogram: &Histogram) -> Self {
        let millis = |duration: std::time::Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
        Self {
            count: histogram.count(),
            mean: millis(histogram.mean()),
            p50: millis(histogram.per_mille(500)),
            p90: millis(histogram.per_mille(900)),
            p99: millis(histogram.per_mille(990)),
            p999: millis(histogram.per_mille(999)),
            max: millis(histogram.max()),
        }
    }
}

impl FleetResult {
    pub(super) fn new(
        config: &FleetConfig,
        started_at: Timestamp,
        registration: &Histogram,
        phases: Vec<PhaseResult>,
        verification: Option<verify::Counts>,
    ) -> Self {
        let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            schema: 1,
            name: config.name.clone(),
            started_at,
            finished_at: crate::clock::now(),
            nodes: config.nodes,
            domains: match &config.access {
                super::Access::Admin { domains, .. } => (*domains).max(1),
                super::Access::Tokens(_) => 0,
            },
            interval_millis: millis(config.interval),
            duration_millis: millis(config.duration),
            encoding: config.encoding.to_string(),
            seed: config.seed,
            registration: registration.into(),
            phases,
            verification,
        }
    }

    /// Whether something was sent and nothing was lost: every made record acknowledged and in the ledger, events once and
    /// in order, and the sink, when it was compared, complete and without duplicates. A run without a phase, or with one
    /// in which nothing was acknowledged, proves nothing and does not hold.
    #[must_use]
    pub fn holds(&self) -> bool {
        let acknowledged = |phase: &PhaseResult| {
            phase.signals.values().all(|totals| totals.made == totals.acknowledged)
                && phase.signals.values().any(|totals| totals.acknowledged > 0)
        };
        let accounted = |phase: &PhaseResult| RIG_FAULTS.iter().all(|fault| !phase.errors.contains_key(*fault));
        let in_order = |phase: &PhaseResult| {
            phase
                .events
                .as_ref()
                .is_none_or(|events| events.distrusted + events.repeated + events.backwards + events.missed == 0)
        };
        !self.phases.is_empty()
            && self.phases.iter().all(|phase| acknowledged(phase) && accounted(phase) && in_order(phase))
            && self.verification.as_ref().is_none_or(verify::Counts::holds)
    }
}
