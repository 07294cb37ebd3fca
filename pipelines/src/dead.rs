//! Messages that a route gives up on: stored durably before the original is acknowledged, and replayed on request.

mod replay;

use async_nats::HeaderMap;
use async_nats::jetstream;
use bytes::Bytes;
use plexsphere_wire::DomainId;
use plexsphere_wire::subjects;

pub use replay::{ReplayError, replay_dead};

use crate::route::Route;

/// Header: why the message is a dead letter.
pub const HEADER_REASON: &str = "Plexsphere-Dead-Reason";
/// Header: the sink's HTTP status, 0 when there was none.
pub const HEADER_STATUS: &str = "Plexsphere-Dead-Status";
/// Header: at most 512 bytes of printable ASCII.
pub const HEADER_DETAIL: &str = "Plexsphere-Dead-Detail";
/// Header: the buffer stream of the original.
pub const HEADER_ORIGIN_STREAM: &str = "Plexsphere-Origin-Stream";
/// Header: the original's sequence in its stream.
pub const HEADER_ORIGIN_SEQ: &str = "Plexsphere-Origin-Seq";
/// Header: how often the original was delivered.
pub const HEADER_DELIVERY_COUNT: &str = "Plexsphere-Delivery-Count";

/// Headers that a dead letter has and its original has not.
const DEAD_HEADERS: [&str; 6] =
    [HEADER_REASON, HEADER_STATUS, HEADER_DETAIL, HEADER_ORIGIN_STREAM, HEADER_ORIGIN_SEQ, HEADER_DELIVERY_COUNT];

/// Why a message is a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Headers and subject name different origins.
    IdentityMismatch,
    /// The payload is no batch.
    PayloadInvalid,
    /// The sink refuses it for good.
    PermanentRejection,
    /// The sink kept a part of an audit batch.
    Partial,
    /// One record alone is too large for the sink.
    RecordTooLarge,
    /// It was retried until the stream was about to delete it.
    RetryExhausted,
}

/// One dead letter.
pub(crate) struct DeadLetter<'a> {
    pub(crate) route: Route,
    /// Absent when the Domain cannot be trusted.
    pub(crate) domain: Option<DomainId>,
    pub(crate) reason: Reason,
    pub(crate) status: u16,
    pub(crate) detail: &'a str,
    pub(crate) stream_sequence: u64,
    pub(crate) deliveries: u64,
    /// Index of the record when one record of the message is buried alone.
    pub(crate) record: Option<usize>,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

// === impl Reason ===

impl Reason {
    /// The reason's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IdentityMismatch => "identity_mismatch",
            Self::PayloadInvalid => "payload_invalid",
            Self::PermanentRejection => "permanent_rejection",
            Self::Partial => "partial",
            Self::RecordTooLarge => "record_too_large",
            Self::RetryExhausted => "retry_exhausted",
        }
    }
}

// === impl DeadLetter ===

impl DeadLetter<'_> {
    /// Stores the letter and waits for the stream's acknowledgement. Storing the same letter twice within the duplicate
    /// window keeps one.
    pub(crate) async fn store(self, jetstream: &jetstream::Context) -> Result<(), jetstream::context::PublishError> {
        let subject = subjects::dead_letter(self.route.durable(), self.domain);
        let mut headers = without_server_headers(&self.headers);
        headers.insert(HEADER_REASON, self.reason.as_str());
        headers.insert(HEADER_STATUS, self.status.to_string());
        headers.insert(HEADER_DETAIL, self.detail);
        headers.insert(HEADER_ORIGIN_STREAM, self.route.stream());
        headers.insert(HEADER_ORIGIN_SEQ, self.stream_sequence.to_string());
        headers.insert(HEADER_DELIVERY_COUNT, self.deliveries.to_string());
        let record = self.record.map(|record| format!(":{record}")).unwrap_or_default();
        let message_id = format!("{}:{}{record}", self.route.durable(), self.stream_sequence);
        headers.insert(subjects::HEADER_MSG_ID, message_id);
        jetstream.publish_with_headers(subject, headers, self.payload).await?.await?;
        Ok(())
    }
}

/// The headers that are ours. `Nats-…` headers steer the server (dedupe, expectations, atomic groups) and must not act a
/// second time on another stream.
fn without_server_headers(headers: &HeaderMap) -> HeaderMap {
    let mut ours = HeaderMap::new();
    for (name, values) in headers.iter() {
        let text: &str = name.as_ref();
        if !text.get(..5).is_some_and(|prefix| prefix.eq_ignore_ascii_case("nats-")) {
            for value in values {
                ours.append(name.clone(), value.clone());
            }
        }
    }
    ours
}
