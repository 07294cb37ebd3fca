//! The gates, in their one order: transport → throttle → authentication → forged requests → own Node → path ids →
//! authorisation → body → handler. Each answers before the next one runs.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request};
use axum::routing::{MethodFilter, MethodRouter};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, request};
use plexsphere_wire::problem::MEDIA_TYPE;
use plexsphere_wire::{Code, CorrelationId, DenialReason, PrincipalId, Problem};

use super::call::{Asked, Call, ClientInfo, PathParams, Query, Reply};
use super::operation::{Gate, ObjectFrom, Operation, Scheme};
use crate::audit::{CaveatNames, RequestContext};
use crate::paging;
use crate::{
    AuditLog, AuditRecord, Authenticated, Authenticator, Authorizer, Clock, Decision, ObjectRef, Outcome,
    PrincipalScope,
};

mod body;
pub mod cookies;
pub mod csrf;
mod throttle;

pub use throttle::Throttle;

/// The cookie of a browser session: the session's id, or an API token.
pub const SESSION_COOKIE: &str = "plexsphere_session";

/// How long a handler may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// The longest `User-Agent` that is kept, in bytes.
const MAX_USER_AGENT_BYTES: usize = 256;

const CORRELATION: HeaderName = HeaderName::from_static("x-correlation-id");
const API_VERSION: HeaderName = HeaderName::from_static("x-plexsphere-api-version");

