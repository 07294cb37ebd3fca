//! The loop of one consumer: fetch, group by Domain, hand chunks to deliveries, mind the breaker. It survives every
//! error with a bounded pause and ends only when it is told to.

mod delivery;
mod expiry;
mod held;
mod opening;
mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, consumer::PullConsumer};
use futures_util::StreamExt;
use plexsphere_wire::subjects;
use plexsphere_wire::telemetry::Limits;
use plexsphere_wire::{DomainId, Timestamp};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use delivery::{Chunk, ChunkReport};
use held::Held;
use verdict::Verdicts;

use crate::breaker::{Breaker, Gate, State};
use crate::clock::Clock;
use crate::health::Vitals;
use crate::metrics::RouteMetrics;
use crate::route::Route;
use crate::sink::{Sink, Sinks};

/// Requests of one consumer under way at once.
pub(crate) const CONCURRENCY: usize = 8;
const FETCH_MESSAGES: usize = 256;
/// Bounds what a fetch of large messages holds in memory; the largest message is well below it.
const FETCH_BYTES: usize = 32 << 20;
const FETCH_WAIT: Duration = Duration::from_millis(500);
const FETCH_SILENCE: Duration = Duration::from_millis(1_500);
const MERGE_MESSAGES: usize = 64;
/// Most canonical bytes of one merged request.
const MERGE_BYTES: usize = 4 << 20;
/// The loop ticks at least so often, whatever it waits for.
const TICK: Duration = Duration::from_secs(5);
/// Pause after a failed fetch.
const FETCH_PAUSE: Duration = Duration::from_millis(500);

/// What one route needs.
pub(crate) struct RouteContext {
    pub(crate) route: Route,
    pub(crate) jetstream: jetstream::Context,
    pub(crate) sink: Sink,
    pub(crate) sinks: Arc<Sinks>,
    pub(crate) limits: Limits,
    pub(crate) backoff_base: Duration,
    pub(crate) progress: Duration,
    pub(crate) horizon: Duration,
    pub(crate) clock: Clock,
    pub(crate) metrics: RouteMetrics,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) requests: Semaphore,
    /// Large batches opened at once, over all routes: each may hold its inflated bytes twice.
    pub(crate) decoding: Arc<Semaphore>,
    /// Asks for the topology to be ensured before its turn.
    pub(crate) ensure: Arc<Notify>,
    /// Cancelled: stop fetching, finish what is under way.
    pub(crate) stop: CancellationToken,
}

/// Runs until `stop` is cancelled and the deliveries under way have ended, or `drain` is over.
pub(crate) async fn run(context: Arc<RouteContext>, drain: Duration) {
    let mut consumer = Consumer {
        breaker: Breaker::new(context.backoff_base),
        deliveries: JoinSet::new(),
        verdicts: Verdicts::default(),
        pull: None,
        swept_at: None,
        context,
    };
    while !consumer.context.stop.is_cancelled() {
        consumer.turn().await;
    }
    consumer.drain(drain).await;
}

struct Consumer {
    context: Arc<RouteContext>,
    breaker: Breaker,
    deliveries: JoinSet<ChunkReport>,
    verdicts: Verdicts,
    /// Absent until it was looked up, and after every failure.
    pull: Option<PullConsumer>,
    /// When messages that the breaker holds up were last looked through for old ones.
    swept_at: Option<Instant>,
}

// === impl Consumer ===

impl Consumer {
    /// One turn: either wait for something, or fetch once.
    async fn turn(&mut self) {
        self.context.vitals.tick(self.context.route);
        while let Some(ended) = self.deliveries.try_join_next() {
            self.ended(ended);
        }
        let most = match self.breaker.gate(Instant::now()) {
            Gate::Wait(pause) => return self.wait_out(pause).await,
            // Deliveries from before the breaker opened are none of the probe's business.
            Gate::Probe if !self.deliveries.is_empty() => return self.wait(TICK).await,
            Gate::Flow if self.deliveries.len() >= CONCURRENCY => return self.wait(TICK).await,
            Gate::Probe => 1,
            Gate::Flow => FETCH_MESSAGES,
        };
        self.publish_breaker();
        match self.fetch(most).await {
            Ok(messages) => self.dispatch(messages).await,
            Err(error) => {
                tracing::debug!(consumer = %self.context.route, %error, "fetch failed");
                self.pull = None;
                self.context.ensure.notify_one();
                self.wait(FETCH_PAUSE).await;
            }
        }
    }

    /// The breaker is open: nothing is tried, but what grows too old is buried before the server deletes it.
    async fn wait_out(&mut self, pause: Duration) {
        let due = self.sweep_due(Instant::now());
        if due.is_zero() {
            return self.sweep().await;
        }
        self.wait(pause.min(TICK).min(due)).await;
    }

