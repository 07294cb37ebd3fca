//! Events that concern every stream, and streams that do not read them.

use std::time::{Duration, Instant};

use plexsphere_load::streams::{self, Cast, Figure, bare_writes};
use plexsphere_load::transport::Protocol;
use plexsphere_wire::NodeId;

use super::{PATIENCE, Rig, count, number, print, seconds};
use crate::installation::Role;

/// One stream in so many does not read.
const STALLED: usize = 100;
/// The payload of the events that fill a stalled stream.
const LARGE: usize = 30 * 1_024;

fn cast() -> Cast {
    let events = u32::try_from(number("STREAMS_RIG_EVENTS", 5)).unwrap();
    Cast { events, pause: Duration::from_millis(number("STREAMS_RIG_PAUSE_MILLIS", 50)), readers: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_stream_of_a_domain_hears_every_event_once_beside_a_bare_program_that_writes_as_much() {
    let size = count("STREAMS_RIG_BROADCAST", 200);
    let mut rig = Rig::start(1, size).await;
    let site = rig.site(false, Protocol::H1);
    rig.crew.open(&site.habits, &rig.identities).await.unwrap();
    rig.crew.all_live(PATIENCE).await.unwrap();
    let cast = cast();
    let heard = streams::broadcast(&mut rig.crew, &site, cast, &rig.producer).await.unwrap();
    assert_eq!(heard.report.frames, u64::from(cast.events) * size as u64);
    assert!(heard.report.in_order(), "{:?}", heard.report);
    rig.crew.close().await.unwrap();
    let bare = bare_writes(&mut rig.crew, &mut rig.server, size, (heard.report.frame_bytes, cast)).await.unwrap();
    let mut figures = heard.figures;
    figures.push(Figure::new("processor time of a bare program per write", bare / 1_000.0, "µs"));
    figures.push(Figure::new("delivery beside a bare write", heard.nanos_per_delivery / bare, "times").at_most(1.15));
    print(&format!("broadcast to {size} streams, HTTP/1.1"), &figures);
    rig.crew.close().await.unwrap();

    latency(&mut rig).await;
    one_node(&mut rig).await;
}

/// From the commit to the last stream.
async fn latency(rig: &mut Rig) {
    let size = count("STREAMS_RIG_LATENCY", 100).min(rig.identities.len());
    let site = rig.site(false, Protocol::H1);
    rig.crew.open(&site.habits, &rig.identities[..size]).await.unwrap();
    rig.crew.all_live(PATIENCE).await.unwrap();
    let heard = streams::broadcast(&mut rig.crew, &site, cast(), &rig.producer).await.unwrap();
    print(&format!("latency to the last of {size} streams"), &heard.figures);
    rig.crew.close().await.unwrap();
}

/// From the commit to the frame, for one Node that is told very much.
async fn one_node(rig: &mut Rig) {
    let (rate, time) = (number("STREAMS_RIG_NODE_EVENTS_PER_SECOND", 100), seconds("STREAMS_RIG_NODE_SECONDS", 2));
    let site = rig.site(false, Protocol::H1);
    rig.crew.open(&site.habits, &rig.identities[..1]).await.unwrap();
    rig.crew.all_live(PATIENCE).await.unwrap();
    let (node, all) = (rig.identities[0].node, rate * time.as_secs());
    let (begun, mut sent) = (Instant::now(), 0);
    while sent < all {
        let due = u64::try_from(begun.elapsed().as_millis()).unwrap() * rate / 1_000;
        let batch = due.min(all).saturating_sub(sent);
        // As many transactions as are due, each with one event, by eight writers.
        futures_util::future::join_all((0..batch.min(8)).map(|_| rig.producer.tell(node, 64, 1))).await;
        sent += batch.min(8);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = begun.elapsed();
    let report = rig.crew.until(PATIENCE, |report| report.own >= all).await.unwrap();
    assert_eq!(report.own, all);
    assert!(report.in_order(), "{report:?}");
    let figures = [
        Figure::new("events written per second", all as f64 / took.as_secs_f64(), "1/s"),
        Figure::millis("from the writing to the frame, p50", report.latency.per_mille(500)),
        Figure::millis("from the writing to the frame, p99", report.latency.per_mille(990)).at_most(20.0),
    ];
    print("events for one Node", &figures);
    rig.crew.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_do_not_read_are_closed_lose_nothing_and_trouble_nobody() {
    let size = count("STREAMS_RIG_STALLED", 200);
    let mut rig = Rig::start(1, size).await;
    let mut site = rig.site(false, Protocol::H1);
    site.habits.stallable = Some(STALLED);
    let stalled = rig.crew.stallable(&rig.identities, STALLED);
    rig.crew.open(&site.habits, &rig.identities).await.unwrap();
    rig.crew.all_live(PATIENCE).await.unwrap();
    let before = streams::broadcast(&mut rig.crew, &site, cast(), &rig.producer).await.unwrap();

    rig.crew.stall(true).await.unwrap();
    let readers = (size - stalled.len()) as u64;
    let cast = Cast { readers: Some(readers), ..cast() };
    let during = streams::broadcast(&mut rig.crew, &site, cast, &rig.producer).await.unwrap();
    let begun = Instant::now();
    let told = fill(&mut rig, &stalled).await;
    let closed = begun.elapsed();
    rig.producer.broadcast().await;
    rig.producer.published(PATIENCE).await;
    let head = rig.head().await;
    rig.crew.watch(head).await.unwrap();
    rig.crew.stall(false).await.unwrap();
    // The stalled streams also catch up with what was sent before the others were counted anew.
    let (all, waves) = (size as u64, cast.events as usize + 1);
    let full = |report: &streams::Report| whole(report, all).count() >= waves && report.own >= told;
    let report = rig.crew.until(PATIENCE, full).await.unwrap();
    let missing = rig.crew.missing(&whole(&report, all).collect::<Vec<_>>()).await.unwrap();
    let figures = [
        Figure::count("streams that do not read", stalled.len() as u64),
        Figure::millis("the others' latency before, p99 of the last", before.last_p99),
        Figure::millis("the others' latency meanwhile, p99 of the last", during.last_p99),
        Figure::count("large events until they were closed, for each", told / stalled.len() as u64),
        Figure::new("closed after", closed.as_secs_f64(), "s"),
        Figure::count("events missing after their return", missing.events),
    ];
    print(&format!("{size} streams, one in {STALLED} stalled"), &figures);
    assert_eq!((missing.events, report.own), (0, told));
    assert!(report.in_order(), "{report:?}");
}

/// The events that reached every stream.
fn whole(report: &streams::Report, streams: u64) -> impl Iterator<Item = u64> {
    report.waves.iter().filter(move |(_, wave)| wave.frames == streams).map(|(sequence, _)| *sequence)
}

/// Tells the stalled Nodes until the edge has closed every one of their streams; how many events that were.
async fn fill(rig: &mut Rig, stalled: &[NodeId]) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    let mut told = 0;
    while closed(rig).await < stalled.len() as u64 {
        assert!(Instant::now() < deadline, "{} of {} streams were closed", closed(rig).await, stalled.len());
        for node in stalled {
            rig.producer.tell(*node, LARGE, 10).await;
            told += 10;
        }
        rig.producer.published(PATIENCE).await;
    }
    told
}

async fn closed(rig: &Rig) -> u64 {
    let mut closed = 0;
    for reason in ["overflow", "write_timeout"] {
        let label = format!("reason=\"{reason}\"");
        closed += rig.installation.metric(Role::Edge(0), "plexsphere_edge_streams_closed_total", &label).await;
    }
    closed
}
