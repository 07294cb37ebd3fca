//! Event streams to Nodes and operators (GetNodeEvents).

mod burst;
mod chunk;
mod connection;
mod consumer;
mod hub;
mod line;
mod parked;
mod patience;
mod shard;
mod socket;
#[cfg(test)]
mod tests;
mod verify;
mod wheel;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use plexsphere_wire::directory::CredentialVerdict;
use plexsphere_wire::signing::AnnouncementRequest;
use plexsphere_wire::subjects;
use plexsphere_wire::{Code, DomainId, NodeId, Problem, Timestamp, sse};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

pub use connection::{CloseReason, Connection, EventBody, Follower, Pushed};
pub use consumer::{EventBus, EventBusDeps};
pub use hub::{EventFrame, Hub, Join, JoinRefusal, Joined, Timer};
pub use parked::{Handover, Seat};
pub use socket::{Socket, Tls};
pub use verify::{Rejection, verify, verify_announcement};
pub use wheel::Wheel;

use crate::authenticate::{self, AuthRefusal};
use crate::body::{Peer, RequestBody, ResponseBody};
use crate::clock::Clock;
use crate::config::{EventsConfig, seconds};
use crate::directory::{Directory, Lookup, LookupFault, NodeRecord};
use crate::ingest::Refused;
use crate::proxy::{Authorised, Proxy};
use crate::respond::Context;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(2);
/// Rights of operators looked up at a time.
const RECHECKS: usize = 16;

/// The operation and what it stands on.
pub struct Fanout {
    /// The open streams.
    pub hub: Arc<Hub>,
    /// The event stream.
    pub bus: Arc<EventBus>,
    lookup: Arc<Lookup>,
    proxy: Arc<Proxy>,
    nats: async_nats::Client,
    clock: Arc<dyn Clock>,
    config: EventsConfig,
    draining: AtomicBool,
    rechecks: Arc<Semaphore>,
}

enum Outcome {
    Stream(EventBody),
    Answer(Response<ResponseBody>),
}

struct Caller {
    node: NodeId,
    domain: DomainId,
    follower: Follower,
    record: Arc<NodeRecord>,
}

impl Fanout {
    /// The operation.
    #[must_use]
    pub fn new(
        (hub, bus): (Arc<Hub>, Arc<EventBus>),
        (lookup, proxy): (Arc<Lookup>, Arc<Proxy>),
        nats: async_nats::Client,
        clock: Arc<dyn Clock>,
        config: EventsConfig,
    ) -> Self {
        let rechecks = Arc::new(Semaphore::new(RECHECKS));
        Self { hub, bus, lookup, proxy, nats, clock, config, draining: AtomicBool::new(false), rechecks }
    }

    /// One request.
    ///
    /// # Errors
    /// The refusal, with the Node if it asked for another's path.
    pub async fn open(
        self: &Arc<Self>,
        path_id: &str,
        request: &Request<RequestBody>,
        peer: &Peer,
        context: &Context,
    ) -> Result<Response<ResponseBody>, Refused> {
        match self.open_stream(path_id, request.headers(), peer, context).await? {
            Outcome::Answer(response) => Ok(response),
            Outcome::Stream(body) => {
                let mut response = Response::new(ResponseBody::events(body));
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
                Ok(response)
            }
        }
    }

