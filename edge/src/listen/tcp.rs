//! HTTP/1.1 and HTTP/2 over TCP, plain or with TLS.

use std::convert::Infallible;
use std::future::Future as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Version};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::guard::Patience;
use super::{Activity, Guarded, Handler, InFlight};
use crate::body::{Peer, Received, RequestBody};
use crate::config::{ListenConfig, seconds};
use crate::fanout::{Seat, Socket};

/// What hyper may buffer of a head before it refuses by itself; our own limit is below, so that our refusal is sent.
const HEAD_BUFFER_BYTES: usize = 64 * 1024;
/// How long the rest of a refused body is taken in before its connection closes.
const LINGER_TIME: Duration = Duration::from_secs(2);
/// The most connections at a time that take in the rest of a refused body.
const MAX_LINGERING: usize = 256;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What connections share.
#[derive(Clone)]
pub struct Limits {
    /// One permit per connection.
    pub connections: Arc<Semaphore>,
    /// One permit per connection that takes in the rest of a refused body.
    pub lingering: Arc<Semaphore>,
    /// Connections open now.
    pub open: Gauge,
    /// The tasks of all connections.
    pub tasks: TaskTracker,
    /// Asks connections to end when they can.
    pub drain: CancellationToken,
    /// Ends connections at once.
    pub kill: CancellationToken,
    /// The configured times and sizes.
    pub config: Arc<ListenConfig>,
}

impl Limits {
    /// What the connections of an edge that has just begun share.
    #[must_use]
    pub fn new(config: Arc<ListenConfig>, open: Gauge) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(config.max_connections)),
            lingering: Arc::new(Semaphore::new(MAX_LINGERING)),
            open,
            tasks: TaskTracker::new(),
            drain: CancellationToken::new(),
            kill: CancellationToken::new(),
            config,
        }
    }
}

/// One of the connections that may be open at a time.
struct Place {
    open: Gauge,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn take(permit: OwnedSemaphorePermit, open: &Gauge) -> Self {
        open.inc();
        Self { open: open.clone(), _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// Accepts until the drain begins.
pub async fn serve_tcp<H: Handler>(listener: TcpListener, tls: Option<TlsAcceptor>, handler: Arc<H>, limits: Limits) {
    loop {
        let permit = tokio::select! {
            () = limits.drain.cancelled() => return,
            permit = Arc::clone(&limits.connections).acquire_owned() => permit,
        };
        let Ok(permit) = permit else { return };
        let accepted = tokio::select! {
            () = limits.drain.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::info!(%error, "connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (tls, handler, shared) = (tls.clone(), Arc::clone(&handler), limits.clone());
        limits.tasks.spawn(async move {
            let place = Place::take(permit, &shared.open);
            let _ = stream.set_nodelay(true);
            let kill = shared.kill.child_token();
            let spoken = connection(stream, address, tls, handler, &shared, kill.clone());
            // Of its own task, because this one holds room for all that went before.
            if let Some(Some((seat, socket))) = kill.run_until_cancelled(spoken).await {
                shared.tasks.spawn(seat.follow(socket, place));
            }
        });
    }
}

async fn connection<H: Handler>(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    handler: Arc<H>,
    limits: &Limits,
    kill: CancellationToken,
) -> Option<(Seat, Socket)> {
    let handshake = seconds(limits.config.head_timeout_seconds);
    let peer = Peer { address, secure: tls.is_some(), kill, activity: Some(Arc::default()) };
    if let Some(tls) = tls {
        let stream = tokio::time::timeout(handshake, tls.accept(stream)).await.ok()?.ok()?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        return speak(stream, http2, handler, peer, limits).await;
    }
    let http2 = tokio::time::timeout(handshake, sniff(&stream)).await.ok()??;
    speak(stream, http2, handler, peer, limits).await
}

/// Whether the client begins with HTTP/2's preface; `None` when it left.
async fn sniff(stream: &TcpStream) -> Option<bool> {
    let mut head = [0u8; PREFACE.len()];
    loop {
        let seen = stream.peek(&mut head).await.ok().filter(|seen| *seen > 0)?;
        let head = head.get(..seen)?;
        if !PREFACE.starts_with(head) {
            return Some(false);
        }
        if seen == PREFACE.len() {
            return Some(true);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Speaks HTTP until the connection ends, or until it is left with an event stream and nothing else.
async fn speak<S, H>(stream: S, http2: bool, handler: Arc<H>, peer: Peer, limits: &Limits) -> Option<(Seat, Socket)>
where
    S: AsyncRead + AsyncWrite + Into<Socket> + Send + Unpin + 'static,
    H: Handler,
{
    let config = &limits.config;
    let activity: Arc<Activity> = peer.activity.clone().unwrap_or_default();
    let patience = Patience {
        head: (!http2).then(|| seconds(config.head_timeout_seconds)),
        idle: seconds(config.idle_timeout_seconds),
        write: seconds(config.write_timeout_seconds),
        linger: LINGER_TIME,
    };
    // HTTP/2 ends the stream of a body that it does not want, and the connection goes on.
    let lingering = (!http2).then(|| Arc::clone(&limits.lingering));
    let io = TokioIo::new(Guarded::new(stream, patience, Arc::clone(&activity), lingering));
    let watched = Arc::clone(&activity);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let in_flight = InFlight::begin(&activity);
        // Other versions do not send chunks.
        activity.handover.offer(request.version() == Version::HTTP_11);
        let (handler, peer, reading) = (Arc::clone(&handler), peer.clone(), Arc::clone(&activity));
        async move {
            let request = request.map(|body| RequestBody::Hyper(Received::new(body, reading)));
            let response = handler.handle(request, peer).await;
            Ok::<_, Infallible>(response.map(|body| body.guarded(in_flight)))
        }
    });
    if http2 {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(config.max_streams_per_connection)
            .max_header_list_size(u32::try_from(HEAD_BUFFER_BYTES).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(64)
            .max_send_buf_size(64 * 1024)
            .keep_alive_interval(seconds(30))
            .keep_alive_timeout(seconds(20));
        let mut connection = std::pin::pin!(builder.serve_connection(io, service));
        tokio::select! {
            _ = connection.as_mut() => return None,
            () = limits.drain.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
        None
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(HEAD_BUFFER_BYTES).half_close(false);
        let mut connection = builder.serve_connection(io, service);
        let mut drain = std::pin::pin!(limits.drain.cancelled());
        let mut draining = false;
        let seat = std::future::poll_fn(|cx| {
            if !draining && drain.as_mut().poll(cx).is_ready() {
                draining = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            match Pin::new(&mut connection).poll(cx) {
                Poll::Ready(_) => Poll::Ready(None),
                Poll::Pending => watched.handover.take().map_or(Poll::Pending, |seat| Poll::Ready(Some(seat))),
            }
        });
        let seat = seat.await?;
        Some((seat, connection.into_parts().io.into_inner().into_inner().into()))
    }
}
