//! Heartbeats: judged here, coalesced per shard, settled by control.

mod coalesce;
mod request;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use plexsphere_wire::heartbeat::{
    ERROR_MALFORMED, HEADER_ERROR, Heartbeat, HeartbeatBatch, HeartbeatVerdict, HeartbeatVerdicts,
};
use plexsphere_wire::{Code, NodeId, Problem, Timestamp, subjects};
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use coalesce::{Coalescer, Due};

use crate::authenticate::{self, AuthRefusal};
use crate::body::{ReadFault, RequestBody};
use crate::clock::Clock;
use crate::config::{HeartbeatConfig, millis, seconds};
use crate::directory::{Lookup, NodeRecord};
use crate::ingest::Refused;
use crate::metrics::{Metrics, OfReason};

/// The largest body, raw and inflated, in bytes.
const BODY_BYTES: usize = 8 * 1024;
/// Batches of one shard under way at a time.
const BATCHES_UNDER_WAY: usize = 4;

/// What an agent is told.
#[derive(Debug, Serialize)]
pub struct HeartbeatResponse {
    accepted_at: Timestamp,
    reconcile: bool,
    rotate_keys: bool,
}

struct Waiting {
    heartbeat: Heartbeat,
    /// What it takes in a batch.
    bytes: usize,
    answer: oneshot::Sender<Option<HeartbeatVerdict>>,
}

/// The heartbeat operation.
pub struct Heartbeats {
    lookup: Arc<Lookup>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    shards: Vec<mpsc::Sender<Waiting>>,
    max_skew: Duration,
    timeout: Duration,
    body_timeout: Duration,
}

impl Heartbeats {
    /// The operation, and one task per shard.
    #[must_use]
    pub fn new(
        lookup: Arc<Lookup>,
        nats: &async_nats::Client,
        (clock, metrics): (Arc<dyn Clock>, Metrics),
        (config, body_timeout): (&HeartbeatConfig, Duration),
        cancel: &CancellationToken,
    ) -> (Self, Vec<impl Future<Output = ()> + Send + 'static>) {
        let mut shards = Vec::new();
        let mut tasks = Vec::new();
        for number in 0..config.shards {
            let (sender, queue) = mpsc::channel(config.queue);
            let shard = Arc::new(Shard {
                subject: subjects::heartbeats(number),
                nats: nats.clone(),
                timeout: millis(config.timeout_millis),
                metrics: metrics.clone(),
                under_way: Arc::new(Semaphore::new(BATCHES_UNDER_WAY)),
            });
            shards.push(sender);
            tasks.push(shard.run(queue, Arc::clone(&clock), millis(config.window_millis), cancel.clone()));
        }
        let timeout = millis(config.timeout_millis) + millis(config.window_millis) * 2;
        let max_skew = seconds(config.max_skew_seconds);
        (Self { lookup, clock, metrics, shards, max_skew, timeout, body_timeout }, tasks)
    }

    /// One heartbeat.
    ///
    /// # Errors
    /// The refusal, with the Node if it asked for another's path.
    pub async fn take(
        &self,
        path_id: &str,
        request: Request<RequestBody>,
    ) -> Result<(StatusCode, HeartbeatResponse), Refused> {
        let (parts, body) = request.into_parts();
        let record = authenticate::authenticate(&self.lookup, &parts.headers).await.map_err(AuthRefusal::problem)?;
        authenticate::match_path(&record, path_id).map_err(|refusal| Refused {
            problem: refusal.problem(),
            mismatch: Some(Arc::clone(&record)),
            close: false,
        })?;
        let encoding = request::encoding(&parts.headers)?;
        let raw = body.read(BODY_BYTES, self.body_timeout).await.map_err(unread)?;
        let now = self.clock.now();
        let heartbeat = request::read(&raw, encoding, (record.entry.node, now), (BODY_BYTES, self.max_skew))?;
        self.metrics.heartbeats.inc();
        let verdict = self.settle(heartbeat).await;
        match verdict {
            Some(verdict) => Ok((
                StatusCode::OK,
                HeartbeatResponse {
                    accepted_at: verdict.accepted_at,
                    reconcile: verdict.reconcile,
                    rotate_keys: verdict.rotate_keys,
                },
            )),
            None => Err(self.unsettled(&record).await.into()),
        }
    }

    async fn settle(&self, heartbeat: Heartbeat) -> Option<HeartbeatVerdict> {
        let (answer, settled) = oneshot::channel();
        let shard = self.shards.get(shard_of(heartbeat.node, self.shards.len()))?;
        let bytes = encoded_bytes(&heartbeat)?;
        shard.try_send(Waiting { heartbeat, bytes, answer }).ok()?;
        tokio::time::timeout(self.timeout, settled).await.ok()?.ok()?
    }

    /// No verdict is a fault, unless the directory has learned in the meantime that the Node has ended.
    async fn unsettled(&self, record: &NodeRecord) -> Problem {
        let ended = match self.lookup.node(record.entry.node).await {
            Ok(Some(current)) => current.entry.deregistered,
            Ok(None) | Err(_) => false,
        };
        let refusal = if ended { AuthRefusal::Revoked } else { AuthRefusal::Fault };
        refusal.problem()
    }
}

