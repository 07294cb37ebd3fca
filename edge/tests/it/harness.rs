//! An edge, a bus of its own, and a control that the test writes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::{self, stream};
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use futures_util::StreamExt as _;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use plexsphere_edge::probe::Probe;
use plexsphere_edge::{Addresses, Clock as _, Edge, EdgeConfig, EdgeDeps, SystemClock, TlsMaterial};
use plexsphere_testkit::{self as testkit, Answer, Answers};
use plexsphere_wire::directory::{
    Credential, CredentialState, DomainEntry, DomainKey, NodeEntry, domain_key, node_key,
};
use plexsphere_wire::envelope::{EventType, Unsigned, sign};
use plexsphere_wire::heartbeat::{
    ERROR_MALFORMED, HEADER_ERROR, HeartbeatBatch, HeartbeatVerdict, HeartbeatVerdicts, MAX_BATCH_BYTES,
};
use plexsphere_wire::nsk::{CredentialDigest, render_bearer};
use plexsphere_wire::telemetry::Signal;
use plexsphere_wire::{DomainId, EnvelopeId, NodeId, ProjectId, ResourceId, Timestamp, subjects};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

pub(crate) const NSK: [u8; 32] = [7; 32];

pub(crate) fn now() -> Timestamp {
    SystemClock::new().now()
}

/// What the stand-in was asked over HTTP: method, path, headers and body.
pub(crate) type Seen = Arc<Mutex<Vec<(String, String, http::HeaderMap, Bytes)>>>;

pub(crate) struct Rig {
    pub(crate) addresses: Addresses,
    pub(crate) jetstream: jetstream::Context,
    pub(crate) client: async_nats::Client,
    pub(crate) store: jetstream::kv::Store,
    pub(crate) node: NodeEntry,
    pub(crate) domain: DomainId,
    pub(crate) key: SigningKey,
    pub(crate) seen: Seen,
    pub(crate) batches: Arc<AtomicU32>,
    pub(crate) certificate: String,
    pub(crate) probes: Vec<Arc<Probe>>,
    pub(crate) registry: Registry,
    pub(crate) cancel: CancellationToken,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

pub(crate) async fn rig(change: impl FnOnce(&mut EdgeConfig)) -> Rig {
    let nats = testkit::nats().await;
    rig_on(nats.client().await, change).await
}

pub(crate) async fn rig_on(client: async_nats::Client, change: impl FnOnce(&mut EdgeConfig)) -> Rig {
    rig_with(client, Arc::new(SystemClock::new()), change).await
}

pub(crate) async fn rig_with(
    client: async_nats::Client,
    clock: Arc<dyn plexsphere_edge::Clock>,
    change: impl FnOnce(&mut EdgeConfig),
) -> Rig {
    let jetstream = jetstream::new(client.clone());
    let store = topology(&jetstream).await;
    let (key, domain) = (SigningKey::from_bytes(&[9; 32]), DomainId::mint(now()));
    let node = new_node(domain);
    put_node(&store, &node).await;
    put_domain(&store, domain, &key, 0).await;
    let (control, seen) = control().await;
    let batches = Arc::new(AtomicU32::new(0));
    heartbeat_control(&client, Arc::clone(&batches)).await;

    let issued = rcgen::generate_simple_self_signed(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
    let certificate = issued.cert.pem();
    let tls = TlsMaterial {
        certificate_pem: certificate.clone().into_bytes(),
        key_pem: issued.signing_key.serialize_pem().into_bytes(),
    };
    let mut config = EdgeConfig::default();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    config.listen.http = Some(any);
    config.listen.https = Some(any);
    config.proxy.control_url = format!("http://{control}");
    config.ingest.check_seconds = 1;
    config.events.check_millis = 100;
    config.events.drain_seconds = 0;
    change(&mut config);
    let deps = EdgeDeps { nats: client.clone(), tls: Some(tls), clock };
    let mut registry = Registry::default();
    let built = Edge::build(config, deps, &mut registry).unwrap();
    let (addresses, probes, cancel) = (built.addresses(), built.probes(), CancellationToken::new());
    tokio::spawn(built.run(cancel.clone()));
    let rig = Rig {
        addresses,
        jetstream,
        client,
        store,
        node,
        domain,
        key,
        seen,
        batches,
        certificate,
        probes,
        registry,
        cancel,
    };
    testkit::eventually!(rig.probes.iter().all(|probe| probe.ready()), "every probe passes");
    rig
}

async fn topology(jetstream: &jetstream::Context) -> jetstream::kv::Store {
    for signal in Signal::ALL {
        let config = stream::Config {
            name: subjects::telemetry_stream(signal).into(),
            subjects: vec![subjects::telemetry_all(signal)],
            retention: stream::RetentionPolicy::Interest,
            discard: stream::DiscardPolicy::New,
            ..Default::default()
        };
        jetstream.create_stream(config).await.unwrap();
    }
    for (name, durable) in EdgeConfig::default().ingest.durables {
        let config = pull::Config { durable_name: Some(durable), ..Default::default() };
        jetstream.create_consumer_on_stream(config, name).await.unwrap();
    }
    create_events(jetstream).await;
    let bucket = jetstream::kv::Config { bucket: subjects::DIRECTORY_BUCKET.into(), ..Default::default() };
    jetstream.create_key_value(bucket).await.unwrap()
}

pub(crate) async fn create_events(jetstream: &jetstream::Context) {
    let config = stream::Config {
        name: subjects::EVENTS_STREAM.into(),
        subjects: vec![subjects::EVENTS_ALL.into()],
        allow_direct: true,
        ..Default::default()
    };
    jetstream.create_stream(config).await.unwrap();
}

pub(crate) fn new_node(domain: DomainId) -> NodeEntry {
    let node = NodeId::mint(now());
    NodeEntry {
        node,
        domain,
        project: ProjectId::mint(now()),
        resource: ResourceId::mint(now()),
        credentials: vec![Credential { digest: CredentialDigest::of(node, &NSK), state: CredentialState::Live }],
        deregistered: false,
        pinned_kid: "k-1".into(),
    }
}

pub(crate) async fn put_node(store: &jetstream::kv::Store, node: &NodeEntry) {
    store.put(node_key(node.node), serde_json::to_vec(node).unwrap().into()).await.unwrap();
}

pub(crate) async fn put_domain(store: &jetstream::kv::Store, domain: DomainId, key: &SigningKey, announced_seq: u64) {
    use base64::Engine as _;
    let public_key = base64::engine::general_purpose::STANDARD.encode(key.verifying_key().to_bytes());
    let entry = DomainEntry {
        domain,
        keys: vec![DomainKey { kid: "k-1".into(), version: 1, public_key, believed_until: None }],
        announced_kid: "k-1".into(),
        announced_seq,
    };
    store.put(domain_key(domain), serde_json::to_vec(&entry).unwrap().into()).await.unwrap();
}

/// Control's HTTP side: remembers requests; 204 for an operator who says `Bearer pat_good`, an echo beside operators.
async fn control() -> (SocketAddr, Seen) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Seen::default());
    let kept = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request| control_answer(request, Arc::clone(&kept)));
                let builder = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (address, seen)
}