    async fn open_stream(
        self: &Arc<Self>,
        path_id: &str,
        headers: &HeaderMap,
        peer: &Peer,
        context: &Context,
    ) -> Result<Outcome, Refused> {
        let generation = self.hub.generation();
        let caller = match self.caller(path_id, (headers, peer), context).await? {
            Ok(caller) => caller,
            Err(answer) => return Ok(Outcome::Answer(answer)),
        };
        let cursor = cursor(headers)?;
        if !self.bus.available() || self.draining.load(Ordering::Acquire) {
            return Err(unavailable().into());
        }
        if let Some(cursor) = cursor
            && cursor > self.hub.applied()
        {
            let last = self.bus.last_sequence().await.ok_or_else(unavailable)?;
            if cursor > last {
                return Err(invalid_cursor().into());
            }
        }
        let announcement = self.announcement(&caller, cursor).await?;
        let of = (caller.node, caller.domain);
        let by_node = matches!(caller.follower, Follower::Node(_));
        let join = Join { of, follower: caller.follower, cursor, generation, kill: peer.kill.clone() };
        let joined = self.hub.join(join).map_err(|refusal| {
            tracing::debug!(node = %of.0, %refusal, "event stream refused");
            unavailable()
        })?;
        let connection = Arc::clone(&joined.connection);
        // Made before anything is waited for: a body that is dropped takes its stream out again.
        let body = self.body((joined, peer), cursor, by_node, announcement);
        // A revocation may have passed between the judgement and the join.
        if by_node && self.lives(&connection).await == Ok(false) {
            self.hub.close(&connection, CloseReason::Revoked);
        }
        Ok(Outcome::Stream(body))
    }

