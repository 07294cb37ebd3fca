//! Re-encoding of a batch that may not travel on as it was received.

use super::limits::{MESSAGE_BYTES, TRUNCATED};
use super::records::{AuditEvent, LogLine, MetricSample, Record, is_forbidden_label};
use super::{Limits, Records, Refusal, Shape, Signal, Text};

/// The batch as canonical NDJSON: members in schema order, times in UTC with nanoseconds, labels sorted by key and
/// without the forbidden ones, long messages cut at a character boundary and marked.
///
/// Numbers keep the digits they came with. The result is uncompressed.
///
/// # Errors
///
/// The same refusals as [`validate`](super::validate).
pub fn rewrite(signal: Signal, shape: Shape, inflated: &[u8], limits: &Limits) -> Result<Vec<u8>, Refusal> {
    match signal {
        Signal::Metrics => lines(Records::<MetricSample<'_>>::new(shape, inflated, limits), inflated.len()),
        Signal::Logs => lines(Records::<LogLine<'_>>::new(shape, inflated, limits), inflated.len()),
        Signal::Audit => lines(Records::<AuditEvent<'_>>::new(shape, inflated, limits), inflated.len()),
    }
}

fn lines<'a, R: Record<'a>>(records: Records<'a, R>, about_bytes: usize) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::with_capacity(about_bytes);
    for record in records {
        record?.write(&mut out);
        out.push(b'\n');
    }
    Ok(out)
}

pub(super) fn metric_sample(sample: &MetricSample<'_>, out: &mut Vec<u8>) {
    member(out, b"{\"group\":", |out| quoted(sample.group.as_str(), out));
    member(out, b",\"name\":", |out| text(sample.name, out));
    member(out, b",\"value\":", |out| out.extend_from_slice(sample.value.as_str().as_bytes()));
    let mut labels: Vec<_> = sample
        .labels
        .iter()
        .map(|(key, value)| (key.to_cow(), value))
        .filter(|(key, _)| !is_forbidden_label(key))
        .collect();
    labels.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
    if !labels.is_empty() {
        out.extend_from_slice(b",\"labels\":");
        let mut separator = b'{';
        for (key, value) in labels {
            out.push(separator);
            quoted(&key, out);
            out.push(b':');
            text(value, out);
            separator = b',';
        }
        out.push(b'}');
    }
    time(sample.timestamp, out);
}

pub(super) fn log_line(line: &LogLine<'_>, out: &mut Vec<u8>) {
    member(out, b"{\"severity\":", |out| quoted(line.severity.as_str(), out));
    if let Some(unit) = line.unit {
        member(out, b",\"unit\":", |out| text(unit, out));
    }
    if let Some(hostname) = line.hostname {
        member(out, b",\"hostname\":", |out| text(hostname, out));
    }
    member(out, b",\"message\":", |out| message(line.message, out));
    time(line.timestamp, out);
}

pub(super) fn audit_event(event: &AuditEvent<'_>, out: &mut Vec<u8>) {
    member(out, b"{\"source\":", |out| quoted(event.source.as_str(), out));
    member(out, b",\"action\":", |out| text(event.action, out));
    member(out, b",\"outcome\":", |out| text(event.outcome, out));
    time(event.timestamp, out);
}

fn member(out: &mut Vec<u8>, name: &[u8], value: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(name);
    value(out);
}

/// The last member of every schema.
fn time(time: super::RecordTime, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"timestamp\":\"");
    time.write_rfc3339(out);
    out.extend_from_slice(b"\"}");
}

fn message(message: Text<'_>, out: &mut Vec<u8>) {
    if !message.is_longer_than(MESSAGE_BYTES) {
        return text(message, out);
    }
    let whole = message.to_cow();
    let kept = whole.floor_char_boundary(MESSAGE_BYTES - TRUNCATED.len());
    out.push(b'"');
    escape(whole.get(..kept).unwrap_or_default(), out);
    out.extend_from_slice(TRUNCATED.as_bytes());
    out.push(b'"');
}

/// A string without escapes is canonical as it lies in the batch.
fn text(text: Text<'_>, out: &mut Vec<u8>) {
    out.push(b'"');
    match text.as_plain() {
        Some(plain) => out.extend_from_slice(plain.as_bytes()),
        None => text.for_each_run(|run| escape(run, out)),
    }
    out.push(b'"');
}

fn quoted(characters: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escape(characters, out);
    out.push(b'"');
}

/// Escapes what RFC 8259 section 7 says must be, in its shortest form, and nothing else.
fn escape(characters: &str, out: &mut Vec<u8>) {
    let mut rest = characters.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)) {
        let (plain, after) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((special, after)) = after.split_first() else { break };
        match special {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *special]),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(data_encoding::HEXLOWER.encode(&[*control]).as_bytes());
            }
        }
        rest = after;
    }
    out.extend_from_slice(rest);
}
