//! What the Nodes of a phase count together.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plexsphere_wire::telemetry::Signal;

use super::result::SignalTotals;
use crate::histogram::Histogram;
use crate::ledger::Settled;

/// The counters behind a phase's live figures.
#[derive(Debug, Default)]
pub(super) struct Tally {
    inner: Mutex<Counts>,
}

/// One consistent view.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) signals: BTreeMap<&'static str, SignalTotals>,
    pub(super) latencies: BTreeMap<&'static str, Histogram>,
    pub(super) heartbeats: Histogram,
    pub(super) pulls: Histogram,
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) requests: u64,
    pub(super) wire_bytes: u64,
    pub(super) accepted_records: u64,
    /// Since the last sample.
    window: Histogram,
}

impl Tally {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch was made and is due.
    pub(super) fn made(&self, signal: Signal, records: u64) {
        let mut counts = self.lock();
        let totals = counts.signals.entry(signal.as_str()).or_default();
        totals.made += records;
    }

    /// A batch was accepted.
    pub(super) fn accepted(&self, signal: Signal, records: u64, wire_bytes: u64, latency: Duration) {
        let mut counts = self.lock();
        counts.requests += 1;
        counts.wire_bytes += wire_bytes;
        counts.accepted_records += records;
        counts.window.record(latency);
        counts.latencies.entry(signal.as_str()).or_default().record(latency);
    }

    /// An attempt was not accepted, or anything else failed.
    pub(super) fn failed(&self, code: &str, request: bool) {
        let mut counts = self.lock();
        counts.requests += u64::from(request);
        match counts.errors.get_mut(code) {
            Some(count) => *count += 1,
            None => {
                counts.errors.insert(code.to_owned(), 1);
            }
        }
    }

    /// A batch is settled.
    pub(super) fn settled(&self, signal: Signal, settled: Settled, records: u64, sent: bool) {
        let mut counts = self.lock();
        let totals = counts.signals.entry(signal.as_str()).or_default();
        totals.sent += if sent { records } else { 0 };
        match settled {
            Settled::Acknowledged => {
                totals.acknowledged += records;
                totals.batches += 1;
            }
            Settled::Dropped => totals.dropped += records,
            Settled::Evicted => totals.evicted += records,
            Settled::Unsettled => totals.unsettled += records,
        }
    }

    /// A heartbeat was answered.
    pub(super) fn heartbeat(&self, latency: Duration) {
        self.lock().heartbeats.record(latency);
    }

    /// A pull was answered.
    pub(super) fn pull(&self, latency: Duration) {
        self.lock().pulls.record(latency);
    }

    /// Everything so far, and the latencies since the last call.
    pub(super) fn sample(&self) -> (Counts, Histogram) {
        let mut counts = self.lock();
        let window = std::mem::take(&mut counts.window);
        (counts.clone(), window)
    }
}
