//! Metrics as Prometheus remote-write 1.0.

use std::borrow::Cow;
use std::collections::BTreeMap;

use plexsphere_wire::telemetry::{MetricGroup, MetricSample};
use prost::Message;

use super::{PROTOBUF, Rendered, snappy_block};
use crate::batch::Slice;

/// `prometheus.WriteRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct WriteRequest {
    /// One entry per label set.
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
}

/// `prometheus.TimeSeries`.
#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    /// Sorted by name, no repeats.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// Sorted by time, no repeats.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
}

/// `prometheus.Label`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Message)]
pub struct Label {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `prometheus.Sample`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Sample {
    /// The value.
    #[prost(double, tag = "1")]
    pub value: f64,
    /// Milliseconds since 1970, truncated.
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

const SERVER_LABELS: [&str; 4] = ["domain_id", "project_id", "node_id", "group"];

/// Renders slices of one Domain as one remote-write request.
///
/// One series per label set; of equal timestamps the last in the batch wins.
#[must_use]
pub fn render_mimir(parts: &[Slice]) -> Rendered {
    let mut series: BTreeMap<Vec<Label>, BTreeMap<i64, f64>> = BTreeMap::new();
    let mut labels_dropped = 0;
    for part in parts {
        let origin = &part.batch().origin;
        let ids = [origin.domain.to_string(), origin.project.to_string(), origin.node.to_string()];
        for sample in part.typed::<MetricSample<'_>>() {
            let labels = labels(&sample, &ids, &mut labels_dropped);
            series.entry(labels).or_default().insert(sample.timestamp.unix_millis(), sample.value.to_f64());
        }
    }
    let timeseries = series.into_iter().map(|(labels, samples)| TimeSeries {
        labels,
        samples: samples.into_iter().map(|(timestamp, value)| Sample { value, timestamp }).collect(),
    });
    let request = WriteRequest { timeseries: timeseries.collect() };
    Rendered {
        body: snappy_block(&request.encode_to_vec()),
        content_type: PROTOBUF,
        content_encoding: Some("snappy"),
        labels_dropped,
    }
}

/// The labels of a sample, sorted by name.
fn labels(sample: &MetricSample<'_>, ids: &[String; 3], dropped: &mut u64) -> Vec<Label> {
    let name = sample.name.to_cow();
    let [domain, project, node] = ids;
    let server = [domain.as_str(), project, node, sample.group.as_str()];
    let mut labels = BTreeMap::from([(Cow::Borrowed("__name__"), metric_name(sample.group, &name))]);
    labels.extend(SERVER_LABELS.map(Cow::Borrowed).into_iter().zip(server.map(str::to_owned)));
    // Canonical labels come in byte order of their keys, so that of two keys that sanitise alike the first one wins.
    for (key, value) in sample.labels.iter() {
        let name = label_name(&key.to_cow());
        if name.is_empty() || name.starts_with("__") || value.is_empty() || labels.contains_key(name.as_str()) {
            *dropped += 1;
            continue;
        }
        labels.insert(Cow::Owned(name), value.to_cow().into_owned());
    }
    labels.into_iter().map(|(name, value)| Label { name: name.into_owned(), value }).collect()
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`, with the prefix of the group.
fn metric_name(group: MetricGroup, name: &str) -> String {
    let prefix = match group {
        MetricGroup::NodeResources => "node_",
        MetricGroup::TunnelHealth => "tunnel_",
        MetricGroup::PeerLatency => "peer_",
        MetricGroup::AgentStats => "agent_",
    };
    let clean = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == ':' { c } else { '_' });
    let clean: String = clean.collect();
    if clean.starts_with(prefix) { clean } else { format!("{prefix}{clean}") }
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`, or empty.
fn label_name(key: &str) -> String {
    let mut name = String::with_capacity(key.len() + 1);
    if key.starts_with(|c: char| c.is_ascii_digit()) {
        name.push('_');
    }
    name.extend(key.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }));
    name
}

#[cfg(test)]
mod tests;
