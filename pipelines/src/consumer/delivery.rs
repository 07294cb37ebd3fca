//! One delivery: a chunk of messages of one Domain opened, merged, sent, and each message settled by a verdict of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use bytes::Bytes;
use plexsphere_wire::DomainId;
use plexsphere_wire::subjects;
use plexsphere_wire::telemetry::{Encoding, PayloadFormat, Signal};
use sha2::{Digest, Sha256};
use tokio::time::MissedTickBehavior;

use super::held::Held;
use super::opening::Opener;
use super::verdict::Tally;
use super::{MERGE_BYTES, RouteContext, age};
use crate::batch::{Batch, Poison, Slice};
use crate::dead::{DeadLetter, Reason};
use crate::outcome::{Outcome, redelivery_delay};
use crate::render::{self, Rendered, loki::render_loki, mimir::render_mimir, siem::render_siem};
use crate::route::SinkKind;
use crate::sink::{Reply, Sink};
use crate::tenant::TenantId;

/// Messages of one Domain that one delivery takes on.
pub(super) struct Chunk {
    pub(super) fetch: u64,
    /// Absent when the subjects name none.
    pub(super) domain: Option<DomainId>,
    pub(super) messages: Vec<Held>,
}

/// What a delivery tells the loop.
pub(super) struct ChunkReport {
    pub(super) fetch: u64,
    pub(super) domain: Option<DomainId>,
    pub(super) tally: Tally,
}

/// Delivers a chunk, telling the server now and then that its messages are still being worked on.
pub(super) async fn deliver(context: Arc<RouteContext>, chunk: Chunk) -> ChunkReport {
    let mut progress = tokio::time::interval(context.progress);
    progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
    progress.reset();
    let delivery = Delivery { context: &context, domain: chunk.domain, tally: Tally::default() };
    let mut work = Box::pin(delivery.run(&chunk.messages));
    let tally = loop {
        tokio::select! {
            tally = &mut work => break tally,
            _ = progress.tick() => {
                for message in &chunk.messages {
                    message.extend().await;
                }
            }
        }
    };
    ChunkReport { fetch: chunk.fetch, domain: chunk.domain, tally }
}

struct Delivery<'a> {
    context: &'a RouteContext,
    domain: Option<DomainId>,
    tally: Tally,
}

/// Buries messages without trying them.
pub(super) struct Burial<'a> {
    context: &'a RouteContext,
}

/// A message with what was in it.
struct Opened<'a> {
    held: &'a Held,
    batch: Arc<Batch>,
}

// === impl Burial ===

impl<'a> Burial<'a> {
    pub(super) const fn new(context: &'a RouteContext) -> Self {
        Self { context }
    }

    /// Makes dead letters of messages that are past the horizon: each is stored, then acknowledged. When one cannot be
    /// stored the rest is given back; `false` then.
    pub(super) async fn bury_all(&self, messages: &[Held]) -> bool {
        let (mut opener, mut stored) = (Opener::new(self.context), true);
        let reply = Reply::failed("the sink was down until the batch was too old");
        for held in messages {
            let delivery = Delivery { context: self.context, domain: held.domain(), tally: Tally::default() };
            if !stored || self.context.stop.is_cancelled() {
                delivery.give_back(held).await;
                continue;
            }
            stored = match opener.open(held).await {
                Ok(batch) => {
                    delivery.bury(&Opened { held, batch: Arc::new(batch) }, Reason::RetryExhausted, &reply).await
                }
                Err(poison) => delivery.bury_poison(held, &poison).await,
            };
        }
        stored
    }
}

// === impl Delivery ===

