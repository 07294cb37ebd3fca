//! Signing keys that change under Nodes: what an agent that pins one hears, connected and restarted, end to end.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use plexsphere_wire::envelope::{Envelope, EventType, VerifyingKey, parse_public_key};
use plexsphere_wire::sse;
use serde_json::{Value, json};

use crate::installation::{EnrolledNode, Installation, Role, client};

/// How long a frame that is due may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a frame that is not due is waited for.
const SILENCE: Duration = Duration::from_millis(500);

/// An agent as it starts: it believes the key that it received at its enrolment, and learns later ones from the stream.
struct Agent {
    bytes: futures_util::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    parser: sse::Parser,
    ready: VecDeque<sse::Item>,
    keys: HashMap<String, VerifyingKey>,
}

impl Agent {
    async fn start(installation: &Installation, node: &EnrolledNode) -> Self {
        let url = format!("{}/v1/nodes/{}/events", installation.http_url(0), node.node);
        let request = client().get(url).bearer_auth(&node.bearer).timeout(Duration::from_secs(120));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{:?}", answer.text().await);
        let pinned = (pinned(node), parse_public_key(&node.signing_key).unwrap());
        Self {
            bytes: answer.bytes_stream().boxed(),
            parser: sse::Parser::default(),
            ready: VecDeque::new(),
            keys: HashMap::from([pinned]),
        }
    }

    /// Starts until its first frame is an announcement of `kid`; the announcement's payload.
    async fn restart(installation: &Installation, node: &EnrolledNode, kid: &str) -> (Self, Value) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut agent = Self::start(installation, node).await;
            if let Ok(first) = tokio::time::timeout(SILENCE, agent.frame()).await {
                assert_eq!(first.unsigned.event, EventType::SigningKeyRotated, "the first frame");
                assert_eq!(first.unsigned.key_id, pinned(node));
                let payload = agent.believe(&first);
                if payload["key_id"] == kid {
                    return (agent, payload);
                }
            }
            assert!(Instant::now() < deadline, "no announcement of {kid}");
        }
    }

    /// The next frame, unverified.
    async fn frame(&mut self) -> Envelope {
        loop {
            while let Some(item) = self.ready.pop_front() {
                if let sse::Item::Frame { data, .. } = item {
                    return Envelope::parse(&data).unwrap();
                }
            }
            let bytes = self.bytes.next().await.expect("the stream goes on").unwrap();
            self.ready.extend(self.parser.feed(&bytes));
        }
    }

    /// Verifies a frame and learns the key that it brings; its payload.
    fn believe(&mut self, envelope: &Envelope) -> Value {
        let key = self.keys.get(&envelope.unsigned.key_id).expect("a known key");
        envelope.verify(key).unwrap();
        let payload: Value = serde_json::from_str(&envelope.unsigned.payload).unwrap();
        if envelope.unsigned.event == EventType::SigningKeyRotated {
            let key = parse_public_key(payload["public_key"].as_str().unwrap()).unwrap();
            self.keys.insert(payload["key_id"].as_str().unwrap().to_owned(), key);
        }
        payload
    }

    /// Believes frames until one of this type comes; under which key it was, and its payload.
    async fn hear(&mut self, event: EventType) -> (String, Value) {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.frame()).await.expect("the stream says something");
            let payload = self.believe(&next);
            if next.unsigned.event == event {
                return (next.unsigned.key_id, payload);
            }
        }
    }
}

fn pinned(node: &EnrolledNode) -> String {
    node.answer["signing_key_id"].as_str().unwrap().to_owned()
}

