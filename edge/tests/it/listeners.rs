use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use plexsphere_testkit as testkit;
use plexsphere_wire::envelope::EventType;
use plexsphere_wire::sse::{Item, Parser};
use plexsphere_wire::subjects;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::harness::{self, Rig, rig};

#[tokio::test]
async fn a_head_that_drips_in_is_cut_off() {
    let _logs = testkit::logs::guard();
    let rig = rig(|config| config.listen.head_timeout_seconds = 1).await;
    let mut stream = tokio::net::TcpStream::connect(rig.addresses.http.unwrap()).await.unwrap();
    stream.write_all(b"GET /v1/health HTTP/1.1\r\n").await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let drip = tokio::spawn(async move {
        while write.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), read.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the connection is closed");
    drip.abort();
}

#[tokio::test]
async fn a_refusal_is_read_although_the_body_was_not() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    let body = vec![b'x'; 2 * 1024 * 1024];
    let head = format!(
        "POST /v1/nodes/{}/logs HTTP/1.1\r\nhost: edge\r\nauthorization: {}\r\nx-plexsphere-sent-at: {}\r\n",
        rig.node.node,
        rig.bearer(),
        harness::now()
    );
    for (length, status) in [
        (format!("content-length: {}\r\n\r\n", body.len()), "413"),
        // Another gate, and a body of which nobody knows the length.
        ("content-encoding: br\r\ntransfer-encoding: chunked\r\n\r\n200000\r\n".to_owned(), "415"),
    ] {
        let request = format!("{head}{length}");
        for round in 0..5 {
            let plain = narrow(rig.addresses.http.unwrap()).await;
            let answer = send_all_then_read(plain, request.as_bytes(), &body).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "round {round}: {answer}");
        }
        let tcp = narrow(rig.addresses.https.unwrap()).await;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls_client(&rig)));
        let tls = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
        let answer = send_all_then_read(tls, request.as_bytes(), &body).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "tls: {answer}");
    }
}

/// A connection with so little room on the way that the rest of a large body meets a server that has answered already.
async fn narrow(address: SocketAddr) -> tokio::net::TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(128 * 1024).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.connect(address).await.unwrap()
}

async fn send_all_then_read(mut stream: impl AsyncRead + AsyncWrite + Unpin, head: &[u8], body: &[u8]) -> String {
    stream.write_all(head).await.unwrap();
    stream.write_all(body).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

pub(crate) fn tls_client(rig: &Rig) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(rig.certificate.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    builder
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

#[tokio::test]
async fn large_heads_and_long_paths_are_refused_with_problems() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    let long = format!("{}/v1/{}", rig.http(), "x".repeat(9_000));
    assert_eq!(harness::browser().get(long).send().await.unwrap().status(), 414);
    let large = harness::browser().get(rig.path("events")).header("x-large", "x".repeat(33_000));
    let response = large.send().await.unwrap();
    assert_eq!(response.status(), 431);
    assert!(response.headers().contains_key("x-correlation-id"));
}

#[tokio::test]
async fn http2_carries_a_stream_and_requests_beside_it() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    let mut sender = harness::h2(rig.addresses.http.unwrap()).await;
    let request =
        |path: String| http::Request::get(path).header("authorization", rig.bearer()).body(Default::default()).unwrap();
    let mut events = sender.send_request(request(rig.path("events"))).await.unwrap().into_body();
    let beside = sender.send_request(request(format!("{}/v1/health", rig.http()))).await.unwrap();
    assert_eq!(beside.headers()["x-control"], "yes");
    let sequence = rig.publish(subjects::domain_events(rig.domain), EventType::PeerRegistered).await;
    let mut parser = Parser::default();
    loop {
        let frame = events.frame().await.unwrap().unwrap();
        let items = parser.feed(frame.data_ref().unwrap());
        if items.iter().any(|item| matches!(item, Item::Frame { id, .. } if *id == sequence.to_string())) {
            break;
        }
    }
}

#[tokio::test]
async fn tls_offers_http3() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    let certificate = reqwest::Certificate::from_pem(rig.certificate.as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().add_root_certificate(certificate).build().unwrap();
    let port = rig.addresses.https.unwrap().port();
    let response = client.get(format!("https://localhost:{port}/v1/health")).send().await.unwrap();
    assert_eq!(response.version(), http::Version::HTTP_2);
    assert_eq!(response.headers()["alt-svc"], format!(r#"h3=":{port}"; ma=86400"#).as_str());
    assert!(response.headers().contains_key("strict-transport-security"));
    assert_eq!(rig.seen.lock()[0].2["x-forwarded-proto"], "https");
}

async fn quic(rig: &Rig) -> (h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>, quinn::Endpoint) {
    let mut tls = tls_client(rig);
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let mut endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    let connection = endpoint.connect(rig.addresses.http3.unwrap(), "localhost").unwrap().await.unwrap();
    let (mut driver, sender) = h3::client::new(h3_quinn::Connection::new(connection)).await.unwrap();
    tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
    (sender, endpoint)
}

#[tokio::test]
async fn http3_takes_batches_and_carries_streams() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    let (mut sender, _endpoint) = quic(&rig).await;
    let uri = |operation: &str| format!("https://localhost/v1/nodes/{}/{operation}", rig.node.node);
    let request = http::Request::post(uri("logs"))
        .header("authorization", rig.bearer())
        .header("x-plexsphere-sent-at", harness::now().to_string());
    let mut stream = sender.send_request(request.body(()).unwrap()).await.unwrap();
    let line = r#"{"severity":"info","message":"up","timestamp":"2026-11-24T08:00:00.5Z"}"#;
    stream.send_data(Bytes::from(line)).await.unwrap();
    stream.finish().await.unwrap();
    assert_eq!(stream.recv_response().await.unwrap().status(), 202);

    let request = http::Request::get(uri("events")).header("authorization", rig.bearer());
    let mut stream = sender.send_request(request.body(()).unwrap()).await.unwrap();
    stream.finish().await.unwrap();
    assert_eq!(stream.recv_response().await.unwrap().status(), 200);
    let sequence = rig.publish(subjects::domain_events(rig.domain), EventType::PeerRegistered).await;
    let mut parser = Parser::default();
    loop {
        let mut data = stream.recv_data().await.unwrap().unwrap();
        let items = parser.feed(&data.copy_to_bytes(data.remaining()));
        if items.iter().any(|item| matches!(item, Item::Frame { id, .. } if *id == sequence.to_string())) {
            break;
        }
    }
}
