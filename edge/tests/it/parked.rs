//! Event streams over HTTP/1.1, byte by byte: a client cannot tell that the edge writes to its socket itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use plexsphere_testkit as testkit;
use plexsphere_wire::directory::CredentialState;
use plexsphere_wire::envelope::EventType;
use plexsphere_wire::sse::{Item, Parser};
use plexsphere_wire::subjects;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{self, Rig, rig};
use crate::listeners::tls_client;

/// A client that knows of HTTP/1.1 as much as it must, and takes nothing amiss.
struct Raw<S> {
    stream: S,
    read: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    /// Sends a request for the Node's events and more behind it; the response's head.
    async fn open(stream: S, rig: &Rig, fields: &str, behind: &str) -> (Self, String) {
        let mut raw = Self { stream, read: Vec::new() };
        let (node, bearer) = (rig.node.node, rig.bearer());
        let request = format!("GET /v1/nodes/{node}/events HTTP/1.1\r\nhost: edge\r\nauthorization: {bearer}\r\n");
        raw.stream.write_all(format!("{request}{fields}\r\n{behind}").as_bytes()).await.unwrap();
        raw.stream.flush().await.unwrap();
        let head = raw.until(b"\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("\r\ntransfer-encoding: chunked\r\n"), "{head}");
        (raw, head)
    }

    async fn more(&mut self) -> bool {
        let read = tokio::time::timeout(Duration::from_secs(20), self.stream.read_buf(&mut self.read)).await;
        read.expect("something arrives").unwrap() > 0
    }

    /// Takes what was read up to and including `end`.
    async fn until(&mut self, end: &[u8]) -> String {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end) {
                return String::from_utf8(self.read.drain(..at + end.len()).collect()).unwrap();
            }
            assert!(self.more().await, "broken off within {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    /// The next chunk's bytes; `None` for the last chunk.
    async fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.until(b"\r\n").await;
        let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
        assert_eq!(line, format!("{size:X}\r\n"), "as the HTTP library writes it");
        while self.read.len() < size + 2 {
            assert!(self.more().await, "broken off within a chunk");
        }
        let chunk: Vec<u8> = self.read.drain(..size).collect();
        assert_eq!(self.read.drain(..2).collect::<Vec<_>>(), b"\r\n");
        (size > 0).then_some(chunk)
    }

    /// Reads until so many bytes have come.
    async fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut heard = Vec::new();
        while heard.len() < count {
            heard.extend(self.chunk().await.expect("the stream goes on"));
        }
        heard
    }

    /// Reads on to the next frame, and says its sequence.
    async fn next_id(&mut self) -> u64 {
        let items = Parser::default().feed(&self.chunk().await.expect("the stream goes on"));
        let ids: Vec<u64> = items
            .iter()
            .map(|item| match item {
                Item::Frame { id, .. } => id.parse().unwrap(),
                Item::Comment(_) => panic!("no comment is due"),
            })
            .collect();
        assert_eq!(ids.len(), 1, "one frame was published");
        ids[0]
    }

    async fn ends_cleanly(mut self) {
        assert_eq!(self.chunk().await, None);
        assert!(self.read.is_empty());
        assert!(!self.more().await, "and the connection is closed");
    }
}

async fn plain(rig: &Rig) -> TcpStream {
    TcpStream::connect(rig.addresses.http.unwrap()).await.unwrap()
}

async fn encrypted(rig: &Rig) -> tokio_rustls::client::TlsStream<TcpStream> {
    let tcp = TcpStream::connect(rig.addresses.https.unwrap()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls_client(rig)));
    connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap()
}

/// A client that has so little room that what it does not read soon waits at the edge.
async fn narrow(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    socket.connect(address).await.unwrap()
}

fn parked(rig: &Rig) -> u64 {
    count(rig, "plexsphere_edge_streams_parked")
}

fn count(rig: &Rig, name: &str) -> u64 {
    let metrics = rig.metrics();
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}

