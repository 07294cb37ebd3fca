//! Logs and audit as a Loki push.

use std::collections::BTreeMap;

use plexsphere_wire::telemetry::{AuditEvent, LogLine, RecordTime, Signal};
use prost::Message;
use serde_json::json;

use super::{PROTOBUF, Rendered, snappy_block};
use crate::batch::Slice;
use crate::config::LokiEncoding;

/// `logproto.PushRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct PushRequest {
    /// One per label set.
    #[prost(message, repeated, tag = "1")]
    pub streams: Vec<StreamAdapter>,
}

/// `logproto.StreamAdapter`.
#[derive(Clone, PartialEq, Message)]
pub struct StreamAdapter {
    /// `{a="b",c="d"}`, sorted.
    #[prost(string, tag = "1")]
    pub labels: String,
    /// Sorted by time.
    #[prost(message, repeated, tag = "2")]
    pub entries: Vec<EntryAdapter>,
}

/// `logproto.EntryAdapter`.
#[derive(Clone, PartialEq, Message)]
pub struct EntryAdapter {
    /// When.
    #[prost(message, optional, tag = "1")]
    pub timestamp: Option<PushTime>,
    /// The line.
    #[prost(string, tag = "2")]
    pub line: String,
    /// What is too varied for a label.
    #[prost(message, repeated, tag = "3")]
    pub structured_metadata: Vec<Pair>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct PushTime {
    /// Whole seconds since 1970, rounded down.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds after `seconds`.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// `logproto.LabelPairAdapter`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Pair {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// The closed set of stream labels: low in cardinality, sorted by name.
type StreamLabels = BTreeMap<&'static str, String>;

struct Entry {
    time: RecordTime,
    line: String,
    metadata: Vec<(&'static str, String)>,
}

/// Renders slices of one Domain and one signal as one push.
#[must_use]
pub fn render_loki(parts: &[Slice], encoding: LokiEncoding) -> Rendered {
    let mut streams: BTreeMap<StreamLabels, Vec<Entry>> = BTreeMap::new();
    for part in parts {
        collect(part, &mut streams);
    }
    for entries in streams.values_mut() {
        entries.sort_by_key(|entry| entry.time);
    }
    match encoding {
        LokiEncoding::Protobuf => protobuf(streams),
        LokiEncoding::Json => as_json(streams),
    }
}

fn collect(part: &Slice, streams: &mut BTreeMap<StreamLabels, Vec<Entry>>) {
    let batch = part.batch();
    let labels = |last: (&'static str, &str)| {
        StreamLabels::from([
            ("signal", batch.signal.as_str().to_owned()),
            ("domain_id", batch.origin.domain.to_string()),
            ("project_id", batch.origin.project.to_string()),
            ("node_id", batch.origin.node.to_string()),
            (last.0, last.1.to_owned()),
        ])
    };
    let batch_id = || ("batch_id", batch.batch_id.clone());
    if batch.signal == Signal::Logs {
        for log in part.typed::<LogLine<'_>>() {
            let optional = [("unit", log.unit), ("hostname", log.hostname)];
            let mut metadata: Vec<_> = optional
                .into_iter()
                .filter_map(|(name, text)| Some((name, text.filter(|text| !text.is_empty())?.to_cow().into_owned())))
                .collect();
            metadata.push(batch_id());
            let entry = Entry { time: log.timestamp, line: log.message.to_cow().into_owned(), metadata };
            streams.entry(labels(("severity", log.severity.as_str()))).or_default().push(entry);
        }
        return;
    }
    for (event, (_, line)) in part.typed::<AuditEvent<'_>>().zip(part.lines()) {
        let metadata = vec![
            ("action", event.action.to_cow().into_owned()),
            ("outcome", event.outcome.to_cow().into_owned()),
            batch_id(),
        ];
        let entry = Entry { time: event.timestamp, line: String::from_utf8_lossy(line).into_owned(), metadata };
        streams.entry(labels(("source", event.source.as_str()))).or_default().push(entry);
    }
}

fn protobuf(streams: BTreeMap<StreamLabels, Vec<Entry>>) -> Rendered {
    let pair = |(name, value): (&'static str, String)| Pair { name: name.to_owned(), value };
    let entry = |entry: Entry| EntryAdapter {
        timestamp: Some(PushTime {
            seconds: entry.time.unix_seconds(),
            nanos: i32::try_from(entry.time.subsec_nanos()).unwrap_or_default(),
        }),
        line: entry.line,
        structured_metadata: entry.metadata.into_iter().map(pair).collect(),
    };
    let streams = streams.into_iter().map(|(labels, entries)| StreamAdapter {
        labels: selector(&labels),
        entries: entries.into_iter().map(entry).collect(),
    });
    let request = PushRequest { streams: streams.collect() };
    Rendered {
        body: snappy_block(&request.encode_to_vec()),
        content_type: PROTOBUF,
        content_encoding: None,
        labels_dropped: 0,
    }
}

fn as_json(streams: BTreeMap<StreamLabels, Vec<Entry>>) -> Rendered {
    let value = |entry: Entry| {
        let metadata: BTreeMap<_, _> = entry.metadata.into_iter().collect();
        json!([entry.time.unix_nanos().to_string(), entry.line, metadata])
    };
    let streams: Vec<_> = streams
        .into_iter()
        .map(|(labels, entries)| {
            json!({ "stream": labels, "values": entries.into_iter().map(value).collect::<Vec<_>>() })
        })
        .collect();
    Rendered {
        body: json!({ "streams": streams }).to_string().into(),
        content_type: "application/json",
        content_encoding: None,
        labels_dropped: 0,
    }
}

/// `{a="b",c="d"}` with backslash, quote and line feed escaped.
fn selector(labels: &StreamLabels) -> String {
    let mut text = String::from("{");
    for (name, value) in labels {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                plain => text.push(plain),
            }
        }
        text.push('"');
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests;
