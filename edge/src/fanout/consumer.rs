//! Follows the event stream: one ordered consumer per edge.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::{self, Message};
use futures_util::{FutureExt as _, StreamExt as _};
use parking_lot::Mutex;
use plexsphere_wire::envelope::Envelope;
use plexsphere_wire::intake::{EVENT_GATEWAY, SystemIntake};
use plexsphere_wire::{CorrelationId, DenialReason, subjects};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::hub::Hub;
use super::patience::KeyMisses;
use super::verify::{Rejection, verify};
use crate::clock::Clock;
use crate::config::{EventsConfig, millis, seconds};
use crate::directory::Directory;
use crate::intake::Intake;
use crate::metrics::{Metrics, OfReason};
use crate::probe::Probe;

/// How long a message under an unknown key waits for the directory to learn of it.
const KEY_PATIENCE: Duration = Duration::from_millis(500);
/// How old a message may be whose key the directory may not know yet.
const KEY_FRESH: Duration = Duration::from_secs(5);
/// The most messages that are handed on together.
const BURST: usize = 64;
const RETRY: Duration = Duration::from_millis(500);
/// The audit row of a message that was not believed.
const REJECTED: &str = "event_bus.envelope_rejected";

/// The event stream as this edge sees it.
pub struct EventBus {
    client: async_nats::Client,
    jetstream: jetstream::Context,
    hub: Arc<Hub>,
    directory: Arc<Directory>,
    intake: Intake,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    config: EventsConfig,
    probe: Arc<Probe>,
    loaded: AtomicBool,
    healthy: AtomicBool,
    misses: Mutex<KeyMisses>,
}

#[derive(Debug, thiserror::Error)]
enum BusError {
    #[error("event stream cannot be read: {0}")]
    Stream(String),
    #[error("event stream was made anew")]
    Recreated,
}

fn stream_error(error: impl std::fmt::Display) -> BusError {
    BusError::Stream(error.to_string())
}

/// The parts of [`EventBus`].
pub struct EventBusDeps {
    /// The bus.
    pub client: async_nats::Client,
    /// The streams to feed.
    pub hub: Arc<Hub>,
    /// The Domains' keys.
    pub directory: Arc<Directory>,
    /// Where rejected messages are recorded.
    pub intake: Intake,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// The counters.
    pub metrics: Metrics,
    /// `event-stream`: passes once the ring was loaded.
    pub probe: Arc<Probe>,
}

impl EventBus {
    /// A bus that was not read yet.
    #[must_use]
    pub fn new(deps: EventBusDeps, config: EventsConfig) -> Self {
        Self {
            jetstream: jetstream::new(deps.client.clone()),
            client: deps.client,
            hub: deps.hub,
            directory: deps.directory,
            intake: deps.intake,
            clock: deps.clock,
            metrics: deps.metrics,
            config,
            probe: deps.probe,
            loaded: AtomicBool::new(false),
            healthy: AtomicBool::new(false),
            misses: Mutex::default(),
        }
    }

    /// Whether new streams may be opened.
    #[must_use]
    pub fn available(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
            && self.healthy.load(Ordering::Acquire)
            && self.client.connection_state() == State::Connected
    }

    /// The last sequence of the event stream, asked now.
    pub async fn last_sequence(&self) -> Option<u64> {
        let asked = async { self.jetstream.get_stream(subjects::EVENTS_STREAM).await.ok() };
        let stream = tokio::time::timeout(Duration::from_secs(2), asked).await.ok()??;
        Some(stream.cached_info().state.last_sequence)
    }

