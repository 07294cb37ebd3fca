//! Reads a heartbeat strictly: no unknown, no repeated member, nothing behind it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use http::header::{self, HeaderMap, HeaderValue};
use plexsphere_wire::heartbeat::Heartbeat;
use plexsphere_wire::strict_json::{self, Rules};
use plexsphere_wire::telemetry::{Encoding, InflateError, Inflater};
use plexsphere_wire::{Code, NodeId, Problem, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;

const MAX_VERSION_BYTES: usize = 4_096;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeartbeatRequest<'a> {
    client_now: String,
    binary_checksum: String,
    binary_version: String,
    #[serde(borrow)]
    nat_summary: &'a RawValue,
}

/// The body's encoding: JSON as it is, or gzip.
pub(super) fn encoding(headers: &HeaderMap) -> Result<Encoding, Problem> {
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    let unsupported = |detail: &str| Problem::new(Code::UnsupportedMediaType, detail);
    if !media.eq_ignore_ascii_case("application/json") {
        return Err(unsupported("The body must be application/json."));
    }
    let values = headers.get_all(header::CONTENT_ENCODING).iter().map(HeaderValue::as_bytes);
    match Encoding::parse(values) {
        Ok(encoding @ (Encoding::Identity | Encoding::Gzip)) => Ok(encoding),
        Ok(Encoding::Zstd) | Err(_) => Err(unsupported("The body may be encoded with gzip only.")),
    }
}

/// Reads and judges a body, gate by gate.
pub(super) fn read(
    raw: &[u8],
    encoding: Encoding,
    (node, now): (NodeId, Timestamp),
    (cap, max_skew): (usize, Duration),
) -> Result<Heartbeat, Problem> {
    let malformed = |detail: &str| Problem::new(Code::MalformedHeartbeatRequest, detail);
    let mut inflater = Inflater::new();
    let body = inflater.inflate(encoding, raw, cap).map_err(|error| match error {
        InflateError::Invalid => malformed("The body is not valid gzip."),
        InflateError::TooLarge { .. } => {
            Problem::new(Code::RequestBodyTooLarge, "The body is larger than 8,192 bytes.")
        }
    })?;
    let text = std::str::from_utf8(body).map_err(|_| malformed("The body is not valid UTF-8."))?;
    let admitted = Rules { free_form: &["nat_summary"], ..Rules::default() };
    strict_json::check(text, &admitted).map_err(|_| malformed("The body is not strict JSON."))?;
    let request: HeartbeatRequest<'_> =
        serde_json::from_str(text).map_err(|_| malformed("A member is missing, unknown or of another type."))?;
    if !request.nat_summary.get().starts_with('{') {
        return Err(malformed("The member nat_summary must be an object."));
    }
    let client_now =
        Timestamp::parse(&request.client_now).map_err(|_| malformed("The member client_now must be a time."))?;
    if request.binary_version.len() > MAX_VERSION_BYTES {
        return Err(malformed("The member binary_version is too long."));
    }
    if client_now.distance(now) > max_skew {
        return Err(Problem::new(Code::ClockSkew, "The Node's clock is too far from the server's."));
    }
    let binary_checksum = checksum(&request.binary_checksum).ok_or_else(|| {
        Problem::new(Code::BinaryChecksumEmpty, "The member binary_checksum must be 32 bytes in hex or base64.")
    })?;
    if request.binary_version.trim().is_empty() {
        return Err(Problem::new(Code::BinaryVersionEmpty, "The member binary_version must not be blank."));
    }
    let nat_summary = request.nat_summary.get().to_owned();
    Ok(Heartbeat { node, received_at: now, binary_checksum, binary_version: request.binary_version, nat_summary })
}

/// 64 lower-case hex digits, or the padded base64 of 32 bytes; always returned as hex.
fn checksum(text: &str) -> Option<String> {
    if text.len() == 64 {
        let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        return (lower && HEXLOWER_PERMISSIVE.decode(text.as_bytes()).is_ok()).then(|| text.to_owned());
    }
    let bytes = STANDARD.decode(text).ok().filter(|bytes| text.len() == 44 && bytes.len() == 32)?;
    Some(HEXLOWER.encode(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(body: &str) -> Result<Heartbeat, &'static str> {
        let now = Timestamp::parse("2026-11-24T08:00:00Z").unwrap();
        read(body.as_bytes(), Encoding::Identity, (NodeId::mint(now), now), (8192, Duration::from_secs(60)))
            .map_err(|problem| problem.code().as_str())
    }

    fn body(client_now: &str, checksum: &str, version: &str, nat: &str) -> String {
        format!(
            r#"{{"client_now":"{client_now}","binary_checksum":"{checksum}","binary_version":"{version}","nat_summary":{nat}}}"#
        )
    }

    #[test]
    fn gates_answer_in_their_order() {
        let hex = "ab".repeat(32);
        let good = "2026-11-24T10:00:59.123456789+02:00";
        let late = "2026-11-24T08:01:01Z";
        assert_eq!(judge(&body(good, &hex, "1.0", "{}")).unwrap().binary_checksum, hex);
        let base64 = STANDARD.encode([0xab; 32]);
        assert_eq!(judge(&body(good, &base64, "1.0", "{}")).unwrap().binary_checksum, hex);
        for nat in ["null", "[]", r#"{"a":1,"a":2}"#, r#""x""#] {
            assert_eq!(judge(&body(late, "", "", nat)), Err("malformed_heartbeat_request"), "{nat}");
        }
        assert_eq!(judge(&body(late, "", "", "{}")), Err("clock_skew"));
        assert_eq!(judge(&body(good, &hex.to_uppercase(), "", "{}")), Err("binary_checksum_empty"));
        assert_eq!(judge(&body(good, &hex, "  ", "{}")), Err("binary_version_empty"));
        let extra = body(good, &hex, "1", "{}").replacen('{', r#"{"x":1,"#, 1);
        assert_eq!(judge(&extra), Err("malformed_heartbeat_request"));
        assert_eq!(judge(&format!("{} x", body(good, &hex, "1", "{}"))), Err("malformed_heartbeat_request"));
    }
}
