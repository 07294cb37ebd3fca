use std::collections::VecDeque;

use bytes::Bytes;
use plexsphere_wire::subjects::EventTarget;
use plexsphere_wire::{DomainId, NodeId, Timestamp};
use prometheus_client::registry::Registry;
use proptest::prelude::*;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;

use super::super::hub::{EventFrame, Join};
use super::super::line::Waiting;
use super::super::{EventBody, Follower};
use super::*;
use crate::clock::{Clock as _, SystemClock};
use crate::config::EventsConfig;
use crate::listen::Activity;
use crate::metrics::Metrics;

fn now() -> Timestamp {
    SystemClock::new().now()
}

fn hub(config: EventsConfig) -> Arc<Hub> {
    Arc::new(Hub::new(config, Arc::new(SystemClock::new()), Metrics::register(&mut Registry::default())))
}

/// A stream whose body has nothing but live frames to wait for, and where it asks.
fn live(hub: &Arc<Hub>, of: (NodeId, DomainId)) -> (EventBody, Arc<Activity>) {
    let follower = Follower::Operator(Arc::default());
    let join = Join { of, follower, cursor: None, generation: hub.generation(), kill: CancellationToken::new() };
    let mut body = EventBody::new(hub.join(join).unwrap().connection, Arc::clone(hub));
    let activity = Arc::new(Activity::default());
    activity.handover.offer(true);
    body.parks = Some(Arc::clone(&activity));
    (body, activity)
}

fn poll(body: &mut EventBody) -> Option<Bytes> {
    match body.poll_next(&mut Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(bytes) => bytes.map(Result::unwrap),
        Poll::Pending => None,
    }
}

/// A stream that was taken from its body.
fn seat(hub: &Arc<Hub>, of: (NodeId, DomainId)) -> Seat {
    let (mut body, activity) = live(hub, of);
    while poll(&mut body).is_some() {}
    activity.handover.note_written();
    activity.handover.take().unwrap()
}

/// A stream that follows on a real socket, and the other end of it.
async fn followed(hub: &Arc<Hub>, of: (NodeId, DomainId)) -> TcpStream {
    let seat = seat(hub, of);
    let (ours, theirs) = pair().await;
    // What was applied before it has a line of its own reaches it as well.
    tokio::spawn(seat.follow(ours.into(), ()));
    // Its task runs up to where it waits.
    tokio::task::yield_now().await;
    theirs
}

/// Both ends of a connection that has so little room that it is full now and then.
async fn pair() -> (TcpStream, TcpStream) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(4 * 1024).unwrap();
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let (theirs, accepted) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), async { listener.accept().await });
    (accepted.unwrap().0, theirs.unwrap())
}

fn publish(hub: &Hub, domain: DomainId, sequence: u64, bytes: &'static [u8]) {
    let bytes = Bytes::from_static(bytes);
    hub.apply(EventFrame { sequence, domain, target: EventTarget::Domain, issued_at: now(), bytes });
}

#[tokio::test]
async fn a_stream_is_handed_over_when_all_but_live_frames_has_left_and_not_before() {
    let (hub, domain) = (hub(EventsConfig::default()), DomainId::mint(now()));
    let of = (NodeId::mint(now()), domain);
    let (mut body, activity) = live(&hub, of);
    assert!(activity.handover.take().is_none(), "the opening was not asked for");
    assert!(poll(&mut body).is_some());
    assert_eq!(poll(&mut body), None);
    assert!(activity.handover.take().is_none(), "the opening was not written");
    activity.handover.note_written();
    publish(&hub, domain, 1, b"1");
    assert_eq!(poll(&mut body).as_deref(), Some(&b"1"[..]));
    assert!(activity.handover.take().is_none(), "the library holds a frame again");
    assert_eq!(poll(&mut body), None);
    activity.handover.note_written();
    let seat = activity.handover.take().unwrap();
    drop(body);
    assert_eq!(hub.open(), 1, "it does not end with its body");
    drop(seat);
    assert_eq!(hub.open(), 0);
    let (mut body, activity) = live(&hub, of);
    while poll(&mut body).is_some() {}
    activity.handover.note_written();
    drop(body);
    assert!(activity.handover.take().is_none(), "a body that has ended has nothing to hand over");
    assert_eq!(hub.open(), 0);
}

#[tokio::test]
async fn a_burst_is_one_write_to_each_stream() {
    let (hub, domain) = (hub(EventsConfig::default()), DomainId::mint(now()));
    let of = (NodeId::mint(now()), domain);
    let mut clients = [followed(&hub, of).await, followed(&hub, of).await];
    for sequence in 1..=50 {
        publish(&hub, domain, sequence, b"12345678");
    }
    assert_eq!(hub.writes(), 0);
    hub.flush().await;
    assert_eq!(hub.writes(), 2);
    for client in &mut clients {
        let mut heard = vec![0; 5 + 50 * 8 + 2];
        client.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, [&b"190\r\n"[..], &b"12345678".repeat(50), b"\r\n"].concat());
    }
    // A burst beyond the queue's bounds leaves in several, and closes no stream that takes it.
    for sequence in 51..=1_050 {
        publish(&hub, domain, sequence, b"12345678");
    }
    hub.flush().await;
    assert_eq!(hub.open(), 2);
    assert!(hub.writes() <= 2 + 2 * 1_000 / 64 + 8, "{}", hub.writes());
}