    /// Follows the stream until `cancel`.
    pub async fn follow(&self, cancel: CancellationToken) {
        let mut created = None;
        loop {
            let ended = tokio::select! {
                () = cancel.cancelled() => return,
                ended = self.follow_once(&mut created) => ended,
            };
            self.healthy.store(false, Ordering::Release);
            match ended {
                Err(BusError::Recreated) => {
                    tracing::warn!("event stream was made anew; every stream is closed");
                    self.loaded.store(false, Ordering::Release);
                    created = None;
                    self.hub.reset();
                }
                Err(error) => tracing::debug!(%error, "event stream lost"),
                Ok(()) => tracing::debug!("event stream ended"),
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    async fn follow_once(&self, created: &mut Option<OffsetDateTime>) -> Result<(), BusError> {
        let stream = self.jetstream.get_stream(subjects::EVENTS_STREAM).await.map_err(stream_error)?;
        let info = stream.cached_info().clone();
        if created.is_some_and(|known| known != info.created) || info.state.last_sequence < self.hub.applied() {
            return Err(BusError::Recreated);
        }
        *created = Some(info.created);
        let resumes = self.loaded.load(Ordering::Acquire);
        let from = self.clock.now().minus(seconds(self.config.ring_seconds)).inner();
        let deliver_policy = if resumes {
            DeliverPolicy::ByStartSequence { start_sequence: self.hub.applied() + 1 }
        } else {
            DeliverPolicy::ByStartTime { start_time: from }
        };
        let config = OrderedConfig { deliver_policy, ..OrderedConfig::default() };
        let consumer = stream.create_consumer(config).await.map_err(stream_error)?;
        let mut begun = resumes;
        if !resumes && consumer.cached_info().num_pending == 0 {
            self.hub.begin(info.state.last_sequence);
            begun = true;
            self.ready();
        }
        self.healthy.store(true, Ordering::Release);
        let mut messages = consumer.messages().await.map_err(stream_error)?;
        let mut check = tokio::time::interval(millis(self.config.check_millis));
        check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = messages.next() => {
                    let message = message.ok_or_else(|| stream_error("closed"))?.map_err(stream_error)?;
                    let taken = self.take_burst(message, &mut messages, &mut begun).await;
                    // The next ones wait on the bus until these have left: no stream is buried by our own haste.
                    self.hub.flush().await;
                    taken?;
                }
                _ = check.tick() => self.check(&stream, created).await?,
            }
        }
    }

    fn ready(&self) {
        self.loaded.store(true, Ordering::Release);
        self.probe.pass("ring is loaded");
        tracing::info!(applied = self.hub.applied(), "event ring is loaded");
    }

    /// Whether the stream still is the one that was opened.
    async fn check(&self, stream: &Stream, created: &Option<OffsetDateTime>) -> Result<(), BusError> {
        self.hub.expire(self.clock.now().minus(seconds(self.config.ring_seconds)));
        match tokio::time::timeout(Duration::from_secs(2), stream.get_info()).await {
            Ok(Ok(info)) => {
                let same = *created == Some(info.created) && info.state.last_sequence >= self.hub.applied();
                if !same {
                    return Err(BusError::Recreated);
                }
                // The consumer would notice a lost bus only by its missed heartbeats, much later.
                let came_back = !self.healthy.swap(true, Ordering::AcqRel);
                if came_back { Err(stream_error("bus came back")) } else { Ok(()) }
            }
            Ok(Err(_)) | Err(_) => {
                // Open streams stay; new ones are refused until the stream answers again.
                self.healthy.store(false, Ordering::Release);
                Ok(())
            }
        }
    }

    /// Takes a message and those that are there already.
    async fn take_burst(&self, first: Message, messages: &mut Ordered, begun: &mut bool) -> Result<(), BusError> {
        self.take(&first, begun).await?;
        for _ in 1..BURST {
            let Some(Some(message)) = messages.next().now_or_never() else { break };
            self.take(&message.map_err(stream_error)?, begun).await?;
        }
        Ok(())
    }

    async fn take(&self, message: &Message, begun: &mut bool) -> Result<(), BusError> {
        let (sequence, pending) = {
            let info = message.info().map_err(stream_error)?;
            (info.stream_sequence, info.pending)
        };
        if !*begun {
            self.hub.begin(sequence.saturating_sub(1));
            *begun = true;
        }
        if sequence > self.hub.applied() {
            let id = message.headers.as_ref().and_then(|headers| headers.get(subjects::HEADER_MSG_ID));
            let id = id.map(async_nats::HeaderValue::as_str);
            match self.verify(&message.subject, id, sequence, &message.payload).await {
                Some(frame) => self.hub.apply(frame),
                None => self.hub.skip(sequence),
            }
        }
        if pending == 0 && !self.loaded.load(Ordering::Acquire) {
            self.ready();
        }
        Ok(())
    }

    /// Verifies a message; a bad one is counted, logged, audited and dropped.
    pub(super) async fn verify(
        &self,
        subject: &str,
        id: Option<&str>,
        sequence: u64,
        wire: &[u8],
    ) -> Option<super::hub::EventFrame> {
        let mut judged = verify(&self.directory, subject, id, sequence, wire);
        if judged.as_ref().is_err_and(|rejection| *rejection == Rejection::Key) {
            judged = self.verify_patiently((subject, id), sequence, wire).await;
        }
        match judged {
            Ok(frame) => Some(frame),
            Err(rejection) => {
                self.metrics.envelopes_rejected.get_or_create(&OfReason { reason: rejection.as_str() }).inc();
                tracing::error!(subject, sequence, %rejection, "envelope rejected");
                self.audit((subject, wire), sequence, rejection);
                None
            }
        }
    }

    /// Records a rejection on the platform's chain. Every edge rejects the same message, and does so again when it
    /// starts: the digest makes one row of them all.
    fn audit(&self, (subject, wire): (&str, &[u8]), sequence: u64, rejection: Rejection) {
        let now = self.clock.now();
        let row = SystemIntake {
            domain: None,
            subject: EVENT_GATEWAY,
            relation: REJECTED.to_owned(),
            object_type: "envelope".to_owned(),
            object_id: format!("{sequence}/{}", rejection.as_str()),
            denied: Some(DenialReason::OutOfScope),
            repeated: 0,
            correlation_id: CorrelationId::mint(now),
            occurred_at: now,
        };
        let digest =
            Sha256::new().chain_update(sequence.to_be_bytes()).chain_update(subject).chain_update(wire).finalize();
        self.intake.record_named(row, format!("{REJECTED}:{digest:x}"));
    }

    /// Verifies a message under an unknown key once more for a moment, when it is worth it: the relay may sign under a new
    /// key a moment before the directory tells of it. Everybody else waits as well, so neither old messages are waited
    /// for, nor Domains that nobody knows, nor keys that were waited for in vain.
    async fn verify_patiently(
        &self,
        (subject, id): (&str, Option<&str>),
        sequence: u64,
        wire: &[u8],
    ) -> Result<super::hub::EventFrame, Rejection> {
        let unsigned = Envelope::parse(wire).map_err(Rejection::Envelope)?.unsigned;
        let (domain, kid, begun) = (unsigned.domain, unsigned.key_id, self.clock.monotonic());
        let fresh = self.clock.now().distance(unsigned.issued_at) <= KEY_FRESH;
        let known = self.directory.domain(domain).is_some();
        if !fresh || !known || !self.misses.lock().may_wait(domain, &kid, begun) {
            return Err(Rejection::Key);
        }
        // Others' frames do not wait for this one's key.
        self.hub.flush().await;
        let mut judged = Err(Rejection::Key);
        while judged.as_ref().is_err_and(|rejection| *rejection == Rejection::Key)
            && self.clock.monotonic().saturating_sub(begun) < KEY_PATIENCE
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
            judged = verify(&self.directory, subject, id, sequence, wire);
        }
        if judged.as_ref().is_err_and(|rejection| *rejection == Rejection::Key) {
            self.misses.lock().note(domain, &kid, self.clock.monotonic());
        }
        judged
    }

    /// Reads one subject of the stream from `sequence` on.
    pub(super) async fn next_of(&self, subject: &str, sequence: u64) -> Result<Option<(u64, Vec<u8>)>, String> {
        let stream = self.jetstream.get_stream_no_info(subjects::EVENTS_STREAM).await.map_err(|e| e.to_string())?;
        match stream.direct_get_next_for_subject(subject, Some(sequence)).await {
            Ok(message) => Ok(Some((message.sequence, message.payload.to_vec()))),
            Err(error) if error.kind() == jetstream::stream::DirectGetErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }
}