async fn control_answer(
    request: Request<hyper::body::Incoming>,
    seen: Seen,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let path = parts.uri.path_and_query().unwrap().to_string();
    let method = parts.method.to_string();
    let bearer = parts.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    seen.lock().push((method, path.clone(), parts.headers, body.clone()));
    let mut response = Response::new(Full::new(body));
    if path.starts_with("/internal/") {
        let (status, code) = match bearer.as_str() {
            "Bearer pat_good" => (204, ""),
            "Bearer pat_bad" => (403, "insufficient_relation"),
            "Bearer pat_lost" => (404, "not_found"),
            _ => (401, "unauthenticated"),
        };
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        if status != 204 {
            let instance = path.trim_start_matches("/internal");
            let document = format!(r#"{{"status":{status},"instance":"{instance}","code":"{code}"}}"#);
            *response.body_mut() = Full::new(document.into());
        }
    }
    response.headers_mut().insert("x-control", "yes".parse().unwrap());
    response.headers_mut().insert("proxy-authenticate", "Basic".parse().unwrap());
    Ok(response)
}

/// Control's heartbeat side: a verdict for every Node, but for one whose version is `lost`; a batch with a version
/// `malformed` cannot be read.
async fn heartbeat_control(client: &async_nats::Client, batches: Arc<AtomicU32>) {
    let mut requests = client.queue_subscribe(subjects::HEARTBEATS_ALL, subjects::CONTROL_QUEUE.into()).await.unwrap();
    let client = client.clone();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            batches.fetch_add(1, Ordering::SeqCst);
            assert!(request.payload.len() <= MAX_BATCH_BYTES);
            let batch: HeartbeatBatch = serde_json::from_slice(&request.payload).unwrap();
            if batch.heartbeats.iter().any(|heartbeat| heartbeat.binary_version == "malformed") {
                let mut headers = async_nats::HeaderMap::new();
                headers.insert(HEADER_ERROR, ERROR_MALFORMED);
                client.publish_with_headers(request.reply.unwrap(), headers, Bytes::new()).await.unwrap();
                continue;
            }
            let known = batch.heartbeats.iter().filter(|heartbeat| heartbeat.binary_version != "lost");
            let verdicts = known.map(|heartbeat| HeartbeatVerdict {
                node: heartbeat.node,
                accepted_at: heartbeat.received_at,
                reconcile: true,
                rotate_keys: false,
            });
            let reply = serde_json::to_vec(&HeartbeatVerdicts { verdicts: verdicts.collect() }).unwrap();
            client.publish(request.reply.unwrap(), reply.into()).await.unwrap();
        }
    });
}