/// Headers that every response has.
const FIXED_HEADERS: [(HeaderName, HeaderValue); 5] = [
    (API_VERSION, HeaderValue::from_static("v1")),
    (http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (http::header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (http::header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (http::header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
];

/// What the gates ask.
pub struct Gates {
    /// Who calls.
    pub authenticator: Arc<dyn Authenticator>,
    /// Who may do what.
    pub authorizer: Arc<dyn Authorizer>,
    /// Where refusals are recorded.
    pub audit: Arc<dyn AuditLog>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The per-address throttle of anonymous operations.
    pub throttle: Throttle,
    /// Which pages may change things by cookie.
    pub origins: csrf::AllowedOrigins,
}

impl Gates {
    /// Records a decision with the conditions that were looked at: a granted one about a Domain on its chain, every other
    /// on that of the caller's Domain, or on the platform's for a platform principal.
    ///
    /// # Errors
    /// 500: a decision that cannot be recorded is a fault.
    pub(super) async fn audit_ruling(
        &self,
        call: &Call,
        relation: &str,
        object: &ObjectRef,
        (outcome, caveats): (Outcome, CaveatNames),
    ) -> Result<(), Problem> {
        let principal = call.principal()?;
        let own = match principal.scope {
            PrincipalScope::Platform => None,
            PrincipalScope::Domain(domain) => Some(domain),
        };
        let domain = match (outcome, object.kind) {
            (Outcome::Granted, "domain") => object.id.parse().ok().or(own),
            (Outcome::Granted, "platform") => None,
            _ => own,
        };
        let record = AuditRecord {
            domain,
            subject: principal.subject,
            relation: relation.to_owned(),
            object: object.clone(),
            outcome,
            correlation_id: call.correlation_id.clone(),
            context: RequestContext { ip: call.client.ip.clone(), user_agent: call.client.user_agent.clone() },
            occurred_at: call.now,
        };
        Ok(self.audit.record_decision(record, caveats).await?)
    }
}

/// Makes a router of operations.
pub fn serve(operations: Vec<Operation>, gates: &Arc<Gates>) -> Router {
    let mut paths: Vec<(&'static str, Vec<Arc<Operation>>)> = Vec::new();
    for operation in operations {
        let operation = Arc::new(operation);
        match paths.iter_mut().find(|(path, _)| *path == operation.path) {
            Some((_, list)) => list.push(operation),
            None => paths.push((operation.path, vec![operation])),
        }
    }
    let mut router = Router::new();
    for (path, list) in paths {
        router = router.route(path, methods(&list, gates));
    }
    let clock = Arc::clone(&gates.clock);
    router.fallback(move |request: Request| {
        let clock = Arc::clone(&clock);
        async move {
            let (parts, _) = request.into_parts();
            let correlation = correlation_id(&parts.headers, clock.as_ref());
            respond(Err(Problem::new(Code::NotFound, "There is no such route.")), parts.uri.path(), &correlation)
        }
    })
}

fn methods(list: &[Arc<Operation>], gates: &Arc<Gates>) -> MethodRouter {
    let mut router = MethodRouter::new();
    for operation in list {
        let Ok(filter) = MethodFilter::try_from(operation.method.clone()) else { continue };
        let (operation, gates) = (Arc::clone(operation), Arc::clone(gates));
        router = router.on(filter, move |params: Result<RawPathParams, RawPathParamsRejection>, request: Request| {
            let (operation, gates) = (Arc::clone(&operation), Arc::clone(&gates));
            async move { run(operation, gates, params, request).await }
        });
    }
    let mut allow: Vec<&str> = list.iter().map(|operation| operation.method.as_str()).collect();
    if allow.contains(&Method::GET.as_str()) {
        allow.push("HEAD");
    }
    let allow = allow.join(", ");
    let clock = Arc::clone(&gates.clock);
    router.fallback(move |request: Request| {
        let (clock, allow) = (Arc::clone(&clock), allow.clone());
        async move {
            let (parts, _) = request.into_parts();
            let correlation = correlation_id(&parts.headers, clock.as_ref());
            let problem = Problem::new(Code::MethodNotAllowed, format!("This path takes {allow}."));
            let mut response = respond(Err(problem), parts.uri.path(), &correlation);
            if let Ok(value) = HeaderValue::from_str(&allow) {
                response.headers_mut().insert(ALLOW, value);
            }
            response
        }
    })
}

async fn run(
    operation: Arc<Operation>,
    gates: Arc<Gates>,
    params: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let correlation = correlation_id(&parts.headers, gates.clock.as_ref());
    let path = parts.uri.path().to_owned();
    // A parameter that is no UTF-8 behind its escapes names nothing.
    let Ok(params) = params else {
        return respond(Err(Problem::new(Code::NotFound, "There is no such route.")), &path, &correlation);
    };
    let fixed = operation.fixed_headers.clone();
    let params = PathParams(params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect());
    let work = pass(operation, gates, &parts, params, body, correlation.clone());
    let outcome = tokio::time::timeout(DEADLINE, AssertUnwindSafe(work).catch_unwind()).await;
    let result = match outcome {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => {
            tracing::error!(correlation_id = %correlation, %path, "a handler panicked");
            Err(Problem::internal())
        }
        Err(_) => {
            tracing::error!(correlation_id = %correlation, %path, "a handler passed its deadline");
            Err(Problem::new(Code::DatastoreUnavailable, "The service is temporarily unable to answer; try again."))
        }
    };
    let mut response = respond(result, &path, &correlation);
    for (name, value) in fixed {
        response.headers_mut().append(name, value);
    }
    response
}

async fn pass(
    operation: Arc<Operation>,
    gates: Arc<Gates>,
    parts: &request::Parts,
    params: PathParams,
    body: Body,
    correlation_id: CorrelationId,
) -> Result<Reply, Problem> {
    if let Some(rules) = &operation.body {
        body::refuse_declared_excess(&parts.headers, rules)?;
    }
    let client = client(&parts.headers);
    let now = gates.clock.now();
    if operation.throttled {
        gates.throttle.admit(client.ip.as_deref().unwrap_or(""), now)?;
    }
    if let Some(throttle) = &operation.own_throttle {
        throttle.admit(client.ip.as_deref().unwrap_or(""), now)?;
    }
    let context = RequestContext { ip: client.ip.clone(), user_agent: client.user_agent.clone() };
    let caller = authenticate(&operation, &gates, parts, (&correlation_id, &context)).await?;
    let mut call = Call {
        correlation_id,
        now,
        path: parts.uri.path().to_owned(),
        params,
        query: Query::parse(parts.uri.query().unwrap_or("")),
        headers: parts.headers.clone(),
        client,
        body: Bytes::new(),
        caller,
        rules: operation.body.clone(),
        operation: operation.id,
        foreign_cursor: if operation.problems.contains(&Code::CursorBindingMismatch) {
            Code::CursorBindingMismatch
        } else {
            Code::InvalidCursor
        },
        gates,
        asked: Asked::default(),
    };
    judge_address(&operation, &call)?;
    authorize(&operation, &call).await?;
    if let Some(rules) = &operation.body {
        call.body = body::read(&parts.headers, body, rules).await?;
    }
    let asked = call.asked.clone();
    let reply = (operation.handler)(call).await?;
    if matches!(operation.gate, Gate::AfterRead { .. }) && !asked.was() {
        tracing::error!(operation = operation.id, "a handler answered without asking who may");
        return Err(Problem::internal());
    }
    Ok(reply)
}

async fn authenticate(
    operation: &Operation,
    gates: &Gates,
    parts: &request::Parts,
    origin: (&CorrelationId, &RequestContext),
) -> Result<Option<Authenticated>, Problem> {
    if matches!(operation.scheme, Scheme::Anonymous | Scheme::OperatorIfAny) {
        return Ok(None);
    }
    // A header that is there is what the caller means; a good cookie does not mend a bad one.
    if parts.headers.contains_key(AUTHORIZATION) || operation.scheme == Scheme::Node {
        return by_bearer(operation, gates, &parts.headers, origin).await.map(Some);
    }
    let caller = by_cookie(gates, &parts.headers).await?;
    if !parts.method.is_safe() {
        gates.origins.check(&parts.headers)?;
    }
    Ok(Some(caller))
}

async fn by_bearer(
    operation: &Operation,
    gates: &Gates,
    headers: &HeaderMap,
    (correlation_id, context): (&CorrelationId, &RequestContext),
) -> Result<Authenticated, Problem> {
    let missing = match operation.scheme {
        Scheme::Node => Code::Unauthorized,
        Scheme::Anonymous | Scheme::Operator | Scheme::OperatorOrNode | Scheme::OperatorIfAny => Code::Unauthenticated,
    };
    let refuse = || Problem::new(missing, "A valid credential is needed.");
    let bearer = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| !token.is_empty())
        .ok_or_else(refuse)?;
    let is_node = bearer.starts_with("nsk_");
    match operation.scheme {
        Scheme::Node => gates.authenticator.node_of(bearer, correlation_id, context).await,
        Scheme::OperatorOrNode if is_node => gates.authenticator.node_of(bearer, correlation_id, context).await,
        Scheme::Operator if is_node => Err(refuse()),
        Scheme::Anonymous | Scheme::Operator | Scheme::OperatorOrNode | Scheme::OperatorIfAny => {
            gates.authenticator.operator(bearer).await
        }
    }
}

async fn by_cookie(gates: &Gates, headers: &HeaderMap) -> Result<Authenticated, Problem> {
    match cookies::cookie(headers, SESSION_COOKIE).filter(|value| !value.is_empty()) {
        Some(token) if token.starts_with("psk_") => gates.authenticator.operator(token).await,
        Some(id) => gates.authenticator.session(id).await,
        None => Err(Problem::new(Code::Unauthenticated, "A valid credential is needed.")),
    }
}

/// Ids of the path and the size of a page: what is malformed is so for everybody.
fn judge_address(operation: &Operation, call: &Call) -> Result<(), Problem> {
    if let Gate::Relation { object: ObjectFrom::Path { param, code, .. }, .. } = operation.gate {
        call.params.id::<PrincipalId>(param, code)?;
    }
    for (param, code) in &operation.path_ids {
        call.params.id::<PrincipalId>(param, *code)?;
    }
    if operation.paged { paging::limit(call).map(drop) } else { Ok(()) }
}

async fn authorize(operation: &Operation, call: &Call) -> Result<(), Problem> {
    match operation.gate {
        Gate::Open(_) | Gate::AnyCaller(_) | Gate::AfterRead { .. } => Ok(()),
        Gate::Relation { relation, object: ObjectFrom::Platform } => {
            call.authorize(relation, &ObjectRef::platform()).await
        }
        Gate::Relation { relation, object: ObjectFrom::Path { kind, param, code } } => {
            let id: PrincipalId = call.params.id(param, code)?;
            call.authorize(relation, &ObjectRef { kind, id: id.to_string() }).await
        }
        Gate::OwnNode { param, relation, mismatch, denied } => {
            own_node(call, (param, relation), (mismatch, denied)).await
        }
    }
}

async fn own_node(
    call: &Call,
    (param, relation): (&str, &str),
    (mismatch, denied): (Code, Code),
) -> Result<(), Problem> {
    let named = call.params.text(param);
    let object = ObjectRef { kind: "node", id: named.chars().take(64).collect() };
    match call.caller()? {
        Authenticated::Node(place) => {
            if named.parse() == Ok(place.node) {
                return Ok(());
            }
            let reason = DenialReason::InsufficientRelation;
            let outcome = Outcome::Denied(reason);
            call.gates.audit_ruling(call, relation, &object, (outcome, CaveatNames::default())).await?;
            Err(Problem::denied(mismatch, reason, Vec::new()))
        }
        Authenticated::Operator { principal, .. } => {
            let ruling = call.gates.authorizer.decide(principal, relation, &object, &call.circumstances()).await?;
            match ruling.decision {
                Decision::Allowed { .. } => call.note_conditions(relation, &object, ruling.caveats).await,
                Decision::Denied { reason, relation_path } => {
                    let outcome = Outcome::Denied(reason);
                    call.gates.audit_ruling(call, relation, &object, (outcome, ruling.caveats)).await?;
                    Err(Problem::denied(denied, reason, relation_path))
                }
            }
        }
    }
}

fn correlation_id(headers: &HeaderMap, clock: &dyn Clock) -> CorrelationId {
    headers
        .get(CORRELATION)
        .and_then(|value| value.to_str().ok())
        .and_then(CorrelationId::accept)
        .unwrap_or_else(|| CorrelationId::mint(clock.now()))
}

/// The internal listener is reached by edges only, which replace `X-Forwarded-For` with the address they saw.
fn client(headers: &HeaderMap) -> ClientInfo {
    // Headers may hold any byte above 0x7f, and what they say is kept all the same.
    let text = |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let address = |hops: &str| hops.rsplit(',').next().and_then(|hop| hop.trim().parse::<IpAddr>().ok());
    ClientInfo {
        ip: text("x-forwarded-for").and_then(|hops| address(&hops)).map(|ip| ip.to_string()),
        user_agent: text("user-agent").map(|agent| {
            let end = agent.floor_char_boundary(MAX_USER_AGENT_BYTES);
            agent.get(..end).unwrap_or("").to_owned()
        }),
    }
}

/// Turns an outcome into a response with every header that all responses have.
#[must_use]
pub fn respond(result: Result<Reply, Problem>, path: &str, correlation: &CorrelationId) -> Response<Body> {
    let (status, mut headers, body) = match result {
        Ok(reply) => (reply.status, reply.headers, reply.body),
        Err(problem) => problem_parts(&problem, path, correlation),
    };
    for (name, value) in FIXED_HEADERS {
        headers.entry(name).or_insert(value);
    }
    if let Ok(value) = HeaderValue::from_str(correlation.as_str()) {
        headers.insert(CORRELATION, value);
    }
    if headers.contains_key(CONTENT_TYPE) {
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn problem_parts(problem: &Problem, path: &str, correlation: &CorrelationId) -> (StatusCode, HeaderMap, Body) {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    if problem.code().status_u16() == 401 {
        headers.insert(http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"plexsphere\""));
    }
    if let Some(seconds) = problem.retry_after_seconds() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    (problem.code().status(), headers, Body::from(problem.body(path, correlation)))
}

/// The declared length of a body, if there is one.
fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The content encodings a request names, joined.
fn encodings(headers: &HeaderMap) -> String {
    let lines: Vec<&str> = headers.get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok()).collect();
    lines.join(",").trim().to_ascii_lowercase()
}
