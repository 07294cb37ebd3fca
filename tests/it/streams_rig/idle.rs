//! Streams that carry nothing but keep-alives.

use plexsphere_load::streams::idle;
use plexsphere_load::transport::Protocol;

use super::{Rig, count, print, seconds};

/// Streams of one edge, by a variable like `10000,19000`.
fn sizes() -> Vec<usize> {
    let text = std::env::var("STREAMS_RIG_IDLE").unwrap_or_else(|_| "200".to_owned());
    text.split(',').map(|size| size.trim().parse().expect("STREAMS_RIG_IDLE is a list of numbers")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_streams_stay_open_on_one_edge_in_the_clear_with_tls_and_over_http2() {
    let sizes = sizes();
    let mut rig = Rig::start(1, sizes.iter().copied().max().unwrap()).await;
    for size in sizes {
        for (title, tls, protocol, mark) in [
            ("HTTP/1.1", false, Protocol::H1, Some(2.5)),
            ("HTTP/1.1 with TLS", true, Protocol::H1, Some(12.0)),
            ("HTTP/2", false, Protocol::H2, None),
            ("HTTP/2 with TLS", true, Protocol::H2, None),
        ] {
            rig.fresh_edges().await;
            let mut site = rig.site(tls, protocol);
            site.memory_mark = mark;
            let rest = seconds("STREAMS_RIG_REST", 2);
            let figures = idle(&mut rig.crew, &site, &rig.identities[..size], rest).await.unwrap();
            print(&format!("{size} idle streams, {title}, one edge"), &figures);
            let report = rig.crew.report().await.unwrap();
            assert_eq!((report.live, report.opened), (size as u64, size as u64), "{:?}", report.happened);
            rig.crew.close().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_streams_spread_over_two_edges() {
    let size = count("STREAMS_RIG_TWO_EDGES", 100);
    let mut rig = Rig::start(2, size).await;
    let site = rig.site(false, Protocol::H1);
    let rest = seconds("STREAMS_RIG_REST", 2);
    let figures = idle(&mut rig.crew, &site, &rig.identities, rest).await.unwrap();
    print(&format!("{size} idle streams, HTTP/1.1, two edges"), &figures);
    for edge in rig.installation.edges() {
        let open = rig.installation.metric(edge, "plexsphere_edge_streams ", "").await;
        assert!(open.abs_diff(size as u64 / 2) <= 10, "{open} on {edge:?}");
    }
}