/// The shard of a Node: FNV-1a over its id, so that every edge sends a Node to the same shard.
fn shard_of(node: NodeId, shards: usize) -> usize {
    let hash = node
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let shards = u64::try_from(shards.max(1)).unwrap_or(1);
    usize::try_from(hash % shards).unwrap_or(0)
}

fn unread(fault: ReadFault) -> Refused {
    let (code, detail) = match fault {
        ReadFault::TooLarge => (Code::RequestBodyTooLarge, "The body is larger than 8,192 bytes."),
        ReadFault::TimedOut => (Code::RequestTimeout, "The body did not arrive in time."),
        ReadFault::Broken => (Code::RequestTimeout, "The body broke off."),
    };
    Refused { problem: Problem::new(code, detail), mismatch: None, close: fault != ReadFault::TooLarge }
}

struct Shard {
    subject: String,
    nats: async_nats::Client,
    timeout: Duration,
    metrics: Metrics,
    under_way: Arc<Semaphore>,
}

impl Shard {
    async fn run(
        self: Arc<Self>,
        mut queue: mpsc::Receiver<Waiting>,
        clock: Arc<dyn Clock>,
        window: Duration,
        cancel: CancellationToken,
    ) {
        let mut coalescer = Coalescer::new(window);
        loop {
            let wait = match coalescer.poll(clock.monotonic()) {
                Due::Now(batch) => {
                    self.send(batch).await;
                    continue;
                }
                Due::In(wait) => Some(wait),
                Due::Never => None,
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                waiting = queue.recv() => match waiting {
                    Some(waiting) => {
                        let bytes = waiting.bytes;
                        coalescer.push(waiting, bytes);
                    }
                    None => return,
                },
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
        }
    }

    async fn send(self: &Arc<Self>, waiting: Vec<Waiting>) {
        let Ok(permit) = Arc::clone(&self.under_way).acquire_owned().await else { return };
        let shard = Arc::clone(self);
        tokio::spawn(async move {
            shard.exchange(waiting).await;
            drop(permit);
        });
    }

    async fn exchange(&self, waiting: Vec<Waiting>) {
        let mut newest: HashMap<NodeId, usize> = HashMap::new();
        let mut heartbeats: Vec<Heartbeat> = Vec::with_capacity(waiting.len());
        let mut answers = Vec::with_capacity(waiting.len());
        for Waiting { heartbeat, answer, .. } in waiting {
            answers.push((heartbeat.node, answer));
            match newest.get(&heartbeat.node).and_then(|index| heartbeats.get_mut(*index)) {
                Some(known) => *known = heartbeat,
                None => {
                    newest.insert(heartbeat.node, heartbeats.len());
                    heartbeats.push(heartbeat);
                }
            }
        }
        self.metrics.heartbeat_batches.inc();
        let Ok(body) = serde_json::to_vec(&HeartbeatBatch { heartbeats }) else { return };
        let asked = self.nats.request(self.subject.clone(), body.into());
        let reply = match tokio::time::timeout(self.timeout, asked).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => return self.unsettled("no_answer", &error),
            Err(late) => return self.unsettled("late", &late),
        };
        // Control says itself that it cannot commit; the Nodes read 503 and try again.
        if let Some(fault) = reply.headers.as_ref().and_then(|headers| headers.get(HEADER_ERROR)) {
            // But what it cannot read, it never will: edge and control disagree, and somebody must look.
            if fault.as_str() == ERROR_MALFORMED {
                self.unsettled("malformed", fault);
                return tracing::warn!(subject = self.subject, "control cannot read a heartbeat batch of ours");
            }
            return self.unsettled("refused", fault);
        }
        let verdicts: HeartbeatVerdicts = match serde_json::from_slice(&reply.payload) {
            Ok(verdicts) => verdicts,
            Err(error) => {
                self.unsettled("unreadable", &error);
                return tracing::error!(%error, "verdicts cannot be read");
            }
        };
        let verdicts: HashMap<_, _> = verdicts.verdicts.into_iter().map(|verdict| (verdict.node, verdict)).collect();
        for (node, answer) in answers {
            let _ = answer.send(verdicts.get(&node).copied());
        }
    }

    /// Counts and logs a batch for which there are no verdicts.
    fn unsettled(&self, reason: &'static str, cause: &dyn std::fmt::Display) {
        self.metrics.heartbeat_batches_unsettled.get_or_create(&OfReason { reason }).inc();
        tracing::info!(reason, %cause, subject = self.subject, "heartbeats were not settled");
    }
}

/// What a heartbeat takes in a batch with its comma, in bytes.
fn encoded_bytes(heartbeat: &Heartbeat) -> Option<usize> {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(1);
    serde_json::to_writer(&mut count, heartbeat).ok()?;
    Some(count.0)
}
