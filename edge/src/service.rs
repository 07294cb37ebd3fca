//! One request from its first gate to its last header.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response};
use plexsphere_wire::intake::AuditIntake;
use plexsphere_wire::{Code, CorrelationId, DenialReason, Problem};

use crate::body::{Peer, RequestBody, ResponseBody};
use crate::clock::Clock;
use crate::directory::NodeRecord;
use crate::fanout::Fanout;
use crate::heartbeat::Heartbeats;
use crate::ingest::{Ingest, IngestBuffer, Refused};
use crate::intake::Intake;
use crate::listen::Handler;
use crate::metrics::{Metrics, OfResponse};
use crate::proxy::Proxy;
use crate::respond::{self, CORRELATION_ID, Context};
use crate::route::{Route, route};

/// The largest head, names and values together, in bytes.
const MAX_HEADER_BYTES: usize = 32 * 1024;
/// The longest path and query, in bytes.
const MAX_URI_BYTES: usize = 8 * 1024;
const MAX_OBJECT_ID_BYTES: usize = 64;
const MAX_USER_AGENT_BYTES: usize = 256;

/// Everything that answers requests.
pub struct EdgeService<B> {
    pub(crate) ingest: Ingest<B>,
    pub(crate) heartbeats: Heartbeats,
    pub(crate) fanout: Arc<Fanout>,
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) intake: Intake,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    pub(crate) alt_svc: Option<HeaderValue>,
}

/// What the audit must know of a request, kept because the request itself is consumed.
struct Trace<'p> {
    path_id: &'p str,
    client_ip: IpAddr,
    user_agent: Option<HeaderValue>,
}

impl<B: IngestBuffer> Handler for EdgeService<B> {
    async fn handle(self: Arc<Self>, request: Request<RequestBody>, peer: Peer) -> Response<ResponseBody> {
        let correlation_id = request
            .headers()
            .get(CORRELATION_ID)
            .and_then(|value| CorrelationId::accept(value.to_str().ok()?))
            .unwrap_or_else(|| CorrelationId::mint(self.clock.now()));
        let context = Context { path: request.uri().path().to_owned(), correlation_id, secure: peer.secure };
        let word = route(request.method(), request.uri().path()).as_str();
        let answered = AssertUnwindSafe(self.answer(request, &peer, &context)).catch_unwind().await;
        let mut response = answered.unwrap_or_else(|_| {
            self.metrics.panics.inc();
            tracing::error!(correlation_id = %context.correlation_id, route = word, "handler panicked");
            respond::problem(&Problem::internal(), &context)
        });
        respond::finish(&mut response, &context, self.alt_svc.as_ref());
        let status = response.status().as_u16();
        self.metrics.responses.get_or_create(&OfResponse { route: word, status }).inc();
        response
    }
}

impl<B: IngestBuffer> EdgeService<B> {
    async fn answer(&self, request: Request<RequestBody>, peer: &Peer, context: &Context) -> Response<ResponseBody> {
        if let Err(problem) = check_head(&request) {
            return respond::problem(&problem, context);
        }
        let path = request.uri().path().to_owned();
        match route(request.method(), &path) {
            Route::Ingest(signal, id) => {
                let trace = self.trace(id, request.headers(), peer);
                let (response, mismatch) = self.ingest.handle(signal, id, request, context).await;
                self.audit(mismatch, "telemetry_ingest", trace, context);
                response
            }
            Route::Heartbeat(id) => {
                let trace = self.trace(id, request.headers(), peer);
                match self.heartbeats.take(id, request).await {
                    Ok((status, verdict)) => respond::json(status, &verdict, context),
                    Err(refused) => self.refuse(refused, "node.authenticate", trace, context),
                }
            }
            Route::Events(id) => {
                let trace = self.trace(id, request.headers(), peer);
                match self.fanout.open(id, &request, peer, context).await {
                    Ok(response) => response,
                    Err(refused) => self.refuse(refused, "node.events.subscribe", trace, context),
                }
            }
            Route::WrongMethod(allow) => respond::method_not_allowed(allow, context),
            Route::Hidden => respond::problem(&Problem::new(Code::NotFound, "There is no such path."), context),
            Route::Control => match self.proxy.forward(request, peer, context).await {
                Ok(response) => response,
                Err(problem) => respond::problem(&problem, context),
            },
        }
    }

    fn refuse(
        &self,
        refused: Refused,
        relation: &'static str,
        trace: Trace<'_>,
        context: &Context,
    ) -> Response<ResponseBody> {
        self.audit(refused.mismatch, relation, trace, context);
        let mut response = respond::problem(&refused.problem, context);
        if refused.close {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn trace<'p>(&self, path_id: &'p str, headers: &HeaderMap, peer: &Peer) -> Trace<'p> {
        Trace {
            path_id,
            client_ip: self.proxy.client_ip(peer, headers),
            user_agent: headers.get(header::USER_AGENT).cloned(),
        }
    }

    fn audit(&self, mismatch: Option<Arc<NodeRecord>>, relation: &'static str, trace: Trace<'_>, context: &Context) {
        let Some(record) = mismatch else { return };
        self.intake.record(AuditIntake {
            domain: record.entry.domain,
            node: record.entry.node,
            relation: relation.to_owned(),
            object_type: "node".to_owned(),
            object_id: cut(trace.path_id, MAX_OBJECT_ID_BYTES),
            reason: DenialReason::InsufficientRelation,
            repeated: 0,
            correlation_id: context.correlation_id.clone(),
            occurred_at: self.clock.now(),
            client_ip: Some(trace.client_ip.to_string()),
            user_agent: trace
                .user_agent
                .map(|value| cut(&String::from_utf8_lossy(value.as_bytes()), MAX_USER_AGENT_BYTES)),
        });
    }
}

fn check_head(request: &Request<RequestBody>) -> Result<(), Problem> {
    let uri = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    if uri > MAX_URI_BYTES {
        return Err(Problem::new(Code::UriTooLong, "The path and query are longer than 8,192 bytes."));
    }
    let headers: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if headers > MAX_HEADER_BYTES {
        return Err(Problem::new(Code::HeaderTooLarge, "The headers are larger than 32,768 bytes."));
    }
    Ok(())
}

fn cut(text: &str, limit: usize) -> String {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}
