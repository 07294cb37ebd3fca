//! What a deployment may set. The defaults are the numbers of the briefs.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use plexsphere_wire::telemetry::limits;
use serde::{Deserialize, Serialize};

/// The configuration of one edge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EdgeConfig {
    /// Sockets and connections.
    pub listen: ListenConfig,
    /// The way to control.
    pub proxy: ProxyConfig,
    /// The Node directory.
    pub directory: DirectoryConfig,
    /// Telemetry.
    pub ingest: IngestConfig,
    /// Byte budgets of telemetry.
    pub quota: QuotaConfig,
    /// Heartbeats.
    pub heartbeat: HeartbeatConfig,
    /// Event streams.
    pub events: EventsConfig,
}

/// Sockets and connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenConfig {
    /// Plain HTTP/1.1 and HTTP/2 with prior knowledge; port 0 lets the system choose.
    pub http: Option<SocketAddr>,
    /// HTTP/1.1 and HTTP/2 over TLS; needs a certificate.
    pub https: Option<SocketAddr>,
    /// HTTP/3 over QUIC on the UDP port of the same number as `https`.
    pub http3: bool,
    /// Whether `http` may listen beyond loopback, where credentials would travel in clear.
    pub allow_plain_beyond_loopback: bool,
    /// The most connections at a time, over all listeners.
    pub max_connections: usize,
    /// The most requests at a time on one HTTP/2 or HTTP/3 connection.
    pub max_streams_per_connection: u32,
    /// How long a request's head may take from its first byte, in seconds; also a TLS handshake.
    pub head_timeout_seconds: u64,
    /// How long a connection without a request stays, in seconds.
    pub idle_timeout_seconds: u64,
    /// How long a write may wait for the client, in seconds.
    pub write_timeout_seconds: u64,
    /// How long a body may take on the operations that read it here, in seconds.
    pub body_timeout_seconds: u64,
    /// How long requests may finish after the end was asked for, in seconds.
    pub drain_seconds: u64,
}

/// The way to control.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProxyConfig {
    /// Control's internal listener, `http://host:port`.
    pub control_url: String,
    /// How long control may take until its response begins, in seconds: more than the 30 s that it gives a request itself.
    pub timeout_seconds: u64,
    /// Peers whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// The Node directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DirectoryConfig {
    /// How long the directory is believed after its feed was lost, in seconds.
    pub grace_seconds: u64,
    /// The most look-ups at control at a time.
    pub max_lookups: usize,
    /// How long control may take for a look-up, in milliseconds.
    pub lookup_timeout_millis: u64,
    /// How long an answer of a look-up is kept, found or not, in milliseconds.
    pub lookup_cache_millis: u64,
}

/// Telemetry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestConfig {
    /// Whether this deployment takes telemetry at all; `false` answers 501.
    pub enabled: bool,
    /// Largest body as received, in bytes.
    pub wire_bytes: usize,
    /// Largest body after inflation, in bytes.
    pub inflated_bytes: usize,
    /// Most records in a batch.
    pub records: usize,
    /// The most batches at a time in this process.
    pub max_in_flight: usize,
    /// How long the stream may take to acknowledge, in milliseconds.
    pub publish_timeout_millis: u64,
    /// How often streams and consumers are looked at again, in seconds; more than 2 counts as 2.
    pub check_seconds: u64,
    /// Stream and durable consumer pairs that must exist before a batch is taken.
    pub durables: Vec<(String, String)>,
    /// Bodies above this size as received are inflated away from the network threads, in bytes.
    pub offload_bytes: usize,
}

/// Byte budgets of telemetry, in bytes as received.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuotaConfig {
    /// Refill of a Node's budget, bytes per second.
    pub node_bytes_per_second: u64,
    /// Capacity of a Node's budget, bytes.
    pub node_burst_bytes: u64,
    /// Refill of a Domain's budget, bytes per second.
    pub domain_bytes_per_second: u64,
    /// Capacity of a Domain's budget, bytes.
    pub domain_burst_bytes: u64,
    /// How many edges share the load; refills are divided by it.
    pub replicas: u64,
    /// How long an untouched budget is kept, in seconds.
    pub idle_seconds: u64,
}

