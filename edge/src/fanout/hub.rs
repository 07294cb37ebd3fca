//! Who hears what: shards of rings and streams, and the join that loses nothing.
//!
//! One task applies messages in sequence. A join registers the stream and reads the applied position under the shard's
//! lock: everything up to the position comes from the ring, everything above it comes live, nothing twice.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use plexsphere_wire::subjects::EventTarget;
use plexsphere_wire::{DomainId, NodeId, Timestamp, sse};
use tokio_util::sync::CancellationToken;

use super::burst::{Burst, Pending};
use super::connection::{CloseReason, Connection, Follower, Pushed};
use super::line::Line;
use super::shard::Shard;
use super::socket::Socket;
use super::wheel::Wheel;
use crate::clock::Clock;
use crate::config::{EventsConfig, millis, seconds};
use crate::metrics::{Metrics, OfReason};

const SHARDS: usize = 32;
/// How many streams are looked up under a shard's lock, and sent to before other tasks have their turn: some milliseconds
/// at most.
const WINDOW: usize = 256;

/// A verified envelope, encoded once.
#[derive(Debug)]
pub struct EventFrame {
    /// Its place in the event stream.
    pub sequence: u64,
    /// The Domain.
    pub domain: DomainId,
    /// Whom it concerns.
    pub target: EventTarget,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// The frame as sent.
    pub bytes: Bytes,
}

/// What the wheel is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// A keep-alive is due, or the stream was open long enough. One entry for both: an entry outlives its stream, and
    /// streams are opened far more often than lifetimes end.
    KeepAlive,
    /// Look whether the client takes its frames; at most one entry per stream.
    Stall,
    /// Look whether the follower still may.
    Recheck,
    /// End the connection below, should the stream still hang on it.
    Kill,
}

/// A stream that has joined.
pub struct Joined {
    /// The stream.
    pub connection: Arc<Connection>,
    /// The applied position at the join.
    pub position: u64,
    /// Frames of the ring that it shall hear, in order.
    pub ring: VecDeque<Arc<EventFrame>>,
    /// Sequences above the first and up to the second that the ring no longer holds.
    pub gap: Option<(u64, u64)>,
    /// When the newest frame that the ring dropped had been signed; older ones only lie in the gap if `None`.
    pub dropped_issued_at: Option<Timestamp>,
}

/// What a stream asks for when it joins.
#[derive(Clone, Debug)]
pub struct Join {
    /// The Node that it is about, and the Node's Domain.
    pub of: (NodeId, DomainId),
    /// Who follows.
    pub follower: Follower,
    /// The last sequence that he has heard; `None` joins at the tail.
    pub cursor: Option<u64>,
    /// The hub's generation when the request began, before its cursor was judged.
    pub generation: u64,
    /// Ends the connection below.
    pub kill: CancellationToken,
}

/// Why a stream cannot join. It may try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinRefusal {
    /// The edge has no room for another stream.
    #[error("no room for another stream")]
    NoRoom,
    /// The event stream was made anew since the request began, so its cursor is of another stream.
    #[error("event stream was made anew")]
    Resync,
}

