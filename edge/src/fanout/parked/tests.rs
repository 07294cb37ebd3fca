use std::collections::VecDeque;

use bytes::Bytes;
use plexsphere_wire::subjects::EventTarget;
use plexsphere_wire::{DomainId, NodeId, Timestamp};
use prometheus_client::registry::Registry;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
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

/// A stream of the Domain whose body has nothing but live frames to wait for, and where it asks.
fn live(hub: &Arc<Hub>, domain: DomainId) -> (EventBody, Arc<Activity>) {
    let follower = Follower::Operator(Arc::default());
    let of = (NodeId::mint(now()), domain);
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

/// A stream that follows on a real socket, and the other end of it.
async fn followed(hub: &Arc<Hub>, domain: DomainId) -> TcpStream {
    let (mut body, activity) = live(hub, domain);
    while poll(&mut body).is_some() {}
    activity.handover.note_written();
    let seat = activity.handover.take().unwrap();
    drop(body);
    let (ours, theirs) = pair().await;
    tokio::spawn(seat.follow(ours.into(), ()));
    // Its task runs up to where it waits.
    tokio::task::yield_now().await;
    theirs
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
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
    let (mut body, activity) = live(&hub, domain);
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
    let (mut body, activity) = live(&hub, domain);
    while poll(&mut body).is_some() {}
    activity.handover.note_written();
    drop(body);
    assert!(activity.handover.take().is_none(), "a body that has ended has nothing to hand over");
    assert_eq!(hub.open(), 0);
}

#[tokio::test]
async fn a_burst_is_one_write_to_each_stream() {
    let (hub, domain) = (hub(EventsConfig::default()), DomainId::mint(now()));
    let mut clients = [followed(&hub, domain).await, followed(&hub, domain).await];
    for sequence in 1..=50 {
        publish(&hub, domain, sequence, b"12345678");
    }
    assert_eq!(hub.writes().get(), 0);
    hub.flush().await;
    assert_eq!(hub.writes().get(), 2);
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
    assert!(hub.writes().get() <= 2 + 2 * 1_000 / 64 + 8, "{}", hub.writes().get());
}

#[tokio::test]
async fn a_parked_stream_is_small() {
    let hub = hub(EventsConfig::default());
    let (mut body, activity) = live(&hub, DomainId::mint(now()));
    while poll(&mut body).is_some() {}
    activity.handover.note_written();
    let seat = activity.handover.take().unwrap();
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