/// Heartbeats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeartbeatConfig {
    /// Into how many shards Nodes fall.
    pub shards: u16,
    /// The shortest time between two batches of a shard that are not full, in milliseconds.
    pub window_millis: u64,
    /// The most heartbeats that wait per shard.
    pub queue: usize,
    /// How long control may take for a batch, in milliseconds.
    pub timeout_millis: u64,
    /// The most that a Node's clock may differ, in seconds.
    pub max_skew_seconds: u64,
}

/// Event streams.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventsConfig {
    /// How much of the stream's tail is kept in memory, in seconds.
    pub ring_seconds: u64,
    /// The most bytes of frames kept in memory.
    pub ring_bytes: usize,
    /// The most streams of this edge.
    pub max_streams: usize,
    /// The most streams of one Node; one more closes the oldest.
    pub max_streams_per_node: usize,
    /// The most frames that wait for one stream.
    pub queue_frames: usize,
    /// The most bytes that wait for one stream.
    pub queue_bytes: usize,
    /// The period of keep-alive comments, in milliseconds.
    pub keep_alive_millis: u64,
    /// How long frames may wait for a client that takes none, in milliseconds.
    pub write_timeout_millis: u64,
    /// The mean life of a stream, ±10 %, in seconds.
    pub lifetime_seconds: u64,
    /// Envelopes older than this are not sent to Nodes, in seconds.
    pub stale_seconds: u64,
    /// How often an operator's right to a stream is asked for again, in seconds.
    pub recheck_seconds: u64,
    /// Over which time streams are closed when this edge ends, in seconds.
    pub drain_seconds: u64,
    /// How often the event stream itself is looked at, in milliseconds.
    pub check_millis: u64,
}

// === defaults ===

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            http: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))),
            https: None,
            http3: true,
            allow_plain_beyond_loopback: false,
            max_connections: 60_000,
            max_streams_per_connection: 128,
            head_timeout_seconds: 10,
            idle_timeout_seconds: 75,
            write_timeout_seconds: 10,
            body_timeout_seconds: 15,
            drain_seconds: 25,
        }
    }
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self { control_url: "http://127.0.0.1:8081".into(), timeout_seconds: 40, trusted_proxies: Vec::new() }
    }
}

impl Default for DirectoryConfig {
    fn default() -> Self {
        Self { grace_seconds: 600, max_lookups: 64, lookup_timeout_millis: 2_000, lookup_cache_millis: 5_000 }
    }
}

impl Default for IngestConfig {
    fn default() -> Self {
        let durables = [
            ("PLEXSPHERE_OBS_METRICS", "mimir-metrics"),
            ("PLEXSPHERE_OBS_LOGS", "loki-logs"),
            ("PLEXSPHERE_OBS_AUDIT", "loki-audit"),
            ("PLEXSPHERE_OBS_AUDIT", "siem-audit"),
            ("PLEXSPHERE_OBS_LOGS", "siem-logs"),
        ];
        Self {
            enabled: true,
            wire_bytes: limits::WIRE_BYTES,
            inflated_bytes: limits::INFLATED_BYTES,
            records: limits::RECORDS,
            max_in_flight: 256,
            publish_timeout_millis: 2_000,
            check_seconds: 2,
            durables: durables.map(|(stream, durable)| (stream.to_owned(), durable.to_owned())).to_vec(),
            offload_bytes: 16 * 1024,
        }
    }
}

impl Default for QuotaConfig {
    fn default() -> Self {
        Self {
            node_bytes_per_second: 262_144,
            node_burst_bytes: 4_194_304,
            domain_bytes_per_second: 5_242_880,
            domain_burst_bytes: 52_428_800,
            replicas: 1,
            idle_seconds: 600,
        }
    }
}

