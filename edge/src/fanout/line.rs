//! The way from a queue to a socket in the hub's own hands.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;

use super::burst::Burst;
use super::chunk::Chunk;
use super::socket::Socket;

/// The most bytes of a client that are thrown away while it follows; what it sends beyond them stays in the system's
/// buffers, so that it must stop.
const MAX_DISCARDED: usize = 64 * 1024;
/// How many places an empty queue keeps: an idle stream hears little but keep-alives.
const KEPT_PLACES: usize = 4;

/// Frames that wait to be taken.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) frames: VecDeque<Bytes>,
    pub(super) bytes: usize,
    /// When the newest of what was there before was taken.
    pub(super) taken_at: Duration,
}

impl Waiting {
    /// Puts a frame at the end.
    pub(super) fn push(&mut self, bytes: Bytes, now: Duration) {
        if self.frames.is_empty() {
            self.taken_at = now;
        }
        self.bytes += bytes.len();
        self.frames.push_back(bytes);
    }

    /// Whether one more frame is within these bounds, of frames and of bytes.
    pub(super) fn has_room(&self, bytes: &Bytes, (max_frames, max_bytes): (usize, usize)) -> bool {
        self.frames.len() < max_frames && self.bytes + bytes.len() <= max_bytes
    }

    /// Takes the first frame.
    pub(super) fn pop(&mut self, now: Duration) -> Option<Bytes> {
        let bytes = self.frames.pop_front()?;
        self.bytes -= bytes.len();
        self.taken_at = now;
        Some(bytes)
    }

    /// Drops all but the first so many frames.
    pub(super) fn keep(&mut self, frames: usize) {
        self.frames.truncate(frames);
        self.frames.shrink_to(KEPT_PLACES);
        self.bytes = self.frames.iter().map(Bytes::len).sum();
    }
}

/// How far a sending came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// Nothing waits any more.
    All,
    /// The socket has no room for the rest.
    Full,
    /// The response is complete.
    Ended,
}

/// A socket, and what of the queue is under way to it.
#[derive(Debug)]
pub(super) struct Line {
    socket: Socket,
    chunk: Option<Chunk>,
    /// The last sequence that the stream was offered.
    heard: u64,
    discarded: usize,
    ended: bool,
    /// Whether the hub has it among those that it writes to next.
    pub(super) unsent: bool,
    writes: Counter,
}

impl Line {
    /// A line on which only frames above `heard` are sent; counts its writes.
    pub(super) const fn new(socket: Socket, heard: u64, writes: Counter) -> Self {
        Self { socket, chunk: None, heard, discarded: 0, ended: false, unsent: false, writes }
    }

    /// Whether the stream was not offered this sequence yet; from then on it was.
    pub(super) const fn hears(&mut self, sequence: u64) -> bool {
        let new = sequence > self.heard;
        if new {
            self.heard = sequence;
        }
        new
    }

    /// The socket, for its end.
    pub(super) fn into_socket(self) -> Socket {
        self.socket
    }

    /// Sends what waits, as much of it at once as a chunk holds; with `ends` also the end of the response.
    ///
    /// # Errors
    /// The client is gone.
    pub(super) fn send(&mut self, waiting: &mut Waiting, ends: bool, now: Duration) -> io::Result<Sent> {
        match self.send_on(waiting, ends, now) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Sent::Full),
            sent => sent,
        }
    }

    /// Whether one more frame finds room in the queue. What only waits to be sent together is sent for it: the client has
    /// had no chance to take it.
    pub(super) fn has_room(
        &mut self,
        waiting: &mut Waiting,
        bytes: &Bytes,
        limits: (usize, usize),
        now: Duration,
    ) -> bool {
        waiting.has_room(bytes, limits) || (self.send(waiting, false, now).is_ok() && waiting.has_room(bytes, limits))
    }

    /// Sends a burst as it is, which suits a stream for which nothing waits; `None` if it does not suit this one.
    ///
    /// # Errors
    /// The client is gone.
    pub(super) fn send_whole(
        &mut self,
        waiting: &mut Waiting,
        burst: &Burst,
        by_node: bool,
        now: Duration,
    ) -> io::Result<Option<Sent>> {
        let busy = self.chunk.is_some() || !waiting.frames.is_empty() || self.socket.holds_bytes();
        if busy || !burst.suits(self.heard, by_node) {
            return Ok(None);
        }
        let written = match self.socket.write(&burst.wire()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            written => written?,
        };
        self.writes.inc();
        self.heard = burst.last();
        waiting.taken_at = now;
        if written < burst.len() {
            let frames = burst.frames().iter().map(|pending| pending.frame.bytes.clone());
            frames.for_each(|bytes| waiting.push(bytes, now));
            self.chunk = Some(Chunk::of(&waiting.frames).past(written));
        }
        self.send(waiting, false, now).map(Some)
    }

    fn send_on(&mut self, waiting: &mut Waiting, ends: bool, now: Duration) -> io::Result<Sent> {
        loop {
            self.socket.flush()?;
            if self.ended {
                return Ok(Sent::Ended);
            }
            if self.chunk.is_none() && waiting.frames.is_empty() && !ends {
                return Ok(Sent::All);
            }
            let chunk = self.chunk.get_or_insert_with(|| Chunk::of(&waiting.frames));
            let whole = chunk.write(&waiting.frames, |slices| self.socket.write(slices))?;
            self.writes.inc();
            waiting.taken_at = now;
            if whole {
                for _ in 0..chunk.frames() {
                    waiting.pop(now);
                }
                self.ended = chunk.last();
                self.chunk = None;
                if self.ended {
                    self.socket.finish();
                }
                if waiting.frames.is_empty() {
                    waiting.frames.shrink_to(KEPT_PLACES);
                }
            }
        }
    }

    /// Gives up what waits but the rest of a chunk that has begun to leave: without it the response would have no end.
    pub(super) fn give_up(&mut self, waiting: &mut Waiting) {
        self.chunk = self.chunk.filter(Chunk::begun);
        waiting.keep(self.chunk.map_or(0, |chunk| chunk.frames()));
    }

    /// Whether bytes that left the queue have not left this process.
    pub(super) fn holds_bytes(&self) -> bool {
        self.socket.holds_bytes()
    }

    /// Waits for room to send.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_room(cx)
    }

    /// Ready once the client has left.
    pub(super) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.discarded < MAX_DISCARDED {
            match ready!(self.socket.poll_discard(cx)) {
                Some(taken) => self.discarded += taken,
                None => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }
}
