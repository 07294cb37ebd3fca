//! The operations that a Node and a run's set-up call, and what their refusals mean to an agent.

mod batch;
mod node;
mod operator;
mod register;

pub use batch::{Batch, EncodeError, EncodingChoice};
pub use node::{HeartbeatAnswer, HeartbeatBody, NodeApi, Receipt, RotationReceipt};
pub use operator::{OperatorApi, ResourceRef};
pub use register::{Registered, Registration, fresh_public_key, register};

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::transport::{Response, TransportError};

/// The most bytes of an error body that an agent reads.
const PROBLEM_BYTES: usize = 4_096;

/// A problem document as an agent reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// The `code` member; empty when the body was no readable problem document.
    pub code: String,
    /// The `detail` member.
    pub detail: String,
    /// `Retry-After` in seconds; an agent honours it on 429 only.
    pub retry_after_seconds: Option<u64>,
    /// The correlation id of the body or of the header.
    pub correlation_id: Option<String>,
}

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No response.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// A response outside 2xx.
    #[error("{} {}: {}", .0.status, .0.code, .0.detail)]
    Refused(Refused),
    /// A 2xx whose body is not what the contract says.
    #[error("unreadable response: {0}")]
    Unreadable(String),
    /// The request could not be built.
    #[error("request: {0}")]
    Request(String),
}

/// What an agent does with a batch that was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Send both halves; a single record is dropped.
    Halve,
    /// Drop it for ever.
    Drop,
    /// Keep it and send the same bytes at the next report tick.
    Keep,
}

#[derive(Deserialize)]
struct ProblemBody {
    #[serde(default)]
    code: String,
    #[serde(default)]
    detail: String,
    correlation_id: Option<String>,
}

impl Refused {
    /// Reads a response outside 2xx. Only `application/problem+json` has a code, and only its first 4,096 bytes are read.
    #[must_use]
    pub fn read(response: &Response) -> Self {
        let header = |name: &str| response.headers.get(name).and_then(|value| value.to_str().ok());
        let typed = header(CONTENT_TYPE.as_str()).is_some_and(|value| value.starts_with("application/problem+json"));
        let head = response.body.get(..response.body.len().min(PROBLEM_BYTES)).unwrap_or_default();
        let body = typed.then(|| serde_json::from_slice::<ProblemBody>(head).ok()).flatten();
        let (code, detail, correlation) =
            body.map_or_else(Default::default, |body| (body.code, body.detail, body.correlation_id));
        Self {
            status: response.status.as_u16(),
            code,
            detail,
            retry_after_seconds: header(RETRY_AFTER.as_str()).and_then(|value| value.trim().parse().ok()),
            correlation_id: correlation.or_else(|| header("x-correlation-id").map(str::to_owned)),
        }
    }
}

impl ApiError {
    /// A word for counting: the problem code, `http_<status>` without one, or the transport's word.
    #[must_use]
    pub fn word(&self) -> String {
        match self {
            Self::Transport(error) => error.code().to_owned(),
            Self::Refused(refused) if refused.code.is_empty() => format!("http_{}", refused.status),
            Self::Refused(refused) => refused.code.clone(),
            Self::Unreadable(_) => "unreadable_response".to_owned(),
            Self::Request(_) => "request_not_built".to_owned(),
        }
    }

    /// The refusal, if there was a response.
    #[must_use]
    pub const fn refused(&self) -> Option<&Refused> {
        if let Self::Refused(refused) = self { Some(refused) } else { None }
    }

    /// What an agent does with a telemetry batch after this.
    #[must_use]
    pub fn reaction(&self) -> Reaction {
        match self.refused().map(|refused| (refused.status, refused.code.as_str())) {
            Some((413, _)) => Reaction::Halve,
            Some((400, "ingest_batch_malformed") | (501, "observability_ingest_not_provisioned")) => Reaction::Drop,
            Some(_) | None => Reaction::Keep,
        }
    }
}

/// Reads a 2xx as JSON.
fn decode<T: DeserializeOwned>(response: &Response) -> Result<T, ApiError> {
    accepted(response)?;
    serde_json::from_slice(&response.body).map_err(|error| ApiError::Unreadable(error.to_string()))
}

fn accepted(response: &Response) -> Result<(), ApiError> {
    if response.status.is_success() { Ok(()) } else { Err(ApiError::Refused(Refused::read(response))) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::*;

    fn problem(status: u16, code: &str) -> ApiError {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        let body = serde_json::json!({ "code": code, "detail": "d", "status": status });
        let body = Bytes::from(serde_json::to_vec(&body).unwrap());
        let status = StatusCode::from_u16(status).unwrap();
        ApiError::Refused(Refused::read(&Response { status, headers, body }))
    }

    #[test]
    fn an_agent_halves_on_413_drops_what_is_malformed_and_keeps_everything_else() {
        assert_eq!(problem(413, "ingest_body_too_large").reaction(), Reaction::Halve);
        assert_eq!(problem(413, "ingest_batch_too_many_records").reaction(), Reaction::Halve);
        assert_eq!(problem(400, "ingest_batch_malformed").reaction(), Reaction::Drop);
        assert_eq!(problem(501, "observability_ingest_not_provisioned").reaction(), Reaction::Drop);
        for (status, code) in
            [(400, "ingest_sent_at_invalid"), (401, "nsk_invalid"), (415, "x"), (429, "x"), (503, "x")]
        {
            assert_eq!(problem(status, code).reaction(), Reaction::Keep, "{status} {code}");
        }
        assert_eq!(ApiError::from(TransportError::Timeout).reaction(), Reaction::Keep);
    }

    #[test]
    fn a_code_is_read_from_problem_documents_only() {
        assert_eq!(problem(429, "per_node_rate_limited").word(), "per_node_rate_limited");
        assert_eq!(problem(429, "x").refused().unwrap().retry_after_seconds, Some(7));
        let plain = Response {
            status: StatusCode::BAD_GATEWAY,
            headers: HeaderMap::new(),
            body: Bytes::from_static(b"{\"code\":\"nsk_revoked\"}"),
        };
        assert_eq!(ApiError::Refused(Refused::read(&plain)).word(), "http_502");
    }
}
