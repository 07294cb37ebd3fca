//! The three senders of an agent.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use plexsphere_wire::telemetry::Signal;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::lines::{Read, follow};
use super::{LAST_FLUSH, Shared, until};
use crate::agent::Happening;
use crate::api::EncodingChoice;
use crate::clock;
use crate::collect::{AgentStats, Collector, read_machine};
use crate::records::{LogLine, audit_of, severity_of};
use crate::ship::{Outcome, Pending, Shipper};

/// Samples per batch of an agent.
const METRICS_BATCH: usize = 100;
/// Lines per batch of an agent.
const LOGS_BATCH: usize = 200;
/// Events per batch of an agent.
const AUDIT_BATCH: usize = 500;
/// An agent's buffer holds twice a batch; the metrics of an hour are not worth more than that either.
const WAITING_BATCHES: usize = 2;

/// A buffer of one signal and the records that are no batch yet.
struct Sender {
    shared: Shared,
    signal: Signal,
    shipper: Shipper,
    records: Vec<Bytes>,
    batch_size: usize,
}

impl Sender {
    fn new(shared: Shared, signal: Signal, choice: EncodingChoice, batch_size: usize) -> Self {
        let shipper = Shipper::new(shared.api.clone(), choice, WAITING_BATCHES);
        Self { shared, signal, shipper, records: Vec::new(), batch_size }
    }

    /// Whether another record may be taken without pushing an older one out.
    fn has_room(&self) -> bool {
        self.records.len() < self.batch_size || self.shipper.waiting() < WAITING_BATCHES
    }

    /// Makes what waits a batch and sends.
    async fn tick(&mut self) {
        while !self.records.is_empty() && self.shipper.waiting() < WAITING_BATCHES {
            let rest = self.records.split_off(self.records.len().min(self.batch_size));
            let records = std::mem::replace(&mut self.records, rest);
            if let Err(error) = self.shipper.push_records(self.signal, records, Instant::now()) {
                self.shared.say(Happening::Fault { at: self.signal.to_string(), reason: error.to_string() }).await;
            }
        }
        let mut told = Vec::new();
        let signal = self.signal;
        self.shipper.flush(|pending, outcome| told.push(happening(signal, pending, outcome))).await;
        for happening in told {
            self.shared.say(happening).await;
        }
    }

    /// Sends what it holds, for a few seconds at most.
    async fn finish(mut self) {
        let _ = timeout(LAST_FLUSH, self.tick()).await;
    }
}

fn happening(signal: Signal, pending: &Pending, outcome: &Outcome) -> Happening {
    let (signal, records) = (signal.as_str(), pending.batch.records().len());
    match outcome {
        Outcome::Accepted { receipt_records } => Happening::Sent {
            signal,
            records,
            counted: *receipt_records,
            bytes: pending.batch.body.len(),
            encoding: pending.batch.encoding.as_str(),
            attempts: pending.attempts,
            millis: pending.due.elapsed().as_millis(),
        },
        Outcome::Dropped { code } => Happening::Refused { signal, records, code: code.clone(), then: "dropped" },
        Outcome::Halved { code } => Happening::Refused { signal, records, code: code.clone(), then: "halved" },
        Outcome::Kept { code } => Happening::Refused { signal, records, code: code.clone(), then: "kept" },
        Outcome::Evicted => Happening::Refused { signal, records, code: "buffer_full".into(), then: "dropped" },
    }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

pub(super) async fn metrics(shared: Shared, choice: EncodingChoice, every: Duration) {
    let started = std::time::Instant::now();
    let mut stop = shared.stop.clone();
    let reconnects = shared.reconnects.clone();
    let mut sender = Sender::new(shared, Signal::Metrics, choice, METRICS_BATCH);
    let mut collector = Collector::default();
    let mut ticks = ticks(every);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = until(&mut stop) => return sender.finish().await,
        }
        let at = clock::now();
        let mut samples = collector.samples(&read_machine(), at);
        samples.extend(AgentStats::read(started, reconnects.load(Ordering::Relaxed)).samples(at));
        if !sender.has_room() {
            // What the machine was like a while ago gives way to what it is like now.
            let excess = samples.len().min(sender.records.len());
            sender.records.drain(..excess);
        }
        sender.records.extend(samples.iter().filter_map(crate::records::Metric::to_json));
        sender.tick().await;
    }
}

pub(super) async fn logs(shared: Shared, choice: EncodingChoice, every: Duration, paths: Vec<PathBuf>) {
    let sender = Sender::new(shared, Signal::Logs, choice, LOGS_BATCH);
    send_lines(sender, follow(paths), every, |file, text, at| {
        let severity = severity_of(&text);
        LogLine { severity, message: text, unit: Some(unit_of(&file)), timestamp: at }.to_json()
    })
    .await;
}

pub(super) async fn audit(shared: Shared, choice: EncodingChoice, every: Duration, paths: Vec<PathBuf>) {
    let sender = Sender::new(shared, Signal::Audit, choice, AUDIT_BATCH);
    send_lines(sender, follow(paths), every, |_, text, _| audit_of(&text)?.to_json()).await;
}

/// A unit is at most 512 bytes on the wire; of a longer path its end says most.
fn unit_of(file: &str) -> String {
    let start = file.char_indices().map(|(index, _)| index).find(|index| file.len() - index <= 512);
    file.get(start.unwrap_or(0)..).unwrap_or(file).to_owned()
}

async fn send_lines(
    mut sender: Sender,
    mut lines: mpsc::Receiver<Read>,
    every: Duration,
    record: impl Fn(String, String, plexsphere_wire::Timestamp) -> Option<Bytes>,
) {
    let mut stop = sender.shared.stop.clone();
    let mut ticks = ticks(every);
    let mut skipped = 0u64;
    loop {
        tokio::select! {
            () = until(&mut stop) => return sender.finish().await,
            _ = ticks.tick() => {
                if skipped > 0 {
                    let at = sender.signal.to_string();
                    let reason = format!("{} lines are no {at} record", std::mem::take(&mut skipped));
                    sender.shared.say(Happening::Fault { at, reason }).await;
                }
                sender.tick().await;
            }
            Some(read) = lines.recv(), if sender.has_room() => match read {
                Read::Fault { file, reason } => sender.shared.say(Happening::Fault { at: file, reason }).await,
                Read::Line { file, text, at } => {
                    match record(file, text, at) {
                        Some(record) => sender.records.push(record),
                        None => skipped += 1,
                    }
                    if sender.records.len() == sender.batch_size {
                        sender.tick().await;
                    }
                }
            },
        }
    }
}
