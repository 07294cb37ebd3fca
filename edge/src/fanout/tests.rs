use std::sync::Arc;

use bytes::Bytes;
use futures_util::task::noop_waker;
use parking_lot::Mutex;
use plexsphere_wire::subjects::EventTarget;
use plexsphere_wire::{DomainId, NodeId, Timestamp};
use prometheus_client::registry::Registry;
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::{Clock, SystemClock};
use crate::metrics::Metrics;

fn hub(change: impl FnOnce(&mut EventsConfig)) -> Arc<Hub> {
    hub_at(Arc::new(SystemClock::new()), change)
}

fn hub_at(clock: Arc<dyn Clock>, change: impl FnOnce(&mut EventsConfig)) -> Arc<Hub> {
    let mut config = EventsConfig::default();
    change(&mut config);
    Arc::new(Hub::new(config, clock, Metrics::register(&mut Registry::default())))
}

/// A clock that stands until it is moved.
#[derive(Default)]
struct Hand(Mutex<Duration>);

impl Hand {
    fn forward(&self, by: Duration) {
        *self.0.lock() += by;
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_seconds(1_700_000_000)
    }

    fn monotonic(&self) -> Duration {
        *self.0.lock()
    }
}

fn ids() -> (NodeId, NodeId, DomainId, DomainId) {
    let now = Timestamp::from_unix_seconds(1_700_000_000);
    (NodeId::mint(now), NodeId::mint(now), DomainId::mint(now), DomainId::mint(now))
}

fn frame(sequence: u64, domain: DomainId, target: EventTarget) -> EventFrame {
    let issued_at = Timestamp::from_unix_seconds(1_700_000_000);
    EventFrame { sequence, domain, target, issued_at, bytes: Bytes::from(sequence.to_string()) }
}

fn body(hub: &Arc<Hub>, joined: Joined) -> EventBody {
    let mut body = EventBody::new(joined.connection, Arc::clone(hub));
    body.opening.clear();
    body.ring = joined.ring;
    body
}

fn drain(body: &mut EventBody) -> Vec<u64> {
    let waker = noop_waker();
    let mut cx = std::task::Context::from_waker(&waker);
    let mut heard = Vec::new();
    while let std::task::Poll::Ready(Some(Ok(bytes))) = body.poll_next(&mut cx) {
        heard.push(std::str::from_utf8(&bytes).unwrap().parse().unwrap());
    }
    heard
}

/// Takes what waits, keep-alives as well.
fn exhaust(body: &mut EventBody) {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    while let std::task::Poll::Ready(Some(_)) = body.poll_next(&mut cx) {}
}

fn follower() -> Follower {
    Follower::Operator(Arc::default())
}

fn join(hub: &Hub, of: (NodeId, DomainId), cursor: Option<u64>) -> Join {
    Join { of, follower: follower(), cursor, generation: hub.generation(), kill: CancellationToken::new() }
}

#[test]
fn a_join_from_before_the_stream_was_made_anew_is_told_to_come_again() {
    let hub = hub(|_| {});
    let (node, other, domain, _) = ids();
    hub.begin(5_000);
    let (early, late) = (join(&hub, (node, domain), Some(5_000)), join(&hub, (other, domain), Some(5_000)));
    let joined = hub.join(early).unwrap();
    hub.reset();
    assert_eq!(joined.connection.closed(), Some(CloseReason::BusReset));
    assert_eq!(
        hub.join(late).err(),
        Some(JoinRefusal::Resync),
        "it would be deaf until the sequence 5,000 comes again"
    );
    let mut anew = body(&hub, hub.join(join(&hub, (other, domain), None)).unwrap());
    hub.apply(frame(1, domain, EventTarget::Domain));
    assert_eq!(drain(&mut anew), vec![1]);
    drop((joined, anew));
    assert_eq!(hub.open(), 1, "the refused join holds no place; the first one was given no body that could leave");
}

