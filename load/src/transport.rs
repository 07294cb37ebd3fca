//! One client over HTTP/1.1, HTTP/2 and HTTP/3.
//!
//! A [`Dialer`] holds what many Nodes share: the trust, the TLS sessions and the UDP socket. A [`Client`] holds what one
//! Node owns: its connections. A request that fails is never sent again here; whoever owns the request decides that,
//! with [`Backoff`].

mod backoff;
mod body;
mod quic;
mod tcp;
mod tls;

pub use backoff::{Backoff, BackoffPolicy};
pub use body::ResponseBody;
pub use tls::{Dialer, Trust};

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use url::Url;

/// The agent's limit on a whole request, connecting included.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The limit on connecting, TLS included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of a response that are kept.
pub const MAX_RESPONSE_BYTES: usize = 64 * 1024 * 1024;

/// How requests travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP/1.1 over TCP, TLS when the URL says `https`.
    H1,
    /// HTTP/2: by ALPN over TLS, by prior knowledge without.
    H2,
    /// HTTP/3 over QUIC; the URL must say `https`.
    H3,
}

impl Protocol {
    /// The word of the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::H1 => "h1",
            Self::H2 => "h2",
            Self::H3 => "h3",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        [Self::H1, Self::H2, Self::H3]
            .into_iter()
            .find(|protocol| protocol.as_str() == word)
            .ok_or_else(|| format!("`{word}` is not one of h1, h2, h3"))
    }
}

/// Why no response came back. None of these says whether the server did the work.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The URL has no host, another scheme than `http` or `https`, or HTTP/3 was asked for without TLS.
    #[error("cannot talk to this url: {0}")]
    Url(&'static str),
    /// No believable trust anchors, or TLS could not be set up.
    #[error("tls set-up: {0}")]
    Tls(String),
    /// Name resolution, TCP, QUIC or the TLS handshake failed.
    #[error("connect: {0}")]
    Connect(String),
    /// The connection broke or the peer broke the protocol.
    #[error("exchange: {0}")]
    Exchange(String),
    /// Nothing within the time given.
    #[error("timed out")]
    Timeout,
    /// More than [`MAX_RESPONSE_BYTES`].
    #[error("response too large")]
    TooLarge,
}

impl TransportError {
    /// A short word for counting.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Url(_) => "transport_url",
            Self::Tls(_) => "transport_tls",
            Self::Connect(_) => "transport_connect",
            Self::Exchange(_) => "transport_exchange",
            Self::Timeout => "transport_timeout",
            Self::TooLarge => "transport_too_large",
        }
    }
}

/// One request. `body` is shared, so that it can be sent again byte for byte.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path and query, beginning with `/`.
    pub path: String,
    /// Headers; `host`, `content-length` and pseudo headers are added on the way.
    pub headers: HeaderMap,
    /// The body, maybe empty.
    pub body: Bytes,
}

/// A response that was read to its end.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// A response whose body is still coming.
#[derive(Debug)]
pub struct Streaming {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: ResponseBody,
}

/// Where requests go.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// `host[:port]` as it stands in the URL.
    pub(crate) authority: String,
    /// A path in front of every request's path, without its trailing slash.
    pub(crate) prefix: String,
}

impl Target {
    fn parse(url: &Url) -> Result<Self, TransportError> {
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(TransportError::Url("the scheme is neither http nor https")),
        };
        let host = url.host_str().ok_or(TransportError::Url("it names no host"))?;
        let port = url.port_or_known_default().ok_or(TransportError::Url("it names no port"))?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { tls, host: bare, port, authority, prefix: url.path().trim_end_matches('/').to_owned() })
    }

    /// The absolute form that HTTP/2 and HTTP/3 need.
    fn absolute(&self, path: &str) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}{path}", self.authority, self.prefix)
    }
}

enum Link {
    Tcp(tcp::Link),
    Quic(quic::Link),
}

/// The connections of one Node. Cheap to share behind an `Arc`; connections are opened when they are needed.
pub struct Client {
    link: Link,
    protocol: Protocol,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

impl Client {
    /// A client for `url`; nothing is connected yet.
    ///
    /// # Errors
    /// [`TransportError::Url`].
    pub fn new(dialer: &Arc<Dialer>, url: &Url, protocol: Protocol) -> Result<Self, TransportError> {
        let target = Target::parse(url)?;
        let link = match protocol {
            Protocol::H1 | Protocol::H2 => Link::Tcp(tcp::Link::new(Arc::clone(dialer), target, protocol)),
            Protocol::H3 if !target.tls => return Err(TransportError::Url("http/3 needs https")),
            Protocol::H3 => Link::Quic(quic::Link::new(Arc::clone(dialer), target)),
        };
        Ok(Self { link, protocol })
    }

    /// How this client talks.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Sends a request and reads the whole response within [`REQUEST_TIMEOUT`].
    ///
    /// # Errors
    /// Any [`TransportError`]; the server may have done the work all the same.
    pub async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let whole = async {
            let mut streaming = self.exchange(request).await?;
            let mut body = Vec::new();
            while let Some(chunk) = streaming.body.chunk().await? {
                if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
                    return Err(TransportError::TooLarge);
                }
                body.extend_from_slice(&chunk);
            }
            Ok(Response { status: streaming.status, headers: streaming.headers, body: body.into() })
        };
        tokio::time::timeout(REQUEST_TIMEOUT, Box::pin(whole)).await.map_err(|_| TransportError::Timeout)?
    }

    /// Sends a request and returns when the response's headers are there, within [`REQUEST_TIMEOUT`].
    ///
    /// # Errors
    /// Any [`TransportError`].
    pub async fn open(&self, request: Request) -> Result<Streaming, TransportError> {
        let headers = Box::pin(self.exchange(request));
        tokio::time::timeout(REQUEST_TIMEOUT, headers).await.map_err(|_| TransportError::Timeout)?
    }

    async fn exchange(&self, request: Request) -> Result<Streaming, TransportError> {
        match &self.link {
            Link::Tcp(link) => link.exchange(request).await,
            Link::Quic(link) => link.exchange(request).await,
        }
    }

    /// Drops every connection, as a cut cable does; the next request opens a new one.
    pub fn cut(&self) {
        match &self.link {
            Link::Tcp(link) => link.cut(),
            Link::Quic(link) => link.cut(),
        }
    }
}