// === what tests do with a rig ===

impl Rig {
    /// The body of the message at a place of the audit intake, as soon as it is there.
    pub(crate) async fn audit_row(&self, place: u64) -> Vec<u8> {
        let row = || async {
            let stream = self.jetstream.get_stream_no_info(subjects::AUDIT_INTAKE_STREAM).await.ok()?;
            stream.get_raw_message(place).await.ok()
        };
        testkit::eventually!(row().await.is_some(), "the row arrives");
        row().await.unwrap().payload.to_vec()
    }

    pub(crate) fn http(&self) -> String {
        format!("http://{}", self.addresses.http.unwrap())
    }

    pub(crate) fn bearer(&self) -> String {
        bearer(self.node.node)
    }

    pub(crate) fn path(&self, operation: &str) -> String {
        format!("{}/v1/nodes/{}/{operation}", self.http(), self.node.node)
    }

    /// The metrics as a scraper reads them.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    pub(crate) async fn publish(&self, subject: String, event: EventType) -> u64 {
        self.publish_signed(subject, event, &self.key).await
    }

    pub(crate) async fn publish_signed(&self, subject: String, event: EventType, key: &SigningKey) -> u64 {
        self.publish_issued(subject, event, key, now()).await
    }

    pub(crate) async fn publish_issued(
        &self,
        subject: String,
        event: EventType,
        key: &SigningKey,
        issued_at: Timestamp,
    ) -> u64 {
        self.publish_under("k-1", subject, event, (key, issued_at)).await
    }

    pub(crate) async fn publish_under(
        &self,
        kid: &str,
        subject: String,
        event: EventType,
        signed: (&SigningKey, Timestamp),
    ) -> u64 {
        self.publish_whole(kid, subject, (event, r#"{"peers":[]}"#), signed).await
    }

    pub(crate) async fn publish_payload(&self, subject: String, payload: &str) -> u64 {
        self.publish_whole("k-1", subject, (EventType::PeerRegistered, payload), (&self.key, now())).await
    }

    async fn publish_whole(
        &self,
        kid: &str,
        subject: String,
        (event, payload): (EventType, &str),
        (key, issued_at): (&SigningKey, Timestamp),
    ) -> u64 {
        let id = EnvelopeId::mint(now());
        let unsigned =
            Unsigned { id, event, domain: self.domain, key_id: kid.into(), issued_at, payload: payload.into() };
        let wire = sign(&unsigned.canonical_bytes().unwrap(), key);
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(subjects::HEADER_MSG_ID, id.to_string().as_str());
        self.jetstream.publish_with_headers(subject, headers, wire.into()).await.unwrap().await.unwrap().sequence
    }
}

pub(crate) fn bearer(node: NodeId) -> String {
    format!("Bearer {}", render_bearer("plexd", node, &NSK).as_str())
}

/// Sends a request whose answer ends, and compares that with what the edge's operations say of themselves.
pub(crate) async fn send(request: reqwest::RequestBuilder) -> Answer {
    static DOCUMENT: LazyLock<Arc<Answers>> = LazyLock::new(|| {
        let operations = plexsphere_api::edge_operations();
        Answers::of(plexsphere_api::document(&operations.iter().collect::<Vec<_>>(), "test"))
    });
    DOCUMENT.send(request).await.unwrap()
}

pub(crate) fn browser() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap()
}

/// A client over HTTP/2 with prior knowledge.
pub(crate) async fn h2(address: SocketAddr) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}
