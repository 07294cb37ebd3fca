//! Streams under a flow of events, while edges, control and NATS are killed at random.

use std::time::{Duration, Instant};

use plexsphere_load::streams::{Figure, everybody_has_a_cursor};
use plexsphere_load::transport::Protocol;
use rand::Rng as _;
use tokio_util::sync::CancellationToken;

use super::{PATIENCE, Producer, Rig, count, number, print, seconds};
use crate::installation::{Installation, Role};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_hears_every_event_once_in_order_and_verified_while_edges_control_and_nats_are_killed() {
    let size = count("STREAMS_RIG_FIRE_NODES", 100);
    let mut rig = Rig::start(2, size).await;
    let site = rig.site(true, Protocol::H1);
    rig.crew.open(&site.habits, &rig.identities).await.unwrap();
    rig.crew.all_live(PATIENCE).await.unwrap();
    everybody_has_a_cursor(&mut rig.crew, &rig.producer).await.unwrap();

    let before = rig.producer.written();
    let time = seconds("STREAMS_RIG_SECONDS", 12);
    let stop = CancellationToken::new();
    let killing = async {
        let kills = kill_at_random(&mut rig.installation, time).await;
        stop.cancel();
        kills
    };
    let (kills, ()) = tokio::join!(killing, write(&rig.producer, &stop));
    let written = rig.producer.written() - before;
    rig.installation.ready().await;
    rig.producer.published(PATIENCE).await;
    let all = size as u64;
    let report = rig
        .crew
        .until(PATIENCE, |report| {
            report.waves.len() as u64 >= written && report.waves.values().all(|wave| wave.frames >= all)
        })
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", rig.installation.tail(Role::Edge(0))));
    let missing = rig.crew.missing(&report.waves.keys().copied().collect::<Vec<_>>()).await.unwrap();
    let figures = [
        Figure::count("kills", kills),
        Figure::count("events written", written),
        Figure::count("events on the stream", report.waves.len() as u64),
        Figure::count("deliveries", report.frames),
        Figure::count("streams opened", report.opened),
        Figure::millis("from the writing to the frame, p50", report.latency.per_mille(500)),
        Figure::millis("from the writing to the frame, p99", report.latency.per_mille(990)),
        Figure::count("events missing", missing.events),
        Figure::count("events doubled or out of order", report.repeated + report.backwards),
        Figure::count("events that are not believed", report.distrusted),
        Figure::count("streams that a refusal has ended", report.ended),
    ];
    print(&format!("{size} Nodes, {time:?} of kills"), &figures);
    assert!(report.in_order(), "{report:?}");
    assert_eq!((report.waves.len() as u64, missing.events, report.ended), (written, 0, 0), "{:?}", report.happened);
    assert_eq!(report.frames, written * all);
}

async fn write(producer: &Producer, stop: &CancellationToken) {
    let pause = Duration::from_secs(1) / u32::try_from(number("STREAMS_RIG_EVENTS_PER_SECOND", 20)).unwrap();
    while !stop.is_cancelled() {
        producer.broadcast().await;
        tokio::time::sleep(pause).await;
    }
}

async fn kill_at_random(installation: &mut Installation, time: Duration) -> u64 {
    let until = Instant::now() + time;
    let mut kills = 0;
    while Instant::now() < until {
        let pause = rand::rng().random_range(500..2_500);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        // Each in turn, so that a short run kills each of them; the moments are random.
        match kills % 4 {
            0 => installation.kill_and_restart(Role::Edge(0)).await,
            1 => installation.kill_and_restart(Role::Control).await,
            2 => installation.kill_and_restart(Role::Edge(1)).await,
            _ => {
                installation.nats.kill9().await;
                installation.nats.restart().await;
            }
        }
        kills += 1;
    }
    kills
}
