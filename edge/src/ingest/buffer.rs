//! Where batches are parked: the port, and JetStream behind it.

use std::error::Error as _;
use std::future::{Future, IntoFuture as _};

use async_nats::connection::State;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::{self, ErrorCode};
use bytes::Bytes;
use plexsphere_wire::Timestamp;
use plexsphere_wire::subjects::{self, Origin};
use plexsphere_wire::telemetry::{PayloadFormat, Signal};

/// A batch ready to be stored.
#[derive(Clone, Debug)]
pub struct BufferedBatch {
    /// What it holds.
    pub signal: Signal,
    /// Where it comes from.
    pub origin: Origin,
    /// Its dedupe key.
    pub id: String,
    /// How many records it holds.
    pub records: usize,
    /// When the agent sent it.
    pub sent_at: Timestamp,
    /// When it passed the last gate.
    pub accepted_at: Timestamp,
    /// How the payload is encoded.
    pub format: PayloadFormat,
    /// The payload.
    pub payload: Bytes,
}

/// Why a batch is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BufferFault {
    /// No connection to the bus.
    #[error("bus is not connected")]
    Disconnected,
    /// No acknowledgement in time.
    #[error("no acknowledgement in time")]
    TimedOut,
    /// The stream takes no more.
    #[error("stream is full")]
    Full,
    /// The bus refused.
    #[error("bus refused")]
    Refused,
}

/// Stores batches durably.
pub trait IngestBuffer: Send + Sync + 'static {
    /// Resolves when the batch is durable, and not before.
    fn publish(&self, batch: BufferedBatch) -> impl Future<Output = Result<(), BufferFault>> + Send;
}

/// The three buffer streams.
pub struct JetStreamBuffer {
    client: async_nats::Client,
    jetstream: jetstream::Context,
}

impl JetStreamBuffer {
    /// A buffer over an established client.
    #[must_use]
    pub fn new(client: async_nats::Client) -> Self {
        let jetstream = jetstream::new(client.clone());
        Self { client, jetstream }
    }
}

impl IngestBuffer for JetStreamBuffer {
    async fn publish(&self, batch: BufferedBatch) -> Result<(), BufferFault> {
        if self.client.connection_state() != State::Connected {
            return Err(BufferFault::Disconnected);
        }
        let subject = subjects::telemetry(batch.signal, &batch.origin);
        let message = jetstream::message::PublishMessage::build()
            .header(subjects::HEADER_ORIGIN, batch.origin.header().as_str())
            .header(subjects::HEADER_SIGNAL, batch.signal.as_str())
            .header(subjects::HEADER_BATCH_ID, batch.id.as_str())
            .header(subjects::HEADER_RECORDS, batch.records.to_string().as_str())
            .header(subjects::HEADER_SENT_AT, batch.sent_at.to_string().as_str())
            .header(subjects::HEADER_ACCEPTED_AT, batch.accepted_at.to_string().as_str())
            .header(subjects::HEADER_PAYLOAD, batch.format.as_str())
            .message_id(&batch.id)
            .payload(batch.payload);
        let pending = self.jetstream.send_publish(subject, message).await.map_err(|error| fault(&error))?;
        let ack = pending.into_future().await.map_err(|error| fault(&error))?;
        if ack.stream == subjects::telemetry_stream(batch.signal) { Ok(()) } else { Err(BufferFault::Refused) }
    }
}

fn fault(error: &PublishError) -> BufferFault {
    let refused = error.source().and_then(|source| source.downcast_ref::<jetstream::Error>());
    match (error.kind(), refused) {
        (PublishErrorKind::TimedOut, _) => BufferFault::TimedOut,
        (PublishErrorKind::BrokenPipe, _) => BufferFault::Disconnected,
        (_, Some(error)) if full(error) => BufferFault::Full,
        _ => BufferFault::Refused,
    }
}

/// With `discard: new` a full stream reports a failed store, whose text alone says why.
fn full(error: &jetstream::Error) -> bool {
    let code = error.error_code();
    code == ErrorCode::STORAGE_RESOURCES_EXCEEDED
        || (code == ErrorCode::STREAM_STORE_FAILED && error.to_string().contains("maximum"))
}