#[test]
fn a_load_that_begins_again_puts_no_frame_beside_itself() {
    let hub = hub(|_| {});
    let (node, _, domain, _) = ids();
    for _ in 0..2 {
        hub.begin(10);
        for sequence in 11..=13 {
            hub.apply(frame(sequence, domain, EventTarget::Domain));
        }
    }
    let joined = hub.join(join(&hub, (node, domain), Some(10))).unwrap();
    assert_eq!((joined.position, joined.gap), (13, None));
    assert_eq!(drain(&mut body(&hub, joined)), vec![11, 12, 13]);
    // Behind another place the ring is empty, and says what it does not hold.
    hub.begin(20);
    let joined = hub.join(join(&hub, (node, domain), Some(10))).unwrap();
    assert_eq!((joined.position, joined.gap, joined.ring.len()), (20, Some((10, 20)), 0));
}

#[test]
fn a_stream_costs_the_wheel_three_entries_however_often_its_queue_empties() {
    let clock = Arc::new(Hand::default());
    let hub = hub_at(clock.clone(), |config| config.keep_alive_millis = 3_600_000);
    let (node, other, domain, _) = ids();
    let mut quick = body(&hub, hub.join(join(&hub, (node, domain), None)).unwrap());
    let mut sequence = 0;
    let mut publish = |hub: &Hub| {
        sequence += 1;
        hub.apply(frame(sequence, domain, EventTarget::Domain));
    };
    for _ in 0..500 {
        publish(&hub);
        assert_eq!(drain(&mut quick).len(), 1);
        clock.forward(Duration::from_millis(1));
    }
    assert_eq!(hub.timers(), 3, "keep-alive, recheck and one that looks whether frames are taken");
    clock.forward(Duration::from_secs(11));
    hub.tick();
    assert_eq!(hub.timers(), 2, "nothing waits, nobody looks");
    // Somebody looks again as soon as something waits again.
    let slow = hub.join(join(&hub, (other, domain), None)).unwrap();
    publish(&hub);
    assert_eq!(drain(&mut quick).len(), 1);
    clock.forward(Duration::from_secs(11));
    hub.tick();
    assert_eq!(slow.connection.closed(), Some(CloseReason::WriteTimeout));
    assert_eq!(quick.connection.closed(), None);
}

#[test]
fn a_stream_ends_with_its_lifetime_between_two_keep_alives() {
    let clock = Arc::new(Hand::default());
    let hub = hub_at(clock.clone(), |config| config.lifetime_seconds = 100);
    let (node, _, domain, _) = ids();
    let mut stream = body(&hub, hub.join(join(&hub, (node, domain), None)).unwrap());
    let ends_at = stream.connection.ends_at;
    assert!((90..=110).contains(&ends_at.as_secs()), "{ends_at:?}");
    while stream.connection.closed().is_none() {
        clock.forward(Duration::from_millis(100));
        exhaust(&mut stream);
        hub.tick();
    }
    assert_eq!(stream.connection.closed(), Some(CloseReason::Lifetime));
    let late = clock.monotonic().saturating_sub(ends_at);
    assert!(late <= Wheel::<()>::TICK * 2, "{late:?} late");
}

#[test]
fn a_drained_stream_still_gives_what_waits_and_a_revoked_one_gives_nothing() {
    for (reason, heard) in [(CloseReason::Drain, vec![1, 2, 3]), (CloseReason::Revoked, vec![])] {
        let hub = hub(|_| {});
        let (node, _, domain, _) = ids();
        hub.apply(frame(1, domain, EventTarget::Domain));
        let mut stream = body(&hub, hub.join(join(&hub, (node, domain), Some(0))).unwrap());
        for sequence in 2..=3 {
            hub.apply(frame(sequence, domain, EventTarget::Domain));
        }
        hub.close(&stream.connection, reason);
        hub.apply(frame(4, domain, EventTarget::Domain));
        assert_eq!(drain(&mut stream), heard, "{reason}");
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(matches!(stream.poll_next(&mut cx), std::task::Poll::Ready(None)), "it ended as if complete");
    }
}

