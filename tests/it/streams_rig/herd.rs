//! All streams of an edge that is killed come back at once.

use std::path::PathBuf;
use std::time::Duration;

use plexsphere_load::clock;
use plexsphere_load::streams::{self, BareTls, Begun, Figure, bare_handshakes, everybody_has_a_cursor};
use plexsphere_load::transport::Protocol;
use serde_json::Value;

use super::{PATIENCE, Rig, count, number, print, seconds};
use crate::installation::Role;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_a_killed_edge_come_back_and_miss_nothing_while_nobody_asks_the_database() {
    let size = count("STREAMS_RIG_HERD", 200);
    let mut rig = Rig::start(1, size).await;
    let site = rig.site(true, Protocol::H1);
    let file = |name| PathBuf::from(rig.installation.path(name));
    let tls = BareTls { certificate: file("server.pem"), key: file("server.key"), ca_cert: file("server.pem") };
    let at_once = (size, site.habits.connects_at_once);
    let bare = bare_handshakes(&mut rig.crew, &mut rig.server, at_once, tls).await.unwrap();
    rig.crew.close().await.unwrap();

    rig.crew.open(&site.habits, &rig.identities).await.unwrap();
    rig.crew.all_live(PATIENCE).await.unwrap();
    everybody_has_a_cursor(&mut rig.crew, &rig.producer).await.unwrap();
    rig.installation.kill(Role::Edge(0)).await;
    rig.crew.until(PATIENCE, |report| report.live == 0).await.unwrap();
    let events = number("STREAMS_RIG_EVENTS", 5);
    for _ in 0..events {
        rig.producer.broadcast().await;
    }
    rig.producer.published(PATIENCE).await;
    let head = rig.head().await;
    rig.crew.watch(head).await.unwrap();

    // Nobody but control has the database: while it stands still, no connect can have asked.
    rig.installation.freeze(Role::Control, true);
    // A statement that was on its way has begun by then.
    let before = requests(&rig).await;
    let frozen = rig.producer.database_time().await;
    let at_micros = clock::unix_micros();
    rig.installation.start_again(Role::Edge(0));
    let begun = Begun { at_micros, edges: rig.edge_pids() };
    let herd = streams::herd(&mut rig.crew, begun).await.unwrap();
    let (asking, asked) = (rig.producer.asking_since(frozen).await, requests_since(&rig, &before).await);
    rig.installation.freeze(Role::Control, false);

    let report = rig.crew.report().await.unwrap();
    let missing = rig.crew.missing(&report.waves.keys().copied().collect::<Vec<_>>()).await.unwrap();
    let mut figures = herd.figures;
    figures.extend([
        Figure::new("as many bare TLS handshakes", bare.as_secs_f64(), "s"),
        Figure::new("99 % back beside them", herd.most.as_secs_f64() / bare.as_secs_f64(), "times").at_most(2.0),
        Figure::count("clients that asked the database meanwhile", asking.unsigned_abs()),
        Figure::count("messages that the edge sent to NATS, requests to JetStream among them", asked.messages),
        Figure::count("requests to the JetStream API, of everybody", asked.api),
        Figure::count("events while the edge was down", events),
        Figure::count("events missing", missing.events),
        Figure::count("events doubled or out of order", report.repeated + report.backwards),
    ]);
    print(&format!("kill -9 of an edge with {size} streams, TLS; control stands still until all are back"), &figures);
    assert_eq!((report.waves.len() as u64, missing.events, report.ended), (events, 0, 0), "{report:?}");
    assert_eq!(asking, 0, "nobody asks the database");
    assert!(report.in_order() && report.frames == events * size as u64, "{report:?}");
    rig.crew.close().await.unwrap();
    rig.installation.ready().await;
    steady(&mut rig).await;
}

/// Agents cut their streams themselves, every half minute.
async fn steady(rig: &mut Rig) {
    let size = count("STREAMS_RIG_STEADY", 200).min(rig.identities.len());
    let mut site = rig.site(true, Protocol::H1);
    let period = seconds("STREAMS_RIG_CUT_SECONDS", 2);
    site.habits.cut_after_millis = u64::try_from(period.as_millis()).ok();
    rig.crew.open(&site.habits, &rig.identities[..size]).await.unwrap();
    rig.crew.until(PATIENCE, |report| report.opened >= report.streams).await.unwrap();
    let figures = streams::steady(&mut rig.crew, &site, seconds("STREAMS_RIG_REST", 4)).await.unwrap();
    print(&format!("{size} streams, TLS, each cut every {period:?}"), &figures);
    let report = rig.crew.report().await.unwrap();
    assert!(report.opened > 0 && report.ended == 0, "{:?}", report.happened);
    rig.crew.close().await.unwrap();
}

/// What NATS has counted.
struct Requests {
    /// Messages of each connection to it, by number.
    of_connection: std::collections::BTreeMap<u64, u64>,
    api: u64,
}

struct Asked {
    messages: u64,
    api: u64,
}

async fn requests(rig: &Rig) -> Requests {
    let monitor = rig.installation.nats.monitor_url();
    let get = async |path: &str| -> Value {
        let answer = crate::installation::client().get(format!("{monitor}{path}")).send().await.unwrap();
        answer.json().await.unwrap()
    };
    let connections = get("/connz?limit=1024").await;
    let connections = connections["connections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|connection| (connection["cid"].as_u64().unwrap(), connection["in_msgs"].as_u64().unwrap()));
    Requests { of_connection: connections.collect(), api: get("/jsz").await["api"]["total"].as_u64().unwrap_or(0) }
}

/// The edge is the only one that has connected since.
async fn requests_since(rig: &Rig, before: &Requests) -> Asked {
    // The monitor's numbers follow a moment later.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let now = requests(rig).await;
    let fresh = now.of_connection.iter().filter(|(cid, _)| !before.of_connection.contains_key(*cid));
    Asked { messages: fresh.map(|(_, messages)| messages).sum(), api: now.api - before.api }
}
