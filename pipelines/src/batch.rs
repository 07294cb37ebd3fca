//! A buffer message opened: its headers held against its subject, its payload decoded by the same strict decoder that
//! ran at the front door, its records laid out as canonical NDJSON.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_nats::HeaderMap;
use bytes::Bytes;
use plexsphere_wire::Timestamp;
use plexsphere_wire::subjects::{self, Origin};
use plexsphere_wire::telemetry::{self, Inflater, Limits, PayloadFormat, Record, Records, Shape, Signal};

/// One batch, ready to be rendered.
#[derive(Clone)]
pub struct Batch {
    /// Where it comes from; the subject's word.
    pub origin: Origin,
    /// What its records are.
    pub signal: Signal,
    /// Lowercase hex SHA-256.
    pub batch_id: String,
    /// When the front door took it.
    pub accepted_at: Timestamp,
    /// Canonical NDJSON, each line closed by a line feed.
    lines: Bytes,
    /// Where each line ends, behind its line feed.
    ends: Vec<usize>,
}

/// A run of a batch's records. Requests are made of slices, so that a batch that is too large can be halved.
#[derive(Clone)]
pub struct Slice {
    batch: Arc<Batch>,
    records: Range<usize>,
}

/// Why a message can never be delivered, whatever the sink.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Poison {
    /// The headers name another origin or signal than the subject.
    #[error("headers and subject name different origins")]
    IdentityMismatch,
    /// The payload or a header that describes it breaks a rule; never quotes the payload.
    #[error("payload is not a valid batch: {0}")]
    PayloadInvalid(String),
}

/// Opens a message.
///
/// # Errors
/// [`Poison`], after which the message is a dead letter and reaches no sink.
pub fn open(
    subject: &str,
    headers: Option<&HeaderMap>,
    payload: &[u8],
    limits: &Limits,
    inflater: &mut Inflater,
) -> Result<Batch, Poison> {
    let (signal, origin) = identity(subject, headers).ok_or(Poison::IdentityMismatch)?;
    let header = |name: &str| headers.and_then(|headers| headers.get(name)).map(|value| value.as_str());
    let format = header(subjects::HEADER_PAYLOAD)
        .and_then(|value| PayloadFormat::parse(value).ok())
        .ok_or_else(|| invalid("payload format is not known"))?;
    let batch_id = header(subjects::HEADER_BATCH_ID)
        .filter(|id| is_batch_id(id))
        .ok_or_else(|| invalid("batch id is not a SHA-256"))?;
    let accepted_at = header(subjects::HEADER_ACCEPTED_AT)
        .and_then(|value| Timestamp::parse(value).ok())
        .ok_or_else(|| invalid("acceptance time is missing"))?;
    let inflated = inflater.inflate(format.encoding, payload, limits.inflated_bytes).map_err(invalid)?;
    // Identity payloads are not inflated and so have not met the cap yet.
    if inflated.len() > limits.inflated_bytes {
        return Err(invalid("payload is larger than its cap"));
    }
    let lines = telemetry::rewrite(signal, format.shape, inflated, limits).map_err(invalid)?;
    let ends = lines.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    Ok(Batch { origin, signal, batch_id: batch_id.to_owned(), accepted_at, lines: lines.into(), ends })
}

/// The subject's signal and origin when the headers say the same.
fn identity(subject: &str, headers: Option<&HeaderMap>) -> Option<(Signal, Origin)> {
    let (signal, origin) = subjects::parse_telemetry(subject)?;
    let headers = headers?;
    // The header is compared as text: another spelling of the same ids was not written by an edge.
    let same_origin = headers.get(subjects::HEADER_ORIGIN)?.as_str() == origin.header();
    let same_signal = headers.get(subjects::HEADER_SIGNAL)?.as_str() == signal.as_str();
    (same_origin && same_signal).then_some((signal, origin))
}

fn is_batch_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn invalid(reason: impl fmt::Display) -> Poison {
    Poison::PayloadInvalid(reason.to_string())
}

// === impl Batch ===

impl Batch {
    /// How many records the batch holds.
    #[must_use]
    pub const fn records(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of the canonical NDJSON.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.lines.len()
    }

    /// Where a record's line starts, and where the last one ends.
    fn boundary(&self, record: usize) -> usize {
        record.checked_sub(1).map_or(0, |before| self.ends.get(before).copied().unwrap_or(self.lines.len()))
    }
}

impl fmt::Debug for Batch {
    /// Never the records.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("batch_id", &self.batch_id)
            .field("records", &self.records())
            .finish_non_exhaustive()
    }
}

// === impl Slice ===

impl Slice {
    /// All records of a batch.
    #[must_use]
    pub fn whole(batch: Arc<Batch>) -> Self {
        let records = 0..batch.records();
        Self { batch, records }
    }

    /// The batch that the records belong to.
    #[must_use]
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// How many records the slice holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether the slice holds no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Index in the batch of the slice's first record.
    #[must_use]
    pub const fn first_index(&self) -> usize {
        self.records.start
    }

    /// Both halves; `None` when one record is left.
    #[must_use]
    pub fn halve(&self) -> Option<(Self, Self)> {
        if self.len() < 2 {
            return None;
        }
        let middle = self.records.start + self.len() / 2;
        let half = |records| Self { batch: Arc::clone(&self.batch), records };
        Some((half(self.records.start..middle), half(middle..self.records.end)))
    }

    /// The slice's lines, each closed by a line feed.
    #[must_use]
    pub fn ndjson(&self) -> &[u8] {
        let range = self.batch.boundary(self.records.start)..self.batch.boundary(self.records.end);
        self.batch.lines.get(range).unwrap_or_default()
    }

    /// The slice's lines without their line feeds, with the index of each record in its batch.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let lines = self.ndjson().split_inclusive(|byte| *byte == b'\n');
        let lines = lines.map(|line| line.strip_suffix(b"\n").unwrap_or(line));
        self.records.clone().zip(lines)
    }

    /// The slice's records. Canonical lines pass the decoder that wrote them, so that none is left out.
    pub(crate) fn typed<'a, R: Record<'a>>(&'a self) -> impl Iterator<Item = R> {
        let limits = Limits { inflated_bytes: usize::MAX, records: usize::MAX, wire_bytes: usize::MAX };
        Records::<R>::new(Shape::Ndjson, self.ndjson(), &limits).map_while(Result::ok)
    }
}

#[cfg(test)]
pub(crate) mod tests;
