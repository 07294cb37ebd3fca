//! One open stream: a bounded queue of shared frames, and the response body that empties it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use plexsphere_wire::nsk::CredentialDigest;
use plexsphere_wire::{DomainId, NodeId, sse};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::hub::{EventFrame, Hub, Joined};
use super::line::{Line, Waiting};
use super::shard::Slot;
use crate::body::Peer;
use crate::listen::Activity;

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The client left.
    #[error("client")]
    Client,
    /// Its queue was full.
    #[error("overflow")]
    Overflow,
    /// A newer stream of the Node took its place.
    #[error("replaced")]
    Replaced,
    /// The key was revoked or the Node has ended.
    #[error("revoked")]
    Revoked,
    /// An operator's credential or grant ended.
    #[error("token_expired")]
    TokenExpired,
    /// It was open long enough.
    #[error("lifetime")]
    Lifetime,
    /// This edge ends.
    #[error("drain")]
    Drain,
    /// The event stream was made anew.
    #[error("bus_reset")]
    BusReset,
    /// The client took nothing in time.
    #[error("write_timeout")]
    WriteTimeout,
    /// Older events could not be read.
    #[error("replay_failed")]
    ReplayFailed,
}

impl CloseReason {
    /// The reason's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Overflow => "overflow",
            Self::Replaced => "replaced",
            Self::Revoked => "revoked",
            Self::TokenExpired => "token_expired",
            Self::Lifetime => "lifetime",
            Self::Drain => "drain",
            Self::BusReset => "bus_reset",
            Self::WriteTimeout => "write_timeout",
            Self::ReplayFailed => "replay_failed",
        }
    }

    /// Whether the response ends as if complete. A broken end tells a client that it was too slow.
    pub(super) const fn clean(self) -> bool {
        !matches!(self, Self::Overflow | Self::WriteTimeout | Self::ReplayFailed)
    }

    /// Whether the client still gets what waits for it. A stream that tails has no cursor until it has heard a frame.
    const fn flushes(self) -> bool {
        matches!(self, Self::Drain | Self::Lifetime)
    }
}

/// Who follows.
#[derive(Clone, Debug)]
pub enum Follower {
    /// The Node itself, by this key.
    Node(CredentialDigest),
    /// An operator, with the headers by which control knows him.
    Operator(Arc<HeaderMap>),
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) waiting: Waiting,
    pub(super) closed: Option<CloseReason>,
    /// Whether the wheel holds an entry that looks whether frames are taken.
    pub(super) watched: bool,
    /// Whether the stream goes on without its response body.
    pub(super) parked: bool,
    /// Where frames go when no response body takes them.
    pub(super) line: Option<Line>,
    pub(super) waker: Option<Waker>,
}

impl Queue {
    /// Has the task of `cx` woken when there is something to do.
    pub(super) fn wake_by(&mut self, cx: &Context<'_>) {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }
}

/// An open stream as the hub knows it.
#[derive(Debug)]
pub struct Connection {
    /// Its number in this process.
    pub id: u64,
    /// The Node that it is about.
    pub node: NodeId,
    /// The Node's Domain.
    pub domain: DomainId,
    /// Who follows.
    pub follower: Follower,
    /// Live frames up to this sequence are not for it: they are part of its replay, or older than its cursor.
    pub above: u64,
    /// When it was open long enough.
    pub ends_at: Duration,
    /// Ends the connection below.
    pub kill: CancellationToken,
    pub(super) slot: Slot,
    pub(super) queue: Mutex<Queue>,
}

/// What a push did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// Nobody looks yet whether the queue is emptied in time: the caller shall.
    Unwatched,
    /// Somebody looks already.
    Watched,
    /// It waits on the stream's own line: the caller shall have it sent.
    Unsent,
    /// The stream is closed, by this push or before.
    Closed,
}

impl Connection {
    pub(super) fn new(
        id: u64,
        (node, domain): (NodeId, DomainId),
        follower: Follower,
        (above, ends_at): (u64, Duration),
        kill: CancellationToken,
    ) -> Self {
        Self { id, node, domain, follower, above, ends_at, kill, slot: Slot::default(), queue: Mutex::default() }
    }

    /// Puts a frame into the queue; a queue over its bounds closes the stream.
    pub fn push(&self, bytes: Bytes, max_frames: usize, max_bytes: usize, now: Duration) -> Pushed {
        let mut queue = self.queue.lock();
        if queue.closed.is_some() {
            return Pushed::Closed;
        }
        let (Queue { line, waiting, .. }, limits) = (&mut *queue, (max_frames, max_bytes));
        let room = match line {
            Some(line) => line.has_room(waiting, &bytes, limits, now),
            None => waiting.has_room(&bytes, limits),
        };
        if !room {
            drop(queue);
            self.close(CloseReason::Overflow);
            return Pushed::Closed;
        }
        queue.waiting.push(bytes, now);
        if let Some(line) = &mut queue.line {
            return if std::mem::replace(&mut line.unsent, true) { Pushed::Watched } else { Pushed::Unsent };
        }
        if let Some(waker) = queue.waker.take() {
            waker.wake();
        }
        if std::mem::replace(&mut queue.watched, true) { Pushed::Watched } else { Pushed::Unwatched }
    }

