//! Answers the heartbeat batches of the edges.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use plexsphere_kernel::database::is_transient;
use plexsphere_kernel::tasks::{Service, TaskKind};
use plexsphere_kernel::{Clock, Database, Fault};
use plexsphere_wire::heartbeat::{Heartbeat, HeartbeatBatch, HeartbeatVerdicts, MAX_BATCH};
use plexsphere_wire::subjects::{CONTROL_QUEUE, HEARTBEATS_ALL, HEARTBEATS_WRITTEN};
use plexsphere_wire::{NodeId, Timestamp};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::heads::Heads;
use super::served::ServedVersions;
use crate::store::reachability;

pub use plexsphere_wire::heartbeat::HEADER_ERROR;
/// The batch could not be written: the edge answers 503 `datastore_unavailable` at once.
pub const ERROR_DATASTORE: &str = "datastore_unavailable";
/// The batch is no `HeartbeatBatch`, or has more than 500 entries.
pub const ERROR_MALFORMED: &str = "malformed_heartbeat_batch";

/// How far behind our clock an edge's word is believed. A batch waits no longer than this on its way, so an older time
/// is a wrong clock, which must not silence a fleet.
const MAX_LAG: Duration = Duration::from_secs(60);
/// How long a batch may take before the edge is told that it failed: shorter than an edge waits.
const BATCH_DEADLINE: Duration = Duration::from_secs(2);
/// How often the versions that pulls carried are written.
const FLUSH_PERIOD: Duration = Duration::from_secs(1);

/// Takes batches from the bus and answers each after its commit.
pub struct HeartbeatResponder {
    pub(crate) beats: Heartbeats,
    pub(crate) nats: Client,
    /// Batches at work at the same time.
    pub(crate) concurrency: usize,
}

/// Takes heartbeats into the database.
#[derive(Clone)]
pub struct Heartbeats {
    pub(crate) db: Database,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) served: Arc<ServedVersions>,
    pub(crate) heads: Arc<Heads>,
    pub(crate) outage: Arc<Outage>,
}

/// Whether the last batch could reach the database. While it could not, one batch at a time tries, and the others are
/// refused at once instead of queueing up behind it for longer than their edges wait.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    down: AtomicBool,
    trying: tokio::sync::Mutex<()>,
}

impl Heartbeats {
    /// Writes a batch and returns a verdict for each Node with a live Peer.
    ///
    /// # Errors
    /// [`Fault`]; nothing is written then.
    pub async fn accept(&self, batch: HeartbeatBatch) -> Result<HeartbeatVerdicts, Fault> {
        let now = self.clock.now();
        let heartbeats = newest_of_each(batch.heartbeats, now);
        if heartbeats.is_empty() {
            return Ok(HeartbeatVerdicts { verdicts: Vec::new() });
        }
        let mut written = reachability::beat(self.db.pool(), &heartbeats, now).await;
        // Two batches with the same Nodes may lock them in different orders.
        if written.as_ref().is_err_and(is_transient) {
            written = reachability::beat(self.db.pool(), &heartbeats, now).await;
        }
        let verdicts = written?;
        self.heads.beaten(&verdicts);
        Ok(HeartbeatVerdicts { verdicts })
    }

    /// Takes note of a batch that some replica, perhaps this one, has written.
    fn written_elsewhere(&self, payload: &[u8]) {
        match serde_json::from_slice::<HeartbeatVerdicts>(payload) {
            Ok(written) => self.heads.beaten(&written.verdicts),
            Err(error) => tracing::warn!(%error, "written heartbeats do not decode"),
        }
    }

    /// Writes which versions pulls of this replica carried.
    ///
    /// # Errors
    /// [`Fault`]; what was not written is kept.
    pub async fn flush_served(&self) -> Result<(), Fault> {
        Ok(self.served.flush(self.db.pool()).await?)
    }

    async fn answer(&self, payload: &[u8]) -> Result<HeartbeatVerdicts, &'static str> {
        let batch: HeartbeatBatch = serde_json::from_slice(payload).map_err(|error| {
            tracing::warn!(%error, "a heartbeat batch does not decode");
            ERROR_MALFORMED
        })?;
        if batch.heartbeats.len() > MAX_BATCH {
            tracing::warn!(entries = batch.heartbeats.len(), "a heartbeat batch is too long");
            return Err(ERROR_MALFORMED);
        }
        let _trying = if self.outage.down.load(Ordering::Relaxed) {
            Some(self.outage.trying.try_lock().map_err(|_| ERROR_DATASTORE)?)
        } else {
            None
        };
        let (answer, is_down) = match tokio::time::timeout(BATCH_DEADLINE, self.accept(batch)).await {
            Ok(Ok(verdicts)) => (Ok(verdicts), false),
            Ok(Err(fault)) => {
                tracing::warn!(cause = ?fault, "a heartbeat batch cannot be written");
                (Err(ERROR_DATASTORE), fault.is_unreachable())
            }
            Err(_) => {
                tracing::warn!("a heartbeat batch took too long");
                (Err(ERROR_DATASTORE), true)
            }
        };
        self.outage.down.store(is_down, Ordering::Relaxed);
        answer
    }
}

