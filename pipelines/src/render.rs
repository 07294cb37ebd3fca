//! Sink bytes from slices. Pure and deterministic: the same slices give the same bytes, whenever and wherever, because a
//! redelivery must be recognisable as a duplicate.

pub mod loki;
pub mod mimir;
pub mod siem;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::batch::Slice;

/// One request's body and what must be said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The body as sent.
    pub body: Bytes,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `Content-Encoding`, when the type does not imply it.
    pub content_encoding: Option<&'static str>,
    /// Caller labels that were left out: illegal names, empty values and collisions.
    pub labels_dropped: u64,
}

const PROTOBUF: &str = "application/x-protobuf";

/// The name of a request: the batch id of a single batch, else the hex SHA-256 over the ordered ids.
#[must_use]
pub fn request_id(parts: &[Slice]) -> String {
    match parts {
        [only] => only.batch().batch_id.clone(),
        many => {
            let mut hash = Sha256::new();
            for part in many {
                hash.update(&part.batch().batch_id);
            }
            data_encoding::HEXLOWER.encode(&hash.finalize())
        }
    }
}

/// Snappy's block format, not its framing format.
fn snappy_block(bytes: &[u8]) -> Bytes {
    // The encoder fails only above 4 GiB, far beyond the merge limit; the sink refuses an empty body for us.
    snap::raw::Encoder::new().compress_vec(bytes).unwrap_or_default().into()
}
