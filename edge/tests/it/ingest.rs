use std::io::Write as _;

use futures_util::StreamExt as _;
use plexsphere_testkit as testkit;
use plexsphere_wire::directory::CredentialState;
use plexsphere_wire::intake::AuditIntake;
use plexsphere_wire::telemetry::Signal;
use plexsphere_wire::{NodeId, subjects};
use reqwest::StatusCode;

use crate::harness::{self, Rig, browser, now, rig, send};

const SENT_AT: &str = "x-plexsphere-sent-at";
const LINE: &str = r#"{"severity":"info","message":"up","timestamp":"2026-11-24T08:00:00.5Z"}"#;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn metrics(labels: &str) -> String {
    format!(r#"[{{"group":"agent_stats","name":"a","value":1,"labels":{labels},"timestamp":"2026-11-24T08:00:00Z"}}]"#)
}

fn post(rig: &Rig, operation: &str, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
    browser()
        .post(rig.path(operation))
        .header("authorization", rig.bearer())
        .header(SENT_AT, now().to_string())
        .body(body)
}

async fn code(request: reqwest::RequestBuilder) -> (u16, String, Option<String>) {
    let answer = send(request).await;
    assert!(answer.headers.contains_key("x-correlation-id"));
    assert_eq!(answer.headers["x-plexsphere-api-version"], "v1");
    let code = answer.json()["code"].as_str().unwrap_or("accepted").to_owned();
    (answer.status, code, answer.header("retry-after"))
}

#[tokio::test]
async fn a_batch_is_stored_as_received_under_its_origin() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    let wire = gzip(format!("{LINE}\n\n{LINE}").as_bytes());
    let response = post(&rig, "logs", wire.clone()).header("content-encoding", "GZIP").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    let receipt: serde_json::Value = response.json().await.unwrap();
    assert_eq!(receipt["records"], 2);

    // The same records once more, compressed otherwise: acknowledged, and stored once.
    let again = post(&rig, "logs", format!("{LINE}\n\n{LINE}")).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::ACCEPTED);

    let stream = rig.jetstream.get_stream(subjects::telemetry_stream(Signal::Logs)).await.unwrap();
    assert_eq!(stream.cached_info().state.messages, 1);
    let stored = stream.get_raw_message(1).await.unwrap();
    assert_eq!(stored.payload, wire, "the bytes as received");
    let origin = subjects::Origin { domain: rig.domain, project: rig.node.project, node: rig.node.node };
    assert_eq!(stored.subject.as_str(), subjects::telemetry(Signal::Logs, &origin));
    let header = |name: &str| stored.headers.get(name).map(|value| value.as_str().to_owned()).unwrap();
    assert_eq!(header(subjects::HEADER_ORIGIN), origin.header());
    assert_eq!(header(subjects::HEADER_PAYLOAD), "ndjson+gzip;v=1");
    assert_eq!(header(subjects::HEADER_RECORDS), "2");
    assert_eq!(header(subjects::HEADER_MSG_ID), header(subjects::HEADER_BATCH_ID));
}

#[tokio::test]
async fn a_forbidden_label_is_dropped_and_the_batch_encoded_anew() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    let body = metrics(r#"{"node_id":"evil","disk":"sda"}"#);
    assert_eq!(code(post(&rig, "metrics", body)).await.0, 202);
    let stream = rig.jetstream.get_stream(subjects::telemetry_stream(Signal::Metrics)).await.unwrap();
    let stored = stream.get_raw_message(1).await.unwrap();
    assert_eq!(stored.headers.get(subjects::HEADER_PAYLOAD).unwrap().as_str(), "ndjson+zstd;v=1");
    let text = String::from_utf8(zstd::decode_all(stored.payload.as_ref()).unwrap()).unwrap();
    assert!(text.contains("sda") && !text.contains("evil"), "{text}");
}