    fn body(
        self: &Arc<Self>,
        (joined, peer): (Joined, &Peer),
        cursor: Option<u64>,
        by_node: bool,
        announcement: Option<(&'static str, Bytes)>,
    ) -> EventBody {
        let stale = self.clock.now().minus(seconds(self.config.stale_seconds));
        let of = (joined.connection.node, joined.connection.domain);
        let (position, gap, dropped_issued_at) = (joined.position, joined.gap, joined.dropped_issued_at);
        let connection = Arc::clone(&joined.connection);
        let mut body = EventBody::of(joined, Arc::clone(&self.hub), peer);
        if by_node {
            body.ring.retain(|frame| frame.issued_at >= stale);
        }
        // What the ring has dropped for its age is too old for a Node; what it dropped for its size may not be.
        let covered = self.config.ring_seconds >= self.config.stale_seconds
            && dropped_issued_at.is_none_or(|dropped| dropped < stale);
        let gap = gap.filter(|_| !by_node || !covered);
        if let Some((event, wire)) = announcement {
            let first = body.ring.front().map(|frame| frame.sequence.saturating_sub(1));
            let id = match (&gap, first) {
                (Some(_), _) => cursor.unwrap_or(0),
                (None, Some(below)) => below,
                (None, None) => position,
            };
            body.opening.push_back(sse::frame(id, event, &wire).into());
        }
        if let Some((from, to)) = gap {
            let (sender, older) = mpsc::channel(8);
            body.older = Some(older);
            let (fanout, not_before) = (Arc::clone(self), by_node.then_some(stale));
            tokio::spawn(async move {
                if let Err(error) = fanout.read_older(of, (from, to), not_before, &sender).await {
                    tracing::info!(error, node = %of.0, "older events could not be read");
                    fanout.hub.close(&connection, CloseReason::ReplayFailed);
                }
            });
        }
        body
    }

    /// Reads what the ring no longer holds from the stream itself, merging the two subjects of a Node.
    async fn read_older(
        &self,
        (node, domain): (NodeId, DomainId),
        (from, to): (u64, u64),
        not_before: Option<Timestamp>,
        sender: &mpsc::Sender<Bytes>,
    ) -> Result<(), String> {
        let names = [subjects::domain_events(domain), subjects::node_events(domain, node)];
        let [all, own] = &names;
        let mut heads = [self.bus.next_of(all, from + 1).await?, self.bus.next_of(own, from + 1).await?];
        loop {
            let [first, second] = &mut heads;
            let sequence = |head: &Option<(u64, Vec<u8>)>| head.as_ref().map_or(u64::MAX, |(sequence, _)| *sequence);
            let (head, name) = if sequence(first) < sequence(second) { (first, all) } else { (second, own) };
            let Some((sequence, wire)) = head.take().filter(|(sequence, _)| *sequence <= to) else { return Ok(()) };
            if let Some(frame) = self.bus.verify(name, None, sequence, &wire).await
                && not_before.is_none_or(|not_before| frame.issued_at >= not_before)
                && sender.send(frame.bytes).await.is_err()
            {
                return Ok(());
            }
            *head = self.bus.next_of(name, sequence + 1).await?;
        }
    }

    /// Who asks, and whether he may. The inner error is control's own answer.
    async fn caller(
        &self,
        path_id: &str,
        (headers, peer): (&HeaderMap, &Peer),
        context: &Context,
    ) -> Result<Result<Caller, Response<ResponseBody>>, Refused> {
        if authenticate::shows_nsk(headers) {
            let record = authenticate::authenticate(&self.lookup, headers).await.map_err(AuthRefusal::problem)?;
            authenticate::match_path(&record, path_id).map_err(|refusal| Refused {
                problem: refusal.problem(),
                mismatch: Some(Arc::clone(&record)),
                close: false,
            })?;
            let digest = authenticate::bearer(headers).ok_or_else(|| AuthRefusal::Unauthorized.problem())?.digest();
            let (node, domain) = (record.entry.node, record.entry.domain);
            return Ok(Ok(Caller { node, domain, follower: Follower::Node(digest), record }));
        }
        if !headers.contains_key(header::AUTHORIZATION) && !headers.contains_key(header::COOKIE) {
            return Err(Problem::new(Code::Unauthenticated, "The request carries no credential.").into());
        }
        // Who asks is settled first: a path that names no Node is no answer to a stranger.
        let (named, operator) = (path_id.parse::<NodeId>().ok(), self.proxy.operator(headers, peer));
        match self.proxy.authorise_events(named, &operator, context).await? {
            Authorised::No(response) => return Ok(Err(response)),
            Authorised::Yes => {}
        }
        let node = named.ok_or_else(no_such_node)?;
        let found = self.lookup.node(node).await.map_err(|_| AuthRefusal::Fault.problem())?;
        let record = found.filter(|record| !record.entry.deregistered).ok_or_else(no_such_node)?;
        let follower = Follower::Operator(Arc::new(operator));
        Ok(Ok(Caller { node, domain: record.entry.domain, follower, record }))
    }

    /// The announcement, when the Node cannot know the key under which the Domain signs now.
    async fn announcement(
        &self,
        caller: &Caller,
        cursor: Option<u64>,
    ) -> Result<Option<(&'static str, Bytes)>, Problem> {
        let directory = self.lookup.directory();
        let Some(domain) = directory.domain(caller.domain) else { return Ok(None) };
        let pinned = &caller.record.entry.pinned_kid;
        let current = domain.version(&domain.entry.announced_kid);
        // A pinned key that is no longer listed is older than every listed one.
        let older = *pinned != domain.entry.announced_kid && domain.version(pinned) < current;
        let unseen = cursor.is_none_or(|cursor| cursor < domain.entry.announced_seq);
        if !matches!(caller.follower, Follower::Node(_)) || !older || !unseen {
            return Ok(None);
        }
        let request = AnnouncementRequest { domain: caller.domain, pinned_kid: pinned.clone() };
        let body = serde_json::to_vec(&request).map_err(|_| Problem::internal())?;
        let asked = self.nats.request(subjects::ANNOUNCE, body.into());
        let Ok(Ok(reply)) = tokio::time::timeout(ANNOUNCE_TIMEOUT, asked).await else {
            return Err(unavailable());
        };
        if reply.payload.is_empty() {
            return Ok(None);
        }
        match verify_announcement(directory, caller.domain, &reply.payload) {
            Ok(event) => Ok(Some((event, reply.payload))),
            Err(rejection) => {
                tracing::error!(domain = %caller.domain, %rejection, "announcement rejected");
                Err(unavailable())
            }
        }
    }

    /// Closes the streams of a Node whose key no longer lives. Called for every change of the directory.
    pub fn changed(hub: &Hub, directory: &Directory, node: NodeId) {
        let gone = directory.node(node).is_none();
        for connection in hub.streams_of(node) {
            if gone || still_lives(directory, &connection) == Some(false) {
                hub.close(&connection, CloseReason::Revoked);
            }
        }
    }

    /// Drives the timers until `cancel`.
    pub async fn run_timers(self: Arc<Self>, cancel: CancellationToken) {
        let mut tick = tokio::time::interval(Wheel::<()>::TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = tick.tick() => {}
            }
            let recheck = self.hub.tick();
            self.hub.flush().await;
            for connection in recheck {
                match still_lives(self.lookup.directory(), &connection) {
                    Some(true) => self.hub.recheck_later(&connection),
                    Some(false) => self.hub.close(&connection, CloseReason::Revoked),
                    None => self.recheck(connection),
                }
            }
        }
    }

