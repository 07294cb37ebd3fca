//! What a batch is called from outside: its signal, its shape and its encoding.

use std::fmt;
use std::str::FromStr;

/// The closed set of telemetry signals. One endpoint, one buffer stream and one record type each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// Metric samples.
    Metrics,
    /// Log lines.
    Logs,
    /// Normalised audit events.
    Audit,
}

/// How records are laid out in the inflated bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// One JSON array of objects, with nothing but whitespace around it.
    Array,
    /// One JSON object per line; blank lines are skipped.
    Ndjson,
}

/// How the bytes of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// RFC 1952, one or more members.
    Gzip,
    /// RFC 8878, one or more frames.
    Zstd,
}

/// Shape and encoding of a buffer message, as its `Plexsphere-Payload` header says them: `array+gzip;v=1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PayloadFormat {
    /// Layout of the records.
    pub shape: Shape,
    /// Compression of the bytes.
    pub encoding: Encoding,
}

/// A `Content-Encoding` outside the accepted set: another coding, a list, or more than one header line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("content encoding is not one of identity, gzip, zstd")]
pub struct EncodingUnsupported;

/// A `Plexsphere-Payload` value that this version does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("payload format is not known")]
pub struct PayloadFormatUnknown;

// === impl Signal ===

impl Signal {
    /// Every signal, in the order of the contract.
    pub const ALL: [Self; 3] = [Self::Metrics, Self::Logs, Self::Audit];

    /// The signal's token in paths, subjects, headers and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::Audit => "audit",
        }
    }

    /// The signal of a token, compared exactly.
    pub fn parse(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|signal| signal.as_str() == token)
    }

    /// The shape in which Nodes send this signal.
    pub const fn received_shape(self) -> Shape {
        match self {
            Self::Metrics => Shape::Array,
            Self::Logs | Self::Audit => Shape::Ndjson,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Shape ===

impl Shape {
    /// The shape's token in a payload format.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Array => "array",
            Self::Ndjson => "ndjson",
        }
    }
}

// === impl Encoding ===

impl Encoding {
    /// The coding's token in `Content-Encoding` and in a payload format.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The encoding that the values of all `Content-Encoding` header lines of one request mean together.
    ///
    /// No line, an empty value and `identity` mean [`Encoding::Identity`]; values are trimmed and compared ASCII
    /// case-insensitively.
    ///
    /// # Errors
    ///
    /// [`EncodingUnsupported`] for any other coding, for a list, and for a second header line whatever it says.
    pub fn parse<'v>(values: impl IntoIterator<Item = &'v [u8]>) -> Result<Self, EncodingUnsupported> {
        let mut values = values.into_iter();
        let Some(value) = values.next() else { return Ok(Self::Identity) };
        if values.next().is_some() {
            return Err(EncodingUnsupported);
        }
        let token = value.trim_ascii();
        if token.is_empty() {
            return Ok(Self::Identity);
        }
        [Self::Identity, Self::Gzip, Self::Zstd]
            .into_iter()
            .find(|encoding| token.eq_ignore_ascii_case(encoding.as_str().as_bytes()))
            .ok_or(EncodingUnsupported)
    }
}

// === impl PayloadFormat ===

impl PayloadFormat {
    /// Every format of version 1.
    pub const ALL: [Self; 6] = [
        Self::new(Shape::Array, Encoding::Identity),
        Self::new(Shape::Array, Encoding::Gzip),
        Self::new(Shape::Array, Encoding::Zstd),
        Self::new(Shape::Ndjson, Encoding::Identity),
        Self::new(Shape::Ndjson, Encoding::Gzip),
        Self::new(Shape::Ndjson, Encoding::Zstd),
    ];

    /// A format of these parts.
    pub const fn new(shape: Shape, encoding: Encoding) -> Self {
        Self { shape, encoding }
    }

    /// The format of a batch that travels exactly as its Node sent it.
    pub const fn as_received(signal: Signal, encoding: Encoding) -> Self {
        Self::new(signal.received_shape(), encoding)
    }

    /// The format of a batch that was re-encoded by [`rewrite`](super::rewrite) and then compressed, or not.
    pub const fn rewritten(encoding: Encoding) -> Self {
        Self::new(Shape::Ndjson, encoding)
    }

    /// The header value, without allocating.
    pub const fn as_str(self) -> &'static str {
        match (self.shape, self.encoding) {
            (Shape::Array, Encoding::Identity) => "array+identity;v=1",
            (Shape::Array, Encoding::Gzip) => "array+gzip;v=1",
            (Shape::Array, Encoding::Zstd) => "array+zstd;v=1",
            (Shape::Ndjson, Encoding::Identity) => "ndjson+identity;v=1",
            (Shape::Ndjson, Encoding::Gzip) => "ndjson+gzip;v=1",
            (Shape::Ndjson, Encoding::Zstd) => "ndjson+zstd;v=1",
        }
    }

    /// The format that a header value names, compared exactly: the value is written by an edge, not by a Node.
    ///
    /// # Errors
    ///
    /// [`PayloadFormatUnknown`] for another version or another token.
    pub fn parse(value: &str) -> Result<Self, PayloadFormatUnknown> {
        Self::ALL.into_iter().find(|format| format.as_str() == value).ok_or(PayloadFormatUnknown)
    }
}

impl fmt::Display for PayloadFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for PayloadFormat {
    type Err = PayloadFormatUnknown;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Self::parse(value)
    }
}