#[tokio::test]
async fn gates_answer_in_their_order() {
    let _logs = testkit::logs::guard();
    let rig = rig(|config| {
        config.quota.node_burst_bytes = 2_000_000;
        config.quota.node_bytes_per_second = 10_000;
    })
    .await;
    let strange = NodeId::mint(now());
    let bare = |operation: &str| browser().post(rig.path(operation));
    let expect = |status: u16, code: &str| (status, code.to_owned());
    let got = |outcome: (u16, String, Option<String>)| (outcome.0, outcome.1);

    assert_eq!(got(code(bare("logs")).await), expect(401, "unauthorized"));
    let raw = bare("logs").header("authorization", "Bearer nsk_plexd_short");
    assert_eq!(got(code(raw).await), expect(401, "unauthorized"));
    let wrong_key = {
        let text = plexsphere_wire::nsk::render_bearer("plexd", rig.node.node, &[8; 32]);
        bare("logs").header("authorization", format!("Bearer {}", text.as_str()))
    };
    assert_eq!(got(code(wrong_key).await), expect(401, "nsk_invalid"));
    // Nobody answers look-ups: a Node that is not in the map is a fault, not a refusal.
    let unknown = bare("logs").header("authorization", harness::bearer(strange));
    assert_eq!(code(unknown).await, (503, "datastore_unavailable".into(), Some("5".into())));

    let other = format!("{}/v1/nodes/{strange}/logs", rig.http());
    let mismatch = browser().post(other).header("authorization", rig.bearer()).header("content-encoding", "br");
    assert_eq!(got(code(mismatch).await), expect(403, "node_id_mismatch"));
    let encoding = bare("logs").header("authorization", rig.bearer()).header("content-encoding", "br");
    assert_eq!(got(code(encoding).await), expect(415, "ingest_encoding_unsupported"));
    let large = vec![b' '; 2 * 1024 * 1024];
    let unsent = bare("logs").header("authorization", rig.bearer()).body(large);
    assert_eq!(got(code(unsent).await), expect(400, "ingest_sent_at_invalid"));
    let invalid = post(&rig, "logs", gzip(b"x")[..8].to_vec()).header("content-encoding", "gzip");
    assert_eq!(got(code(invalid).await), expect(400, "ingest_encoding_invalid"));
    assert_eq!(got(code(post(&rig, "logs", "")).await), expect(400, "ingest_batch_malformed"));
    let extra = LINE.replacen('{', r#"{"email":"x","#, 1);
    assert_eq!(got(code(post(&rig, "logs", extra)).await), expect(400, "ingest_batch_malformed"));
    let many = vec![LINE; 5_001].join("\n");
    let many = post(&rig, "logs", gzip(many.as_bytes())).header("content-encoding", "gzip");
    assert_eq!(got(code(many).await), expect(413, "ingest_batch_too_many_records"));
    let bomb = gzip(&vec![b' '; 64 * 1024 * 1024]);
    assert!(bomb.len() < 1024 * 1024);
    let bomb = post(&rig, "logs", bomb).header("content-encoding", "gzip");
    assert_eq!(got(code(bomb).await), expect(413, "ingest_body_too_large"));

    // Empties the budget; the next batch is refused before it is inflated, but a body over the cap still is a 413.
    let full = vec![b'x'; 1_000_000];
    assert_eq!(got(code(post(&rig, "logs", full.clone())).await), expect(400, "ingest_batch_malformed"));
    let limited = code(post(&rig, "logs", full).header("content-encoding", "gzip")).await;
    assert_eq!((limited.0, limited.1.as_str()), (429, "per_node_rate_limited"));
    assert!((1..=300).contains(&limited.2.unwrap().parse::<u64>().unwrap()));
    let over = vec![b'x'; 1_048_577];
    assert_eq!(got(code(post(&rig, "logs", over)).await), expect(413, "ingest_body_too_large"));
}

#[tokio::test]
async fn a_domain_over_its_budget_is_told_the_dimension() {
    let _logs = testkit::logs::guard();
    let rig = rig(|config| {
        config.quota.domain_burst_bytes = 1_048_576;
        config.quota.domain_bytes_per_second = 1_000;
    })
    .await;
    assert_eq!(code(post(&rig, "logs", vec![b'x'; 1_000_000])).await.0, 400);
    let response = post(&rig, "logs", vec![b'x'; 500_000]).send().await.unwrap();
    assert_eq!(response.status(), 429);
    let body: serde_json::Value = response.json().await.unwrap();
    assert_eq!((&body["code"], &body["dimension"]), (&"capacity_exceeded".into(), &"observability_ingest".into()));
}

#[tokio::test]
async fn a_mismatch_leaves_a_row_with_the_correlation_id_of_the_answer() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    let other = format!("{}/v1/nodes/no-uuid/metrics", rig.http());
    let answer = browser().post(other).header("authorization", rig.bearer()).header("x-correlation-id", "c-1");
    assert_eq!(code(answer).await.0, 403);
    let row: AuditIntake = serde_json::from_slice(&rig.audit_row(1).await).unwrap();
    assert_eq!((row.domain, row.node, row.correlation_id.as_str()), (rig.domain, rig.node.node, "c-1"));
    assert_eq!((row.relation.as_str(), row.object_id.as_str()), ("telemetry_ingest", "no-uuid"));
}