    /// Asks control about a follower of whom the map says nothing. A fault of control's is no verdict.
    fn recheck(self: &Arc<Self>, connection: Arc<Connection>) {
        let Ok(permit) = Arc::clone(&self.rechecks).try_acquire_owned() else {
            // Too many at once: this one's turn comes a little later.
            return self.hub.schedule(&connection, Timer::Recheck, self.hub.now() + Duration::from_secs(1));
        };
        let fanout = Arc::clone(self);
        tokio::spawn(async move {
            if fanout.lives(&connection).await == Ok(false) {
                let by_node = matches!(connection.follower, Follower::Node(_));
                let reason = if by_node { CloseReason::Revoked } else { CloseReason::TokenExpired };
                fanout.hub.close(&connection, reason);
            } else {
                fanout.hub.recheck_later(&connection);
            }
            drop(permit);
        });
    }

    /// Whether a stream's follower still may: by the map, or by control of whom the map says nothing.
    async fn lives(&self, connection: &Connection) -> Result<bool, LookupFault> {
        match &connection.follower {
            Follower::Node(digest) => {
                if let Some(lives) = still_lives(self.lookup.directory(), connection) {
                    return Ok(lives);
                }
                let record = self.lookup.node(connection.node).await?;
                Ok(record.is_some_and(|record| record.entry.judge(digest) == CredentialVerdict::Live))
            }
            Follower::Operator(headers) => {
                let correlation_id = plexsphere_wire::CorrelationId::mint(self.clock.now());
                let context = Context { path: String::new(), correlation_id, secure: false };
                match self.proxy.authorise_events(Some(connection.node), headers, &context).await {
                    Ok(Authorised::Yes) => Ok(true),
                    Ok(Authorised::No(response)) => {
                        let ends = matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
                        if ends { Ok(false) } else { Err(LookupFault) }
                    }
                    Err(_) => Err(LookupFault),
                }
            }
        }
    }

    /// Refuses new streams and closes the open ones at an even rate.
    pub async fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        let open = self.hub.connections();
        let pause = seconds(self.config.drain_seconds) / u32::try_from(open.len().max(1)).unwrap_or(u32::MAX);
        // Paced by the clock and not by naps: a timer's grain would add up over many streams.
        let mut next = tokio::time::Instant::now();
        for connection in open {
            self.hub.close(&connection, CloseReason::Drain);
            next += pause;
            tokio::time::sleep_until(next).await;
        }
    }
}

/// What the map says of a stream's follower: nothing of operators, nor of a Node that it does not know, because control
/// answered for it before the feed has told, or because it has been forgotten.
fn still_lives(directory: &Directory, connection: &Connection) -> Option<bool> {
    let Follower::Node(digest) = &connection.follower else { return None };
    directory.node(connection.node).map(|record| record.entry.judge(digest) == CredentialVerdict::Live)
}

fn cursor(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let mut values = headers.get_all(LAST_EVENT_ID).iter();
    let Some(value) = values.next().filter(|value| !value.is_empty()) else { return Ok(None) };
    let text = value.to_str().unwrap_or("-");
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && values.next().is_none();
    let number = text.parse::<i64>().ok().and_then(|number| u64::try_from(number).ok());
    number.filter(|_| digits).map(Some).ok_or_else(invalid_cursor)
}

/// The event bus names this code for the header; the catalogue's `invalid_cursor` is that of paging.
fn invalid_cursor() -> Problem {
    Problem::new(Code::InvalidLastEventId, "The header Last-Event-ID names no event of this stream.")
}

fn no_such_node() -> Problem {
    Problem::new(Code::NodeNotFound, "There is no such Node.")
}

fn unavailable() -> Problem {
    Problem::new(Code::EventStreamUnavailable, "The event stream is not available at the moment. Try again.")
}
