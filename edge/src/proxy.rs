//! The way to control: a streaming reverse proxy over pooled connections.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use ipnet::IpNet;
use plexsphere_wire::{Code, NodeId, Problem, problem};
use std::time::Duration;

use crate::body::{Peer, RequestBody, ResponseBody};
use crate::config::{ConfigError, ProxyConfig, seconds};
use crate::respond::{CORRELATION_ID, Context};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Headers that belong to one hop only (RFC 9110 section 7.6.1, and those of old).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Headers by which a client could pass for a proxy of ours.
const CLAIMS: [HeaderName; 4] = [
    header::FORWARDED,
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("proxy-connection"),
];

/// A client of control.
pub struct Proxy {
    client: Client<HttpConnector, RequestBody>,
    authority: Authority,
    timeout: Duration,
    trusted: Vec<IpNet>,
}

/// What control thinks of an operator who wants a Node's events.
pub enum Authorised {
    /// Go ahead.
    Yes,
    /// Control's refusal, for the caller.
    No(Response<ResponseBody>),
}

impl Proxy {
    /// A proxy to the configured address; opens no connection yet.
    ///
    /// # Errors
    /// [`ConfigError::ControlUrl`].
    pub fn new(config: &ProxyConfig) -> Result<Self, ConfigError> {
        let url: Uri = config.control_url.parse().map_err(|_| ConfigError::ControlUrl)?;
        let authority = url.authority().cloned().ok_or(ConfigError::ControlUrl)?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(3)));
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            // Control may refuse a body before it has read it. On HTTP/1.1 that answer is lost when the connection
            // closes under the rest of the body; on HTTP/2 it only ends the stream.
            .http2_only(true)
            .http2_adaptive_window(true)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .http2_keep_alive_timeout(Duration::from_secs(5))
            .build(connector);
        Ok(Self {
            client,
            authority,
            timeout: seconds(config.timeout_seconds),
            trusted: config.trusted_proxies.clone(),
        })
    }

    /// The caller's address: the socket's peer, or the right-most hop that no proxy of ours vouches for. An IPv4 address
    /// that came over an IPv6 socket is told as what it is.
    #[must_use]
    pub fn client_ip(&self, peer: &Peer, headers: &HeaderMap) -> IpAddr {
        let trusted = |ip: &IpAddr| self.trusted.iter().any(|net| net.contains(ip));
        let mut client = peer.address.ip().to_canonical();
        let values: Vec<&str> = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
        for hop in values.iter().rev().flat_map(|value| value.rsplit(',')) {
            if !trusted(&client) {
                break;
            }
            let Ok(ip) = hop.trim().parse::<IpAddr>() else { break };
            client = ip.to_canonical();
        }
        client
    }

    /// Passes a request on and its response back, both piece by piece.
    ///
    /// # Errors
    /// `datastore_unavailable` when control does not answer.
    pub async fn forward(
        &self,
        mut request: Request<RequestBody>,
        peer: &Peer,
        context: &Context,
    ) -> Result<Response<ResponseBody>, Problem> {
        let host =
            request.headers().get(header::HOST).cloned().or_else(|| {
                request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok())
            });
        let ip = self.client_ip(peer, request.headers());
        let proto = self.proto(peer, request.headers());
        strip_hop_by_hop(request.headers_mut());
        let headers = request.headers_mut();
        for name in CLAIMS {
            headers.remove(name);
        }
        headers.remove(header::EXPECT);
        if let Some(host) = host {
            headers.insert(header::HOST, host);
        }
        set_text(headers, FORWARDED_FOR, &ip.to_string());
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
        set_text(headers, CORRELATION_ID, context.correlation_id.as_str());
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = self.uri(path.unwrap_or_else(|| PathAndQuery::from_static("/")))?;
        *request.version_mut() = http::Version::HTTP_2;
        self.send(request, context).await
    }

    /// What control must know of an operator: his credentials, his agent, and where he comes from by our own word.
    #[must_use]
    pub fn operator(&self, headers: &HeaderMap, peer: &Peer) -> HeaderMap {
        let mut kept = HeaderMap::new();
        for name in [header::AUTHORIZATION, header::COOKIE, header::USER_AGENT] {
            for value in headers.get_all(&name) {
                kept.append(name.clone(), value.clone());
            }
        }
        set_text(&mut kept, FORWARDED_FOR, &self.client_ip(peer, headers).to_string());
        kept.insert(FORWARDED_PROTO, HeaderValue::from_static(self.proto(peer, headers)));
        kept
    }

    /// Asks control whether an operator (see [`Proxy::operator`]) may follow a Node's events. A path that names no Node
    /// is asked about as the nil id: who asks is judged before what he asks for.
    ///
    /// # Errors
    /// `datastore_unavailable` when control does not answer, or not to the question.
    pub async fn authorise_events(
        &self,
        node: Option<NodeId>,
        operator: &HeaderMap,
        context: &Context,
    ) -> Result<Authorised, Problem> {
        let named = node.map_or(uuid::Uuid::nil(), |node| uuid::Uuid::from_bytes(*node.as_bytes()));
        let path = PathAndQuery::try_from(format!("/internal/v1/authorize/node-events/{named}"));
        let uri = self.uri(path.map_err(|_| Problem::internal())?)?;
        let mut request = Request::new(RequestBody::Full(None));
        *request.method_mut() = Method::GET;
        *request.uri_mut() = uri;
        *request.headers_mut() = operator.clone();
        set_text(request.headers_mut(), CORRELATION_ID, context.correlation_id.as_str());
        let response = self.send(request, context).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(Authorised::Yes);
        }
        let status = response.status();
        match tokio::time::timeout(self.timeout, as_ours(response, context)).await {
            Ok(Some(refusal)) => Ok(Authorised::No(refusal)),
            Ok(None) | Err(_) => {
                tracing::warn!(%status, correlation_id = %context.correlation_id, "control did not judge an operator");
                Err(unavailable())
            }
        }
    }

    async fn send(&self, request: Request<RequestBody>, context: &Context) -> Result<Response<ResponseBody>, Problem> {
        let answer = tokio::time::timeout(self.timeout, self.client.request(request)).await;
        let response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                tracing::warn!(%error, correlation_id = %context.correlation_id, "control did not answer");
                return Err(unavailable());
            }
            Err(_) => {
                tracing::warn!(correlation_id = %context.correlation_id, "control did not answer in time");
                return Err(unavailable());
            }
        };
        let mut response = response.map(ResponseBody::upstream);
        strip_hop_by_hop(response.headers_mut());
        Ok(response)
    }

    fn uri(&self, path: PathAndQuery) -> Result<Uri, Problem> {
        let parts = Uri::builder().scheme(Scheme::HTTP).authority(self.authority.clone()).path_and_query(path);
        parts.build().map_err(|_| Problem::internal())
    }

    fn proto(&self, peer: &Peer, headers: &HeaderMap) -> &'static str {
        let trusted = self.trusted.iter().any(|net| net.contains(&peer.address.ip().to_canonical()));
        let claims_tls = headers.get(FORWARDED_PROTO).is_some_and(|value| value == "https");
        if peer.secure || (trusted && claims_tls) { "https" } else { "http" }
    }
}

