//! The front door of telemetry: the gates of a batch, in order, and its receipt.
//!
//! What is published are the bytes as received; a batch is encoded anew only when a record must change.

mod buffer;
mod decode;
mod surface;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode};
use plexsphere_wire::telemetry::{Encoding, Limits, Signal};
use plexsphere_wire::{Code, Problem, Timestamp};
use serde::Serialize;
use tokio::sync::Semaphore;

pub use buffer::{BufferFault, BufferedBatch, IngestBuffer, JetStreamBuffer};
pub use decode::{DecodeRefusal, Decoded, Decoders};
pub use surface::{Surface, SurfaceDeps, SurfaceState, watch_surface};

use crate::authenticate::{self, AuthRefusal};
use crate::body::{ReadFault, RequestBody, ResponseBody};
use crate::clock::Clock;
use crate::config::{IngestConfig, millis};
use crate::directory::{Lookup, NodeRecord};
use crate::metrics::{IngestOutcome, Metrics, OfSignal};
use crate::quota::{ByteBudget, Exhausted};
use crate::respond::{self, Context, SENT_AT};

/// The answer that a batch is durable.
#[derive(Debug, Serialize)]
struct IngestReceipt {
    accepted_at: Timestamp,
    records: usize,
}

/// Everything that the front door needs.
pub struct Ingest<B> {
    /// Whether batches are taken at the moment.
    pub surface: Arc<Surface>,
    /// Who is who.
    pub lookup: Arc<Lookup>,
    /// The budgets.
    pub budget: Arc<dyn ByteBudget>,
    /// Where batches are parked.
    pub buffer: B,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// The counters.
    pub metrics: Metrics,
    /// Inflaters for reuse.
    pub decoders: Decoders,
    limits: Limits,
    in_flight: Semaphore,
    publish_timeout: Duration,
    body_timeout: Duration,
}

/// The parts of [`Ingest`] that others make.
pub struct IngestDeps {
    /// Whether batches are taken at the moment.
    pub surface: Arc<Surface>,
    /// Who is who.
    pub lookup: Arc<Lookup>,
    /// The budgets.
    pub budget: Arc<dyn ByteBudget>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// The counters.
    pub metrics: Metrics,
}

/// A refusal, and the Node when it was another's path that it asked for.
pub struct Refused {
    /// The answer.
    pub problem: Problem,
    /// The authenticated Node of a `node_id_mismatch`.
    pub mismatch: Option<Arc<NodeRecord>>,
    /// Whether the connection is of no more use.
    pub close: bool,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self { problem, mismatch: None, close: false }
    }
}

impl<B: IngestBuffer> Ingest<B> {
    /// A front door before `buffer`.
    #[must_use]
    pub fn new(deps: IngestDeps, buffer: B, config: &IngestConfig, body_timeout: Duration) -> Self {
        let limits =
            Limits { wire_bytes: config.wire_bytes, inflated_bytes: config.inflated_bytes, records: config.records };
        Self {
            surface: deps.surface,
            lookup: deps.lookup,
            budget: deps.budget,
            buffer,
            clock: deps.clock,
            metrics: deps.metrics,
            decoders: Decoders::new(limits, config.offload_bytes),
            limits,
            in_flight: Semaphore::new(config.max_in_flight),
            publish_timeout: millis(config.publish_timeout_millis),
            body_timeout,
        }
    }

