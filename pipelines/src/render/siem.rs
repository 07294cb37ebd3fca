//! Audit, and on request logs, as NDJSON for a SIEM.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use plexsphere_wire::telemetry::{AuditEvent, LogLine, Signal};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Rendered;
use crate::batch::{Batch, Slice};

/// The name of the record schema.
pub const SCHEMA: &str = "plexsphere.siem.v1";

/// One flat object per record, in this order.
#[derive(Serialize)]
struct SiemRecord<'a, F> {
    schema: &'static str,
    event_id: String,
    signal: &'static str,
    domain_id: &'a str,
    project_id: &'a str,
    node_id: &'a str,
    occurred_at: String,
    accepted_at: &'a str,
    #[serde(flatten)]
    fields: F,
}

#[derive(Serialize)]
struct AuditFields<'a> {
    source: &'static str,
    action: std::borrow::Cow<'a, str>,
    outcome: std::borrow::Cow<'a, str>,
}

#[derive(Serialize)]
struct LogFields<'a> {
    severity: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<std::borrow::Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<std::borrow::Cow<'a, str>>,
    message: std::borrow::Cow<'a, str>,
}

/// Renders slices of one Domain as one gzip NDJSON body.
#[must_use]
pub fn render_siem(parts: &[Slice]) -> Rendered {
    let mut lines = Vec::new();
    for part in parts {
        render_part(part, &mut lines);
    }
    // The header of the default encoder names no time and no host, so that the bytes depend on the records alone.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing into memory cannot fail; an empty body would be refused by the receiver.
    let body = encoder.write_all(&lines).and_then(|()| encoder.finish()).unwrap_or_default();
    Rendered {
        body: body.into(),
        content_type: "application/x-ndjson",
        content_encoding: Some("gzip"),
        labels_dropped: 0,
    }
}

fn render_part(part: &Slice, out: &mut Vec<u8>) {
    let batch = part.batch();
    let ids = [batch.origin.domain.to_string(), batch.origin.project.to_string(), batch.origin.node.to_string()];
    let accepted_at = batch.accepted_at.to_string();
    let tags = Tags { batch, ids: &ids, accepted_at: &accepted_at };
    let indices = part.first_index()..;
    match batch.signal {
        Signal::Audit => {
            for (index, event) in indices.zip(part.typed::<AuditEvent<'_>>()) {
                let fields = AuditFields {
                    source: event.source.as_str(),
                    action: event.action.to_cow(),
                    outcome: event.outcome.to_cow(),
                };
                tags.line(index, event.timestamp, fields, out);
            }
        }
        Signal::Logs => {
            for (index, log) in indices.zip(part.typed::<LogLine<'_>>()) {
                let fields = LogFields {
                    severity: log.severity.as_str(),
                    unit: log.unit.map(|unit| unit.to_cow()),
                    hostname: log.hostname.map(|hostname| hostname.to_cow()),
                    message: log.message.to_cow(),
                };
                tags.line(index, log.timestamp, fields, out);
            }
        }
        // No route leads metrics here.
        Signal::Metrics => {}
    }
}

struct Tags<'a> {
    batch: &'a Batch,
    ids: &'a [String; 3],
    accepted_at: &'a str,
}

impl Tags<'_> {
    fn line(
        &self,
        index: usize,
        time: plexsphere_wire::telemetry::RecordTime,
        fields: impl Serialize,
        out: &mut Vec<u8>,
    ) {
        let mut occurred_at = Vec::with_capacity(30);
        time.write_rfc3339(&mut occurred_at);
        let [domain_id, project_id, node_id] = self.ids;
        let record = SiemRecord {
            schema: SCHEMA,
            event_id: event_id(&self.batch.batch_id, index),
            signal: self.batch.signal.as_str(),
            domain_id,
            project_id,
            node_id,
            occurred_at: String::from_utf8_lossy(&occurred_at).into_owned(),
            accepted_at: self.accepted_at,
            fields,
        };
        // Strings and string enums always serialise into memory.
        if serde_json::to_writer(&mut *out, &record).is_ok() {
            out.push(b'\n');
        }
    }
}

/// The receiver's dedupe key: the first 32 hex digits of SHA-256 over `batch_id:index`.
#[must_use]
pub fn event_id(batch_id: &str, index: usize) -> String {
    let digest = Sha256::digest(format!("{batch_id}:{index}"));
    let mut text = data_encoding::HEXLOWER.encode(&digest);
    text.truncate(32);
    text
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::Arc;

    use super::*;
    use crate::batch::tests::{batch, origin};

    fn decode(rendered: &Rendered) -> Vec<serde_json::Value> {
        let mut text = String::new();
        flate2::read::GzDecoder::new(rendered.body.as_ref()).read_to_string(&mut text).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn each_record_is_one_flat_object_whose_event_id_depends_on_batch_and_index_alone() {
        let body = r#"{"source":"k8s","action":"get","outcome":"allow","timestamp":"2026-11-24T08:00:00Z"}
{"source":"auditd","action":"exec","outcome":"ok","timestamp":"2026-11-24T08:00:01Z"}"#;
        let whole = Slice::whole(Arc::new(batch(Signal::Audit, &origin(1), body)));
        let rendered = render_siem(std::slice::from_ref(&whole));
        let records = decode(&rendered);
        assert_eq!(records.len(), 2);
        assert_eq!(records[0]["schema"], SCHEMA);
        assert_eq!(records[0]["occurred_at"], "2026-11-24T08:00:00.000000000Z");
        assert_eq!(records[1]["action"], "exec");
        assert_eq!(records[1]["event_id"], event_id(&whole.batch().batch_id, 1));
        let (_, second) = whole.halve().unwrap();
        assert_eq!(decode(&render_siem(&[second]))[0], records[1]);
        assert_eq!(render_siem(&[whole]), rendered);
    }

    #[test]
    fn a_log_line_without_unit_has_no_such_member() {
        let body = r#"{"severity":"err","message":"m","timestamp":"2026-11-24T08:00:00Z"}"#;
        let records = decode(&render_siem(&[Slice::whole(Arc::new(batch(Signal::Logs, &origin(1), body)))]));
        assert_eq!(records[0]["message"], "m");
        assert!(records[0].get("unit").is_none());
    }
}
