use std::sync::atomic::Ordering;

use plexsphere_testkit as testkit;

use crate::harness::{self, Rig, browser, now, rig, send};

fn body(version: &str) -> String {
    let checksum = "ab".repeat(32);
    let now = now();
    format!(
        r#"{{"client_now":"{now}","binary_checksum":"{checksum}","binary_version":"{version}","nat_summary":{{"t":"none"}}}}"#
    )
}

fn beat(rig: &Rig, body: String) -> reqwest::RequestBuilder {
    browser()
        .post(rig.path("heartbeat"))
        .header("authorization", rig.bearer())
        .header("content-type", "application/json")
        .body(body)
}

async fn code(request: reqwest::RequestBuilder) -> (u16, String) {
    let answer = send(request).await;
    (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_heartbeat_is_settled_by_control() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    let answer = send(beat(&rig, body("1.0"))).await;
    assert_eq!(answer.status, 200);
    let verdict = answer.json();
    assert_eq!((&verdict["reconcile"], &verdict["rotate_keys"]), (&true.into(), &false.into()));
    assert!(verdict["accepted_at"].is_string());
}

#[tokio::test]
async fn gates_answer_in_their_order() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    let expect = |status: u16, code: &str| (status, code.to_owned());
    let other = format!("{}/v1/nodes/{}/heartbeat", rig.http(), rig.domain);
    let mismatch = browser().post(other).header("authorization", rig.bearer()).body(vec![b'x'; 9_000]);
    assert_eq!(code(mismatch).await, expect(403, "node_id_mismatch"));
    assert_eq!(code(beat(&rig, "x".repeat(9_000))).await, expect(413, "request_body_too_large"));
    assert_eq!(code(beat(&rig, "{}".into())).await, expect(400, "malformed_heartbeat_request"));
    let twice = body("1").replacen(r#""binary_version""#, r#""binary_version":"2","binary_version""#, 1);
    assert_eq!(code(beat(&rig, twice)).await, expect(400, "malformed_heartbeat_request"));
    assert_eq!(code(beat(&rig, body(" "))).await, expect(400, "binary_version_empty"));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, body("1").as_bytes()).unwrap();
    let zipped = beat(&rig, String::new()).header("content-encoding", "gzip").body(gzip.finish().unwrap());
    assert_eq!(code(zipped).await.0, 200);
}

#[tokio::test]
async fn no_verdict_is_a_fault_and_never_a_404() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    assert_eq!(code(beat(&rig, body("lost"))).await, (503, "datastore_unavailable".to_owned()));
}

#[tokio::test]
async fn a_batch_that_control_cannot_read_is_warned_of_and_counted() {
    let logs = testkit::logs::guard();
    logs.expect("control cannot read a heartbeat batch of ours");
    let rig = rig(|_| {}).await;
    assert_eq!(code(beat(&rig, body("malformed"))).await, (503, "datastore_unavailable".to_owned()));
    let warned = |line: &testkit::logs::Line| line.text.starts_with("control cannot read a heartbeat batch of ours");
    assert_eq!(logs.unexpected().len(), 0);
    assert!(logs.lines().iter().any(warned));
    let counted = r#"plexsphere_edge_heartbeat_batches_unsettled_total{reason="malformed"} 1"#;
    assert!(rig.metrics().contains(counted), "{}", rig.metrics());
}

#[tokio::test]
async fn heartbeats_of_one_second_share_a_batch() {
    let _logs = testkit::logs::guard();
    let rig = rig(|config| config.heartbeat.shards = 1).await;
    let nodes: Vec<_> = (0..40).map(|_| harness::new_node(rig.domain)).collect();
    for node in &nodes {
        harness::put_node(&rig.store, node).await;
    }
    let client = browser();
    let beats = nodes.iter().map(|node| {
        let path = format!("{}/v1/nodes/{}/heartbeat", rig.http(), node.node);
        let request = client.post(path).header("authorization", harness::bearer(node.node));
        let request = request.header("content-type", "application/json");
        async move {
            testkit::eventually!(
                request.try_clone().unwrap().body(body("1")).send().await.unwrap().status() == 200,
                "the heartbeat is settled"
            );
        }
    });
    futures_util::future::join_all(beats).await;
    assert!(rig.batches.load(Ordering::SeqCst) <= 6, "{} batches", rig.batches.load(Ordering::SeqCst));
}