#[tokio::test]
async fn what_was_pending_when_the_event_stream_was_made_anew_reaches_nobody() {
    let (hub, of) = (hub(EventsConfig::default()), (NodeId::mint(now()), DomainId::mint(now())));
    // Its task never runs, so that it is still there.
    let before = seat(&hub, of);
    let (ours, _theirs) = pair().await;
    hub.park(&before.connection, ours.into());
    publish(&hub, of.1, 5_000, b"5000\n");
    hub.reset();
    assert_eq!(before.connection.closed(), Some(CloseReason::BusReset));
    let mut after = followed(&hub, of).await;
    hub.flush().await;
    publish(&hub, of.1, 1, b"1\n");
    hub.flush().await;
    hub.connections().iter().for_each(|connection| hub.close(connection, CloseReason::Drain));
    let mut heard = Vec::new();
    after.read_to_end(&mut heard).await.unwrap();
    assert_eq!(sequences(&heard), [1]);
}

#[tokio::test]
async fn a_parked_stream_is_small() {
    let hub = hub(EventsConfig::default());
    let seat = seat(&hub, (NodeId::mint(now()), DomainId::mint(now())));
    let (ours, _theirs) = pair().await;
    let follows = seat.follow(ours.into(), [0u8; 24]);
    let sizes = (size_of::<Connection>(), size_of_val(&follows));
    assert!(sizes.0 <= 320 && sizes.1 <= 320, "{sizes:?}");
    // A burst leaves no room behind.
    let mut waiting = Waiting::default();
    (0..256).for_each(|_| waiting.push(Bytes::from_static(b"x"), Duration::ZERO));
    waiting.keep(0);
    assert!(waiting.frames.capacity() <= VecDeque::<Bytes>::with_capacity(4).capacity());
}

#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    Open,
    Flush,
    Read(usize),
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..4).prop_map(Step::Publish),
        1 => Just(Step::Open),
        2 => Just(Step::Flush),
        2 => (0usize..4).prop_map(Step::Read),
        2 => Just(Step::Wait),
    ]
}

/// The sequences in a chunked response that has ended.
fn sequences(mut wire: &[u8]) -> Vec<u64> {
    let mut heard = Vec::new();
    loop {
        let end = wire.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&wire[..end]).unwrap(), 16).unwrap();
        let chunk = std::str::from_utf8(&wire[end + 2..][..size]).unwrap();
        heard.extend(chunk.split_terminator('\n').map(|frame| frame.trim_start().parse::<u64>().unwrap()));
        wire = wire[end + 2 + size..].strip_prefix(b"\r\n").unwrap();
        if size == 0 {
            assert!(wire.is_empty(), "the last chunk is the last");
            return heard;
        }
    }
}

async fn loses_nothing(steps: Vec<Step>) {
    let wide = EventsConfig { max_streams_per_node: usize::MAX, queue_frames: 1 << 20, ..EventsConfig::default() };
    let hub = hub(EventsConfig { queue_bytes: 1 << 30, ..wide });
    let [node, other] = [NodeId::mint(now()), NodeId::mint(now())];
    let [domain, foreign] = [DomainId::mint(now()), DomainId::mint(now())];
    let mut mine = Vec::new();
    let (mut sequence, mut clients) = (0, Vec::new());
    for step in steps {
        match step {
            Step::Publish(kind) => {
                sequence += 1;
                let (domain, target, concerns) = match kind {
                    0 | 1 => (domain, EventTarget::Domain, true),
                    2 => (domain, EventTarget::Node(node), true),
                    _ if sequence % 2 == 0 => (domain, EventTarget::Node(other), false),
                    _ => (foreign, EventTarget::Domain, false),
                };
                let bytes = Bytes::from(format!("{sequence:>4000}\n"));
                hub.apply(EventFrame { sequence, domain, target, issued_at: now(), bytes });
                mine.extend(concerns.then_some(sequence));
            }
            Step::Open => clients.push((mine.len(), followed(&hub, (node, domain)).await, Vec::new())),
            Step::Flush => hub.flush().await,
            Step::Read(index) => {
                if let Some((_, client, heard)) = clients.get_mut(index) {
                    let mut space = [0; 5_000];
                    let count = client.try_read(&mut space).unwrap_or(0);
                    heard.extend_from_slice(&space[..count]);
                }
            }
            Step::Wait => tokio::task::yield_now().await,
        }
    }
    hub.flush().await;
    hub.connections().iter().for_each(|connection| hub.close(connection, CloseReason::Drain));
    for (from, mut client, mut heard) in clients {
        client.read_to_end(&mut heard).await.unwrap();
        assert_eq!(sequences(&heard), mine[from..]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// As with streams in the library's hands: what concerns a stream reaches it once and in order, also when its socket
    /// is full now and then.
    #[test]
    fn a_parked_stream_loses_nothing_and_repeats_nothing(steps in prop::collection::vec(step(), 1..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(loses_nothing(steps));
    }
}
