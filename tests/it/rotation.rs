//! A Node's key is replaced: from the operator's request, over its own stream, to what its peers hear and pull.

use std::io::Write as _;

use data_encoding::BASE64;
use flate2::Compression;
use flate2::write::GzEncoder;
use plexsphere_wire::envelope::EventType;
use serde_json::{Value, json};

use crate::answers::send;
use crate::events::Stream;
use crate::installation::{EnrolledNode, Installation, client};

/// Offers a key as an agent does, compressed.
async fn offer(installation: &Installation, node: &EnrolledNode, key: &str) -> Value {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(json!({ "new_public_key": key }).to_string().as_bytes()).unwrap();
    let request = client()
        .post(format!("{}/v1/keys/rotate", installation.http_url(0)))
        .bearer_auth(&node.bearer)
        .header("content-type", "application/json")
        .header("content-encoding", "gzip")
        .body(packed.finish().unwrap());
    let answer = send(request).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_hears_that_its_key_is_asked_for_and_its_peers_hear_and_pull_the_new_one() {
    const ROTATION: [EventType; 2] = [EventType::RotateKeys, EventType::PeerKeyRotated];
    let installation = Installation::start(1, &[]).await;
    let (_, project) = installation.domain_and_project("rotating", "10.48.0.0/16").await;
    let (node, peer) = (installation.enrol(&project, "node").await, installation.enrol(&project, "peer").await);
    let url = installation.http_url(0);
    let mut own = Stream::open(&url, &node, None).await;
    let mut others = Stream::open(&url, &peer, None).await;
    let asked = installation.call("POST", &format!("/v1/nodes/{}/keys/rotate", node.node), None, 200).await;
    let (event, told) = own.event(&ROTATION).await;
    assert_eq!((event, &told["rotation_id"]), (EventType::RotateKeys, &asked["rotation_id"]));

    let key = BASE64.encode(&[9; 32]);
    let receipt = offer(&installation, &node, &key).await;
    assert_eq!(receipt["rotation_id"], asked["rotation_id"]);
    // The first of both types that a peer hears: what the Node alone was asked is not for others.
    let (event, told) = others.event(&ROTATION).await;
    assert_eq!(event, EventType::PeerKeyRotated);
    let expected = json!({
        "node_id": node.node, "public_key": key, "rotation_id": receipt["rotation_id"],
        "kid": receipt["kid"], "wrap_key_version": receipt["wrap_key_version"],
    });
    assert_eq!(told["peers"], json!([expected]));
    let state = send(client().get(format!("{url}/v1/nodes/{}/state", peer.node)).bearer_auth(&peer.bearer)).await;
    assert_eq!(state.json()["peers"][0]["public_key"], key);
    assert_eq!(offer(&installation, &node, &key).await, receipt);
}