/// Control's refusal as the answer to the caller's own request: it names his path, not the one that we asked on. `None`
/// when it is no refusal; control has no 404 to give here, and an answer without a problem document is none of its own.
async fn as_ours(response: Response<ResponseBody>, context: &Context) -> Option<Response<ResponseBody>> {
    let (mut parts, body) = response.into_parts();
    let refused = parts.status.is_client_error() || parts.status.is_server_error();
    if !refused || parts.status == StatusCode::NOT_FOUND {
        return None;
    }
    let body = Limited::new(body, problem::MAX_PROBLEM_BYTES).collect().await.ok()?.to_bytes();
    let mut document: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&body).ok()?;
    document.get("code")?;
    document.insert("instance".to_owned(), problem::instance(&context.path).into());
    let body = serde_json::to_vec(&document).ok()?;
    parts.headers.remove(header::CONTENT_LENGTH);
    Some(Response::from_parts(parts, ResponseBody::full(body)))
}

fn unavailable() -> Problem {
    Problem::new(Code::DatastoreUnavailable, "The service cannot answer at the moment. Try again.")
}

fn set_text(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(trusted: &[&str]) -> Proxy {
        let trusted_proxies = trusted.iter().map(|net| net.parse().unwrap()).collect();
        Proxy::new(&ProxyConfig { trusted_proxies, ..ProxyConfig::default() }).unwrap()
    }

    fn peer(ip: &str) -> Peer {
        let address = format!("{ip}:1").parse().unwrap();
        Peer { address, secure: false, kill: tokio_util::sync::CancellationToken::new(), activity: None }
    }

    #[tokio::test]
    async fn a_strangers_forwarded_for_is_not_believed() {
        let mut headers = HeaderMap::new();
        headers.insert(FORWARDED_FOR, "9.9.9.9".parse().unwrap());
        assert_eq!(proxy(&[]).client_ip(&peer("10.0.0.1"), &headers).to_string(), "10.0.0.1");
        assert_eq!(proxy(&["10.0.0.0/8"]).client_ip(&peer("10.0.0.1"), &headers).to_string(), "9.9.9.9");
        headers.insert(FORWARDED_FOR, "1.1.1.1, 8.8.8.8, 10.0.0.2".parse().unwrap());
        assert_eq!(proxy(&["10.0.0.0/8"]).client_ip(&peer("10.0.0.1"), &headers).to_string(), "8.8.8.8");
    }

    #[tokio::test]
    async fn an_ipv4_proxy_on_an_ipv6_socket_is_known() {
        let mut headers = HeaderMap::new();
        headers.insert(FORWARDED_FOR, "::ffff:9.9.9.9".parse().unwrap());
        headers.insert(FORWARDED_PROTO, "https".parse().unwrap());
        let (proxy, peer) = (proxy(&["10.0.0.0/8"]), peer("[::ffff:10.0.0.1]"));
        assert_eq!(proxy.client_ip(&peer, &headers).to_string(), "9.9.9.9");
        assert_eq!(proxy.proto(&peer, &headers), "https");
    }

    #[test]
    fn headers_of_one_hop_and_those_that_it_names_stay_behind() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONNECTION, "close, x-private".parse().unwrap());
        headers.insert("x-private", "1".parse().unwrap());
        headers.insert("keep-alive", "1".parse().unwrap());
        headers.insert("x-kept", "1".parse().unwrap());
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.len(), 1);
    }
}