/// Everything that a client over HTTP/2 hears, which stays with the HTTP library.
async fn beside(rig: &Rig) -> hyper::body::Incoming {
    let request = http::Request::get(rig.path("events")).header("authorization", rig.bearer());
    let mut sender = harness::h2(rig.addresses.http.unwrap()).await;
    let response = sender.send_request(request.body(Default::default()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    // The connection ends with its last sender.
    tokio::spawn(async move {
        std::future::pending::<()>().await;
        drop(sender)
    });
    response.into_body()
}

async fn hears_as_over_http2(stream: impl AsyncRead + AsyncWrite + Unpin, rig: &Rig) {
    let mut other = beside(rig).await;
    let before = parked(rig);
    let (mut raw, _) = Raw::open(stream, rig, "", "").await;
    assert_eq!(raw.chunk().await.as_deref(), Some(&b":ok\n\n"[..]));
    testkit::eventually!(parked(rig) == before + 1, "the stream is parked");
    for round in 0..5 {
        let own = subjects::node_events(rig.domain, rig.node.node);
        let subject = if round % 2 == 0 { own } else { subjects::domain_events(rig.domain) };
        rig.publish(subject, EventType::PeerRegistered).await;
    }
    let mut expected = Vec::new();
    while expected.windows(2).filter(|pair| pair == b"\n\n").count() < 6 {
        expected.extend_from_slice(other.frame().await.unwrap().unwrap().data_ref().unwrap());
    }
    let expected = expected.strip_prefix(b":ok\n\n").unwrap();
    assert_eq!(raw.bytes(expected.len()).await, expected);
    let mut revoked = rig.node.clone();
    revoked.credentials[0].state = CredentialState::Revoked;
    harness::put_node(&rig.store, &revoked).await;
    tokio::time::timeout(Duration::from_secs(5), raw.ends_cleanly()).await.expect("closed within five seconds");
    testkit::eventually!(parked(rig) == before, "and gone");
    harness::put_node(&rig.store, &rig.node).await;
}

#[tokio::test]
async fn a_parked_stream_is_one_chunked_response_to_its_last_byte() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    hears_as_over_http2(plain(&rig).await, &rig).await;
    let closed = r#"plexsphere_edge_streams_closed_total{reason="revoked"}"#;
    testkit::eventually!(count(&rig, closed) == 2, "it and the one beside it say why they ended");
}

#[tokio::test]
async fn a_parked_stream_over_tls_is_one_chunked_response_to_its_last_byte() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    hears_as_over_http2(encrypted(&rig).await, &rig).await;
}

#[tokio::test]
async fn a_replay_runs_into_what_is_live_without_a_gap() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    let subject = subjects::domain_events(rig.domain);
    let mut sent = Vec::new();
    for _ in 0..40 {
        sent.push(rig.publish(subject.clone(), EventType::PeerRegistered).await);
    }
    let fields = format!("last-event-id: {}\r\n", sent[0]);
    let (mut raw, _) = Raw::open(plain(&rig).await, &rig, &fields, "").await;
    // What is live meets the stream while it is handed over.
    for _ in 0..10 {
        sent.push(rig.publish(subject.clone(), EventType::PeerRegistered).await);
    }
    let (mut parser, mut heard) = (Parser::default(), Vec::new());
    while heard.len() < sent.len() - 1 {
        for item in parser.feed(&raw.chunk().await.unwrap()) {
            if let Item::Frame { id, .. } = item {
                heard.push(id.parse::<u64>().unwrap());
            }
        }
    }
    assert_eq!(heard, sent[1..]);
}

#[tokio::test]
async fn an_idle_parked_stream_hears_keep_alives_and_its_leaving_is_noticed_at_once() {
    let _logs = testkit::logs::guard();
    let rig = rig(|config| config.events.keep_alive_millis = 200).await;
    let (mut raw, _) = Raw::open(plain(&rig).await, &rig, "", "").await;
    assert_eq!(raw.chunk().await.as_deref(), Some(&b":ok\n\n"[..]));
    for _ in 0..3 {
        assert_eq!(raw.chunk().await.as_deref(), Some(&b":keep-alive\n\n"[..]));
    }
    assert_eq!(parked(&rig), 1);
    drop(raw);
    testkit::eventually!((parked(&rig), count(&rig, "plexsphere_edge_streams")) == (0, 0), "it has left");
    assert_eq!(count(&rig, r#"plexsphere_edge_streams_closed_total{reason="client"}"#), 1);
    testkit::eventually!(count(&rig, "plexsphere_edge_connections") == 0, "and so has its connection");
}

#[tokio::test]
async fn a_drain_ends_parked_streams_as_if_complete() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    let (mut first, _) = Raw::open(plain(&rig).await, &rig, "", "").await;
    let (mut second, _) = Raw::open(encrypted(&rig).await, &rig, "", "").await;
    assert_eq!(first.chunk().await, second.chunk().await);
    testkit::eventually!(parked(&rig) == 2, "the streams are parked");
    rig.cancel.cancel();
    first.ends_cleanly().await;
    second.ends_cleanly().await;
}

#[tokio::test]
async fn what_a_client_says_behind_its_request_changes_nothing() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    let behind = "GET /v1/health HTTP/1.1\r\nhost: edge\r\n\r\n";
    let (mut raw, _) = Raw::open(plain(&rig).await, &rig, "", behind).await;
    assert_eq!(raw.chunk().await.as_deref(), Some(&b":ok\n\n"[..]));
    testkit::eventually!(parked(&rig) == 1, "the stream is parked");
    for _ in 0..3 {
        raw.stream.write_all(&[b'x'; 30 * 1024]).await.unwrap();
        let sequence = rig.publish(subjects::domain_events(rig.domain), EventType::PeerRegistered).await;
        assert_eq!(raw.next_id().await, sequence);
    }
    rig.cancel.cancel();
    raw.ends_cleanly().await;
    assert!(rig.seen.lock().is_empty(), "the second request was not heard");
}