impl Delivery<'_> {
    async fn run(mut self, messages: &[Held]) -> Tally {
        let stop = &self.context.stop;
        let permit = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            permit = self.context.requests.acquire() => permit.ok(),
        };
        let (mut group, mut bytes, mut opener) = (Vec::new(), 0, Opener::new(self.context));
        for held in messages {
            // On shutdown only the request under way is finished.
            if permit.is_none() || stop.is_cancelled() {
                held.give_back(Duration::ZERO).await;
                continue;
            }
            match opener.open(held).await {
                Ok(batch) => {
                    if !group.is_empty() && bytes + batch.bytes() > MERGE_BYTES {
                        self.deliver_group(std::mem::take(&mut group)).await;
                        bytes = 0;
                    }
                    bytes += batch.bytes();
                    group.push(Opened { held, batch: Arc::new(batch) });
                }
                Err(poison) => drop(self.bury_poison(held, &poison).await),
            }
        }
        self.deliver_group(group).await;
        self.tally
    }

    /// Sends a group as one request; when the answer is about the data, each message is sent again alone, so that a
    /// verdict always belongs to one batch.
    async fn deliver_group(&mut self, group: Vec<Opened<'_>>) {
        if group.is_empty() {
            return;
        }
        let slices: Vec<Slice> = group.iter().map(|opened| Slice::whole(Arc::clone(&opened.batch))).collect();
        let reply = self.attempt(slices).await;
        match (reply.outcome, group.as_slice()) {
            (Outcome::Delivered, all) => {
                for opened in all {
                    self.delivered(opened).await;
                }
            }
            (Outcome::Retryable | Outcome::Misconfigured, all) => {
                for opened in all {
                    self.postpone(opened, &reply).await;
                }
            }
            (Outcome::Partial | Outcome::Permanent | Outcome::TooLarge, [only]) => {
                self.deliver_alone(only, Some(reply)).await;
            }
            (Outcome::Partial | Outcome::Permanent | Outcome::TooLarge, many) => {
                for opened in many {
                    self.deliver_alone(opened, None).await;
                }
            }
        }
    }

    /// Sends one message, halved by records as often as the sink finds it too large. `first` is the answer to the whole
    /// message when it was sent already.
    async fn deliver_alone(&mut self, opened: &Opened<'_>, mut first: Option<Reply>) {
        let mut left = vec![Slice::whole(Arc::clone(&opened.batch))];
        let (mut partial, mut refused) = (None, None);
        while let Some(slice) = left.pop() {
            let reply = match first.take() {
                Some(reply) => reply,
                None => self.attempt(vec![slice.clone()]).await,
            };
            match reply.outcome {
                Outcome::Delivered => {}
                Outcome::Retryable | Outcome::Misconfigured => return self.postpone(opened, &reply).await,
                Outcome::Permanent => refused = Some(reply),
                Outcome::Partial => {
                    self.context.metrics.partial(slice.len());
                    partial = Some(reply);
                }
                Outcome::TooLarge => match slice.halve() {
                    Some((before, after)) => left.extend([after, before]),
                    None if self.bury_record(opened.held, &slice, &reply).await => {}
                    None => return self.give_back(opened.held).await,
                },
            }
        }
        match (refused, partial) {
            (Some(reply), _) => drop(self.bury(opened, Reason::PermanentRejection, &reply).await),
            // No audit record may disappear without a trace.
            (None, Some(reply)) if opened.batch.signal == Signal::Audit => {
                self.bury(opened, Reason::Partial, &reply).await;
            }
            (None, Some(reply)) => {
                self.log(opened, &reply, "sink kept a part");
                opened.held.acknowledge().await;
                self.context.metrics.settled(Outcome::Partial, opened.batch.records());
            }
            (None, None) => self.delivered(opened).await,
        }
    }

    async fn attempt(&mut self, slices: Vec<Slice>) -> Reply {
        let started = Instant::now();
        let (reply, bytes) = match &self.context.sink {
            Sink::Http(sink, encoding) => {
                let (sink, encoding, kind) = (Arc::clone(sink), *encoding, self.context.route.kind());
                let request_id = render::request_id(&slices);
                let rendered = tokio::task::spawn_blocking(move || match kind {
                    SinkKind::Mimir => render_mimir(&slices),
                    SinkKind::Loki => render_loki(&slices, encoding),
                    SinkKind::Siem => render_siem(&slices),
                });
                match (rendered.await, self.domain) {
                    (Ok(rendered), Some(domain)) => self.send(&sink, domain, rendered, &request_id).await,
                    _ => (Reply::failed("rendering did not end"), 0),
                }
            }
            Sink::File(sink) => (self.write(Arc::clone(sink), slices).await, 0),
            // Skipped messages do not come so far.
            Sink::Off => (Reply::failed("sink is off"), 0),
        };
        self.context.metrics.request(started.elapsed().as_secs_f64(), bytes);
        match (reply.outcome, reply.status) {
            (Outcome::Retryable, 429) => self.tally.throttled += 1,
            (Outcome::Retryable, _) => self.tally.retryable += 1,
            (Outcome::Misconfigured, _) => self.tally.misconfigured += 1,
            (Outcome::Delivered | Outcome::Partial | Outcome::Permanent | Outcome::TooLarge, _) => {
                self.tally.answered += 1;
            }
        }
        reply
    }

    async fn send(
        &self,
        sink: &crate::sink::HttpSink,
        domain: DomainId,
        rendered: Rendered,
        request_id: &str,
    ) -> (Reply, usize) {
        let bytes = rendered.body.len();
        self.context.metrics.labels_dropped(rendered.labels_dropped);
        (sink.send(TenantId::of(domain), rendered, request_id).await, bytes)
    }

    async fn write(&self, sink: Arc<crate::file_sink::FileSink>, slices: Vec<Slice>) -> Reply {
        let now = self.context.clock.now();
        match tokio::task::spawn_blocking(move || sink.write(&slices, now)).await {
            Ok(Ok(written)) => {
                self.context.metrics.duplicates(written.duplicates);
                Reply { outcome: Outcome::Delivered, status: 0, retry_after: None, detail: String::new() }
            }
            Ok(Err(error)) => {
                tracing::error!(consumer = %self.context.route, %error, "file sink cannot write");
                Reply::failed(&error.to_string())
            }
            Err(_) => Reply::failed("write did not end"),
        }
    }

    async fn delivered(&self, opened: &Opened<'_>) {
        opened.held.acknowledge().await;
        self.context.metrics.settled(Outcome::Delivered, opened.batch.records());
        self.context.metrics.lag(self.context.clock.now().since(opened.batch.accepted_at));
    }

    /// Gives the message back with a pause, or buries it when the server is about to delete it.
    async fn postpone(&self, opened: &Opened<'_>, reply: &Reply) {
        if age(opened.held.published(), self.context.clock.now()) >= self.context.horizon {
            self.bury(opened, Reason::RetryExhausted, reply).await;
            return;
        }
        self.log(opened, reply, "delivery postponed");
        self.context.metrics.settled(reply.outcome, opened.batch.records());
        let n = opened.held.deliveries();
        opened.held.give_back(redelivery_delay(self.context.backoff_base, n, reply.retry_after)).await;
    }

    async fn give_back(&self, held: &Held) {
        held.give_back(redelivery_delay(self.context.backoff_base, held.deliveries(), None)).await;
    }

    /// Whether the dead letter is stored and the message acknowledged; it is given back when not.
    async fn bury(&self, opened: &Opened<'_>, reason: Reason, reply: &Reply) -> bool {
        let held = opened.held;
        let letter = DeadLetter {
            domain: self.domain,
            status: reply.status,
            detail: &reply.detail,
            ..self.letter(held, reason)
        };
        let outcome = if reason == Reason::Partial { Outcome::Partial } else { Outcome::Permanent };
        self.settle_buried(held, letter, (outcome, opened.batch.records())).await
    }

    async fn bury_poison(&self, held: &Held, poison: &Poison) -> bool {
        let (reason, domain) = match poison {
            Poison::IdentityMismatch => (Reason::IdentityMismatch, None),
            Poison::PayloadInvalid(_) => (Reason::PayloadInvalid, self.domain),
        };
        let detail = crate::sink::printable(poison.to_string().as_bytes());
        let letter = DeadLetter { domain, detail: &detail, ..self.letter(held, reason) };
        self.settle_buried(held, letter, (Outcome::Permanent, 0)).await
    }

    /// Stores the letter, then acknowledges the message and counts it; gives it back when the letter is not stored.
    async fn settle_buried(&self, held: &Held, letter: DeadLetter<'_>, settled: (Outcome, usize)) -> bool {
        let stored = self.store(letter).await;
        if stored {
            held.acknowledge().await;
            self.context.metrics.settled(settled.0, settled.1);
        } else {
            self.give_back(held).await;
        }
        stored
    }

    /// Buries one record as a batch of its own. Its batch id is new, because a sink that dedupes by batch would take it
    /// for the rest of its batch.
    async fn bury_record(&self, held: &Held, slice: &Slice, reply: &Reply) -> bool {
        let index = slice.first_index();
        let batch_id = Sha256::digest(format!("{}:{index}", slice.batch().batch_id));
        let mut headers = held.headers().cloned().unwrap_or_default();
        headers.insert(subjects::HEADER_BATCH_ID, data_encoding::HEXLOWER.encode(&batch_id));
        headers.insert(subjects::HEADER_RECORDS, "1");
        headers.insert(subjects::HEADER_PAYLOAD, PayloadFormat::rewritten(Encoding::Identity).as_str());
        let letter = DeadLetter {
            domain: self.domain,
            status: reply.status,
            detail: &reply.detail,
            record: Some(index),
            headers,
            payload: Bytes::copy_from_slice(slice.ndjson()),
            ..self.letter(held, Reason::RecordTooLarge)
        };
        self.store(letter).await
    }

    fn letter(&self, held: &Held, reason: Reason) -> DeadLetter<'static> {
        DeadLetter {
            route: self.context.route,
            domain: None,
            reason,
            status: 0,
            detail: "",
            stream_sequence: held.sequence(),
            deliveries: held.deliveries(),
            record: None,
            headers: held.headers().cloned().unwrap_or_else(HeaderMap::new),
            payload: held.payload().clone(),
        }
    }

    /// Whether the letter is durably stored.
    async fn store(&self, letter: DeadLetter<'_>) -> bool {
        let (route, reason, sequence, status) = (letter.route, letter.reason, letter.stream_sequence, letter.status);
        match letter.store(&self.context.jetstream).await {
            Ok(()) => {
                self.context.metrics.dead_letter(reason);
                self.context.vitals.dead_letter(route);
                tracing::warn!(consumer = %route, reason = reason.as_str(), sequence, status, "dead letter stored");
                true
            }
            Err(error) => {
                tracing::warn!(consumer = %route, reason = reason.as_str(), sequence, %error, "dead letter not stored");
                false
            }
        }
    }

    fn log(&self, opened: &Opened<'_>, reply: &Reply, what: &'static str) {
        tracing::info!(
            consumer = %self.context.route,
            domain = %opened.batch.origin.domain,
            batch = opened.batch.batch_id,
            outcome = reply.outcome.as_str(),
            status = reply.status,
            deliveries = opened.held.deliveries(),
            answer = reply.detail,
            "{what}"
        );
    }
}
