//! A message that this process was handed and owes the server an answer for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::{self, AckKind};
use bytes::Bytes;
use plexsphere_wire::{DomainId, Timestamp};

use super::domain_of;

/// A message in flight. It is answered at most once; one that is never answered returns after `ack_wait`.
pub(super) struct Held {
    message: jetstream::Message,
    domain: Option<DomainId>,
    deliveries: u64,
    sequence: u64,
    published: Timestamp,
    settled: AtomicBool,
}

// === impl Held ===

impl Held {
    /// Takes a message; `None` for what is no delivery of a consumer.
    pub(super) fn new(message: jetstream::Message) -> Option<Self> {
        let info = message.info().ok()?;
        let (deliveries, sequence) = (u64::try_from(info.delivered).unwrap_or(1).max(1), info.stream_sequence);
        let published = Timestamp::new(info.published);
        let domain = domain_of(&message.subject);
        Some(Self { domain, deliveries, sequence, published, settled: AtomicBool::new(false), message })
    }

    pub(super) const fn domain(&self) -> Option<DomainId> {
        self.domain
    }

    /// Which delivery of this message this is, from 1.
    pub(super) const fn deliveries(&self) -> u64 {
        self.deliveries
    }

    pub(super) const fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) const fn published(&self) -> Timestamp {
        self.published
    }

    pub(super) fn subject(&self) -> &str {
        &self.message.subject
    }

    pub(super) fn headers(&self) -> Option<&HeaderMap> {
        self.message.headers.as_ref()
    }

    pub(super) fn payload(&self) -> &Bytes {
        &self.message.payload
    }

    pub(super) fn payload_bytes(&self) -> usize {
        self.message.payload.len()
    }

    /// The sink, or the dead-letter stream, has it.
    pub(super) async fn acknowledge(&self) {
        self.answer(AckKind::Ack).await;
    }

    /// It is to be delivered again after the pause.
    pub(super) async fn give_back(&self, pause: Duration) {
        // A negative acknowledgement without a delay is the server's word for "at once".
        self.answer(AckKind::Nak((!pause.is_zero()).then_some(pause))).await;
    }

    /// It is still being worked on.
    pub(super) async fn extend(&self) {
        if !self.settled.load(Ordering::Relaxed) {
            let _ = self.message.ack_with(AckKind::Progress).await;
        }
    }

    async fn answer(&self, kind: AckKind) {
        if self.settled.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Err(error) = self.message.ack_with(kind).await {
            // The server hands it out again after `ack_wait`; sinks recognise it.
            tracing::debug!(sequence = self.sequence, %error, "answer to the bus was not sent");
        }
    }
}