#[tokio::test]
async fn a_client_of_http_1_0_hears_frames_without_chunks() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    let mut raw = Raw { stream: plain(&rig).await, read: Vec::new() };
    let (node, bearer) = (rig.node.node, rig.bearer());
    let request = format!("GET /v1/nodes/{node}/events HTTP/1.0\r\nhost: edge\r\nauthorization: {bearer}\r\n\r\n");
    raw.stream.write_all(request.as_bytes()).await.unwrap();
    assert!(!raw.until(b"\r\n\r\n").await.contains("chunked"));
    assert_eq!(raw.until(b":ok\n\n").await, ":ok\n\n");
    let sequence = rig.publish(subjects::domain_events(rig.domain), EventType::PeerRegistered).await;
    assert!(raw.until(b"\n\n").await.starts_with(&format!("id: {sequence}\n")));
    assert_eq!(parked(&rig), 0);
}

/// A client that takes nothing beside one that takes everything, until the first is closed for `reason`.
async fn stalls(rig: &Rig, reason: &str) {
    let (slow, _) = Raw::open(narrow(rig.addresses.http.unwrap()).await, rig, "", "").await;
    let (mut quick, _) = Raw::open(plain(rig).await, rig, "", "").await;
    assert_eq!(quick.chunk().await.as_deref(), Some(&b":ok\n\n"[..]));
    testkit::eventually!(parked(rig) == 2, "the streams are parked");
    let closed = format!(r#"plexsphere_edge_streams_closed_total{{reason="{reason}"}}"#);
    let payload = format!(r#"{{"peers":[{}"x"]}}"#, format!(r#""{}","#, "x".repeat(1_000)).repeat(300));
    let begun = std::time::Instant::now();
    while count(rig, &closed) == 0 {
        let sequence = rig.publish_payload(subjects::domain_events(rig.domain), &payload).await;
        let mut parser = Parser::default();
        let mut items = Vec::new();
        while items.is_empty() {
            items = parser.feed(&quick.chunk().await.unwrap());
        }
        assert!(matches!(&items[0], Item::Frame { id, .. } if *id == sequence.to_string()), "nothing is missed");
        assert!(begun.elapsed() < Duration::from_secs(30), "the slow one is closed");
    }
    testkit::eventually!(parked(rig) == 1, "only the slow one is gone");
    // What the system had taken for it arrives; the end of the response does not.
    let Raw { mut stream, mut read } = slow;
    let _ = stream.read_to_end(&mut read).await;
    assert!(!read.ends_with(b"\r\n0\r\n\r\n"), "it was broken off");
}

#[tokio::test]
async fn a_parked_client_that_stops_reading_is_closed_when_its_queue_is_full() {
    let _logs = testkit::logs::guard();
    let rig = rig(|config| config.events.write_timeout_millis = 600_000).await;
    stalls(&rig, "overflow").await;
}

#[tokio::test]
async fn a_parked_client_that_stops_reading_is_closed_at_its_deadline() {
    let _logs = testkit::logs::guard();
    let rig = rig(|config| {
        config.events.queue_bytes = 1 << 30;
        config.events.queue_frames = 1 << 20;
        config.events.write_timeout_millis = 500;
    })
    .await;
    stalls(&rig, "write_timeout").await;
}

#[tokio::test]
async fn a_parked_client_that_takes_nothing_cannot_hold_on_to_a_revoked_stream() {
    let _logs = testkit::logs::guard();
    let rig = rig(|config| {
        config.events.queue_bytes = 1 << 30;
        config.events.write_timeout_millis = 600_000;
    })
    .await;
    let (_slow, _) = Raw::open(narrow(rig.addresses.http.unwrap()).await, &rig, "", "").await;
    testkit::eventually!(parked(&rig) == 1, "the stream is parked");
    let payload = format!(r#"{{"peers":[{}"x"]}}"#, format!(r#""{}","#, "x".repeat(1_000)).repeat(300));
    for _ in 0..40 {
        rig.publish_payload(subjects::domain_events(rig.domain), &payload).await;
    }
    testkit::eventually!(count(&rig, "plexsphere_edge_frames_queued_total") == 40, "everything was handed on");
    let mut revoked = rig.node.clone();
    revoked.credentials[0].state = CredentialState::Revoked;
    harness::put_node(&rig.store, &revoked).await;
    let ended = async { testkit::eventually!(parked(&rig) == 0, "the stream is gone") };
    tokio::time::timeout(Duration::from_secs(5), ended).await.expect("within five seconds");
}
