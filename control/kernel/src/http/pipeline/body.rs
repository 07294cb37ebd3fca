//! Reading a body: media type, encoding, cap on the raw and on the inflated bytes.

use std::io::Read as _;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt as _;
use plexsphere_wire::{Code, Problem};

use super::super::BodyRules;
use super::{declared_length, encodings};

fn too_large(rules: &BodyRules) -> Problem {
    Problem::new(rules.too_large, format!("The body is larger than {} bytes.", rules.cap))
}

/// Refuses a body whose `Content-Length` is over the cap before a byte of it is read.
pub(super) fn refuse_declared_excess(headers: &HeaderMap, rules: &BodyRules) -> Result<(), Problem> {
    let cap = u64::try_from(rules.cap).unwrap_or(u64::MAX);
    match declared_length(headers) {
        Some(length) if length > cap => Err(too_large(rules)),
        _ => Ok(()),
    }
}

/// How long a caller may take to send a body.
const PATIENCE: Duration = Duration::from_secs(15);

/// Reads at most cap + 1 bytes and inflates at most as many.
pub(super) async fn read(headers: &HeaderMap, body: Body, rules: &BodyRules) -> Result<Bytes, Problem> {
    let slow = |_| Problem::new(Code::RequestTimeout, "The body did not arrive in time.");
    let raw = tokio::time::timeout(PATIENCE, gather(body, rules)).await.map_err(slow)??;
    if raw.is_empty() && rules.optional {
        return Ok(raw);
    }
    if !is_json(headers) {
        return Err(Problem::new(Code::UnsupportedMediaType, "The body must be `application/json`."));
    }
    match encodings(headers).as_str() {
        "" | "identity" => Ok(raw),
        "gzip" if rules.gzip => inflate(&raw, rules),
        _ => Err(Problem::new(rules.malformed, "The content encoding is not accepted here.")),
    }
}

async fn gather(mut body: Body, rules: &BodyRules) -> Result<Bytes, Problem> {
    let mut raw = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::new(rules.malformed, "The body broke off before its end."))?;
        if let Some(data) = frame.data_ref() {
            if raw.len() + data.len() > rules.cap {
                return Err(too_large(rules));
            }
            raw.extend_from_slice(data);
        }
    }
    Ok(raw.freeze())
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(|value| value.split(';').next().unwrap_or("").trim())
        .is_some_and(|media| media.eq_ignore_ascii_case("application/json"))
}

fn inflate(raw: &[u8], rules: &BodyRules) -> Result<Bytes, Problem> {
    let mut inflated = Vec::new();
    let limit = u64::try_from(rules.cap).unwrap_or(u64::MAX).saturating_add(1);
    flate2::read::MultiGzDecoder::new(raw)
        .take(limit)
        .read_to_end(&mut inflated)
        .map_err(|_| Problem::new(rules.malformed, "The body is not a complete gzip stream."))?;
    if inflated.len() > rules.cap { Err(too_large(rules)) } else { Ok(inflated.into()) }
}
