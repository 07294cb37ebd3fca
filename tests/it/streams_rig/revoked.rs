//! Nodes that are revoked.

use std::time::{Duration, Instant};

use plexsphere_load::streams::{Crew, Figure, Habits, Identity, per_mille};
use plexsphere_load::transport::Protocol;

use super::{PATIENCE, count, print, worker_program};
use crate::installation::{EnrolledNode, Installation, client};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_node_is_refused_by_every_edge_and_its_stream_ends() {
    let size = count("STREAMS_RIG_REVOKED", 5);
    let installation = Installation::start(2, &[]).await;
    let (_, project) = installation.domain_and_project("revoked", "10.71.0.0/16").await;
    let mut nodes = Vec::new();
    for number in 0..size {
        nodes.push(installation.enrol(&project, &format!("node-{number}")).await);
    }
    let identities: Vec<Identity> = nodes.iter().map(identity).collect();
    let mut crew = Crew::hire(&worker_program(), size, 1).unwrap();
    let urls = (0..2).map(|edge| installation.http_url(edge)).collect();
    crew.open(&Habits::new(urls, None, Protocol::H1), &identities).await.unwrap();
    crew.all_live(PATIENCE).await.unwrap();

    let (mut refused, mut closed) = (Vec::new(), Vec::new());
    for (number, node) in nodes.iter().enumerate() {
        for edge in 0..2 {
            assert!(!refuses(&installation, edge, node).await);
        }
        installation.call("DELETE", &format!("/v1/resources/{}", node.resource), None, 204).await;
        let begun = Instant::now();
        let edges = futures_util::future::join_all((0..2).map(|edge| until_refused(&installation, edge, node)));
        let closing = crew.until(PATIENCE, |report| report.ended > number as u64);
        let (_, ended) = tokio::join!(
            async {
                edges.await;
                refused.push(micros(begun.elapsed()));
            },
            closing
        );
        ended.unwrap();
        closed.push(micros(begun.elapsed()));
    }
    refused.sort_unstable();
    closed.sort_unstable();
    let p99 = |sorted: &[u64]| Duration::from_micros(per_mille(sorted, 990));
    let figures = [
        Figure::count("Nodes revoked", size as u64),
        Figure::millis("from the answer to the refusal by both edges, p99", p99(&refused)).at_most(1_000.0),
        Figure::millis("from the answer to the end of the stream and the refusal of the next, p99", p99(&closed)),
    ];
    print("revocation", &figures);
    let report = crew.report().await.unwrap();
    assert_eq!((report.live, report.ended), (0, size as u64), "{:?}", report.happened);
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap()
}

fn identity(node: &EnrolledNode) -> Identity {
    Identity {
        node: node.node,
        bearer: node.bearer.clone().into(),
        key_id: node.answer["signing_key_id"].as_str().unwrap().to_owned(),
        key: node.signing_key.clone(),
    }
}

async fn until_refused(installation: &Installation, edge: usize, node: &EnrolledNode) {
    let deadline = Instant::now() + PATIENCE;
    while !refuses(installation, edge, node).await {
        assert!(Instant::now() < deadline, "edge {edge} refuses");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Whether an edge refuses the Node's key. A heartbeat without a word in it is judged behind the key, so a live one reads
/// as malformed.
async fn refuses(installation: &Installation, edge: usize, node: &EnrolledNode) -> bool {
    let url = format!("{}/v1/nodes/{}/heartbeat", installation.http_url(edge), node.node);
    let request = client().post(url).bearer_auth(&node.bearer).header("content-type", "application/json").body("{}");
    let answer = request.send().await.unwrap();
    match answer.status().as_u16() {
        400 => false,
        401 => {
            assert!(answer.text().await.unwrap().contains("nsk_revoked"));
            true
        }
        other => panic!("a heartbeat is answered {other}"),
    }
}
