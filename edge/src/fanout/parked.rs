//! A stream over HTTP/1.1 that has only live frames to wait for leaves the HTTP library's hands: the library's buffers
//! and state are given back, the hub writes to the socket itself, and a small task waits for the client to leave.
//! The client sees one response with a chunked body all the same.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;

use super::burst::Burst;
use super::connection::{CloseReason, Connection, Follower, Queue};
use super::hub::Hub;
use super::line::{Line, Sent};
use super::socket::Socket;

/// How long a client may take to close its side of a response that has ended.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// Where a response body tells its connection that it may be taken out of the HTTP library's hands.
#[derive(Default)]
pub struct Handover {
    offered: AtomicBool,
    unwritten: AtomicBool,
    ready: Mutex<Option<(Arc<Connection>, Arc<Hub>)>>,
}

impl fmt::Debug for Handover {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Handover").finish_non_exhaustive()
    }
}

impl Handover {
    /// Says whether the response to the newest request may be handed over.
    pub fn offer(&self, offered: bool) {
        self.offered.store(offered, Ordering::Release);
        self.note_unwritten();
    }

    /// Whether the response may be handed over.
    #[must_use]
    pub fn offered(&self) -> bool {
        self.offered.load(Ordering::Acquire)
    }

    /// Notes that the library was given bytes.
    pub fn note_unwritten(&self) {
        self.unwritten.store(true, Ordering::Release);
    }

    /// Notes that everything that the library was given has left.
    pub fn note_written(&self) {
        self.unwritten.store(false, Ordering::Release);
    }

    pub(super) fn ask(&self, connection: &Arc<Connection>, hub: &Arc<Hub>) {
        *self.ready.lock() = Some((Arc::clone(connection), Arc::clone(hub)));
    }

    pub(super) fn withdraw(&self) {
        *self.ready.lock() = None;
    }

    /// The stream that asks to be handed over, when the library has nothing left to write. From then on it does not end
    /// with its body.
    #[must_use]
    pub fn take(&self) -> Option<Seat> {
        if self.unwritten.load(Ordering::Acquire) {
            return None;
        }
        let (connection, hub) = self.ready.lock().take()?;
        connection.queue.lock().parked = true;
        hub.parked(1);
        Some(Seat { connection, hub })
    }
}

/// A stream's place in the hub; the stream leaves it when this is dropped.
pub struct Seat {
    connection: Arc<Connection>,
    hub: Arc<Hub>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connection.queue.lock().line = None;
        self.connection.close(CloseReason::Client);
        self.hub.parked(-1);
        self.hub.leave(&self.connection);
    }
}

impl Seat {
    /// Follows on this socket until the client leaves, the stream is closed or the connection is killed. Holds `place`
    /// until the socket is closed.
    pub async fn follow(self, socket: Socket, place: impl Send) {
        self.hub.park(&self.connection, socket);
        let kill = self.connection.kill.clone();
        let ended = kill.run_until_cancelled(std::future::poll_fn(|cx| self.poll(cx))).await;
        drop(self);
        if let Some(Some(socket)) = ended {
            // Boxed, because all streams would keep room for it and few need it at a time.
            let _ = Box::pin(tokio::time::timeout(CLOSE_TIME, socket.close())).await;
        }
        drop(place);
    }

    /// The socket when the response was ended as if complete; nothing when it was broken off, or the client has left.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Socket>> {
        let (polled, unwatched) = self.connection.poll_parked(cx, self.hub.now());
        if unwatched {
            self.hub.watch(&self.connection);
        }
        polled
    }
}

/// What an offer did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Offered {
    /// How many frames were for the stream.
    pub(super) frames: u64,
    /// Whether the caller shall see to it that somebody looks if they are taken.
    pub(super) unwatched: bool,
    /// Whether they did not find room.
    pub(super) overflows: bool,
}

impl Queue {
    /// Has the stream's task wait for room, or find the client gone; whether nobody looks yet if the client takes anything.
    fn hand_to_task(&mut self) -> bool {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        !std::mem::replace(&mut self.watched, true)
    }
}

impl Connection {
    /// Gives the stream a line of its own.
    pub(super) fn go_on(&self, line: Line) {
        self.queue.lock().line = Some(line);
    }

    /// Whether the stream has a line of its own.
    pub(super) fn is_parked(&self) -> bool {
        self.queue.lock().line.is_some()
    }

    /// Whether a live frame is for the stream and it was not offered it yet; from then on it was.
    pub(super) fn hears(&self, sequence: u64) -> bool {
        let line_hears = |line: &mut Line| line.hears(sequence);
        sequence > self.above && self.queue.lock().line.as_mut().is_none_or(line_hears)
    }

    /// Sends a burst, and queues what of it does not leave at once.
    pub(super) fn offer(&self, burst: &Burst, limits: (usize, usize), now: Duration) -> Offered {
        let by_node = matches!(self.follower, Follower::Node(_));
        let mut queue = self.queue.lock();
        let queue = &mut *queue;
        let mut offered = Offered::default();
        let Some(line) = queue.line.as_mut().filter(|_| queue.closed.is_none()) else { return offered };
        let sent = match line.send_whole(&mut queue.waiting, burst, by_node, now) {
            Ok(None) => {
                // What waits goes first.
                let _ = line.send(&mut queue.waiting, false, now);
                for pending in burst.frames().iter().filter(|pending| !(by_node && pending.stale)) {
                    if line.hears(pending.frame.sequence) {
                        offered.frames += 1;
                        offered.overflows |= !line.has_room(&mut queue.waiting, &pending.frame.bytes, limits, now);
                        queue.waiting.push(pending.frame.bytes.clone(), now);
                    }
                }
                line.send(&mut queue.waiting, false, now)
            }
            Ok(Some(sent)) => {
                offered.frames = u64::try_from(burst.frames().len()).unwrap_or(0);
                Ok(sent)
            }
            Err(error) => Err(error),
        };
        if !matches!(sent, Ok(Sent::All)) {
            offered.unwatched = queue.hand_to_task();
        }
        offered
    }

    /// Sends what waits on the stream's own line; whether the caller shall see to it that somebody looks if it is taken.
    pub(super) fn flush(&self, now: Duration) -> bool {
        let mut queue = self.queue.lock();
        let closed = queue.closed.is_some();
        let queue = &mut *queue;
        let Some(line) = &mut queue.line else { return false };
        line.unsent = false;
        // The stream's task sends the end, and before it what waits.
        if closed || matches!(line.send(&mut queue.waiting, false, now), Ok(Sent::All)) {
            return false;
        }
        queue.hand_to_task()
    }

    fn poll_parked(&self, cx: &mut Context<'_>, now: Duration) -> (Poll<Option<Socket>>, bool) {
        let mut queue = self.queue.lock();
        queue.wake_by(cx);
        let queue = &mut *queue;
        let Some(line) = &mut queue.line else { return (Poll::Ready(None), false) };
        if line.poll_left(cx).is_ready() || queue.closed.is_some_and(|reason| !reason.clean()) {
            return (Poll::Ready(None), false);
        }
        loop {
            match line.send(&mut queue.waiting, queue.closed.is_some(), now) {
                Ok(Sent::All) => return (Poll::Pending, false),
                Ok(Sent::Ended) => return (Poll::Ready(queue.line.take().map(Line::into_socket)), false),
                Ok(Sent::Full) => match line.poll_room(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return (Poll::Ready(None), false),
                    Poll::Pending => return (Poll::Pending, !std::mem::replace(&mut queue.watched, true)),
                },
                Err(_) => return (Poll::Ready(None), false),
            }
        }
    }
}

#[cfg(test)]
mod tests;
