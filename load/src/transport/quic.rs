//! HTTP/3 over QUIC. The h3 crate is touched in this file and nowhere else.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::{CONNECT_TIMEOUT, Dialer, Request, ResponseBody, Streaming, Target, TransportError};

/// How long one address of a host is tried.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(4);

pub(super) type Sender = h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>;
pub(super) type Stream = h3::client::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

struct Open {
    sender: Sender,
    connection: quinn::Connection,
}

/// The QUIC connection of one client.
pub(super) struct Link {
    dialer: Arc<Dialer>,
    target: Target,
    open: Mutex<Option<Open>>,
    opening: tokio::sync::Mutex<()>,
}

fn broken(error: &dyn std::fmt::Display) -> TransportError {
    TransportError::Exchange(error.to_string())
}

impl Link {
    pub(super) fn new(dialer: Arc<Dialer>, target: Target) -> Self {
        Self { dialer, target, open: Mutex::new(None), opening: tokio::sync::Mutex::new(()) }
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn cut(&self) {
        if let Some(open) = self.slot().take() {
            open.connection.close(quinn::VarInt::from_u32(0), b"");
        }
    }

    pub(super) async fn exchange(&self, request: Request) -> Result<Streaming, TransportError> {
        let mut message = http::Request::builder()
            .method(request.method)
            .uri(self.target.absolute(&request.path))
            .body(())
            .map_err(|_| TransportError::Url("its path is no uri"))?;
        *message.headers_mut() = request.headers;
        if !request.body.is_empty() {
            message.headers_mut().insert(http::header::CONTENT_LENGTH, request.body.len().into());
        }
        let mut sender = self.sender().await?;
        let mut stream = match sender.send_request(message).await {
            Ok(stream) => stream,
            Err(error) => {
                // A connection that opens no stream is spent, whether or not the peer said so.
                self.cut();
                return Err(broken(&error));
            }
        };
        // A server may answer without reading the body, and then refuses to take the rest: the answer counts.
        let sent = send(&mut stream, request.body).await;
        let response = stream.recv_response().await;
        let (parts, ()) = response.map_err(|error| broken(&sent.err().unwrap_or(error)))?.into_parts();
        Ok(Streaming { status: parts.status, headers: parts.headers, body: ResponseBody::quic(stream, sender) })
    }

    async fn sender(&self) -> Result<Sender, TransportError> {
        let live = || {
            self.slot().as_ref().filter(|open| open.connection.close_reason().is_none()).map(|open| open.sender.clone())
        };
        if let Some(sender) = live() {
            return Ok(sender);
        }
        let _turn = self.opening.lock().await;
        if let Some(sender) = live() {
            return Ok(sender);
        }
        let connecting = Box::pin(self.connect());
        let open = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| TransportError::Timeout)??;
        let sender = open.sender.clone();
        *self.slot() = Some(open);
        Ok(sender)
    }

    async fn connect(&self) -> Result<Open, TransportError> {
        let endpoint = self.dialer.quic()?;
        let both_families = endpoint.local_addr().is_ok_and(|local| local.is_ipv6());
        let addresses = tokio::net::lookup_host((self.target.host.as_str(), self.target.port))
            .await
            .map_err(|error| failed(&error))?
            .filter(|address| both_families || address.is_ipv4());
        let mut outcome = Err(failed(&"the host has no usable address"));
        for address in addresses {
            // Nobody refuses a datagram, so an address without a listener must not take all the time there is.
            let one = self.handshake(&endpoint, for_socket(address, both_families));
            outcome = tokio::time::timeout(ADDRESS_TIMEOUT, one).await.unwrap_or(Err(TransportError::Timeout));
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    async fn handshake(&self, endpoint: &quinn::Endpoint, address: SocketAddr) -> Result<Open, TransportError> {
        let connecting = endpoint.connect(address, &self.target.host).map_err(|error| failed(&error))?;
        let connection = connecting.await.map_err(|error| failed(&error))?;
        let (mut driver, sender) =
            h3::client::new(h3_quinn::Connection::new(connection.clone())).await.map_err(|error| failed(&error))?;
        tokio::spawn(async move {
            // Its end shows as the connection's close reason.
            let _ = driver.wait_idle().await;
        });
        Ok(Open { sender, connection })
    }
}

async fn send(stream: &mut Stream, body: Bytes) -> Result<(), h3::error::StreamError> {
    if !body.is_empty() {
        stream.send_data(body).await?;
    }
    stream.finish().await
}

fn failed(error: &dyn std::fmt::Display) -> TransportError {
    TransportError::Connect(error.to_string())
}

/// A socket for both families wants IPv4 addresses in their mapped form.
fn for_socket(address: SocketAddr, both_families: bool) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if both_families => SocketAddr::from((ip.to_ipv6_mapped(), address.port())),
        IpAddr::V4(_) | IpAddr::V6(_) => address,
    }
}
