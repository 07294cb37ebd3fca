use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use plexsphere_load::api::{Batch, EncodingChoice, NodeApi, OperatorApi, Registered, Registration, register};
use plexsphere_load::clock;
use plexsphere_load::ship::{Outcome, Shipper};
use plexsphere_load::transport::{BackoffPolicy, Client, Dialer, Protocol, TransportError, Trust};
use plexsphere_wire::ProjectId;
use plexsphere_wire::telemetry::{Encoding, Signal};
use tokio::time::Instant;

use crate::platform::{ADMIN, Platform};

pub(crate) const ALL: [Protocol; 3] = [Protocol::H1, Protocol::H2, Protocol::H3];

pub(crate) fn quick() -> BackoffPolicy {
    let (first, longest) = (Duration::from_millis(5), Duration::from_millis(20));
    BackoffPolicy { first, longest, jitter_percent: 25 }
}

pub(crate) fn client(platform: &Platform, protocol: Protocol) -> Arc<Client> {
    let dialer = Dialer::new(Trust::File(platform.ca.clone()));
    Arc::new(Client::new(&dialer, &platform.url(), protocol).unwrap())
}

pub(crate) async fn enrol(platform: &Platform, client: &Client) -> Registered {
    let token = platform.issue_token();
    let registration = Registration::new(ProjectId::mint(clock::now()), "web-1", &token);
    register(client, &registration, quick()).await.unwrap()
}

pub(crate) async fn node(platform: &Platform, protocol: Protocol) -> (NodeApi, Registered) {
    let client = client(platform, protocol);
    let registered = enrol(platform, &client).await;
    (NodeApi::new(client, registered.node, &registered.nsk).unwrap(), registered)
}

pub(crate) fn line(text: &str) -> Bytes {
    let line = serde_json::json!({ "severity": "info", "message": text, "timestamp": "2026-11-24T08:00:00Z" });
    Bytes::from(line.to_string())
}

fn version(protocol: Protocol) -> http::Version {
    match protocol {
        Protocol::H1 => http::Version::HTTP_11,
        Protocol::H2 => http::Version::HTTP_2,
        Protocol::H3 => http::Version::HTTP_3,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_enrols_lives_pulls_and_sends_over_every_protocol() {
    let platform = Platform::start().await;
    for protocol in ALL {
        let (api, registered) = node(&platform, protocol).await;
        let pull = api.state().await.unwrap();
        assert!(pull.starts_with(b"{"));
        for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Zstd] {
            let records = (0..50).map(|index| line(&format!("{protocol} {encoding:?} {index}"))).collect();
            let batch = Batch::encode(Signal::Logs, registered.node, records, EncodingChoice::Always(encoding));
            let receipt = api.post(&batch.unwrap(), clock::now()).await.unwrap();
            assert_eq!(receipt.unwrap().records, 50);
        }
        let state = platform.lock();
        let newest = state.accepted.last().unwrap();
        assert_eq!((newest.http, newest.node), (version(protocol), registered.node));
        assert_eq!(newest.encoding, "zstd");
    }
    assert_eq!(platform.lock().accepted.len(), 9);
}

#[tokio::test]
async fn http_1_and_2_also_work_in_the_clear_and_http_3_says_that_it_does_not() {
    let platform = Platform::start_with(false).await;
    let url = format!("http://127.0.0.1:{}", platform.address.port()).parse().unwrap();
    let dialer = Dialer::new(Trust::System);
    for protocol in [Protocol::H1, Protocol::H2] {
        let client = Client::new(&dialer, &url, protocol).unwrap();
        enrol(&platform, &client).await;
    }
    assert!(matches!(Client::new(&dialer, &url, Protocol::H3), Err(TransportError::Url(_))));
}

#[tokio::test]
async fn an_authority_that_was_not_given_is_not_believed() {
    let (platform, other) = (Platform::start().await, Platform::start().await);
    let dialer = Dialer::new(Trust::File(other.ca.clone()));
    for protocol in ALL {
        let client = Client::new(&dialer, &platform.url(), protocol).unwrap();
        let operator = OperatorApi::new(Arc::new(client), ADMIN).unwrap();
        let error = operator.create_domain("d", "10.0.0.0/16").await.unwrap_err();
        assert_eq!(error.word(), "transport_connect", "{protocol}: {error}");
    }
}

#[tokio::test]
async fn registration_tries_again_after_faults_with_the_same_nonce_and_key_and_stops_at_a_refusal() {
    let platform = Platform::start().await;
    let client = client(&platform, Protocol::H1);
    platform.refuse_next("register", 503, "signing_unavailable");
    platform.refuse_next("register", 429, "rate_limited");
    enrol(&platform, &client).await;
    let bodies = platform.lock().refused.clone();
    assert_eq!(bodies.len(), 2);
    assert_eq!(bodies[0], bodies[1]);
    let registration = Registration::new(ProjectId::mint(clock::now()), "web-1", "psb_spent");
    let error = register(&client, &registration, quick()).await.unwrap_err();
    assert_eq!(error.word(), "token_consumed");
    assert_eq!(platform.lock().registrations.len(), 2);
}

// I1
#[tokio::test]
async fn a_kept_batch_is_sent_again_byte_for_byte_and_a_large_one_in_halves() {
    let platform = Platform::start().await;
    let (api, _) = node(&platform, Protocol::H2).await;
    let mut shipper = Shipper::new(api, EncodingChoice::Agent, 10);
    let records: Vec<Bytes> = (0..100).map(|index| line(&format!("line {index}"))).collect();
    shipper.push_records(Signal::Logs, records.clone(), Instant::now()).unwrap();
    platform.refuse_next("logs", 503, "ingest_buffer_unavailable");
    let mut outcomes = Vec::new();
    shipper.flush(|_, outcome| outcomes.push(outcome.clone())).await;
    assert_eq!(outcomes, [Outcome::Kept { code: "ingest_buffer_unavailable".into() }]);
    shipper.flush(|_, _| {}).await;
    {
        let state = platform.lock();
        assert_eq!(state.refused[0], state.accepted[0].body);
    }
    shipper.push_records(Signal::Logs, records, Instant::now()).unwrap();
    platform.refuse_next("logs", 413, "ingest_body_too_large");
    shipper.flush(|_, _| {}).await;
    let counts: Vec<usize> = platform.lock().accepted.iter().map(|batch| batch.records.len()).collect();
    assert_eq!(counts, [100, 50, 50]);
    shipper.push_records(Signal::Logs, vec![line("x")], Instant::now()).unwrap();
    platform.refuse_next("logs", 400, "ingest_batch_malformed");
    shipper.flush(|_, outcome| assert!(matches!(outcome, Outcome::Dropped { .. }))).await;
    assert_eq!((shipper.waiting(), platform.lock().accepted.len()), (0, 3));
}
