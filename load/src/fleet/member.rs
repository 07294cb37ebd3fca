//! One Node of a phase: makes batches when they are due, sends them, and writes down what became of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use plexsphere_wire::Timestamp;
use plexsphere_wire::telemetry::Signal;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::FleetConfig;
use super::recording::Recording;
use super::result::{LEDGER_NOT_WRITTEN, RECORD_WITHOUT_KEY};
use super::tally::Tally;
use crate::api::NodeApi;
use crate::collect::Collector;
use crate::ledger::{Entry, RecordKey, Settled};
use crate::records::{AuditEvent, LogLine, Metric, severity_of};
use crate::ship::{Outcome, Pending, Shipper};
use crate::{agent, clock};

/// Batches of one signal that wait at most: half an hour of one batch a second.
const WAITING_BATCHES: usize = 1_800;

/// What the members of a phase share.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) config: Arc<FleetConfig>,
    pub(super) recording: Arc<Recording>,
    pub(super) tally: Arc<Tally>,
    pub(super) ledger: mpsc::Sender<Entry>,
    pub(super) stop: watch::Receiver<bool>,
    /// In front of every log line's marker: the run and the protocol.
    pub(super) marker: String,
    pub(super) checksum: Arc<str>,
}

impl Common {
    /// Sends a heartbeat and counts it.
    pub(super) async fn beat(&self, api: &NodeApi) {
        let started = Instant::now();
        match api.heartbeat(&agent::heartbeat_body(&self.checksum)).await {
            Ok(_) => self.tally.heartbeat(started.elapsed()),
            Err(error) => self.tally.failed(&format!("heartbeat: {}", error.word()), false),
        }
    }
}

pub(super) struct Sender {
    common: Common,
    index: usize,
    api: NodeApi,
    shippers: [(Signal, Shipper); 3],
    collector: Collector,
    step: usize,
    lines: u64,
    /// Times of this Node's records never repeat: they are what tells samples and audit events apart.
    last_stamp: Timestamp,
}

impl Sender {
    pub(super) fn new(common: Common, index: usize, api: NodeApi) -> Self {
        let choice = common.config.encoding;
        let shippers = Signal::ALL.map(|signal| (signal, Shipper::new(api.clone(), choice, WAITING_BATCHES)));
        let seed = usize::try_from(common.config.seed % 1_000_003).unwrap_or(0);
        Self {
            step: seed.wrapping_add(index.wrapping_mul(37)),
            common,
            index,
            api,
            shippers,
            collector: Collector::default(),
            lines: 0,
            last_stamp: Timestamp::UNIX_EPOCH,
        }
    }

    /// Makes batches from `first` until `end` or until it is stopped, then sends what waits for a while, then writes
    /// down what is left.
    pub(super) async fn run(mut self, first: Instant, end: Instant) {
        let mut due = first;
        let mut stop = self.common.stop.clone();
        let mut beat = first + self.common.config.heartbeat;
        while due < end && !*stop.borrow() {
            tokio::select! {
                () = sleep_until(due) => {}
                () = agent::until(&mut stop) => break,
            }
            self.make(due).await;
            if due >= beat {
                self.common.beat(&self.api).await;
                beat = due + self.common.config.heartbeat;
            }
            self.flush().await;
            due += self.common.config.interval;
        }
        // A Node that was stopped early, or that is behind, has the same time to drain as the others.
        let deadline = Instant::now() + self.common.config.drain;
        while self.waiting() > 0 && Instant::now() < deadline {
            self.flush().await;
            if self.waiting() > 0 {
                let pause = self.common.config.interval.min(Duration::from_secs(1));
                sleep_until((Instant::now() + pause).min(deadline)).await;
            }
        }
        self.settle_rest().await;
    }

    fn waiting(&self) -> usize {
        self.shippers.iter().map(|(_, shipper)| shipper.waiting()).sum()
    }

    async fn make(&mut self, due: Instant) {
        self.step = self.step.wrapping_add(1);
        let records = [self.metrics(), self.logs(), self.audit()];
        for ((signal, shipper), records) in self.shippers.iter_mut().zip(records) {
            let count = u64::try_from(records.len()).unwrap_or(0);
            match shipper.push_records(*signal, records, due) {
                Ok(evicted) => {
                    self.common.tally.made(*signal, count);
                    if let Some(evicted) = evicted {
                        write(&self.common, &self.api, &evicted, Settled::Evicted, Some("buffer_full")).await;
                    }
                }
                Err(_) => self.common.tally.failed("batch_not_encoded", false),
            }
        }
    }