#[test]
fn a_full_queue_closes_its_stream_and_no_other() {
    let hub = hub(|config| config.queue_frames = 4);
    let (node, other, domain, _) = ids();
    let slow = hub.join(join(&hub, (node, domain), None)).unwrap();
    let fast = hub.join(join(&hub, (other, domain), None)).unwrap();
    let mut fast = body(&hub, fast);
    for sequence in 1..=10 {
        hub.apply(frame(sequence, domain, EventTarget::Domain));
        assert_eq!(drain(&mut fast), vec![sequence]);
    }
    assert_eq!(slow.connection.closed(), Some(CloseReason::Overflow));
}

#[test]
fn there_is_room_for_so_many_streams_and_leaving_makes_room() {
    let hub = hub(|config| config.max_streams = 1);
    let (node, _, domain, _) = ids();
    let first = body(&hub, hub.join(join(&hub, (node, domain), None)).unwrap());
    assert!(hub.join(join(&hub, (node, domain), None)).is_err());
    drop(first);
    assert_eq!(hub.open(), 0);
    assert!(hub.join(join(&hub, (node, domain), None)).is_ok());
}

#[test]
fn what_the_ring_dropped_is_named_as_a_gap() {
    let hub = hub(|config| config.ring_bytes = 0);
    let (node, _, domain, _) = ids();
    for sequence in 1..=5 {
        hub.apply(frame(sequence, domain, EventTarget::Domain));
    }
    let joined = hub.join(join(&hub, (node, domain), Some(1))).unwrap();
    assert_eq!(joined.gap, Some((1, 4)));
    assert_eq!(joined.ring.iter().map(|frame| frame.sequence).collect::<Vec<_>>(), vec![5]);
}

#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    Skip,
    Join(Option<u64>),
    Read(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..5).prop_map(Step::Publish),
        1 => Just(Step::Skip),
        2 => prop::option::of(0u64..60).prop_map(Step::Join),
        3 => (0usize..8).prop_map(Step::Read),
    ]
}

proptest! {
    /// I4 against a list of everything that was published: a stream hears what concerns it above its cursor, once, in order.
    #[test]
    fn a_join_loses_nothing_and_repeats_nothing(steps in prop::collection::vec(step(), 1..120)) {
        let hub = hub(|_| {});
        let (node, other, domain, foreign) = ids();
        let mut all: Vec<(u64, bool)> = Vec::new();
        let mut sequence = 0;
        let mut streams: Vec<(u64, EventBody, Vec<u64>)> = Vec::new();
        for step in steps {
            match step {
                Step::Publish(kind) => {
                    sequence += 1;
                    let (domain, target, mine) = match kind {
                        0 | 1 => (domain, EventTarget::Domain, true),
                        2 => (domain, EventTarget::Node(node), true),
                        3 => (domain, EventTarget::Node(other), false),
                        _ => (foreign, EventTarget::Domain, false),
                    };
                    hub.apply(frame(sequence, domain, target));
                    all.push((sequence, mine));
                }
                Step::Skip => {
                    sequence += 1;
                    hub.skip(sequence);
                }
                Step::Join(cursor) => {
                    let joined = hub.join(join(&hub, (node, domain), cursor)).unwrap();
                    prop_assert_eq!(joined.position, sequence);
                    streams.push((cursor.unwrap_or(sequence), body(&hub, joined), Vec::new()));
                }
                Step::Read(index) => {
                    if let Some((_, body, heard)) = streams.get_mut(index) {
                        heard.extend(drain(body));
                    }
                }
            }
        }
        for (cursor, mut body, mut heard) in streams {
            heard.extend(drain(&mut body));
            let expected: Vec<u64> =
                all.iter().filter(|(sequence, mine)| *mine && *sequence > cursor).map(|(sequence, _)| *sequence).collect();
            prop_assert_eq!(heard, expected);
        }
    }
}