    /// Answers one request. The second part is the Node of a `node_id_mismatch`, for the audit.
    pub async fn handle(
        &self,
        signal: Signal,
        path_id: &str,
        request: Request<RequestBody>,
        context: &Context,
    ) -> (Response<ResponseBody>, Option<Arc<NodeRecord>>) {
        let outcome = self.take(signal, path_id, request).await;
        let code = match &outcome {
            Ok(_) => "accepted",
            Err(refused) => refused.problem.code().as_str(),
        };
        self.metrics.ingest_requests.get_or_create(&IngestOutcome { signal: signal.as_str(), code }).inc();
        match outcome {
            Ok(receipt) => (respond::json(StatusCode::ACCEPTED, &receipt, context), None),
            Err(refused) => {
                let mut response = respond::problem(&refused.problem, context);
                if refused.close {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                (response, refused.mismatch)
            }
        }
    }

    async fn take(
        &self,
        signal: Signal,
        path_id: &str,
        request: Request<RequestBody>,
    ) -> Result<IngestReceipt, Refused> {
        let surface = self.surface.state();
        if surface == SurfaceState::Disabled {
            let detail = "This deployment takes no telemetry.";
            return Err(Problem::new(Code::ObservabilityIngestNotProvisioned, detail).into());
        }
        let (parts, body) = request.into_parts();
        let record = authenticate::authenticate(&self.lookup, &parts.headers).await.map_err(AuthRefusal::problem)?;
        authenticate::match_path(&record, path_id).map_err(|refusal| Refused {
            problem: refusal.problem(),
            mismatch: Some(Arc::clone(&record)),
            close: false,
        })?;
        let values = parts.headers.get_all(header::CONTENT_ENCODING).iter().map(HeaderValue::as_bytes);
        let encoding = Encoding::parse(values)
            .map_err(|error| Problem::new(Code::IngestEncodingUnsupported, format!("The {error}.")))?;
        let sent_at = sent_at(&parts.headers)?;
        if surface == SurfaceState::Starting {
            return Err(unavailable(5).into());
        }
        let _own = record.admit().ok_or_else(|| unavailable(5))?;
        let _in_flight = self.in_flight.try_acquire().map_err(|_| unavailable(5))?;
        let wire = body.read(self.limits.wire_bytes, self.body_timeout).await.map_err(|fault| self.unread(fault))?;
        let weight = u64::try_from(wire.len()).unwrap_or(u64::MAX);
        self.budget.charge(&record.origin, weight, self.clock.monotonic()).map_err(over_budget)?;
        let decoded = self.decoders.decode(signal, record.entry.node, encoding, wire.clone()).await?;
        let batch = BufferedBatch {
            signal,
            origin: record.origin,
            id: decoded.id,
            records: decoded.summary.records,
            sent_at,
            accepted_at: self.clock.now(),
            format: decoded.format,
            payload: decoded.payload,
        };
        let published = self.publish(signal, batch).await;
        if let Err(fault) = published {
            self.budget.refund(&record.origin, weight);
            return Err(unavailable(if fault == BufferFault::Full { 30 } else { 5 }).into());
        }
        let receipt = IngestReceipt { accepted_at: in_millis(self.clock.now()), records: decoded.summary.records };
        self.count(signal, &wire, decoded.inflated_bytes, receipt.records, sent_at);
        self.metrics.labels_dropped.inc_by(u64::try_from(decoded.summary.labels_dropped).unwrap_or(0));
        self.metrics.messages_truncated.inc_by(u64::try_from(decoded.summary.messages_cut).unwrap_or(0));
        Ok(receipt)
    }

    async fn publish(&self, signal: Signal, batch: BufferedBatch) -> Result<(), BufferFault> {
        let started = self.clock.monotonic();
        let node = batch.origin.node;
        let acked = tokio::time::timeout(self.publish_timeout, self.buffer.publish(batch)).await;
        let taken = self.clock.monotonic().saturating_sub(started);
        self.metrics.ingest_publish.get_or_create(&OfSignal { signal: signal.as_str() }).observe(taken.as_secs_f64());
        let outcome = acked.unwrap_or(Err(BufferFault::TimedOut));
        if let Err(fault) = outcome {
            tracing::info!(%signal, %node, %fault, "batch could not be buffered");
        }
        outcome
    }

    fn unread(&self, fault: ReadFault) -> Refused {
        let problem = match fault {
            ReadFault::TooLarge => {
                let detail = format!("The body is larger than {} bytes.", self.limits.wire_bytes);
                return Problem::new(Code::IngestBodyTooLarge, detail).into();
            }
            ReadFault::TimedOut => Problem::new(Code::RequestTimeout, "The body did not arrive in time."),
            ReadFault::Broken => Problem::new(Code::RequestTimeout, "The body broke off."),
        };
        Refused { problem, mismatch: None, close: true }
    }

    fn count(&self, signal: Signal, wire: &Bytes, inflated: usize, records: usize, sent_at: Timestamp) {
        let label = OfSignal { signal: signal.as_str() };
        let count = |value: usize| u64::try_from(value).unwrap_or(0);
        self.metrics.ingest_wire_bytes.get_or_create(&label).inc_by(count(wire.len()));
        self.metrics.ingest_inflated_bytes.get_or_create(&label).inc_by(count(inflated));
        self.metrics.ingest_records.get_or_create(&label).inc_by(count(records));
        self.metrics.ingest_lag.get_or_create(&label).observe(self.clock.now().since(sent_at).as_secs_f64());
    }
}

fn sent_at(headers: &HeaderMap) -> Result<Timestamp, Problem> {
    let value = headers.get(SENT_AT).and_then(|value| value.to_str().ok());
    value.and_then(|value| Timestamp::parse(value).ok()).ok_or_else(|| {
        Problem::new(Code::IngestSentAtInvalid, "The header X-Plexsphere-Sent-At must be an RFC 3339 time.")
    })
}

fn over_budget(exhausted: Exhausted) -> Problem {
    match exhausted {
        Exhausted::Node { retry_after } => {
            Problem::new(Code::PerNodeRateLimited, "The Node has spent its telemetry budget.").retry_after(retry_after)
        }
        Exhausted::Domain { retry_after } => {
            Problem::new(Code::CapacityExceeded, "The Domain has spent its telemetry budget.")
                .retry_after(retry_after)
                .dimension("observability_ingest")
        }
    }
}

fn unavailable(retry_after: u64) -> Problem {
    Problem::new(Code::IngestBufferUnavailable, "Telemetry cannot be stored at the moment. Try again.")
        .retry_after(retry_after)
}

fn in_millis(time: Timestamp) -> Timestamp {
    Timestamp::from_unix_nanos(time.unix_nanos().div_euclid(1_000_000) * 1_000_000)
}
