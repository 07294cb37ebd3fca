//! Responses: error documents, and what every response carries.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use plexsphere_wire::{Code, CorrelationId, Problem, problem};
use serde::Serialize;

use crate::body::ResponseBody;

/// Header: one id per request.
pub const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
/// Header: the version of the API.
pub const API_VERSION: HeaderName = HeaderName::from_static("x-plexsphere-api-version");
/// Header of telemetry requests: when the agent sent the batch.
pub const SENT_AT: HeaderName = HeaderName::from_static("x-plexsphere-sent-at");

const CHALLENGE: HeaderValue = HeaderValue::from_static(r#"Bearer realm="plexsphere""#);

/// What a response must know of its request.
pub struct Context {
    /// The request's path without the query.
    pub path: String,
    /// Its id.
    pub correlation_id: CorrelationId,
    /// Whether it came encrypted.
    pub secure: bool,
}

/// An error document as a response.
#[must_use]
pub fn problem(problem: &Problem, context: &Context) -> Response<ResponseBody> {
    let body = problem.body(&context.path, &context.correlation_id);
    let mut response = Response::new(ResponseBody::full(body));
    *response.status_mut() = problem.code().status();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(problem::MEDIA_TYPE));
    if let Some(seconds) = problem.retry_after_seconds() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A JSON document as a response.
#[must_use]
pub fn json<T: Serialize>(status: StatusCode, document: &T, context: &Context) -> Response<ResponseBody> {
    match serde_json::to_vec(document) {
        Ok(body) => {
            let mut response = Response::new(ResponseBody::full(Bytes::from(body)));
            *response.status_mut() = status;
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => {
            tracing::error!(%error, correlation_id = %context.correlation_id, "response could not be written");
            problem(&Problem::internal(), context)
        }
    }
}

/// 405 with the methods that the path knows.
#[must_use]
pub fn method_not_allowed(allow: &'static str, context: &Context) -> Response<ResponseBody> {
    let refusal = Problem::new(Code::MethodNotAllowed, "The path does not know this method.");
    let mut response = problem(&refusal, context);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

/// Adds what every response carries, and leaves alone what control has set already.
pub fn finish(response: &mut Response<ResponseBody>, context: &Context, alt_svc: Option<&HeaderValue>) {
    let unauthenticated = response.status() == StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(context.correlation_id.as_str()) {
        headers.insert(CORRELATION_ID, id);
    }
    headers.insert(API_VERSION, HeaderValue::from_static("v1"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    let defaults = [
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in defaults {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if unauthenticated {
        headers.entry(header::WWW_AUTHENTICATE).or_insert(CHALLENGE);
    }
    if context.secure {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
        if let Some(alt_svc) = alt_svc {
            headers.insert(header::ALT_SVC, alt_svc.clone());
        }
    }
}
