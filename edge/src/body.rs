//! Bodies of requests and responses, one type each for every version of HTTP.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::fanout::EventBody;
use crate::listen::{Activity, InFlight};

/// An error of a body's source.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request.
pub enum RequestBody {
    /// Of HTTP/1 or HTTP/2.
    Hyper(Received),
    /// Of HTTP/3.
    Boxed(Pin<Box<dyn Body<Data = Bytes, Error = BodyError> + Send + Sync>>),
    /// Already in memory.
    Full(Option<Bytes>),
}

/// A body that arrives over TCP, and tells its connection when it is given up before its end.
pub struct Received {
    body: Incoming,
    ended: bool,
    activity: Arc<Activity>,
}

impl Received {
    /// The body of a request on the connection of `activity`.
    #[must_use]
    pub const fn new(body: Incoming, activity: Arc<Activity>) -> Self {
        Self { body, ended: false, activity }
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if !self.ended && !self.body.is_end_stream() {
            self.activity.leave_unread();
        }
    }
}

/// The body of a response.
pub struct ResponseBody {
    kind: Kind,
    in_flight: Option<InFlight>,
}

enum Kind {
    Full(Option<Bytes>),
    Upstream(Incoming),
    Events(Box<EventBody>),
}

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFault {
    /// More bytes than the cap.
    TooLarge,
    /// Not complete in time.
    TimedOut,
    /// The client broke off.
    Broken,
}

impl RequestBody {
    /// Reads at most `cap` bytes; a stated larger length is refused unread. One chunk is handed over without a copy.
    ///
    /// # Errors
    /// [`ReadFault`].
    pub async fn read(self, cap: usize, deadline: Duration) -> Result<Bytes, ReadFault> {
        if self.size_hint().lower() > u64::try_from(cap).unwrap_or(u64::MAX) {
            return Err(ReadFault::TooLarge);
        }
        if let Self::Full(bytes) = self {
            return Ok(bytes.unwrap_or_default());
        }
        match tokio::time::timeout(deadline, self.collect(cap)).await {
            Ok(read) => read,
            Err(_) => Err(ReadFault::TimedOut),
        }
    }

    async fn collect(mut self, cap: usize) -> Result<Bytes, ReadFault> {
        let stated = usize::try_from(self.size_hint().exact().unwrap_or(0)).unwrap_or(0).min(cap);
        let mut first: Option<Bytes> = None;
        let mut joined = BytesMut::new();
        let mut total = 0usize;
        while let Some(frame) = self.frame().await {
            let Ok(data) = frame.map_err(|_| ReadFault::Broken)?.into_data() else { continue };
            total = total.saturating_add(data.len());
            if total > cap {
                return Err(ReadFault::TooLarge);
            }
            if first.is_none() && joined.is_empty() {
                first = Some(data);
            } else {
                if let Some(head) = first.take() {
                    joined.reserve(stated.max(head.len() + data.len()));
                    joined.extend_from_slice(&head);
                }
                joined.extend_from_slice(&data);
            }
        }
        Ok(first.unwrap_or_else(|| joined.freeze()))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Hyper(received) => match ready!(Pin::new(&mut received.body).poll_frame(cx)) {
                Some(frame) => Poll::Ready(Some(frame.map_err(Into::into))),
                None => {
                    received.ended = true;
                    Poll::Ready(None)
                }
            },
            Self::Boxed(body) => body.as_mut().poll_frame(cx),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Hyper(received) => received.body.is_end_stream(),
            Self::Boxed(body) => body.is_end_stream(),
            Self::Full(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Hyper(received) => received.body.size_hint(),
            Self::Boxed(body) => body.size_hint(),
            Self::Full(bytes) => SizeHint::with_exact(len_of(bytes.as_ref())),
        }
    }
}

impl ResponseBody {
    /// A body that is in memory.
    #[must_use]
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes: Bytes = bytes.into();
        Self { kind: Kind::Full((!bytes.is_empty()).then_some(bytes)), in_flight: None }
    }

    /// No body.
    #[must_use]
    pub const fn empty() -> Self {
        Self { kind: Kind::Full(None), in_flight: None }
    }

    /// What control sends, passed on piece by piece.
    #[must_use]
    pub const fn upstream(body: Incoming) -> Self {
        Self { kind: Kind::Upstream(body), in_flight: None }
    }

    /// An event stream.
    #[must_use]
    pub fn events(body: EventBody) -> Self {
        Self { kind: Kind::Events(Box::new(body)), in_flight: None }
    }

    /// Holds the connection busy until the body has ended.
    #[must_use]
    pub fn guarded(mut self, in_flight: InFlight) -> Self {
        self.in_flight = Some(in_flight);
        self
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().kind {
            Kind::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Upstream(body) => match ready!(Pin::new(body).poll_frame(cx)) {
                Some(frame) => Poll::Ready(Some(frame.map_err(Into::into))),
                None => Poll::Ready(None),
            },
            Kind::Events(body) => match ready!(body.poll_next(cx)) {
                Some(Ok(bytes)) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Some(Err(closed)) => Poll::Ready(Some(Err(Box::new(closed)))),
                None => Poll::Ready(None),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Upstream(body) => body.is_end_stream(),
            Kind::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Full(bytes) => SizeHint::with_exact(len_of(bytes.as_ref())),
            Kind::Upstream(body) => body.size_hint(),
            Kind::Events(_) => SizeHint::default(),
        }
    }
}

fn len_of(bytes: Option<&Bytes>) -> u64 {
    u64::try_from(bytes.map_or(0, Bytes::len)).unwrap_or(u64::MAX)
}

/// What a request came over.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The socket's other end.
    pub address: std::net::SocketAddr,
    /// Whether it came encrypted (TLS or QUIC).
    pub secure: bool,
    /// Ends the whole connection at once.
    pub kill: tokio_util::sync::CancellationToken,
    /// The connection's activity, if it is watched.
    pub activity: Option<Arc<crate::listen::Activity>>,
}