#[tokio::test]
async fn a_revoked_key_is_refused_as_soon_as_the_directory_says_so() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    assert_eq!(code(post(&rig, "logs", LINE)).await.0, 202);
    let mut revoked = rig.node.clone();
    revoked.credentials[0].state = CredentialState::Revoked;
    harness::put_node(&rig.store, &revoked).await;
    testkit::eventually!(code(post(&rig, "logs", LINE)).await.1 == "nsk_revoked", "the key is refused");
}

#[tokio::test]
async fn a_node_that_the_map_misses_is_asked_for_at_control() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    let fresh = harness::new_node(rig.domain);
    let mut requests = rig.client.subscribe(subjects::DIRECTORY_LOOKUP).await.unwrap();
    let (client, known) = (rig.client.clone(), fresh.clone());
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let mine = request.payload.as_ref() == known.node.to_string().as_bytes();
            let reply = serde_json::to_vec(&mine.then_some(&known)).unwrap();
            client.publish(request.reply.unwrap(), reply.into()).await.unwrap();
        }
    });
    let ask = |node: NodeId| {
        browser()
            .post(format!("{}/v1/nodes/{node}/logs", rig.http()))
            .header("authorization", harness::bearer(node))
            .header(SENT_AT, now().to_string())
            .body(LINE)
    };
    assert_eq!(code(ask(fresh.node)).await.0, 202);
    assert_eq!(code(ask(NodeId::mint(now()))).await.1, "nsk_invalid");
}

#[tokio::test]
async fn without_an_acknowledgement_there_is_no_202() {
    let mut own = testkit::nats_own().await;
    let rig = harness::rig_on(own.client().await, |config| config.ingest.publish_timeout_millis = 500).await;
    assert_eq!(code(post(&rig, "logs", LINE)).await.0, 202);
    own.kill9().await;
    let outcome = code(post(&rig, "logs", LINE.replace("up", "down"))).await;
    assert_eq!(outcome, (503, "ingest_buffer_unavailable".into(), Some("5".into())));
    own.restart().await;
    testkit::eventually!(code(post(&rig, "logs", LINE.replace("up", "back"))).await.0 == 202, "service is back");
}

#[tokio::test]
async fn a_full_stream_refuses_for_thirty_seconds() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    let stream = rig.jetstream.get_stream(subjects::telemetry_stream(Signal::Logs)).await.unwrap();
    let mut config = stream.cached_info().config.clone();
    config.max_messages = 1;
    rig.jetstream.update_stream(&config).await.unwrap();
    assert_eq!(code(post(&rig, "logs", LINE)).await.0, 202);
    let outcome = code(post(&rig, "logs", LINE.replace("up", "more"))).await;
    assert_eq!(outcome, (503, "ingest_buffer_unavailable".into(), Some("30".into())));
}

#[tokio::test]
async fn a_deployment_without_telemetry_says_so_before_anything_else() {
    let _logs = testkit::logs::guard();
    let rig = rig(|config| config.ingest.enabled = false).await;
    let outcome = code(browser().post(rig.path("metrics"))).await;
    assert_eq!((outcome.0, outcome.1.as_str()), (501, "observability_ingest_not_provisioned"));
}
