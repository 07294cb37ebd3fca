use std::time::Duration;

use plexsphere_load::streams::{Crew, Habits, Identity, Mode, WorkerProgram};
use plexsphere_load::transport::Protocol;
use plexsphere_wire::envelope::EventType;

use crate::platform::Platform;
use crate::transport::node;

const PATIENCE: Duration = Duration::from_secs(20);
const STREAMS: usize = 6;

/// A crew of two processes with a stream for each of some Nodes.
async fn crew(platform: &Platform, protocol: Protocol) -> Crew {
    let mut identities = Vec::new();
    for _ in 0..STREAMS {
        identities.push(Identity::from(&node(platform, Protocol::H1).await.1));
    }
    let program = WorkerProgram {
        program: env!("CARGO_BIN_EXE_plexsphere-load").into(),
        arguments: vec!["stream-worker".into()],
    };
    let mut crew = Crew::hire(&program, STREAMS, 2).unwrap();
    let url = platform.url().as_str().trim_end_matches('/').to_owned();
    crew.open(&Habits::new(vec![url], Some(platform.ca.clone()), protocol), &identities).await.unwrap();
    crew.all_live(PATIENCE).await.unwrap();
    crew
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crew_sees_every_event_once_on_every_stream_also_when_all_are_cut() {
    assert_eq!(Mode::default(), Mode { cuts: 0, stalled: false });
    for protocol in [Protocol::H1, Protocol::H2] {
        let platform = Platform::start().await;
        let mut crew = crew(&platform, protocol).await;
        let all = STREAMS as u64;
        platform.publish(EventType::PeerRegistered, r#"{"peers":[],"written_at_micros":1}"#);
        let first = crew.until(PATIENCE, |report| report.frames == all).await.unwrap();
        assert_eq!((first.waves.len(), first.waves[&1].frames, first.waves[&1].written_micros), (1, all, Some(1)));
        assert_eq!(first.latency.count(), all);

        crew.watch(3).await.unwrap();
        platform.cut_streams();
        for _ in 0..2 {
            platform.publish(EventType::PeerDeregistered, r#"{"peers":[]}"#);
        }
        platform.publish(EventType::NodeStateUpdated, "{}");
        let report = crew.until(PATIENCE, |report| report.frames == 4 * all && report.live == all).await.unwrap();
        assert!(report.in_order(), "{protocol}: {report:?}");
        assert_eq!((report.opened, report.own, report.waves.len()), (2 * all, all, 3), "{protocol}");
        assert_eq!(crew.caught().await.unwrap().len(), STREAMS);
        assert_eq!(crew.missing(&[1, 2, 3]).await.unwrap().events, 0);
        let missing = crew.missing(&[2, 99]).await.unwrap();
        assert_eq!((missing.streams, missing.events), (all, all), "what never came is missing everywhere");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_event_is_counted_a_refused_node_is_left_alone_and_a_cut_stream_comes_back() {
    let platform = Platform::start().await;
    let mut crew = crew(&platform, Protocol::H1).await;
    let forger = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    platform.publish_as(&forger, "k-1", EventType::PeerRegistered, r#"{"peers":[]}"#);
    let report = crew.until(PATIENCE, |report| report.frames == STREAMS as u64).await.unwrap();
    assert_eq!((report.distrusted, report.in_order()), (STREAMS as u64, false));

    crew.forget().await.unwrap();
    crew.cut().await.unwrap();
    let report = crew.until(PATIENCE, |report| report.opened == STREAMS as u64).await.unwrap();
    assert_eq!((report.ended, report.frames), (0, 0), "the cursors were kept: {report:?}");
    platform.lock().nodes.clear();
    crew.cut().await.unwrap();
    crew.until(PATIENCE, |report| report.ended == STREAMS as u64).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bare_program_writes_to_as_many_sockets_as_were_opened() {
    let program = WorkerProgram {
        program: env!("CARGO_BIN_EXE_plexsphere-load").into(),
        arguments: vec!["stream-worker".into()],
    };
    let (mut readers, mut server) = (Crew::hire(&program, 0, 2).unwrap(), Crew::hire(&program, 0, 1).unwrap());
    let address = server.serve(None).await.unwrap();
    readers.connect(address, 20, 4, None).await.unwrap();
    let written = loop {
        let written = server.write("hello", 3, Duration::ZERO).await.unwrap();
        // The last connections may still be on their way into the accepting program.
        if written.writes == 60 {
            break written;
        }
    };
    assert!(written.short == 0 && written.cpu_nanos > 0, "{written:?}");
}
