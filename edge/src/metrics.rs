//! What an edge counts. Labels come from closed sets, never from ids.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// A signal and the code of its answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct IngestOutcome {
    /// The signal's word.
    pub signal: &'static str,
    /// `accepted` or a problem code.
    pub code: &'static str,
}

/// A signal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfSignal {
    /// The signal's word.
    pub signal: &'static str,
}

/// A reason out of a closed set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfReason {
    /// The reason's word.
    pub reason: &'static str,
}

/// Route and status of a response.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfResponse {
    /// The route's word.
    pub route: &'static str,
    /// The HTTP status.
    pub status: u16,
}

/// Every metric of an edge; cloning shares them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Responses by route and status.
    pub responses: Family<OfResponse, Counter>,
    /// Handlers that panicked.
    pub panics: Counter,
    /// Connections open now.
    pub connections: Gauge,
    /// Batches by signal and code.
    pub ingest_requests: Family<IngestOutcome, Counter>,
    /// Wire bytes of accepted batches.
    pub ingest_wire_bytes: Family<OfSignal, Counter>,
    /// Inflated bytes of accepted batches.
    pub ingest_inflated_bytes: Family<OfSignal, Counter>,
    /// Records of accepted batches.
    pub ingest_records: Family<OfSignal, Counter>,
    /// Acceptance minus sending, in seconds, of accepted batches.
    pub ingest_lag: Family<OfSignal, Histogram>,
    /// Time until the stream acknowledged, in seconds.
    pub ingest_publish: Family<OfSignal, Histogram>,
    /// Metric labels dropped before publishing.
    pub labels_dropped: Counter,
    /// Messages cut before publishing.
    pub messages_truncated: Counter,
    /// Audit rows that could not be handed over, by reason.
    pub intake_lost: Family<OfReason, Counter>,
    /// Heartbeats taken.
    pub heartbeats: Counter,
    /// Batches of heartbeats sent to control.
    pub heartbeat_batches: Counter,
    /// Batches of heartbeats for which control gave no verdicts, by reason; `malformed` means that somebody must look.
    pub heartbeat_batches_unsettled: Family<OfReason, Counter>,
    /// Event streams open now.
    pub streams: Gauge,
    /// Event streams that the hub writes to itself.
    pub streams_parked: Gauge,
    /// Writes to such streams.
    pub stream_writes: Counter,
    /// Event streams ended, by reason.
    pub streams_closed: Family<OfReason, Counter>,
    /// Frames put into the queues of streams.
    pub frames_queued: Counter,
    /// Messages of the event stream dropped before forwarding, by reason.
    pub envelopes_rejected: Family<OfReason, Counter>,
    /// Nodes known to the directory.
    pub directory_nodes: Gauge,
    /// Look-ups at control, by outcome.
    pub directory_lookups: Family<OfReason, Counter>,
}

fn seconds_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 16))
}

impl Metrics {
    /// Makes the metrics and enters them into `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            responses: Family::default(),
            panics: Counter::default(),
            connections: Gauge::default(),
            ingest_requests: Family::default(),
            ingest_wire_bytes: Family::default(),
            ingest_inflated_bytes: Family::default(),
            ingest_records: Family::default(),
            ingest_lag: Family::new_with_constructor(seconds_histogram),
            ingest_publish: Family::new_with_constructor(seconds_histogram),
            labels_dropped: Counter::default(),
            messages_truncated: Counter::default(),
            intake_lost: Family::default(),
            heartbeats: Counter::default(),
            heartbeat_batches: Counter::default(),
            heartbeat_batches_unsettled: Family::default(),
            streams: Gauge::default(),
            streams_parked: Gauge::default(),
            stream_writes: Counter::default(),
            streams_closed: Family::default(),
            frames_queued: Counter::default(),
            envelopes_rejected: Family::default(),
            directory_nodes: Gauge::default(),
            directory_lookups: Family::default(),
        };
        metrics.enter_ingest(registry.sub_registry_with_prefix("plexsphere_obs_ingest"));
        metrics.enter_edge(registry.sub_registry_with_prefix("plexsphere_edge"));
        metrics
    }

    fn enter_ingest(&self, registry: &mut Registry) {
        registry.register("requests", "Batches by signal and code", self.ingest_requests.clone());
        registry.register("wire_bytes", "Wire bytes of accepted batches", self.ingest_wire_bytes.clone());
        registry.register("inflated_bytes", "Inflated bytes of accepted batches", self.ingest_inflated_bytes.clone());
        registry.register("records", "Records of accepted batches", self.ingest_records.clone());
        registry.register("lag_seconds", "Acceptance minus sending", self.ingest_lag.clone());
        registry.register("publish_seconds", "Time until the stream acknowledged", self.ingest_publish.clone());
        registry.register("labels_dropped", "Metric labels dropped", self.labels_dropped.clone());
        registry.register("messages_truncated", "Messages cut", self.messages_truncated.clone());
    }

    fn enter_edge(&self, registry: &mut Registry) {
        registry.register("responses", "Responses by route and status", self.responses.clone());
        registry.register("panics", "Handlers that panicked", self.panics.clone());
        registry.register("connections", "Connections open now", self.connections.clone());
        registry.register("intake_lost", "Audit rows not handed over", self.intake_lost.clone());
        registry.register("heartbeats", "Heartbeats taken", self.heartbeats.clone());
        registry.register("heartbeat_batches", "Heartbeat batches sent", self.heartbeat_batches.clone());
        registry.register(
            "heartbeat_batches_unsettled",
            "Heartbeat batches without verdicts, by reason",
            self.heartbeat_batches_unsettled.clone(),
        );
        registry.register("streams", "Event streams open now", self.streams.clone());
        registry.register("streams_parked", "Event streams without the HTTP library", self.streams_parked.clone());
        registry.register("stream_writes", "Writes to parked event streams", self.stream_writes.clone());
        registry.register("streams_closed", "Event streams ended, by reason", self.streams_closed.clone());
        registry.register("frames_queued", "Frames put into queues", self.frames_queued.clone());
        registry.register("envelopes_rejected", "Event messages dropped, by reason", self.envelopes_rejected.clone());
        registry.register("directory_nodes", "Nodes known to the directory", self.directory_nodes.clone());
        registry.register("directory_lookups", "Look-ups at control, by outcome", self.directory_lookups.clone());
    }
}

#[cfg(test)]
mod tests;