    fn stamp(&mut self, step: Duration) -> Timestamp {
        self.last_stamp = clock::now().max(self.last_stamp.plus(step));
        self.last_stamp
    }

    fn metrics(&mut self) -> Vec<Bytes> {
        // Sample stores keep whole milliseconds, so samples of one series lie at least one apart and are stamped by them.
        let millis = self.stamp(Duration::from_millis(1)).unix_nanos().div_euclid(1_000_000);
        let at = Timestamp::from_unix_nanos(millis * 1_000_000);
        let recording = Arc::clone(&self.common.recording);
        let Some(machine) = recording.machine(self.step) else { return Vec::new() };
        self.collector.samples(machine, at).iter().filter_map(Metric::to_json).collect()
    }

    fn logs(&mut self) -> Vec<Bytes> {
        let timestamp = clock::now();
        let first = self.lines;
        self.lines += u64::try_from(self.common.config.log_lines).unwrap_or(0);
        (first..self.lines)
            .filter_map(|number| {
                let offset = usize::try_from(number).unwrap_or(0);
                let line = self.common.recording.line(self.step.wrapping_add(offset));
                let message = format!("{line} rig={}-{}-{number}", self.common.marker, self.index);
                let severity = severity_of(line);
                LogLine { severity, message, unit: Some("dpkg".to_owned()), timestamp }.to_json()
            })
            .collect()
    }

    fn audit(&mut self) -> Vec<Bytes> {
        (0..self.common.config.audit_events)
            .filter_map(|offset| {
                let timestamp = self.stamp(Duration::from_micros(1));
                let action = self.common.recording.action(self.step.wrapping_add(offset));
                AuditEvent { source: "auditd", action, outcome: "success".to_owned(), timestamp }.to_json()
            })
            .collect()
    }

    /// The signals go side by side, as an agent's three senders do.
    async fn flush(&mut self) {
        let Self { common, api, shippers: [first, second, third], .. } = self;
        tokio::join!(
            Box::pin(flush(common, api, first)),
            Box::pin(flush(common, api, second)),
            Box::pin(flush(common, api, third)),
        );
    }

    async fn settle_rest(self) {
        for (_, shipper) in self.shippers {
            for pending in shipper.into_waiting() {
                write(&self.common, &self.api, &pending, Settled::Unsettled, None).await;
            }
        }
    }
}

async fn flush(common: &Common, api: &NodeApi, (signal, shipper): &mut (Signal, Shipper)) {
    let mut settled = Vec::new();
    let tally = &common.tally;
    shipper
        .flush(|pending, outcome| match outcome {
            Outcome::Accepted { receipt_records } => {
                let records = u64::try_from(pending.batch.records().len()).unwrap_or(0);
                let bytes = u64::try_from(pending.batch.body.len()).unwrap_or(0);
                tally.accepted(*signal, records, bytes, pending.due.elapsed());
                if receipt_records.is_some_and(|counted| counted != records) {
                    tally.failed("receipt_counts_differently", false);
                }
                settled.push((pending.clone(), Settled::Acknowledged, None));
            }
            Outcome::Dropped { code } => {
                tally.failed(code, true);
                settled.push((pending.clone(), Settled::Dropped, Some(code.clone())));
            }
            Outcome::Halved { code } | Outcome::Kept { code } => tally.failed(code, true),
            Outcome::Evicted => {}
        })
        .await;
    for (pending, how, code) in settled {
        write(common, api, &pending, how, code.as_deref()).await;
    }
}

async fn write(common: &Common, api: &NodeApi, pending: &Pending, settled: Settled, code: Option<&str>) {
    let batch = &pending.batch;
    let keys: Vec<RecordKey> =
        batch.records().iter().filter_map(|record| RecordKey::of_json(batch.signal, api.node(), record)).collect();
    let records = u64::try_from(keys.len()).unwrap_or(0);
    let unkeyed = u64::try_from(batch.records().len() - keys.len()).unwrap_or(u64::MAX);
    if unkeyed > 0 {
        common.tally.failed(RECORD_WITHOUT_KEY, false);
    }
    common.tally.settled(batch.signal, settled, records, pending.attempts > 0);
    let entry = Entry {
        node_id: api.node(),
        signal: batch.signal,
        batch_id: batch.batch_id.clone(),
        attempts: pending.attempts,
        settled,
        code: code.map(str::to_owned),
        keys,
        unkeyed,
    };
    if common.ledger.send(entry).await.is_err() {
        common.tally.failed(LEDGER_NOT_WRITTEN, false);
    }
}
