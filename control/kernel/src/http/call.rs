//! One request as a handler sees it, and its answer.

use axum::body::Body;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use plexsphere_wire::{Code, CorrelationId, IdError, Problem, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::convert::Infallible;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::operation::BodyRules;
use super::pipeline::Gates;
use super::strict;
use crate::audit::{CaveatNames, RequestContext};
use crate::authz::{Circumstances, Ruling};
use crate::{AuditRecord, Authenticated, Decision, ObjectRef, Outcome, Principal};

/// Where a request came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientInfo {
    /// The client's address after proxy unwrapping.
    pub ip: Option<String>,
    /// The `User-Agent`, cut at 256 bytes.
    pub user_agent: Option<String>,
}

/// The path's parameters, percent-decoded.
#[derive(Clone, Debug, Default)]
pub struct PathParams(pub HashMap<String, String>);

impl PathParams {
    /// The parameter as text; empty when the route has none of that name.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// The parameter as an id.
    ///
    /// # Errors
    /// A Problem with `code` when it is malformed or nil.
    pub fn id<T: FromStr<Err = IdError>>(&self, name: &str, code: Code) -> Result<T, Problem> {
        self.text(name)
            .parse()
            .map_err(|error| Problem::new(code, format!("The path parameter `{name}` is invalid: {error}.")))
    }
}

/// The query string. Unknown parameters are ignored; a repeated single-valued one is refused where it is read.
#[derive(Clone, Debug, Default)]
pub struct Query {
    raw: String,
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads `a=b&c=d` with percent escapes and `+` for a space.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let decode = |part: &str| -> String {
            let spaced = part.replace('+', " ");
            percent_decode(&spaced)
        };
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Self { raw: text.to_owned(), pairs: pairs.collect() }
    }

    /// The query as it came, for whoever has a reader of its own.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// The value of a single-valued parameter.
    ///
    /// # Errors
    /// A Problem with `code` when it stands more than once.
    pub fn one(&self, name: &str, code: Code) -> Result<Option<&str>, Problem> {
        let mut values = self.pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let first = values.next();
        if values.next().is_some() {
            return Err(Problem::new(code, format!("The query parameter `{name}` stands more than once.")));
        }
        Ok(first)
    }
}