    /// Ends the stream; the first reason stays.
    pub fn close(&self, reason: CloseReason) {
        let mut queue = self.queue.lock();
        if queue.closed.is_none() {
            queue.closed = Some(reason);
            if !reason.flushes() {
                let Queue { line, waiting, .. } = &mut *queue;
                match line {
                    Some(line) => line.give_up(waiting),
                    None => waiting.keep(0),
                }
            }
        }
        if let Some(waker) = queue.waker.take() {
            waker.wake();
        }
    }

    /// Why it ended, if it has.
    #[must_use]
    pub fn closed(&self) -> Option<CloseReason> {
        self.queue.lock().closed
    }

    /// Since when frames wait without one being taken; `None` when none wait, and then nobody looks any longer.
    pub(super) fn waiting_since(&self) -> Option<Duration> {
        let mut queue = self.queue.lock();
        queue.watched = !queue.waiting.frames.is_empty() || queue.line.as_ref().is_some_and(Line::holds_bytes);
        queue.watched.then_some(queue.waiting.taken_at)
    }

    fn poll_take(&self, cx: &mut Context<'_>, now: Duration) -> Poll<Option<Result<Bytes, CloseReason>>> {
        let mut queue = self.queue.lock();
        // A close has emptied the queue, unless what waits in it is still to be had.
        if let Some(bytes) = queue.waiting.pop(now) {
            return Poll::Ready(Some(Ok(bytes)));
        }
        if let Some(reason) = queue.closed {
            return Poll::Ready(if reason.clean() { None } else { Some(Err(reason)) });
        }
        queue.wake_by(cx);
        Poll::Pending
    }
}

/// The response body: opening, older events, the ring's, then live ones.
pub struct EventBody {
    pub(super) connection: Arc<Connection>,
    pub(super) hub: Arc<Hub>,
    pub(super) opening: VecDeque<Bytes>,
    pub(super) older: Option<mpsc::Receiver<Bytes>>,
    pub(super) ring: VecDeque<Arc<EventFrame>>,
    /// The connection below, if it can do without this body once only live frames are left.
    pub(super) parks: Option<Arc<Activity>>,
}

impl EventBody {
    /// The body of a stream that has joined: the opening, what the ring holds for it, then live frames. It is handed over
    /// if the connection below can do without it.
    #[must_use]
    pub fn of(joined: Joined, hub: Arc<Hub>, peer: &Peer) -> Self {
        let mut body = Self::new(joined.connection, hub);
        body.ring = joined.ring;
        body.parks = peer.activity.clone().filter(|activity| activity.handover.offered());
        body
    }

    pub(super) fn new(connection: Arc<Connection>, hub: Arc<Hub>) -> Self {
        let opening = VecDeque::from([Bytes::from_static(sse::OPENING)]);
        Self { connection, hub, opening, older: None, ring: VecDeque::new(), parks: None }
    }

    /// The next bytes; an error breaks the response off.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, CloseReason>>> {
        let polled = self.poll_bytes(cx);
        if let Some(activity) = &self.parks {
            match &polled {
                Poll::Pending if self.is_live() => activity.handover.ask(&self.connection, &self.hub),
                Poll::Pending => {}
                Poll::Ready(_) => {
                    activity.handover.withdraw();
                    activity.handover.note_unwritten();
                }
            }
        }
        polled
    }

    /// Whether there is nothing left but live frames.
    fn is_live(&self) -> bool {
        self.opening.is_empty() && self.older.is_none() && self.ring.is_empty()
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, CloseReason>>> {
        if self.connection.closed().is_none_or(CloseReason::flushes) {
            // Whoever is still given what was before cannot take what is live yet, and does not stall.
            if !self.is_live() {
                self.connection.queue.lock().waiting.taken_at = self.hub.now();
            }
            if let Some(bytes) = self.opening.pop_front() {
                return Poll::Ready(Some(Ok(bytes)));
            }
            if let Some(older) = &mut self.older {
                match older.poll_recv(cx) {
                    Poll::Ready(Some(bytes)) => return Poll::Ready(Some(Ok(bytes))),
                    Poll::Ready(None) => self.older = None,
                    Poll::Pending => {
                        // A close must wake the body also while it waits for older events.
                        let mut queue = self.connection.queue.lock();
                        queue.waker = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                }
            }
            if self.connection.closed().is_none_or(CloseReason::flushes)
                && let Some(frame) = self.ring.pop_front()
            {
                return Poll::Ready(Some(Ok(frame.bytes.clone())));
            }
        }
        self.connection.poll_take(cx, self.hub.now())
    }
}

impl Drop for EventBody {
    fn drop(&mut self) {
        if let Some(activity) = &self.parks {
            activity.handover.withdraw();
        }
        if !self.connection.queue.lock().parked {
            self.connection.close(CloseReason::Client);
            self.hub.leave(&self.connection);
        }
    }
}
