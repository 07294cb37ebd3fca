//! Signed events, end to end: out of the outbox, over the bus, through an edge, believed by a Node.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::StreamExt as _;
use plexsphere_wire::envelope::{Envelope, EventType, parse_public_key};
use plexsphere_wire::sse;

use crate::installation::{EnrolledNode, Installation, Role, client};

/// An event stream as a Node reads it: every envelope is verified.
pub(crate) struct Stream {
    bytes: futures_util::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    parser: sse::Parser,
    ready: VecDeque<sse::Item>,
    key: plexsphere_wire::envelope::VerifyingKey,
}

impl Stream {
    pub(crate) async fn open(url: &str, node: &EnrolledNode, last: Option<u64>) -> Self {
        let mut request = client()
            .get(format!("{url}/v1/nodes/{}/events", node.node))
            .bearer_auth(&node.bearer)
            .timeout(Duration::from_secs(120));
        if let Some(last) = last {
            request = request.header("last-event-id", last.to_string());
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{:?}", answer.text().await);
        let mut stream = Self {
            bytes: answer.bytes_stream().boxed(),
            parser: sse::Parser::default(),
            ready: VecDeque::new(),
            key: parse_public_key(&node.signing_key).unwrap(),
        };
        assert_eq!(stream.item().await, sse::Item::Comment("ok".into()));
        stream
    }

    async fn item(&mut self) -> sse::Item {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return item;
            }
            let next = tokio::time::timeout(Duration::from_secs(20), self.bytes.next());
            let bytes = next.await.expect("the stream says something").expect("the stream goes on").unwrap();
            self.ready.extend(self.parser.feed(&bytes));
        }
    }

    /// The next event that is of a type that `wanted` names, with its payload.
    pub(crate) async fn event(&mut self, wanted: &[EventType]) -> (EventType, serde_json::Value) {
        loop {
            let sse::Item::Frame { data, .. } = self.item().await else { continue };
            let envelope = Envelope::parse(&data).unwrap();
            envelope.verify(&self.key).unwrap();
            if wanted.contains(&envelope.unsigned.event) {
                return (envelope.unsigned.event, serde_json::from_str(&envelope.unsigned.payload).unwrap());
            }
        }
    }

    /// The next change of a peer: sequence, type, Node. One envelope may carry several.
    async fn changes(&mut self, count: usize) -> Vec<(u64, EventType, String)> {
        let mut changes = Vec::new();
        while changes.len() < count {
            let sse::Item::Frame { id, event, data } = self.item().await else { continue };
            let envelope = Envelope::parse(&data).unwrap();
            envelope.verify(&self.key).unwrap();
            assert_eq!(envelope.unsigned.event.as_str(), event);
            if matches!(envelope.unsigned.event, EventType::PeerRegistered | EventType::PeerDeregistered) {
                let payload: serde_json::Value = serde_json::from_str(&envelope.unsigned.payload).unwrap();
                for peer in payload["peers"].as_array().unwrap() {
                    let node = peer["node_id"].as_str().unwrap().to_owned();
                    changes.push((id.parse().unwrap(), envelope.unsigned.event, node));
                }
            }
        }
        changes
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_back_sees_every_later_event_once_and_in_order_across_restarts() {
    let mut installation = Installation::start(2, &[]).await;
    let (_, project) = installation.domain_and_project("home", "10.42.0.0/16").await;
    let listener = installation.enrol(&project, "listener").await;
    let mut stream = Stream::open(&installation.http_url(0), &listener, None).await;
    let first = installation.enrol(&project, "first").await;
    let seen = stream.changes(1).await;
    assert_eq!((seen[0].1, &seen[0].2), (EventType::PeerRegistered, &first.node.to_string()));
    let last = seen[0].0;
    drop(stream);

    let mut expected = Vec::new();
    for index in 0..3 {
        let node = installation.enrol(&project, &format!("more-{index}")).await;
        expected.push((EventType::PeerRegistered, node.node.to_string()));
    }
    installation.kill_and_restart(Role::Control).await;
    installation.kill_and_restart(Role::Edge(0)).await;
    installation.ready().await;
    installation.call("DELETE", &format!("/v1/resources/{}", first.resource), None, 204).await;
    expected.push((EventType::PeerDeregistered, first.node.to_string()));

    // By the edge that was killed and by the one that was not.
    for edge in 0..2 {
        let mut stream = Stream::open(&installation.http_url(edge), &listener, Some(last)).await;
        let seen = stream.changes(expected.len()).await;
        assert!(seen.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{seen:?}");
        assert!(seen.iter().all(|change| change.0 > last), "{seen:?}");
        let seen: Vec<_> = seen.into_iter().map(|(_, event, node)| (event, node)).collect();
        assert_eq!(seen, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_resource_is_deleted_is_refused_on_every_edge_and_its_stream_ends() {
    let installation = Installation::start(2, &[]).await;
    let (_, project) = installation.domain_and_project("gone", "10.43.0.0/16").await;
    let node = installation.enrol(&project, "machine").await;
    let mut stream = Stream::open(&installation.http_url(1), &node, None).await;
    installation.call("DELETE", &format!("/v1/resources/{}", node.resource), None, 204).await;
    let end = async { while let Some(Ok(_)) = stream.bytes.next().await {} };
    tokio::time::timeout(Duration::from_secs(5), end).await.expect("the stream ends within 5 s");
    for edge in 0..2 {
        let url = format!("{}/v1/nodes/{}/events", installation.http_url(edge), node.node);
        plexsphere_testkit::eventually!(
            {
                let answer = client().get(&url).bearer_auth(&node.bearer).send().await.unwrap();
                answer.status() == 401 && answer.text().await.unwrap().contains("nsk_revoked")
            },
            "the key reads as revoked"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_who_follows_a_node_leaves_a_row_on_the_chain_of_its_domain() {
    let installation = Installation::start(1, &[]).await;
    let (domain, project) = installation.domain_and_project("watched", "10.44.0.0/16").await;
    let node = installation.enrol(&project, "machine").await;
    let own = Stream::open(&installation.http_url(0), &node, None).await;
    let url = format!("{}/v1/nodes/{}/events", installation.http_url(0), node.node);
    let answer = client().get(url).bearer_auth(installation.admin_token()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let db = plexsphere_kernel::Database::connect(&installation.database_url, 1).await.unwrap();
    let rows = async || -> Vec<(String, String, String)> {
        sqlx::query_as(
            "SELECT chain::text, object_id, reason FROM audit.entries WHERE relation = 'node.events.subscribe'",
        )
        .fetch_all(db.pool())
        .await
        .unwrap()
    };
    plexsphere_testkit::eventually!(!rows().await.is_empty(), "the row is chained");
    assert_eq!(rows().await, [(domain, node.node.to_string(), "granted".to_owned())], "and the Node's own leaves none");
    drop(own);
}
