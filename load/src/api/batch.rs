//! A telemetry batch: records, encoded once, sent again byte for byte until it is settled.

use std::fmt;
use std::io::Write as _;
use std::str::FromStr;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use plexsphere_wire::NodeId;
use plexsphere_wire::telemetry::{Encoding, Shape, Signal, batch_id};

/// Above this many bytes an agent compresses.
pub(super) const GZIP_THRESHOLD_BYTES: usize = 1_024;

/// How bodies are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodingChoice {
    /// As agents do: gzip above [`GZIP_THRESHOLD_BYTES`], identity below.
    Agent,
    /// One encoding for every body.
    Always(Encoding),
}

impl EncodingChoice {
    /// The word of the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Always(encoding) => encoding.as_str(),
        }
    }

    const fn of(self, length: usize) -> Encoding {
        match self {
            Self::Agent if length > GZIP_THRESHOLD_BYTES => Encoding::Gzip,
            Self::Agent => Encoding::Identity,
            Self::Always(encoding) => encoding,
        }
    }
}

impl fmt::Display for EncodingChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EncodingChoice {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        [Self::Agent, Self::Always(Encoding::Gzip), Self::Always(Encoding::Zstd), Self::Always(Encoding::Identity)]
            .into_iter()
            .find(|choice| choice.as_str() == word)
            .ok_or_else(|| format!("`{word}` is not one of agent, gzip, zstd, identity"))
    }
}

/// A body could not be compressed.
#[derive(Debug, thiserror::Error)]
#[error("cannot compress a batch")]
pub struct EncodeError(#[source] std::io::Error);

/// One batch, ready to send. Its bytes never change after this.
#[derive(Clone, Debug)]
pub struct Batch {
    /// What the records are.
    pub signal: Signal,
    /// How the body is compressed.
    pub encoding: Encoding,
    /// The request body.
    pub body: Bytes,
    /// Length of the body before compression.
    pub inflated_bytes: usize,
    /// The id under which the platform recognises a repeat: lower-case hex of 32 bytes.
    pub batch_id: String,
    records: Vec<Bytes>,
}

impl Batch {
    /// Lays records out as their signal wants it and compresses them.
    ///
    /// Each record is the JSON text of one object without line breaks; there must be at least one.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn encode(
        signal: Signal,
        node: NodeId,
        records: Vec<Bytes>,
        choice: EncodingChoice,
    ) -> Result<Self, EncodeError> {
        let inflated = lay_out(signal.received_shape(), &records);
        let encoding = choice.of(inflated.len());
        let batch_id = batch_id(signal, node.as_bytes(), &inflated);
        let inflated_bytes = inflated.len();
        let body = compress(encoding, inflated).map_err(EncodeError)?;
        Ok(Self { signal, encoding, body: body.into(), inflated_bytes, batch_id, records })
    }

    /// The records' JSON texts.
    #[must_use]
    pub fn records(&self) -> &[Bytes] {
        &self.records
    }

    /// Both halves of the records, in order; `None` for a single record, which an agent drops.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn halve(self, node: NodeId, choice: EncodingChoice) -> Result<Option<(Self, Self)>, EncodeError> {
        let mut first = self.records;
        if first.len() < 2 {
            return Ok(None);
        }
        let second = first.split_off(first.len() / 2);
        let first = Self::encode(self.signal, node, first, choice)?;
        let second = Self::encode(self.signal, node, second, choice)?;
        Ok(Some((first, second)))
    }
}

fn lay_out(shape: Shape, records: &[Bytes]) -> Vec<u8> {
    let mut out = Vec::with_capacity(records.iter().map(|record| record.len() + 1).sum::<usize>() + 2);
    if shape == Shape::Array {
        out.push(b'[');
        for (index, record) in records.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(record);
        }
        out.push(b']');
    } else {
        for record in records {
            out.extend_from_slice(record);
            out.push(b'\n');
        }
    }
    out
}

fn compress(encoding: Encoding, inflated: Vec<u8>) -> std::io::Result<Vec<u8>> {
    match encoding {
        Encoding::Identity => Ok(inflated),
        Encoding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::with_capacity(inflated.len() / 4), Compression::default());
            encoder.write_all(&inflated)?;
            encoder.finish()
        }
        Encoding::Zstd => zstd::bulk::compress(&inflated, 1),
    }
}

#[cfg(test)]
mod tests {
    use plexsphere_wire::Timestamp;

    use super::*;

    fn node() -> NodeId {
        NodeId::mint(Timestamp::from_unix_seconds(1_700_000_000))
    }

    fn records(count: usize) -> Vec<Bytes> {
        (0..count).map(|index| Bytes::from(format!("{{\"message\":\"line {index}\"}}"))).collect()
    }

    #[test]
    fn metrics_are_an_array_and_logs_are_lines() {
        let choice = EncodingChoice::Agent;
        let metrics = Batch::encode(Signal::Metrics, node(), records(2), choice).unwrap();
        assert_eq!(&metrics.body[..], br#"[{"message":"line 0"},{"message":"line 1"}]"#);
        let logs = Batch::encode(Signal::Logs, node(), records(2), choice).unwrap();
        assert_eq!(&logs.body[..], b"{\"message\":\"line 0\"}\n{\"message\":\"line 1\"}\n");
    }

    #[test]
    fn an_agent_compresses_above_1024_bytes_only() {
        let node = node();
        let at_limit = vec![Bytes::from(vec![b'x'; GZIP_THRESHOLD_BYTES - 1])];
        let small = Batch::encode(Signal::Logs, node, at_limit, EncodingChoice::Agent).unwrap();
        assert_eq!((small.encoding, small.inflated_bytes), (Encoding::Identity, 1_024));
        let above = vec![Bytes::from(vec![b'x'; GZIP_THRESHOLD_BYTES])];
        let large = Batch::encode(Signal::Logs, node, above, EncodingChoice::Agent).unwrap();
        assert_eq!(large.encoding, Encoding::Gzip);
        assert!(large.body.starts_with(&[0x1f, 0x8b]));
    }

    // I1: what is sent again is a new batch only when it is another part of the records.
    #[test]
    fn halves_hold_every_record_once_and_a_single_record_has_none() {
        let (node, choice) = (node(), EncodingChoice::Always(Encoding::Zstd));
        let whole = Batch::encode(Signal::Logs, node, records(5), choice).unwrap();
        let (first, second) = whole.halve(node, choice).unwrap().unwrap();
        assert_eq!([first.records(), second.records()].concat(), records(5));
        let single = Batch::encode(Signal::Logs, node, records(1), choice).unwrap();
        assert!(single.halve(node, choice).unwrap().is_none());
    }
}
