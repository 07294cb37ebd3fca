//! A bus of its own, a receiver, and the tier between them.

use async_nats::HeaderMap;
use async_nats::jetstream;
use async_nats::jetstream::message::StreamMessage;
use plexsphere_pipelines::streams;
use plexsphere_pipelines::{Pipelines, PipelinesConfig, Route, Running, TopologyConfig};
use plexsphere_testkit::{TestNats, eventually};
use plexsphere_wire::subjects::{self, Origin};
use plexsphere_wire::telemetry::{Encoding, PayloadFormat, Signal, batch_id};
use plexsphere_wire::{DomainId, NodeId, ProjectId, Timestamp};
use prometheus_client::registry::Registry;

use plexsphere_testkit::receiver::Receiver;

pub(crate) struct World {
    pub(crate) nats: TestNats,
    pub(crate) client: async_nats::Client,
    pub(crate) jetstream: jetstream::Context,
    pub(crate) receiver: Receiver,
    pub(crate) config: PipelinesConfig,
    pub(crate) registry: Registry,
    _folder: tempfile::TempDir,
}

/// Small streams, so that many tests fit on one server.
pub(crate) fn topology() -> TopologyConfig {
    const BYTES: i64 = 16 << 20;
    TopologyConfig {
        metrics_max_bytes: BYTES,
        logs_max_bytes: BYTES,
        audit_max_bytes: BYTES,
        dead_max_bytes: BYTES,
        ..TopologyConfig::default()
    }
}

pub(crate) fn origin() -> Origin {
    let now = Timestamp::from_unix_seconds(1_795_507_200);
    Origin { domain: DomainId::mint(now), project: ProjectId::mint(now), node: NodeId::mint(now) }
}

pub(crate) fn metric(name: &str, value: f64) -> String {
    format!(r#"[{{"group":"node_resources","name":"{name}","value":{value},"timestamp":"2026-11-24T08:00:00Z"}}]"#)
}

pub(crate) fn log(message: &str) -> String {
    format!("{{\"severity\":\"info\",\"message\":\"{message}\",\"timestamp\":\"2026-11-24T08:00:00Z\"}}\n")
}

pub(crate) fn audit(action: &str) -> String {
    format!(
        "{{\"source\":\"auditd\",\"action\":\"{action}\",\"outcome\":\"ok\",\"timestamp\":\"2026-11-24T08:00:00Z\"}}\n"
    )
}

pub(crate) fn headers(signal: Signal, origin: &Origin, body: &[u8]) -> HeaderMap {
    let id = batch_id(signal, origin.node.as_bytes(), body);
    let mut headers = HeaderMap::new();
    headers.insert(subjects::HEADER_ORIGIN, origin.header());
    headers.insert(subjects::HEADER_SIGNAL, signal.as_str());
    headers.insert(subjects::HEADER_BATCH_ID, id.clone());
    headers.insert(subjects::HEADER_RECORDS, "1");
    headers.insert(subjects::HEADER_SENT_AT, "2026-11-24T08:00:00Z");
    headers.insert(subjects::HEADER_ACCEPTED_AT, "2026-11-24T08:00:01Z");
    headers.insert(subjects::HEADER_PAYLOAD, PayloadFormat::as_received(signal, Encoding::Identity).as_str());
    headers.insert(subjects::HEADER_MSG_ID, id);
    headers
}

impl World {
    /// Mimir and Loki are the receiver, the SIEM is off, pauses are short, the topology exists.
    pub(crate) async fn new() -> Self {
        Self::on(plexsphere_testkit::nats().await).await
    }

    pub(crate) async fn on(nats: TestNats) -> Self {
        let receiver = Receiver::start().await;
        let folder = tempfile::tempdir().unwrap();
        let mut config = PipelinesConfig { topology: topology(), backoff_base_ms: 50, ..PipelinesConfig::default() };
        config.mimir.url = Some(receiver.url.parse().unwrap());
        config.loki.url = Some(receiver.url.parse().unwrap());
        config.file.folder = folder.path().join("telemetry");
        let client = nats.client().await;
        let jetstream = jetstream::new(client.clone());
        streams::ensure(&jetstream, &config.topology).await.unwrap();
        Self { nats, client, jetstream, receiver, config, registry: Registry::default(), _folder: folder }
    }

    /// Turns the SIEM on, at the receiver.
    pub(crate) fn with_siem(mut self) -> Self {
        self.config.siem.url = Some(format!("{}/siem", self.receiver.url).parse().unwrap());
        self
    }

    /// Without Mimir and Loki.
    pub(crate) fn with_files(mut self) -> Self {
        self.config.mimir.url = None;
        self.config.loki.url = None;
        self
    }

    /// Starts the tier on a connection of its own and waits until it is ready.
    pub(crate) async fn start(&mut self) -> Running {
        let client = self.nats.client().await;
        self.registry = Registry::default();
        let running = Pipelines::start(self.config.clone(), client, &mut self.registry).await.unwrap();
        eventually!(running.probes().iter().all(|probe| probe.ready), "the tier is ready");
        running
    }

    pub(crate) async fn publish(&self, signal: Signal, origin: &Origin, body: &str) -> u64 {
        let headers = headers(signal, origin, body.as_bytes());
        self.publish_raw(&subjects::telemetry(signal, origin), headers, body.as_bytes()).await
    }

    pub(crate) async fn publish_raw(&self, subject: &str, headers: HeaderMap, body: &[u8]) -> u64 {
        let payload = body.to_vec().into();
        let ack = self.jetstream.publish_with_headers(subject.to_owned(), headers, payload).await.unwrap();
        ack.await.unwrap().sequence
    }

    /// Messages that the route's consumer has not acknowledged.
    pub(crate) async fn unacknowledged(&self, route: Route) -> u64 {
        let stream = self.jetstream.get_stream_no_info(route.stream()).await.unwrap();
        let info = stream.consumer_info(route.durable()).await.unwrap();
        info.num_pending + u64::try_from(info.num_ack_pending).unwrap()
    }

    pub(crate) async fn until_settled(&self, route: Route) {
        eventually!(self.unacknowledged(route).await == 0, "{route} has nothing left");
    }

    pub(crate) async fn dead_letters(&self) -> Vec<StreamMessage> {
        let Ok(stream) = self.jetstream.get_stream(subjects::DEAD_STREAM).await else { return Vec::new() };
        let state = &stream.cached_info().state;
        let mut letters = Vec::new();
        for sequence in state.first_sequence.max(1)..=state.last_sequence {
            letters.extend(stream.get_raw_message(sequence).await.ok());
        }
        letters
    }

    /// The value of a counter or gauge, 0 when it has no such line.
    pub(crate) fn metric(&self, line: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse::<f64>().ok());
        value.map_or(0, |value| format!("{value:.0}").parse().unwrap())
    }

    pub(crate) async fn end(self, running: Running) {
        running.shutdown().await;
        self.receiver.assert_no_violation();
    }
}

pub(crate) fn reason(letter: &StreamMessage) -> &str {
    letter.headers.get("Plexsphere-Dead-Reason").unwrap().as_str()
}