async fn rotate(installation: &Installation, domain: &str, force: bool) -> String {
    let arguments = ["signing", "rotate", "--domain", domain, "--force"];
    let rotated = installation.command(if force { &arguments } else { &arguments[..4] }).await.unwrap();
    rotated["key_id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_follows_rotations_connected_or_restarted_until_its_pinned_key_is_destroyed() {
    let mut installation = Installation::start(1, &[]).await;
    let (domain, project) = installation.domain_and_project("turning", "10.45.0.0/16").await;
    let node = installation.enrol(&project, "listener").await;
    let first = pinned(&node);

    let mut agent = Agent::start(&installation, &node).await;
    let second = rotate(&installation, &domain, false).await;
    let (under, payload) = agent.hear(EventType::SigningKeyRotated).await;
    assert_eq!((&under, &payload["key_id"], &payload["previous_key_id"]), (&first, &json!(second), &json!(first)));
    installation.enrol(&project, "peer-1").await;
    assert_eq!(agent.hear(EventType::PeerRegistered).await.0, second, "connected all the while");

    let (mut agent, payload) = Agent::restart(&installation, &node, &second).await;
    assert_eq!(payload["previous_key_id"], json!(first), "its key is in its window");
    assert!(payload["transition_expires"].is_string());
    installation.enrol(&project, "peer-2").await;
    assert_eq!(agent.hear(EventType::PeerRegistered).await.0, second, "restarted after one rotation");

    let third = rotate(&installation, &domain, true).await;
    assert_eq!(agent.hear(EventType::SigningKeyRotated).await.0, second);
    let (mut agent, payload) = Agent::restart(&installation, &node, &third).await;
    assert!(payload.get("previous_key_id").is_none() && payload.get("transition_expires").is_none(), "{payload}");
    installation.enrol(&project, "peer-3").await;
    assert_eq!(agent.hear(EventType::PeerRegistered).await.0, third, "restarted after two rotations");

    installation.command(&["signing", "destroy", "--domain", &domain, "--key", &first]).await.unwrap();
    installation.kill_and_restart(Role::Control).await;
    installation.kill_and_restart(Role::Edge(0)).await;
    installation.ready().await;
    let mut agent = Agent::start(&installation, &node).await;
    installation.enrol(&project, "peer-4").await;
    let frame = tokio::time::timeout(PATIENCE, agent.frame()).await.expect("the stream is open");
    assert_eq!((frame.unsigned.event, &frame.unsigned.key_id), (EventType::PeerRegistered, &third), "no announcement");
    assert!(!agent.keys.contains_key(&third), "and so it is mute");
    let state = format!("{}/v1/nodes/{}/state", installation.http_url(0), node.node);
    assert_eq!(client().get(state).bearer_auth(&node.bearer).send().await.unwrap().status(), 200, "pulls are fine");
    plexsphere_testkit::eventually!(
        installation.metrics(Role::Control).await.contains("plexsphere_control_nodes_unannounceable 1"),
        "the Node is counted"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_openbao_is_sealed_registrations_go_on_and_events_are_late_and_not_lost() {
    let (mut server, folder) = (plexsphere_testkit::openbao_own().await, tempfile::tempdir().unwrap());
    let token = folder.path().join("token");
    std::fs::write(&token, server.token()).unwrap();
    let installation = Installation::start(
        1,
        &[
            ("PLEXSPHERE_CONTROL_SIGNING_CUSTODY", "transit"),
            ("PLEXSPHERE_OPENBAO_URL", &server.url()),
            ("PLEXSPHERE_OPENBAO_TOKEN_FILE", token.to_str().unwrap()),
            ("PLEXSPHERE_OPENBAO_TRANSIT_MOUNT", server.transit_mount()),
        ],
    )
    .await;
    let (domain, project) = installation.domain_and_project("sealed", "10.46.0.0/16").await;
    let keys = installation.command(&["signing", "list", "--domain", &domain, "--output", "json"]).await.unwrap();
    assert_eq!(keys[0]["custody"], "transit");
    let node = installation.enrol(&project, "listener").await;
    let mut agent = Agent::start(&installation, &node).await;
    // Its own registration may be told to it before.
    let before = json!(installation.enrol(&project, "before").await.node);
    let named = |payload: &Value| payload["peers"].as_array().unwrap().iter().any(|peer| peer["node_id"] == before);
    while !named(&agent.hear(EventType::PeerRegistered).await.1) {}

    let seal = format!("{}/v1/sys/seal", server.url());
    let sealed = client().post(seal).header("x-vault-token", server.token()).send().await.unwrap();
    assert!(sealed.status().is_success());
    let late = installation.enrol(&project, "late").await;
    let said = tokio::time::timeout(SILENCE, agent.hear(EventType::PeerRegistered)).await;
    assert!(said.is_err(), "nothing is signed: {said:?}");
    server.restart().await;
    let (_, payload) = agent.hear(EventType::PeerRegistered).await;
    assert_eq!(payload["peers"][0]["node_id"], json!(late.node));
}
