//! The tier's part of the configuration tree. Every default is the value of the shipped example.

use std::path::PathBuf;
use std::time::Duration;

use plexsphere_wire::DomainId;
use plexsphere_wire::telemetry::{Limits, Signal, limits};
use serde::{Deserialize, Serialize};
use url::Url;

/// Everything that the pipelines tier can be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PipelinesConfig {
    /// Whether this replica routes. At least one replica must; one that does not only keeps the streams in order.
    pub routing_enabled: bool,
    /// Streams and consumers.
    pub topology: TopologyConfig,
    /// Where metrics end.
    pub metrics: SinkChoice,
    /// Where logs end, beside the SIEM.
    pub logs: SinkChoice,
    /// Where audit events end, beside the SIEM.
    pub audit: SinkChoice,
    /// The metrics backend.
    pub mimir: HttpSinkConfig,
    /// The log backend.
    pub loki: LokiConfig,
    /// The SIEM.
    pub siem: SiemConfig,
    /// The local folder of segments.
    pub file: FileSinkConfig,
    /// First pause before a redelivery, in milliseconds; doubles up to 300 s.
    pub backoff_base_ms: u64,
    /// How long shutdown waits for requests in flight, in seconds.
    pub drain_seconds: u64,
    /// Most bytes of one batch after inflation: the cap of the front door and a tenth.
    pub inflated_bytes: usize,
    /// Most records of one batch: the cap of the front door and a tenth.
    pub records: usize,
}

/// Streams and consumers on the bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopologyConfig {
    /// Replicas of every stream: 3 in production, 1 on a single server.
    pub replicas: usize,
    /// Most bytes of the metrics stream. Halved until they fit when the server offers less storage.
    pub metrics_max_bytes: i64,
    /// Most bytes of the log stream, scaled like the others.
    pub logs_max_bytes: i64,
    /// Most bytes of the audit stream, scaled like the others.
    pub audit_max_bytes: i64,
    /// Most bytes of the dead-letter stream, scaled like the others.
    pub dead_max_bytes: i64,
    /// Oldest message of the metrics stream, in seconds.
    pub metrics_max_age_seconds: u64,
    /// Oldest message of the log stream, in seconds.
    pub logs_max_age_seconds: u64,
    /// Oldest message of the audit stream, in seconds.
    pub audit_max_age_seconds: u64,
    /// How long a delivery may take before the server hands the message out again, in seconds.
    pub ack_wait_seconds: u64,
}

/// Where a signal ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SinkChoice {
    /// The backend when its URL is set, else the file sink.
    #[default]
    Auto,
    /// Mimir or Loki; refuses to start without a URL.
    Backend,
    /// The file sink, whatever else is configured.
    File,
    /// Nowhere: messages are acknowledged and counted as skipped.
    Off,
}

/// An HTTP endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSinkConfig {
    /// Base URL; absent means that the sink is off. A URL that ends in `/api/v1/push` or `/write` is used as it is.
    pub url: Option<Url>,
    /// A file whose trimmed content is sent as `Authorization`; read again when it changes.
    pub authorization_file: Option<PathBuf>,
    /// A PEM bundle of further certificate authorities to trust.
    pub ca_file: Option<PathBuf>,
}

/// The log backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LokiConfig {
    /// Base URL; absent means that the sink is off.
    pub url: Option<Url>,
    /// See [`HttpSinkConfig::authorization_file`].
    pub authorization_file: Option<PathBuf>,
    /// See [`HttpSinkConfig::ca_file`].
    pub ca_file: Option<PathBuf>,
    /// How pushes are encoded.
    pub encoding: LokiEncoding,
}

/// How pushes to Loki are encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LokiEncoding {
    /// Snappy-compressed protobuf.
    #[default]
    Protobuf,
    /// JSON, for receivers that take no protobuf.
    Json,
}

/// The SIEM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SiemConfig {
    /// The full URL, used verbatim; absent means that both SIEM routes are off.
    pub url: Option<Url>,
    /// See [`HttpSinkConfig::authorization_file`].
    pub authorization_file: Option<PathBuf>,
    /// See [`HttpSinkConfig::ca_file`].
    pub ca_file: Option<PathBuf>,
    /// Whether logs go to the SIEM too.
    pub logs: bool,
    /// The only Domains whose logs go to the SIEM; empty means all.
    pub log_domains: Vec<DomainId>,
}

/// The local folder of segments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileSinkConfig {
    /// The folder. One process writes to it at a time, held by a lock; replicas need folders of their own.
    pub folder: PathBuf,
    /// A segment is closed when it has so many compressed bytes.
    pub segment_bytes: u64,
    /// A segment is closed when it is so old, in seconds.
    pub segment_seconds: u64,
    /// Closed segments older than this are deleted when the next one is begun, in days; 0 keeps them for ever.
    pub retention_days: u32,
    /// How many batch ids are remembered per Domain and signal, so that a batch delivered twice is written once.
    pub remembered_batches: usize,
    /// How long to wait for another process to leave the folder, in seconds.
    pub lock_seconds: u64,
}

