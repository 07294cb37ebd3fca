//! HTTP/3 over QUIC. The only file that knows the `h3` crate.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use h3::error::Code;
use h3::server::{RequestResolver, RequestStream};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;

use super::{Handler, ListenError, TlsMaterial, tcp::Limits};
use crate::body::{BodyError, Peer, RequestBody, ResponseBody};
use crate::config::seconds;

const HEAD_BYTES: u64 = 64 * 1024;

type Receive = RequestStream<h3_quinn::RecvStream, Bytes>;
type Stream = RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

/// Makes a QUIC endpoint of a bound socket. Needs a running tokio runtime.
///
/// # Errors
/// [`ListenError`].
pub fn endpoint(
    socket: std::net::UdpSocket,
    tls: &TlsMaterial,
    config: &crate::config::ListenConfig,
) -> Result<quinn::Endpoint, ListenError> {
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls.quic()?)
        .map_err(|error| ListenError::Quic(std::io::Error::other(error)))?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    let idle = quinn::IdleTimeout::try_from(seconds(config.idle_timeout_seconds))
        .map_err(|error| ListenError::Quic(std::io::Error::other(error)))?;
    transport
        .max_concurrent_bidi_streams(config.max_streams_per_connection.into())
        .max_concurrent_uni_streams(16u8.into())
        .max_idle_timeout(Some(idle))
        .send_window(1024 * 1024)
        .receive_window((2u32 * 1024 * 1024).into());
    server.transport_config(Arc::new(transport));
    let runtime = Arc::new(quinn::TokioRuntime);
    quinn::Endpoint::new(quinn::EndpointConfig::default(), Some(server), socket, runtime).map_err(ListenError::Quic)
}

/// Accepts until the drain begins.
pub async fn serve_quic<H: Handler>(endpoint: quinn::Endpoint, handler: Arc<H>, limits: Limits) {
    loop {
        let incoming = tokio::select! {
            () = limits.drain.cancelled() => break,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { return };
        let Ok(permit) = Arc::clone(&limits.connections).try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        if !incoming.remote_address_validated() && limits.connections.available_permits() < 1_000 {
            let _ = incoming.retry();
            continue;
        }
        let (handler, shared) = (Arc::clone(&handler), limits.clone());
        limits.tasks.spawn(async move {
            let kill = shared.kill.child_token();
            shared.open.inc();
            tokio::select! {
                () = kill.cancelled() => {}
                () = connection(incoming, handler, &shared, kill.clone()) => {}
            }
            shared.open.dec();
            drop(permit);
        });
    }
    limits.kill.cancelled().await;
    endpoint.close(0u32.into(), b"");
}

async fn connection<H: Handler>(
    incoming: quinn::Incoming,
    handler: Arc<H>,
    limits: &Limits,
    kill: tokio_util::sync::CancellationToken,
) {
    let handshake = seconds(limits.config.head_timeout_seconds);
    let Ok(Ok(quic)) = tokio::time::timeout(handshake, incoming).await else { return };
    let address = quic.remote_address();
    let mut builder = h3::server::builder();
    builder.max_field_section_size(HEAD_BYTES);
    let Ok(mut h3) = builder.build::<_, Bytes>(h3_quinn::Connection::new(quic)).await else { return };
    let requests = tokio_util::task::TaskTracker::new();
    let mut draining = false;
    loop {
        let accepted = tokio::select! {
            () = limits.drain.cancelled(), if !draining => {
                draining = true;
                let _ = h3.shutdown(0).await;
                continue;
            }
            accepted = h3.accept() => accepted,
        };
        let Ok(Some(resolver)) = accepted else { break };
        let peer = Peer { address, secure: true, kill: kill.clone(), activity: None };
        let (handler, write) = (Arc::clone(&handler), seconds(limits.config.write_timeout_seconds));
        requests.spawn(kill.clone().run_until_cancelled_owned(async move {
            let resolved = tokio::time::timeout(handshake, resolve(resolver)).await;
            let Ok(Some((head, stream))) = resolved else { return };
            request(head, stream, handler, peer, write).await;
        }));
    }
    requests.close();
    requests.wait().await;
}

async fn resolve(resolver: RequestResolver<h3_quinn::Connection, Bytes>) -> Option<(http::Request<()>, Stream)> {
    resolver.resolve_request().await.ok()
}

async fn request<H: Handler>(head: http::Request<()>, stream: Stream, handler: Arc<H>, peer: Peer, write: Duration) {
    let (mut send, receive) = stream.split();
    let length = head.headers().get(http::header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
    let body = RequestBody::Boxed(Box::pin(ReceiveBody { receive: parking_lot::Mutex::new(receive), length }));
    let response = handler.handle(head.map(|()| body), peer).await;
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(http::header::CONNECTION);
    let sent = tokio::time::timeout(write, send.send_response(http::Response::from_parts(parts, ()))).await;
    if !matches!(sent, Ok(Ok(()))) {
        return;
    }
    if send_body(&mut send, body, write).await {
        let _ = tokio::time::timeout(write, send.finish()).await;
    } else {
        send.stop_stream(Code::H3_INTERNAL_ERROR);
    }
}

/// Whether the whole body left in time.
async fn send_body(
    send: &mut RequestStream<h3_quinn::SendStream<Bytes>, Bytes>,
    mut body: ResponseBody,
    write: Duration,
) -> bool {
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        let Ok(data) = frame.into_data() else { continue };
        if !matches!(tokio::time::timeout(write, send.send_data(data)).await, Ok(Ok(()))) {
            return false;
        }
    }
    true
}

struct ReceiveBody {
    // The stream is not `Sync` by itself; it is only ever reached through `&mut`, so the lock is never contended.
    receive: parking_lot::Mutex<Receive>,
    length: Option<u64>,
}

impl Body for ReceiveBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let receive = self.get_mut().receive.get_mut();
        match ready!(receive.poll_recv_data(cx)) {
            Ok(Some(mut data)) => {
                let bytes = data.copy_to_bytes(data.remaining());
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Ok(None) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(Box::new(error)))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