fn percent_decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let hex = |digit: Option<u8>| digit.and_then(|d| char::from(d).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        match (byte, hex(ahead.next()), hex(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                out.push(high * 16 + low);
                bytes = ahead;
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A request that has passed the gates of its operation.
#[derive(Clone)]
pub struct Call {
    /// The request's id.
    pub correlation_id: CorrelationId,
    /// When the request was taken.
    pub now: Timestamp,
    /// The path without its query.
    pub path: String,
    /// The path's parameters.
    pub params: PathParams,
    /// The query's parameters.
    pub query: Query,
    /// The request's headers.
    pub headers: HeaderMap,
    /// Where it came from.
    pub client: ClientInfo,
    /// The body: read within its cap and inflated; empty where the operation takes none.
    pub body: Bytes,
    pub(super) caller: Option<Authenticated>,
    pub(super) rules: Option<BodyRules>,
    pub(super) operation: &'static str,
    pub(super) foreign_cursor: Code,
    pub(super) gates: Arc<Gates>,
    pub(super) asked: Asked,
}

/// Whether the authoriser was asked about a request, by whichever clone of its call.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked(Arc<AtomicBool>);

impl Asked {
    fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn was(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Call {
    /// The caller.
    ///
    /// # Errors
    /// 500 when the operation is anonymous: a handler that asks for a caller there is a fault of ours.
    pub fn caller(&self) -> Result<&Authenticated, Problem> {
        self.caller.as_ref().ok_or_else(Problem::internal)
    }

    /// The caller as a principal.
    ///
    /// # Errors
    /// As [`Self::caller`].
    pub fn principal(&self) -> Result<Principal, Problem> {
        Ok(self.caller()?.principal())
    }

    /// The operation's id, such as `CreateDomain`.
    #[must_use]
    pub const fn operation(&self) -> &'static str {
        self.operation
    }

    /// The code of a cursor that was given to another caller.
    #[must_use]
    pub const fn foreign_cursor(&self) -> Code {
        self.foreign_cursor
    }

    /// The request's part of an audit row.
    #[must_use]
    pub fn request_context(&self) -> RequestContext {
        RequestContext { ip: self.client.ip.clone(), user_agent: self.client.user_agent.clone() }
    }

    /// An audit row about this request. `domain` is the chain, `None` the platform's.
    ///
    /// # Errors
    /// As [`Self::caller`].
    pub fn audit(
        &self,
        domain: Option<plexsphere_wire::DomainId>,
        relation: &str,
        object: ObjectRef,
    ) -> Result<AuditRecord, Problem> {
        Ok(AuditRecord {
            domain,
            subject: self.principal()?.subject,
            relation: relation.to_owned(),
            object,
            outcome: Outcome::Granted,
            correlation_id: self.correlation_id.clone(),
            context: self.request_context(),
            occurred_at: self.now,
        })
    }

    /// Asks the authoriser and audits a refusal, and a grant that hangs on a condition. Used by handlers whose object is
    /// known only after a read, or stands in the body; all others name their gate beside the route.
    ///
    /// # Errors
    /// 403 `permission_denied`, or 503 `authz_unavailable`.
    pub async fn authorize(&self, relation: &str, object: &ObjectRef) -> Result<(), Problem> {
        let ruling = self.ruling(relation, object).await?;
        match ruling.decision {
            Decision::Allowed { .. } => self.note_conditions(relation, object, ruling.caveats).await,
            Decision::Denied { reason, relation_path } => {
                let outcome = Outcome::Denied(reason);
                self.gates.audit_ruling(self, relation, object, (outcome, ruling.caveats)).await?;
                Err(Problem::denied(Code::PermissionDenied, reason, relation_path))
            }
        }
    }

    /// Whether the caller may, without refusal: for filtering the rows of a list. A yes that hangs on a condition is
    /// audited.
    ///
    /// # Errors
    /// 503 `authz_unavailable`.
    pub async fn may(&self, relation: &str, object: &ObjectRef) -> Result<bool, Problem> {
        let ruling = self.ruling(relation, object).await?;
        let allowed = ruling.decision.is_allowed();
        if allowed {
            self.note_conditions(relation, object, ruling.caveats).await?;
        }
        Ok(allowed)
    }

    /// [`Self::may`] for each of many objects, in their order and from one state: for filtering a page. One row about the
    /// first object that the caller may stands for the page.
    ///
    /// # Errors
    /// 503 `authz_unavailable`.
    pub async fn may_each(&self, relation: &str, objects: &[ObjectRef]) -> Result<Vec<bool>, Problem> {
        self.asked.note();
        let principal = self.principal()?;
        let rulings = self.gates.authorizer.check_many(&principal, relation, objects, &self.circumstances()).await?;
        if let Some((object, _)) = objects.iter().zip(&rulings.allowed).find(|(_, allowed)| **allowed) {
            self.note_conditions(relation, object, rulings.caveats).await?;
        }
        Ok(rulings.allowed)
    }

    async fn ruling(&self, relation: &str, object: &ObjectRef) -> Result<Ruling, Problem> {
        self.asked.note();
        let principal = self.principal()?;
        Ok(self.gates.authorizer.decide(&principal, relation, object, &self.circumstances()).await?)
    }

    /// A grant without conditions is told by the row of what was done with it; one with conditions has a row of its own.
    pub(super) async fn note_conditions(
        &self,
        relation: &str,
        object: &ObjectRef,
        caveats: CaveatNames,
    ) -> Result<(), Problem> {
        if caveats.is_empty() {
            return Ok(());
        }
        self.gates.audit_ruling(self, relation, object, (Outcome::Granted, caveats)).await
    }

    /// What conditions on grants are compared with: the server's own knowledge of the request.
    pub(super) fn circumstances(&self) -> Circumstances {
        let client_ip = self.client.ip.as_deref().and_then(|ip| ip.parse().ok());
        let assurance = match &self.caller {
            Some(Authenticated::Operator { credential, .. }) => credential.assurance(),
            Some(Authenticated::Node(_)) | None => None,
        };
        Circumstances {
            now: Some(self.now),
            client_ip,
            acr: assurance.and_then(|assurance| assurance.acr.clone()),
            amr: assurance.map(|assurance| assurance.amr.clone()),
            auth_time: assurance.and_then(|assurance| assurance.auth_time),
        }
    }

    /// Decodes the body strictly (see [`strict`]).
    ///
    /// # Errors
    /// 400 with the operation's own malformed code.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let rules = self.rules.as_ref().ok_or_else(Problem::internal)?;
        strict::decode(&self.body, rules)
    }

    /// The names of the body's top-level members, for looking for immutable fields before the strict decoding.
    #[must_use]
    pub fn member_names(&self) -> Vec<String> {
        strict::member_names(&self.body)
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// Headers beside those that every response has.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
}

impl Reply {
    /// A JSON answer; absent optional members are omitted by the type.
    ///
    /// # Errors
    /// 500 when the value has no JSON form.
    pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Result<Self, Problem> {
        let body = serde_json::to_vec(value).map_err(|error| {
            tracing::error!(%error, "an answer has no json form");
            Problem::internal()
        })?;
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(Self { status, headers, body: body.into() })
    }

    /// An answer without a body.
    #[must_use]
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Body::empty() }
    }

    /// Bytes of a given media type.
    #[must_use]
    pub fn bytes(media_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        Self { status: StatusCode::OK, headers, body: Body::from(body.into()) }
    }

    /// Pieces of a given media type, each made when the caller has taken those before: for an answer that is too large to
    /// be held. The time that a handler may take ends with this value, not with the last piece.
    #[must_use]
    pub fn pieces(media_type: &'static str, pieces: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        let body = Body::from_stream(pieces.map(Ok::<_, Infallible>));
        Self { body, ..Self::bytes(media_type, Bytes::new()) }
    }

    /// Adds a header; a value with forbidden bytes is left out.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Adds `Cache-Control: no-store`, as on every answer that reveals a secret once.
    #[must_use]
    pub fn no_store(self) -> Self {
        self.header(http::header::CACHE_CONTROL, "no-store")
    }
}