const GIB: i64 = 1 << 30;
const HOUR_SECONDS: u64 = 3_600;

/// How much earlier than the server the router gives up on a message.
const HORIZON_MARGIN: Duration = Duration::from_secs(600);

// === impl PipelinesConfig ===

impl Default for PipelinesConfig {
    fn default() -> Self {
        Self {
            routing_enabled: true,
            topology: TopologyConfig::default(),
            metrics: SinkChoice::Auto,
            logs: SinkChoice::Auto,
            audit: SinkChoice::Auto,
            mimir: HttpSinkConfig::default(),
            loki: LokiConfig::default(),
            siem: SiemConfig::default(),
            file: FileSinkConfig::default(),
            backoff_base_ms: 1_000,
            drain_seconds: 20,
            inflated_bytes: limits::INFLATED_BYTES + limits::INFLATED_BYTES / 10,
            records: limits::RECORDS + limits::RECORDS / 10,
        }
    }
}

impl PipelinesConfig {
    /// The caps that a buffered batch is decoded under.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits { inflated_bytes: self.inflated_bytes, records: self.records, ..Limits::default() }
    }
}

// === impl TopologyConfig ===

impl Default for TopologyConfig {
    fn default() -> Self {
        Self {
            replicas: 1,
            metrics_max_bytes: 20 * GIB,
            logs_max_bytes: 40 * GIB,
            audit_max_bytes: 20 * GIB,
            dead_max_bytes: 10 * GIB,
            metrics_max_age_seconds: 24 * HOUR_SECONDS,
            logs_max_age_seconds: 48 * HOUR_SECONDS,
            audit_max_age_seconds: 7 * 24 * HOUR_SECONDS,
            ack_wait_seconds: 60,
        }
    }
}

impl TopologyConfig {
    /// Most bytes of a signal's stream.
    #[must_use]
    pub const fn max_bytes(&self, signal: Signal) -> i64 {
        match signal {
            Signal::Metrics => self.metrics_max_bytes,
            Signal::Logs => self.logs_max_bytes,
            Signal::Audit => self.audit_max_bytes,
        }
    }

    /// Age of the oldest message of a signal's stream.
    #[must_use]
    pub const fn max_age(&self, signal: Signal) -> Duration {
        Duration::from_secs(match signal {
            Signal::Metrics => self.metrics_max_age_seconds,
            Signal::Logs => self.logs_max_age_seconds,
            Signal::Audit => self.audit_max_age_seconds,
        })
    }

    /// The age after which a retryable batch becomes a dead letter: ten minutes before the server would delete it.
    #[must_use]
    pub fn retry_horizon(&self, signal: Signal) -> Duration {
        let max_age = self.max_age(signal);
        // A stream that keeps less than the margin, as in a test, still gives up before the server does.
        max_age.saturating_sub(HORIZON_MARGIN.min(max_age / 2))
    }
}

// === impl FileSinkConfig ===

impl Default for FileSinkConfig {
    fn default() -> Self {
        Self {
            folder: PathBuf::from("telemetry"),
            segment_bytes: 64 << 20,
            segment_seconds: HOUR_SECONDS,
            retention_days: 30,
            remembered_batches: 2_000_000,
            lock_seconds: 10,
        }
    }
}

// === impl LokiConfig ===

impl LokiConfig {
    pub(crate) fn http(&self) -> HttpSinkConfig {
        HttpSinkConfig {
            url: self.url.clone(),
            authorization_file: self.authorization_file.clone(),
            ca_file: self.ca_file.clone(),
        }
    }
}

// === impl SiemConfig ===

impl SiemConfig {
    pub(crate) fn http(&self) -> HttpSinkConfig {
        HttpSinkConfig {
            url: self.url.clone(),
            authorization_file: self.authorization_file.clone(),
            ca_file: self.ca_file.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_retry_horizon_lies_ten_minutes_before_the_end_of_the_stream() {
        let topology = TopologyConfig::default();
        let minutes = |signal| topology.retry_horizon(signal).as_secs() / 60;
        assert_eq!(minutes(Signal::Metrics), 23 * 60 + 50);
        assert_eq!(minutes(Signal::Logs), 47 * 60 + 50);
        assert_eq!(minutes(Signal::Audit), (6 * 24 + 23) * 60 + 50);
    }

    #[test]
    fn an_unknown_key_is_refused_and_an_empty_tree_is_the_defaults() {
        assert!(serde_json::from_str::<PipelinesConfig>(r#"{"mimri":{}}"#).is_err());
        assert_eq!(serde_json::from_str::<PipelinesConfig>("{}").unwrap(), PipelinesConfig::default());
    }
}