/// Of several heartbeats of a Node the newest counts. Times are brought into `[now − MAX_LAG, now]`, and NULs, which
/// the database does not take, are replaced.
fn newest_of_each(heartbeats: Vec<Heartbeat>, now: Timestamp) -> Vec<Heartbeat> {
    let mut newest: HashMap<NodeId, Heartbeat> = HashMap::with_capacity(heartbeats.len());
    for mut heartbeat in heartbeats {
        heartbeat.received_at = heartbeat.received_at.clamp(now.minus(MAX_LAG), now);
        for text in [&mut heartbeat.binary_checksum, &mut heartbeat.binary_version, &mut heartbeat.nat_summary] {
            if text.contains('\0') {
                *text = text.replace('\0', "\u{fffd}");
            }
        }
        match newest.get(&heartbeat.node) {
            Some(known) if known.received_at > heartbeat.received_at => {}
            _ => {
                newest.insert(heartbeat.node, heartbeat);
            }
        }
    }
    let mut sorted: Vec<Heartbeat> = newest.into_values().collect();
    sorted.sort_unstable_by_key(|heartbeat| heartbeat.node);
    sorted
}

impl HeartbeatResponder {
    fn spawn(&self, work: &mut JoinSet<()>, message: Message) {
        let (beats, nats) = (self.beats.clone(), self.nats.clone());
        work.spawn(async move {
            let answer = beats.answer(&message.payload).await;
            let Some(reply) = message.reply else { return };
            let sent = match answer.and_then(|verdicts| {
                serde_json::to_vec(&verdicts).map(Bytes::from).map_err(|error| {
                    tracing::error!(%error, "verdicts have no json form");
                    ERROR_DATASTORE
                })
            }) {
                Ok(body) => match nats.publish(reply, body.clone()).await {
                    Ok(()) => nats.publish(HEARTBEATS_WRITTEN, body).await,
                    failed => failed,
                },
                Err(error) => {
                    let mut headers = HeaderMap::new();
                    headers.insert(HEADER_ERROR, error);
                    nats.publish_with_headers(reply, headers, Bytes::new()).await
                }
            };
            if let Err(error) = sent {
                tracing::warn!(%error, "a heartbeat batch goes unanswered");
            }
        });
    }
}

#[async_trait]
impl Service for HeartbeatResponder {
    fn kind(&self) -> TaskKind {
        TaskKind::HeartbeatResponder
    }

    async fn serve(&self, cancel: CancellationToken) -> Result<(), Fault> {
        let mut subscriber = self
            .nats
            .queue_subscribe(HEARTBEATS_ALL, CONTROL_QUEUE.to_owned())
            .await
            .map_err(|error| Fault::Bus(error.to_string()))?;
        let mut written =
            self.nats.subscribe(HEARTBEATS_WRITTEN).await.map_err(|error| Fault::Bus(error.to_string()))?;
        let (mut work, mut flushing) = (JoinSet::new(), JoinSet::new());
        let mut flush = tokio::time::interval(FLUSH_PERIOD);
        flush.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                Some(_) = work.join_next(), if !work.is_empty() => {}
                message = subscriber.next(), if work.len() < self.concurrency => match message {
                    Some(message) => self.spawn(&mut work, message),
                    None => return Err(Fault::Bus("the heartbeat subscription ended".to_owned())),
                },
                message = written.next() => match message {
                    Some(message) => self.beats.written_elsewhere(&message.payload),
                    None => return Err(Fault::Bus("the heartbeat subscription ended".to_owned())),
                },
                Some(_) = flushing.join_next(), if !flushing.is_empty() => {}
                _ = flush.tick(), if flushing.is_empty() => {
                    let beats = self.beats.clone();
                    flushing.spawn(async move {
                        if let Err(fault) = beats.flush_served().await {
                            tracing::debug!(cause = ?fault, "served versions are kept until the database takes them");
                        }
                    });
                }
            }
        }
        if subscriber.unsubscribe().await.is_err() {
            tracing::debug!("the bus is gone already");
        }
        while work.join_next().await.is_some() {}
        while flushing.join_next().await.is_some() {}
        if let Err(fault) = self.beats.flush_served().await {
            tracing::debug!(cause = ?fault, "served versions go unwritten");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