/// All streams of an edge.
pub struct Hub {
    shards: Vec<Mutex<Shard>>,
    applied: AtomicU64,
    generation: AtomicU64,
    open: AtomicUsize,
    next_id: AtomicU64,
    wheel: Mutex<Wheel<(Weak<Connection>, Timer)>>,
    /// Streams on lines of their own in whose queues something waits to be sent.
    unsent: Mutex<Vec<Arc<Connection>>>,
    /// Domains with frames that streams on lines of their own have not been offered.
    pending: Mutex<Vec<DomainId>>,
    config: EventsConfig,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl Hub {
    /// A hub without streams.
    #[must_use]
    pub fn new(config: EventsConfig, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        Self {
            shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
            applied: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            next_id: AtomicU64::new(1),
            wheel: Mutex::new(Wheel::new(clock.monotonic())),
            unsent: Mutex::default(),
            pending: Mutex::default(),
            config,
            clock,
            metrics,
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    fn shard(&self, domain: DomainId) -> Option<&Mutex<Shard>> {
        let index = domain.as_bytes().iter().rev().take(4).fold(0usize, |sum, byte| sum * 31 + usize::from(*byte));
        self.shards.get(index % SHARDS)
    }

    /// The last sequence that was applied.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// How often the event stream was made anew under this hub.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// How many streams are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Begins behind `sequence`: nothing up to it is in the rings.
    pub fn begin(&self, sequence: u64) {
        for shard in &self.shards {
            shard.lock().begin(sequence);
        }
        self.applied.store(sequence, Ordering::Release);
    }

    /// Forgets everything, because the event stream is another one, and closes every stream.
    pub fn reset(&self) {
        // First: a join that misses it is registered before its shard is locked below, and closed with the others.
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.begin(0);
        self.connections().iter().for_each(|connection| self.close(connection, CloseReason::BusReset));
    }

    /// Notes that a sequence needs no delivery.
    pub fn skip(&self, sequence: u64) {
        self.applied.fetch_max(sequence, Ordering::AcqRel);
    }

    /// Enters a frame into its ring and hands it to every stream that it concerns. To streams on lines of their own it is
    /// sent by [`Hub::flush`], so that frames that come together leave together.
    pub fn apply(&self, frame: EventFrame) {
        let Some(shard) = self.shard(frame.domain) else { return };
        let frame = Arc::new(frame);
        let now = self.now();
        let stale = frame.issued_at < self.clock.now().minus(seconds(self.config.stale_seconds));
        let mut queued = 0;
        {
            let mut shard = shard.lock();
            shard.enter(&frame, self.config.ring_bytes / SHARDS);
            match frame.target {
                EventTarget::Domain => {
                    if let Some(followers) = shard.domains.get_mut(&frame.domain) {
                        for connection in followers.attached.values() {
                            queued += u64::from(self.offer(connection, &frame, stale, now));
                        }
                        if !followers.parked.is_empty() {
                            followers.pending.push(Pending { frame: Arc::clone(&frame), stale });
                            self.pending.lock().push(frame.domain);
                        }
                    }
                }
                EventTarget::Node(node) => {
                    let before = shard.domains.get(&frame.domain).map_or(&[][..], |followers| &followers.pending);
                    for connection in shard.nodes.get(&node).into_iter().flatten() {
                        // What was before it comes before it.
                        for pending in before.iter().filter(|_| connection.is_parked()) {
                            queued += u64::from(self.offer(connection, &pending.frame, pending.stale, now));
                        }
                        queued += u64::from(self.offer(connection, &frame, stale, now));
                    }
                }
            }
        }
        self.metrics.frames_queued.inc_by(queued);
        self.skip(frame.sequence);
    }

    fn offer(&self, connection: &Arc<Connection>, frame: &EventFrame, stale: bool, now: Duration) -> bool {
        // An agent would refuse a stale envelope and log an error; it pulls on every connect anyway.
        if stale && matches!(connection.follower, Follower::Node(_)) {
            return false;
        }
        if connection.domain != frame.domain || !connection.hears(frame.sequence) {
            return false;
        }
        self.push(connection, frame.bytes.clone(), now);
        true
    }

    fn push(&self, connection: &Arc<Connection>, bytes: Bytes, now: Duration) {
        let already = connection.closed().is_some();
        match connection.push(bytes, self.config.queue_frames, self.config.queue_bytes, now) {
            Pushed::Unwatched => self.watch(connection),
            Pushed::Watched => {}
            Pushed::Unsent => self.unsent.lock().push(Arc::clone(connection)),
            Pushed::Closed if already => {}
            Pushed::Closed => self.closing(connection, CloseReason::Overflow),
        }
    }

    /// Looks whether a stream's frames are taken after the time that a client has for it.
    pub(super) fn watch(&self, connection: &Arc<Connection>) {
        self.schedule(connection, Timer::Stall, self.now() + millis(self.config.write_timeout_millis));
    }

    /// Sends what waits for streams on lines of their own, everything of a stream in one go. Takes turns with other tasks.
    pub async fn flush(&self) {
        let mut domains = std::mem::take(&mut *self.pending.lock());
        domains.dedup();
        for domain in domains {
            self.flush_domain(domain).await;
        }
        let unsent = std::mem::take(&mut *self.unsent.lock());
        for connection in unsent {
            if connection.flush(self.now()) {
                self.watch(&connection);
            }
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Sends every parked stream of a Domain what is pending. The lock is not held while that is done: it takes long, and
    /// streams come and go meanwhile.
    async fn flush_domain(&self, domain: DomainId) {
        let Some(shard) = self.shard(domain) else { return };
        let generation = self.generation();
        let pending = shard.lock().domains.get(&domain).map(|followers| followers.pending.clone());
        let bursts = Burst::of(&pending.unwrap_or_default());
        // Locks and unlocks within: a guard in the loop's own head would live as long as its body.
        let next = |left| shard.lock().domains.get(&domain).and_then(|followers| followers.before(left, WINDOW));
        for burst in &bursts {
            let mut left = usize::MAX;
            while let Some((from, streams)) = next(left) {
                left = from;
                // Sequences of another event stream would deafen those who joined since. Looked at after the window was
                // taken: while it has not changed, nobody in it has.
                if generation != self.generation() {
                    return;
                }
                let now = self.now();
                let queued = streams.iter().map(|connection| self.send(connection, burst, now)).sum();
                self.metrics.frames_queued.inc_by(queued);
                tokio::task::yield_now().await;
            }
        }
        if let Some(last) = bursts.last().map(Burst::last)
            && let Some(followers) = shard.lock().domains.get_mut(&domain)
        {
            followers.pending.retain(|pending| pending.frame.sequence > last);
        }
    }

    /// Sends a stream a burst, or queues what cannot be sent; how many frames of it are for the stream.
    fn send(&self, connection: &Arc<Connection>, burst: &Burst, now: Duration) -> u64 {
        let offered = connection.offer(burst, (self.config.queue_frames, self.config.queue_bytes), now);
        if offered.unwatched {
            self.watch(connection);
        }
        if offered.overflows {
            self.close(connection, CloseReason::Overflow);
        }
        offered.frames
    }

    /// Lets a stream go on without its response body, on this socket.
    pub(super) fn park(&self, connection: &Arc<Connection>, socket: Socket) {
        let Some(shard) = self.shard(connection.domain) else { return };
        let mut shard = shard.lock();
        let heard = shard.park(connection);
        connection.go_on(Line::new(socket, heard, self.metrics.stream_writes.clone()));
    }

    /// The counter of writes to streams on lines of their own.
    #[cfg(test)]
    pub(super) fn writes(&self) -> u64 {
        self.metrics.stream_writes.get()
    }

    /// Counts streams on lines of their own up or down.
    pub(super) fn parked(&self, by: i64) {
        self.metrics.streams_parked.inc_by(by);
    }

    /// Opens a stream behind its cursor, or at the tail.
    ///
    /// # Errors
    /// [`JoinRefusal`].
    pub fn join(&self, join: Join) -> Result<Joined, JoinRefusal> {
        if self.open.fetch_add(1, Ordering::AcqRel) >= self.config.max_streams {
            self.open.fetch_sub(1, Ordering::AcqRel);
            return Err(JoinRefusal::NoRoom);
        }
        let joined = self.enter(join);
        match &joined {
            Ok(joined) => {
                self.metrics.streams.inc();
                self.start_timers(&joined.connection);
            }
            Err(_) => drop(self.open.fetch_sub(1, Ordering::AcqRel)),
        }
        joined
    }

    fn enter(&self, join: Join) -> Result<Joined, JoinRefusal> {
        let Join { of, follower, cursor, generation, kill } = join;
        let (node, domain) = of;
        let Some(shard) = self.shard(domain) else { return Err(JoinRefusal::NoRoom) };
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let by_node = matches!(follower, Follower::Node(_));
        let mut shard = shard.lock();
        if generation != self.generation() {
            return Err(JoinRefusal::Resync);
        }
        let position = shard.applied.max(self.applied());
        let from = cursor.unwrap_or(position);
        let life = seconds(self.config.lifetime_seconds).mul_f64(rand::random_range(0.9..1.1));
        let times = (from.max(position), self.now() + life);
        let connection = Arc::new(Connection::new(id, of, follower, times, kill));
        let streams = shard.nodes.get(&node).map_or(&[][..], Vec::as_slice);
        let own = |connection: &&Arc<Connection>| {
            matches!(connection.follower, Follower::Node(_)) && connection.closed().is_none()
        };
        if by_node
            && streams.iter().filter(own).count() >= self.config.max_streams_per_node
            && let Some(oldest) = streams.iter().find(own)
        {
            self.close(oldest, CloseReason::Replaced);
        }
        shard.join(&connection);
        let ring = shard.between(of, from, position);
        let gap = (from < shard.floor).then_some((from, shard.floor.min(position)));
        let dropped_issued_at = shard.dropped_issued_at;
        drop(shard);
        Ok(Joined { connection, position, ring, gap, dropped_issued_at })
    }

    fn start_timers(&self, connection: &Arc<Connection>) {
        let now = self.now();
        let keep_alive = millis(self.config.keep_alive_millis).mul_f64(rand::random_range(0.04..1.0));
        self.schedule(connection, Timer::KeepAlive, connection.ends_at.min(now + keep_alive));
        self.recheck_later(connection);
    }

    /// Looks at a stream's follower again after the configured time.
    pub(super) fn recheck_later(&self, connection: &Arc<Connection>) {
        self.schedule(connection, Timer::Recheck, self.now() + seconds(self.config.recheck_seconds));
    }

    pub(super) fn schedule(&self, connection: &Arc<Connection>, timer: Timer, at: Duration) {
        self.wheel.lock().schedule(at, (Arc::downgrade(connection), timer));
    }

    /// Fires what is due; returns the streams whose follower is to be looked at now. Whoever looks sees to the next time
    /// ([`Hub::recheck_later`]), so that each stream is waited for once. Keep-alives may wait for [`Hub::flush`].
    pub fn tick(&self) -> Vec<Arc<Connection>> {
        let now = self.now();
        let due = self.wheel.lock().advance(now);
        let mut recheck = Vec::new();
        for (connection, timer) in due {
            let Some(connection) = connection.upgrade() else { continue };
            match timer {
                Timer::Kill => connection.kill.cancel(),
                _ if connection.closed().is_some() => {}
                Timer::KeepAlive if now >= connection.ends_at => self.close(&connection, CloseReason::Lifetime),
                Timer::KeepAlive => {
                    self.push(&connection, Bytes::from_static(sse::KEEP_ALIVE), now);
                    let next = connection.ends_at.min(now + millis(self.config.keep_alive_millis));
                    self.schedule(&connection, Timer::KeepAlive, next);
                }
                Timer::Recheck => recheck.push(connection),
                Timer::Stall => {
                    let Some(since) = connection.waiting_since() else { continue };
                    let limit = since + millis(self.config.write_timeout_millis);
                    if now >= limit {
                        self.close(&connection, CloseReason::WriteTimeout);
                    } else {
                        self.schedule(&connection, Timer::Stall, limit);
                    }
                }
            }
        }
        recheck
    }

    /// How many entries the timer wheel holds.
    #[cfg(test)]
    pub(super) fn timers(&self) -> usize {
        self.wheel.lock().entries()
    }

    /// Ends a stream, and a moment later the connection if the stream still hangs on it.
    pub fn close(&self, connection: &Arc<Connection>, reason: CloseReason) {
        if connection.closed().is_none() {
            connection.close(reason);
            self.closing(connection, reason);
        }
    }

    fn closing(&self, connection: &Arc<Connection>, reason: CloseReason) {
        tracing::info!(node = %connection.node, domain = %connection.domain, %reason, "event stream closed");
        self.schedule(connection, Timer::Kill, self.now() + Duration::from_secs(2));
    }

    /// Takes a stream out; the last thing that happens to it.
    pub(super) fn leave(&self, connection: &Arc<Connection>) {
        let Some(shard) = self.shard(connection.domain) else { return };
        shard.lock().leave(connection);
        self.open.fetch_sub(1, Ordering::AcqRel);
        self.metrics.streams.dec();
        let reason = connection.closed().unwrap_or(CloseReason::Client).as_str();
        self.metrics.streams_closed.get_or_create(&OfReason { reason }).inc();
    }

    /// The open streams about a Node, wherever its Domain's shard is.
    #[must_use]
    pub fn streams_of(&self, node: NodeId) -> Vec<Arc<Connection>> {
        self.shards.iter().flat_map(|shard| shard.lock().nodes.get(&node).cloned().unwrap_or_default()).collect()
    }

    /// Every open stream.
    #[must_use]
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        let of = |shard: &Mutex<Shard>| shard.lock().nodes.values().flatten().cloned().collect::<Vec<_>>();
        self.shards.iter().flat_map(of).collect()
    }

    /// Forgets frames that were signed before `horizon`.
    pub fn expire(&self, horizon: Timestamp) {
        for shard in &self.shards {
            shard.lock().evict(|oldest, _| oldest.issued_at < horizon);
        }
    }
}
