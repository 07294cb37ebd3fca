//! HTTP/1.1 and HTTP/2 over TCP, with or without TLS.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{CONNECT_TIMEOUT, Dialer, Protocol, Request, ResponseBody, Streaming, Target, TransportError};

type Body = Full<Bytes>;
type Idle = Arc<Mutex<Vec<http1::SendRequest<Body>>>>;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An HTTP/1.1 connection on loan to one response; it goes back when the body has ended, else it is closed.
pub(super) struct Lease {
    sender: http1::SendRequest<Body>,
    idle: Idle,
}

impl Lease {
    pub(super) fn give_back(self) {
        if !self.sender.is_closed() {
            lock(&self.idle).push(self.sender);
        }
    }
}

/// The TCP connections of one client.
pub(super) struct Link {
    dialer: Arc<Dialer>,
    target: Target,
    protocol: Protocol,
    idle: Idle,
    shared: Mutex<Option<http2::SendRequest<Body>>>,
    /// Held while an HTTP/2 connection is being opened, so that a burst of requests opens one.
    opening: tokio::sync::Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn broken(error: &hyper::Error) -> TransportError {
    TransportError::Exchange(error.to_string())
}

impl Link {
    pub(super) fn new(dialer: Arc<Dialer>, target: Target, protocol: Protocol) -> Self {
        Self {
            dialer,
            target,
            protocol,
            idle: Arc::default(),
            shared: Mutex::new(None),
            opening: tokio::sync::Mutex::new(()),
        }
    }

    pub(super) fn cut(&self) {
        lock(&self.idle).clear();
        *lock(&self.shared) = None;
    }

    pub(super) async fn exchange(&self, request: Request) -> Result<Streaming, TransportError> {
        match self.protocol {
            Protocol::H1 => self.exchange_h1(request).await,
            Protocol::H2 | Protocol::H3 => self.exchange_h2(request).await,
        }
    }

    async fn exchange_h1(&self, request: Request) -> Result<Streaming, TransportError> {
        let uri = format!("{}{}", self.target.prefix, request.path);
        let mut message = build(&request, &uri)?;
        let host = HeaderValue::try_from(self.target.authority.as_str())
            .map_err(|_| TransportError::Url("its host is no header value"))?;
        message.headers_mut().insert(HOST, host);
        loop {
            let reused = self.take_idle().await;
            let fresh = reused.is_none();
            let mut sender = match reused {
                Some(sender) => sender,
                None => self.connect_h1().await?,
            };
            match sender.try_send_request(message).await {
                Ok(response) => {
                    return Ok(streaming(response, Some(Lease { sender, idle: Arc::clone(&self.idle) })));
                }
                Err(mut error) => match error.take_message() {
                    // The peer closed a kept connection before it took the request: that is no failed attempt.
                    Some(unsent) if !fresh => message = unsent,
                    _ => return Err(broken(error.error())),
                },
            }
        }
    }

    async fn take_idle(&self) -> Option<http1::SendRequest<Body>> {
        loop {
            let mut sender = lock(&self.idle).pop()?;
            if !sender.is_closed() && sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    async fn connect_h1(&self) -> Result<http1::SendRequest<Body>, TransportError> {
        let io = TokioIo::new(self.connect().await?);
        let (sender, connection) = http1::handshake(io).await.map_err(|error| broken(&error))?;
        tokio::spawn(async move {
            // Its end shows as a closed sender; a reason is seen by whoever waits for a response.
            let _ = connection.await;
        });
        Ok(sender)
    }

    async fn exchange_h2(&self, request: Request) -> Result<Streaming, TransportError> {
        let message = build(&request, &self.target.absolute(&request.path))?;
        let mut sender = self.shared_h2().await?;
        sender.ready().await.map_err(|error| broken(&error))?;
        let response = sender.send_request(message).await.map_err(|error| broken(&error))?;
        Ok(streaming(response, None))
    }

    async fn shared_h2(&self) -> Result<http2::SendRequest<Body>, TransportError> {
        let open = || lock(&self.shared).as_ref().filter(|sender| !sender.is_closed()).cloned();
        if let Some(sender) = open() {
            return Ok(sender);
        }
        let _turn = self.opening.lock().await;
        if let Some(sender) = open() {
            return Ok(sender);
        }
        let io = TokioIo::new(self.connect().await?);
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(std::time::Duration::from_secs(20)))
            .handshake(io)
            .await
            .map_err(|error| broken(&error))?;
        tokio::spawn(async move {
            let _ = connection.await;
        });
        *lock(&self.shared) = Some(sender.clone());
        Ok(sender)
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, TransportError> {
        let connecting = async {
            let address = (self.target.host.as_str(), self.target.port);
            let tcp = TcpStream::connect(address).await.map_err(|error| TransportError::Connect(error.to_string()))?;
            // Small requests must not wait for the peer's acknowledgement of the one before.
            let _ = tcp.set_nodelay(true);
            if !self.target.tls {
                return Ok(Box::new(tcp) as Box<dyn Stream>);
            }
            let name = ServerName::try_from(self.target.host.clone())
                .map_err(|_| TransportError::Url("its host is no server name"))?;
            let tls = TlsConnector::from(self.dialer.tls(self.protocol)?)
                .connect(name, tcp)
                .await
                .map_err(|error| TransportError::Connect(error.to_string()))?;
            Ok(Box::new(tls) as Box<dyn Stream>)
        };
        tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| TransportError::Timeout)?
    }
}

fn build(request: &Request, uri: &str) -> Result<http::Request<Body>, TransportError> {
    let mut message = http::Request::builder()
        .method(request.method.clone())
        .uri(uri)
        .body(Full::new(request.body.clone()))
        .map_err(|_| TransportError::Url("its path is no uri"))?;
    *message.headers_mut() = request.headers.clone();
    Ok(message)
}

fn streaming(response: http::Response<Incoming>, lease: Option<Lease>) -> Streaming {
    let (parts, body) = response.into_parts();
    Streaming { status: parts.status, headers: parts.headers, body: ResponseBody::tcp(body, lease) }
}