impl Default for HeartbeatConfig {
    fn default() -> Self {
        Self { shards: 4, window_millis: 1_000, queue: 4_096, timeout_millis: 5_000, max_skew_seconds: 60 }
    }
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self {
            ring_seconds: 600,
            ring_bytes: 256 * 1024 * 1024,
            max_streams: 25_000,
            max_streams_per_node: 2,
            queue_frames: 256,
            queue_bytes: 1024 * 1024,
            keep_alive_millis: 25_000,
            write_timeout_millis: 10_000,
            lifetime_seconds: 3_600,
            stale_seconds: 270,
            recheck_seconds: 60,
            drain_seconds: 30,
            check_millis: 2_000,
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A budget that the largest legal batch could never pass.
    #[error("the {budget} burst of {burst} bytes is below the wire cap of {cap} bytes")]
    BurstBelowWireCap {
        /// Whose.
        budget: &'static str,
        /// What was set.
        burst: u64,
        /// What it must reach.
        cap: usize,
    },
    /// A value that must not be zero.
    #[error("{0} must not be zero")]
    Zero(&'static str),
    /// Plain HTTP beyond loopback without leave.
    #[error("plain http may listen on loopback only, not on {0}")]
    PlainBeyondLoopback(SocketAddr),
    /// Control's address cannot be used.
    #[error("control_url must be http://host:port")]
    ControlUrl,
    /// TLS was asked for and no certificate was given.
    #[error("https needs a certificate and a key")]
    NoCertificate,
}

impl EdgeConfig {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), ConfigError> {
        let cap = self.ingest.wire_bytes;
        for (budget, burst) in [("node", self.quota.node_burst_bytes), ("domain", self.quota.domain_burst_bytes)] {
            if burst < u64::try_from(cap).unwrap_or(u64::MAX) {
                return Err(ConfigError::BurstBelowWireCap { budget, burst, cap });
            }
        }
        let positive = [
            ("quota.node_bytes_per_second", self.quota.node_bytes_per_second / self.quota.replicas.max(1)),
            ("quota.domain_bytes_per_second", self.quota.domain_bytes_per_second / self.quota.replicas.max(1)),
            ("quota.replicas", self.quota.replicas),
            ("heartbeat.shards", u64::from(self.heartbeat.shards)),
            ("events.keep_alive_millis", self.events.keep_alive_millis),
            ("events.lifetime_seconds", self.events.lifetime_seconds),
            ("events.check_millis", self.events.check_millis),
            ("ingest.check_seconds", self.ingest.check_seconds),
        ];
        if let Some((name, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::Zero(name));
        }
        if let Some(http) = self.listen.http
            && !http.ip().is_loopback()
            && !self.listen.allow_plain_beyond_loopback
        {
            return Err(ConfigError::PlainBeyondLoopback(http));
        }
        let url: http::Uri = self.proxy.control_url.parse().map_err(|_| ConfigError::ControlUrl)?;
        let plain = url.scheme() == Some(&http::uri::Scheme::HTTP) && url.authority().is_some();
        if plain { Ok(()) } else { Err(ConfigError::ControlUrl) }
    }
}

/// Seconds of a configuration as a duration.
pub(crate) const fn seconds(value: u64) -> Duration {
    Duration::from_secs(value)
}

/// Milliseconds of a configuration as a duration.
pub(crate) const fn millis(value: u64) -> Duration {
    Duration::from_millis(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_pass() {
        assert_eq!(EdgeConfig::default().check(), Ok(()));
    }

    #[test]
    fn a_burst_below_the_wire_cap_refuses_to_start() {
        let mut config = EdgeConfig::default();
        config.quota.node_burst_bytes = 1_000;
        assert!(matches!(config.check(), Err(ConfigError::BurstBelowWireCap { budget: "node", .. })));
    }

    #[test]
    fn plain_http_beyond_loopback_needs_leave() {
        let mut config = EdgeConfig::default();
        config.listen.http = Some(SocketAddr::from(([0, 0, 0, 0], 80)));
        assert!(matches!(config.check(), Err(ConfigError::PlainBeyondLoopback(_))));
        config.listen.allow_plain_beyond_loopback = true;
        assert_eq!(config.check(), Ok(()));
    }
}
