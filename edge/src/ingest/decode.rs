//! Inflation and validation with reused buffers, away from the network threads when a body is, or may become, large.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use plexsphere_wire::telemetry::{
    Encoding, InflateError, Inflater, Limits, PayloadFormat, Refusal, Signal, Summary, batch_id, rewrite, validate,
};
use plexsphere_wire::{Code, NodeId, Problem};
use tokio::sync::Semaphore;

/// The most idle inflaters that are kept.
const MAX_IDLE: usize = 32;
/// Output buffers above this size are freed after use, in bytes.
const KEEP_BYTES: usize = 1024 * 1024;
/// The largest payload that is published, in bytes.
const MAX_PAYLOAD_BYTES: usize = 2 * 1024 * 1024;

/// A batch that passed.
#[derive(Debug)]
pub struct Decoded {
    /// Its dedupe key.
    pub id: String,
    /// What it holds.
    pub summary: Summary,
    /// Its size after inflation, in bytes.
    pub inflated_bytes: usize,
    /// How the payload is encoded.
    pub format: PayloadFormat,
    /// What is published: the bytes as received, or encoded anew.
    pub payload: Bytes,
}

/// Why a batch did not pass.
#[derive(Debug, thiserror::Error)]
pub enum DecodeRefusal {
    /// It does not inflate.
    #[error(transparent)]
    Inflate(#[from] InflateError),
    /// A record breaks a rule.
    #[error(transparent)]
    Batch(#[from] Refusal),
    /// Encoded anew it is too large.
    #[error("batch is larger than {MAX_PAYLOAD_BYTES} bytes after rewriting")]
    Payload,
    /// A fault of ours.
    #[error("batch could not be encoded")]
    Internal,
}

impl From<DecodeRefusal> for super::Refused {
    fn from(refusal: DecodeRefusal) -> Self {
        let code = match &refusal {
            DecodeRefusal::Inflate(InflateError::Invalid) => Code::IngestEncodingInvalid,
            DecodeRefusal::Inflate(InflateError::TooLarge { .. }) | DecodeRefusal::Payload => Code::IngestBodyTooLarge,
            DecodeRefusal::Batch(Refusal::TooManyRecords { .. }) => Code::IngestBatchTooManyRecords,
            DecodeRefusal::Batch(Refusal::Malformed { .. }) => Code::IngestBatchMalformed,
            DecodeRefusal::Internal => return Problem::internal().into(),
        };
        Problem::new(code, format!("The batch was refused: {refusal}.")).into()
    }
}

/// A gzip body above this size is inflated away from the network threads: it may become a thousand times as large.
const INLINE_GZIP_BYTES: usize = 1_024;

/// A pool of inflaters.
#[derive(Clone)]
pub struct Decoders {
    idle: Arc<Mutex<Vec<Inflater>>>,
    limits: Limits,
    offload_bytes: usize,
    permits: Arc<Semaphore>,
}

impl Decoders {
    /// A pool that judges by `limits` and leaves the thread for bodies above `offload_bytes`.
    #[must_use]
    pub fn new(limits: Limits, offload_bytes: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { idle: Arc::default(), limits, offload_bytes, permits: Arc::new(Semaphore::new(cores * 2)) }
    }

    /// Inflates and judges a batch, where its size says.
    ///
    /// # Errors
    /// [`DecodeRefusal`].
    pub async fn decode(
        &self,
        signal: Signal,
        node: NodeId,
        encoding: Encoding,
        wire: Bytes,
    ) -> Result<Decoded, DecodeRefusal> {
        let inline = match encoding {
            Encoding::Identity => self.offload_bytes,
            Encoding::Gzip => self.offload_bytes.min(INLINE_GZIP_BYTES),
            // A few bytes of zstd may become as much as the cap allows.
            Encoding::Zstd => 0,
        };
        if wire.len() <= inline {
            return self.decode_here(signal, node, encoding, wire);
        }
        // Each batch at work may hold its inflated bytes twice, so their number bounds the memory.
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| DecodeRefusal::Internal)?;
        let pool = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            // Held by the work and not by the request, which may be given up while the work goes on.
            let _permit = permit;
            pool.decode_here(signal, node, encoding, wire)
        });
        work.await.unwrap_or(Err(DecodeRefusal::Internal))
    }

    /// Inflates and judges a batch on this thread.
    ///
    /// # Errors
    /// [`DecodeRefusal`].
    pub fn decode_here(
        &self,
        signal: Signal,
        node: NodeId,
        encoding: Encoding,
        wire: Bytes,
    ) -> Result<Decoded, DecodeRefusal> {
        let mut inflater = self.idle.lock().pop().unwrap_or_default();
        let decoded = self.judge(&mut inflater, (signal, node, encoding), wire);
        inflater.release_above(KEEP_BYTES);
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE {
            idle.push(inflater);
        }
        decoded
    }

    fn judge(
        &self,
        inflater: &mut Inflater,
        (signal, node, encoding): (Signal, NodeId, Encoding),
        wire: Bytes,
    ) -> Result<Decoded, DecodeRefusal> {
        let inflated = inflater.inflate(encoding, &wire, self.limits.inflated_bytes)?;
        let shape = signal.received_shape();
        let summary = validate(signal, shape, inflated, &self.limits)?;
        let id = batch_id(signal, node.as_bytes(), inflated);
        let inflated_bytes = inflated.len();
        if !summary.must_rewrite() {
            let format = PayloadFormat::as_received(signal, encoding);
            return Ok(Decoded { id, summary, inflated_bytes, format, payload: wire });
        }
        let lines = rewrite(signal, shape, inflated, &self.limits)?;
        let payload = zstd::bulk::compress(&lines, 1).map_err(|_| DecodeRefusal::Internal)?;
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(DecodeRefusal::Payload);
        }
        let format = PayloadFormat::rewritten(Encoding::Zstd);
        Ok(Decoded { id, summary, inflated_bytes, format, payload: payload.into() })
    }
}
