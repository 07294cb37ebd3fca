use std::sync::Arc;

use super::*;
use crate::batch::tests::{batch, origin};

const LOGS: &str = r#"{"severity":"info","unit":"/var/log/x","hostname":"h","message":"later \"quoted\"","timestamp":"2026-11-24T08:00:02.5Z"}
{"severity":"info","message":"earlier","timestamp":"2026-11-24T08:00:01Z"}
{"severity":"err","message":"other stream","timestamp":"2026-11-24T08:00:00Z"}"#;

fn slice(signal: Signal, body: &str) -> Slice {
    Slice::whole(Arc::new(batch(signal, &origin(1), body)))
}

fn decode(rendered: &Rendered) -> PushRequest {
    let raw = snap::raw::Decoder::new().decompress_vec(&rendered.body).unwrap();
    PushRequest::decode(raw.as_slice()).unwrap()
}

#[test]
fn logs_are_streams_of_closed_labels_with_the_message_verbatim_and_sorted_by_time() {
    let request = decode(&render_loki(&[slice(Signal::Logs, LOGS)], LokiEncoding::Protobuf));
    assert_eq!(request.streams.len(), 2);
    let (ids, info) = (origin(1), &request.streams[1]);
    assert_eq!(
        info.labels,
        format!(
            "{{domain_id=\"{}\",node_id=\"{}\",project_id=\"{}\",severity=\"info\",signal=\"logs\"}}",
            ids.domain, ids.node, ids.project
        )
    );
    assert_eq!(info.entries[0].line, "earlier");
    assert_eq!(info.entries[1].line, "later \"quoted\"");
    assert_eq!(info.entries[1].timestamp.unwrap().nanos, 500_000_000);
    let names: Vec<&str> = info.entries[1].structured_metadata.iter().map(|pair| pair.name.as_str()).collect();
    assert_eq!(names, ["unit", "hostname", "batch_id"]);
}

#[test]
fn an_audit_line_is_the_canonical_record_and_its_source_is_a_label() {
    let body = r#"{"timestamp":"2026-11-24T09:00:00+01:00","outcome":"ok","action":"login","source":"auditd"}"#;
    let request = decode(&render_loki(&[slice(Signal::Audit, body)], LokiEncoding::Protobuf));
    assert!(request.streams[0].labels.contains(r#"signal="audit",source="auditd""#));
    assert_eq!(
        request.streams[0].entries[0].line,
        r#"{"source":"auditd","action":"login","outcome":"ok","timestamp":"2026-11-24T08:00:00.000000000Z"}"#
    );
}

#[test]
fn the_json_push_says_the_same_as_the_protobuf_one() {
    let rendered = render_loki(&[slice(Signal::Logs, LOGS)], LokiEncoding::Json);
    let push: serde_json::Value = serde_json::from_slice(&rendered.body).unwrap();
    let info = &push["streams"][1];
    assert_eq!(info["stream"]["severity"], "info");
    assert_eq!(info["values"][0][0], "1795507201000000000");
    assert_eq!(info["values"][1][1], "later \"quoted\"");
    assert_eq!(info["values"][1][2]["unit"], "/var/log/x");
    assert_eq!(rendered.content_type, "application/json");
}

#[test]
fn label_values_are_escaped() {
    let labels = StreamLabels::from([("a", "x\"\\\n".to_owned()), ("b", "y".to_owned())]);
    assert_eq!(selector(&labels), "{a=\"x\\\"\\\\\\n\",b=\"y\"}");
}
