use std::time::Duration;

use ed25519_dalek::SigningKey;
use plexsphere_load::events::{FollowOptions, Follower, KeyRing, Order, StreamEvent};
use plexsphere_load::transport::Protocol;
use plexsphere_wire::envelope::EventType;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::platform::Platform;
use crate::transport::{ALL, node, quick};

async fn follow(platform: &Platform, protocol: Protocol, options: FollowOptions) -> mpsc::Receiver<StreamEvent> {
    let (api, registered) = node(platform, protocol).await;
    let keys = KeyRing::new(registered.signing_key_id.clone(), registered.signing_key);
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(Follower::new(api, keys, options).run(sender));
    receiver
}

async fn next(events: &mut mpsc::Receiver<StreamEvent>) -> StreamEvent {
    loop {
        let event = timeout(Duration::from_secs(20), events.recv()).await.expect("an event in time").expect("open");
        if !matches!(event, StreamEvent::Comment) {
            return event;
        }
    }
}

async fn next_sequence(events: &mut mpsc::Receiver<StreamEvent>) -> u64 {
    match next(events).await {
        StreamEvent::Event { sequence: Some(sequence), order: Order::Next, .. } => sequence,
        other => panic!("no event in order but {other:?}"),
    }
}

fn options() -> FollowOptions {
    FollowOptions { backoff: quick(), ..FollowOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_cut_off_sees_every_later_event_once_and_in_order_over_every_protocol() {
    for protocol in ALL {
        let platform = Platform::start().await;
        platform.publish(EventType::PeerRegistered, r#"{"peers":[]}"#);
        let mut events = follow(&platform, protocol, options()).await;
        assert!(matches!(next(&mut events).await, StreamEvent::Connected { resumed_from: None }));
        for _ in 0..3 {
            platform.publish(EventType::PeerRegistered, r#"{"peers":[]}"#);
        }
        for expected in 2..=4 {
            assert_eq!(next_sequence(&mut events).await, expected, "{protocol}");
        }
        platform.refuse_next("events", 503, "event_stream_unavailable");
        platform.cut_streams();
        assert!(matches!(next(&mut events).await, StreamEvent::Interrupted { wait: Duration::ZERO, .. }));
        for _ in 0..3 {
            platform.publish(EventType::PeerDeregistered, r#"{"peers":[]}"#);
        }
        assert!(matches!(next(&mut events).await, StreamEvent::Interrupted { .. }));
        assert!(matches!(next(&mut events).await, StreamEvent::Connected { resumed_from: Some(4) }));
        for expected in 5..=7 {
            assert_eq!(next_sequence(&mut events).await, expected, "{protocol}");
        }
        let cursors = platform.lock().cursors.clone();
        assert_eq!(cursors, [None, Some("4".to_owned())]);
    }
}

#[tokio::test]
async fn a_forged_event_is_not_believed_a_rotated_key_is_and_the_stream_goes_on() {
    let platform = Platform::start().await;
    let mut events = follow(&platform, Protocol::H1, options()).await;
    next(&mut events).await;
    let new = SigningKey::from_bytes(&[9; 32]);
    platform.publish_as(&new, "k-1", EventType::NodeStateUpdated, "{}");
    assert!(matches!(next(&mut events).await, StreamEvent::Distrusted { sequence: Some(1), .. }));
    use base64::Engine as _;
    let public = base64::engine::general_purpose::STANDARD.encode(new.verifying_key().to_bytes());
    let payload = format!(r#"{{"key_id":"k-2","public_key":"{public}"}}"#);
    platform.publish(EventType::SigningKeyRotated, &payload);
    assert_eq!(next_sequence(&mut events).await, 2);
    platform.publish_as(&new, "k-2", EventType::NodeStateUpdated, "{}");
    assert_eq!(next_sequence(&mut events).await, 3);
}

#[tokio::test]
async fn a_refused_cursor_is_dropped_and_a_lost_node_stops_following() {
    let platform = Platform::start().await;
    let mut events = follow(&platform, Protocol::H2, options()).await;
    next(&mut events).await;
    platform.publish(EventType::NodeStateUpdated, "{}");
    assert_eq!(next_sequence(&mut events).await, 1);
    platform.lock().frames.clear();
    platform.cut_streams();
    assert!(matches!(next(&mut events).await, StreamEvent::Interrupted { .. }));
    assert!(matches!(next(&mut events).await, StreamEvent::CursorRefused));
    assert!(matches!(next(&mut events).await, StreamEvent::Connected { resumed_from: None }));
    platform.lock().nodes.clear();
    platform.cut_streams();
    assert!(matches!(next(&mut events).await, StreamEvent::Interrupted { .. }));
    assert!(matches!(next(&mut events).await, StreamEvent::Ended { .. }));
}

#[tokio::test]
async fn a_line_that_an_agent_cannot_buffer_ends_the_stream() {
    let platform = Platform::start().await;
    let mut events = follow(&platform, Protocol::H1, options()).await;
    next(&mut events).await;
    platform.lock().frames.push((EventType::NodeStateUpdated, vec![b'x'; 70_000]));
    platform.published.send_replace(1);
    // The stand-in cuts lines between tokens only, and there is none here.
    assert!(matches!(next(&mut events).await, StreamEvent::Interrupted { reason, .. } if reason.contains("64 KiB")));
}

#[tokio::test]
async fn a_silent_stream_is_dropped() {
    let platform = Platform::start().await;
    let options = FollowOptions { idle: Duration::from_millis(50), ..options() };
    let mut events = follow(&platform, Protocol::H1, options).await;
    next(&mut events).await;
    match next(&mut events).await {
        StreamEvent::Interrupted { reason, .. } => assert!(reason.contains("silent"), "{reason}"),
        other => panic!("{other:?}"),
    }
}