    /// Waits for the end of a delivery, at most so long.
    async fn wait(&mut self, most: Duration) {
        let stop = self.context.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(most) => {}
            Some(ended) = self.deliveries.join_next() => self.ended(ended),
        }
    }

    fn ended(&mut self, ended: Result<ChunkReport, tokio::task::JoinError>) {
        match ended {
            Ok(report) => {
                if let Some(event) = self.verdicts.chunk_ended(report) {
                    self.breaker.observe(event, Instant::now());
                    self.publish_breaker();
                }
            }
            // Its messages return after `ack_wait`.
            Err(error) if error.is_panic() => {
                tracing::error!(consumer = %self.context.route, "a delivery panicked");
            }
            Err(_) => {}
        }
    }

    fn publish_breaker(&self) {
        let state = self.breaker.state();
        if let State::Open { streak, .. } = state {
            tracing::info!(consumer = %self.context.route, streak, "breaker open");
        }
        self.context.metrics.breaker(state.gauge());
        self.context.vitals.breaker(self.context.route, state.gauge());
    }

    async fn fetch(&mut self, most: usize) -> Result<Vec<Held>, async_nats::Error> {
        let pull = match self.pull.take() {
            Some(pull) => pull,
            None => {
                let route = self.context.route;
                self.context.jetstream.get_consumer_from_stream(route.durable(), route.stream()).await?
            }
        };
        let batch = pull.batch().max_messages(most).max_bytes(FETCH_BYTES).expires(FETCH_WAIT);
        let mut batch = batch.messages().await?;
        let mut messages: Vec<Held> = Vec::new();
        // The server ends a fetch by itself; one that hears nothing for longer was lost with its connection.
        while let Ok(Some(next)) = tokio::time::timeout(FETCH_SILENCE, batch.next()).await {
            match next {
                Ok(message) => messages.extend(Held::new(message)),
                // What came before the failure is as good as any.
                Err(error) if messages.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        self.pull = Some(pull);
        Ok(messages)
    }

    async fn dispatch(&mut self, messages: Vec<Held>) {
        if messages.is_empty() {
            return;
        }
        if self.context.stop.is_cancelled() {
            for message in &messages {
                message.give_back(Duration::ZERO).await;
            }
            return;
        }
        for message in messages.iter().filter(|message| message.deliveries() > 1) {
            self.context.metrics.redelivery();
            tracing::debug!(
                consumer = %self.context.route,
                deliveries = message.deliveries(),
                sequence = message.sequence(),
                "redelivery"
            );
        }
        let messages = self.without_skipped(messages).await;
        let chunks = chunks(messages);
        let fetch = self.verdicts.fetch_started(chunks.len());
        for (domain, messages) in chunks {
            let chunk = Chunk { fetch, domain, messages };
            self.deliveries.spawn(delivery::deliver(Arc::clone(&self.context), chunk));
        }
    }

    /// Acknowledges what this route does not carry and returns the rest.
    async fn without_skipped(&self, messages: Vec<Held>) -> Vec<Held> {
        let context = &self.context;
        let off = matches!(context.sink, Sink::Off);
        let skips =
            |message: &Held| off || message.domain().is_some_and(|domain| context.sinks.skips(context.route, domain));
        let (skipped, kept): (Vec<_>, Vec<_>) = messages.into_iter().partition(skips);
        for message in &skipped {
            message.acknowledge().await;
        }
        context.metrics.skipped(skipped.len());
        kept
    }

    /// Lets deliveries under way finish; those that have not started give their messages back at once. Whatever is left
    /// is aborted without an acknowledgement and returns after `ack_wait`.
    async fn drain(mut self, patience: Duration) {
        let ended = tokio::time::timeout(patience, async {
            while let Some(ended) = self.deliveries.join_next().await {
                self.context.vitals.tick(self.context.route);
                drop(ended);
            }
        });
        if ended.await.is_err() {
            tracing::info!(consumer = %self.context.route, "deliveries aborted at shutdown");
            self.deliveries.shutdown().await;
        }
    }
}

/// Messages by Domain, in chunks that one delivery takes on, in the order of the stream. Messages whose Domain cannot be
/// told are a group of their own.
fn chunks(messages: Vec<Held>) -> Vec<(Option<DomainId>, Vec<Held>)> {
    let mut domains: BTreeMap<Option<DomainId>, Vec<Held>> = BTreeMap::new();
    for message in messages {
        domains.entry(message.domain()).or_default().push(message);
    }
    let mut chunks: Vec<(Option<DomainId>, Vec<Held>)> = Vec::new();
    for (domain, messages) in domains {
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        for message in messages {
            let more = message.payload_bytes();
            if chunk.len() >= MERGE_MESSAGES || (!chunk.is_empty() && bytes + more > MERGE_BYTES) {
                chunks.push((domain, std::mem::take(&mut chunk)));
                bytes = 0;
            }
            bytes += more;
            chunk.push(message);
        }
        chunks.push((domain, chunk));
    }
    chunks
}

/// The Domain of a subject.
fn domain_of(subject: &str) -> Option<DomainId> {
    subjects::parse_telemetry(subject).map(|(_, origin)| origin.domain)
}

/// How long ago the server took a message.
fn age(published: Timestamp, now: Timestamp) -> Duration {
    now.since(published)
}
