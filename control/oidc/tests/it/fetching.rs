//! Each rule of the guarded client, against servers on loopback.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use plexsphere_oidc::{
    AddressKind, Fetch, FetchError, FetchSettings, MAX_ANSWER_BYTES, MAX_FETCHES_PER_HOST, Reach, Resolver, Secret,
};
use plexsphere_testkit::logs;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server that answers every connection with the same bytes and counts them.
struct Raw {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone)]
enum Reply {
    /// These bytes, then the end.
    Bytes(Vec<u8>),
    /// A body that grows for ever.
    Endless,
    /// Nothing.
    Silence,
}

impl Raw {
    async fn start(reply: Reply) -> Self {
        Self::at(Ipv4Addr::LOCALHOST, 0, reply).await
    }

    async fn at(address: Ipv4Addr, port: u16, reply: Reply) -> Self {
        let listener = TcpListener::bind((address, port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, reply.clone(), Arc::clone(&seen)));
            }
        });
        Self { port, heads }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/start", self.port)
    }

    fn requests(&self) -> usize {
        self.heads.lock().unwrap().len()
    }
}

async fn answer(mut stream: TcpStream, reply: Reply, seen: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    let mut buffer = [0; 4_096];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => head.extend_from_slice(&buffer[..read]),
        }
    }
    seen.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
    match reply {
        Reply::Bytes(bytes) => drop(stream.write_all(&bytes).await),
        Reply::Silence => drop(stream.read(&mut buffer).await),
        Reply::Endless => {
            let mut begun = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            // A byte at a time: no single read is ever late.
            while begun.is_ok() {
                begun = stream.write_all(b"1\r\nx\r\n").await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

fn ok(body: &[u8]) -> Reply {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    Reply::Bytes([head.as_bytes(), body].concat())
}

fn redirect(status: u16, place: &str) -> Reply {
    let head = format!("HTTP/1.1 {status} x\r\nlocation: {place}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    Reply::Bytes(head.into_bytes())
}

fn settings(reach: Reach) -> FetchSettings {
    FetchSettings { plain_http: true, reach, ..FetchSettings::default() }
}

fn local() -> Fetch {
    Fetch::new(settings(Reach::Loopback)).unwrap()
}

/// Answers with the next of its lists, the last one for ever.
struct Scripted {
    answers: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Scripted {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let answers = answers.iter().map(|list| list.iter().map(|text| text.parse().unwrap()).collect()).collect();
        Arc::new(Self { answers, asked: AtomicUsize::new(0) })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Resolver for Scripted {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(self.answers[turn.min(self.answers.len() - 1)].clone())
    }
}

#[tokio::test]
async fn an_answer_is_given_with_its_status_and_body() {
    let server = Raw::start(ok(b"{}")).await;
    let answer = local().get(&server.url()).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"{}"[..]));
    assert_eq!(format!("{answer:?}"), "Answer { status: 200, bytes: 2 }");
    let head = server.heads.lock().unwrap()[0].to_ascii_lowercase();
    assert!(head.contains("user-agent: plexsphere\r\n") && head.contains("accept: application/json\r\n"), "{head}");
    let missing = Raw::start(Reply::Bytes(b"HTTP/1.1 404 x\r\ncontent-length: 0\r\n\r\n".to_vec())).await;
    assert_eq!(local().get(&missing.url()).await.unwrap().status, 404);
}

#[tokio::test]
async fn what_is_no_plain_address_of_the_web_is_refused_before_anything_is_sent() {
    let fetch = local();
    for url in
        ["", "x", "/x", "ftp://x/", "file:///etc/passwd", "https://u@x/", "https://u:p@x/", "https://x/#f", "http://"]
    {
        assert_eq!(fetch.get(url).await.unwrap_err(), FetchError::Url, "{url}");
    }
    assert_eq!(fetch.get(&format!("https://x/{}", "y".repeat(2_048))).await.unwrap_err(), FetchError::Url);
}

#[tokio::test]
async fn plain_http_needs_a_setting() {
    let server = Raw::start(ok(b"{}")).await;
    let strict = Fetch::new(FetchSettings { reach: Reach::Loopback, ..FetchSettings::default() }).unwrap();
    assert_eq!(strict.get(&server.url()).await.unwrap_err(), FetchError::PlainHttp);
    let posted = strict.post_form(&server.url(), &[], None).await;
    assert_eq!(posted.unwrap_err(), FetchError::PlainHttp);
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn an_address_that_leads_inside_is_refused_in_every_spelling() {
    let server = Raw::start(ok(b"{}")).await;
    let strict = Fetch::new(settings(Reach::Public)).unwrap();
    for host in
        ["127.0.0.1", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost"]
    {
        let refused = strict.get(&format!("http://{host}:{}/", server.port)).await.unwrap_err();
        let inside = matches!(refused, FetchError::Inside { kind: AddressKind::Loopback, .. });
        assert!(inside && !refused.is_transient(), "{host}: {refused:?}");
    }
    for (url, kind) in [
        ("http://169.254.169.254/latest/meta-data", AddressKind::Metadata),
        ("https://10.0.0.1/", AddressKind::Private),
        ("https://[fe80::1]/", AddressKind::LinkLocal),
        ("https://0.0.0.0/", AddressKind::Reserved),
    ] {
        let refused = strict.get(url).await.unwrap_err();
        assert!(matches!(refused, FetchError::Inside { kind: found, .. } if found == kind), "{url}: {refused:?}");
    }
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn a_name_is_refused_when_one_of_its_addresses_leads_inside() {
    let log = logs::guard();
    log.expect("kept from leading inside");
    let server = Raw::start(ok(b"{}")).await;
    for (answers, kind) in [
        (&["127.0.0.1"][..], AddressKind::Loopback),
        (&["1.1.1.1", "127.0.0.1"], AddressKind::Loopback),
        (&["2606:4700::1111", "169.254.169.254"], AddressKind::Metadata),
        (&["64:ff9b::7f00:1"], AddressKind::Loopback),
    ] {
        let fetch = Fetch::with_resolver(settings(Reach::Public), Scripted::new(&[answers])).unwrap();
        let refused = fetch.get(&format!("http://idp.test:{}/", server.port)).await.unwrap_err();
        assert_eq!(refused, FetchError::Inside { host: "idp.test".to_owned(), kind });
    }
    let empty = Fetch::with_resolver(settings(Reach::Public), Scripted::new(&[&[]])).unwrap();
    let refused = empty.get("http://idp.test/").await.unwrap_err();
    assert!(refused.is_transient(), "{refused:?}");
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn the_connection_goes_to_the_judged_address_and_the_name_is_not_asked_twice() {
    let first = Raw::start(ok(b"first")).await;
    let second = Raw::at(Ipv4Addr::new(127, 0, 0, 2), first.port, ok(b"second")).await;
    let resolver = Scripted::new(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let fetch = Fetch::with_resolver(settings(Reach::Loopback), resolver.clone()).unwrap();
    let url = format!("http://rebinding.test:{}/", first.port);
    assert_eq!(&fetch.get(&url).await.unwrap().body[..], b"first");
    assert_eq!((resolver.asked(), second.requests()), (1, 0));
    assert_eq!(&fetch.get(&url).await.unwrap().body[..], b"second");
}

#[tokio::test]
async fn a_name_that_rebinds_is_judged_again_at_every_connection() {
    let log = logs::guard();
    log.expect("kept from leading inside");
    let server = Raw::start(ok(b"{}")).await;
    let resolver = Scripted::new(&[&["127.0.0.1"], &["169.254.169.254"]]);
    let fetch = Fetch::with_resolver(settings(Reach::Loopback), resolver).unwrap();
    let url = format!("http://rebinding.test:{}/", server.port);
    fetch.get(&url).await.unwrap();
    let refused = fetch.get(&url).await.unwrap_err();
    assert_eq!(refused, FetchError::Inside { host: "rebinding.test".to_owned(), kind: AddressKind::Metadata });
}

#[tokio::test]
async fn a_redirect_stays_on_its_origin_or_is_not_followed() {
    let elsewhere = Raw::start(ok(b"secret")).await;
    for place in [elsewhere.url(), format!("//127.0.0.1:{}/", elsewhere.port), "http://169.254.169.254/".to_owned()] {
        let server = Raw::start(redirect(302, &place)).await;
        assert_eq!(local().get(&server.url()).await.unwrap_err(), FetchError::OtherOrigin, "{place}");
    }
    let port = elsewhere.port;
    let sneaky = Raw::start(redirect(307, &format!("https://127.0.0.1:{port}/"))).await;
    assert_eq!(local().get(&sneaky.url()).await.unwrap_err(), FetchError::OtherOrigin);
    assert_eq!(elsewhere.requests(), 0);
    let circle = Raw::start(redirect(301, "/start")).await;
    assert_eq!(local().get(&circle.url()).await.unwrap_err(), FetchError::Redirected);
    assert_eq!(circle.requests(), 4);
}

#[tokio::test]
async fn a_form_is_posted_once_with_its_credentials_and_never_redirected() {
    let server = Raw::start(redirect(307, "/again")).await;
    let secret = Secret::new("Basic eA==");
    let refused = local().post_form(&server.url(), &[("a", "b c&")], Some(&secret)).await.unwrap_err();
    assert_eq!((refused, server.requests()), (FetchError::Redirected, 1));
    let head = server.heads.lock().unwrap()[0].to_ascii_lowercase();
    assert!(head.contains("authorization: basic ea==\r\n"), "{head}");
    assert!(head.contains("content-type: application/x-www-form-urlencoded\r\n"), "{head}");
}

#[tokio::test]
async fn an_answer_of_a_mebibyte_is_read_and_one_byte_more_is_not() {
    let exact = Raw::start(ok(&vec![b' '; MAX_ANSWER_BYTES])).await;
    assert_eq!(local().get(&exact.url()).await.unwrap().body.len(), MAX_ANSWER_BYTES);
    let announced = Raw::start(ok(&vec![b' '; MAX_ANSWER_BYTES + 1])).await;
    assert_eq!(local().get(&announced.url()).await.unwrap_err(), FetchError::TooLarge);
    let mut unannounced = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
    unannounced.resize(unannounced.len() + MAX_ANSWER_BYTES + 1, b' ');
    let unannounced = Raw::start(Reply::Bytes(unannounced)).await;
    assert_eq!(local().get(&unannounced.url()).await.unwrap_err(), FetchError::TooLarge);
}

#[tokio::test]
async fn the_time_holds_for_the_whole_answer_however_busy_the_server_looks() {
    let hasty = FetchSettings { within: Duration::from_millis(200), ..settings(Reach::Loopback) };
    let fetch = Fetch::new(hasty).unwrap();
    for reply in [Reply::Silence, Reply::Endless] {
        let server = Raw::start(reply).await;
        let late = fetch.get(&server.url()).await.unwrap_err();
        assert_eq!(late, FetchError::Late);
        assert!(late.is_transient());
    }
    assert_eq!(FetchSettings::default().within, Duration::from_secs(10));
}

#[tokio::test]
async fn a_host_that_hangs_holds_no_more_than_its_share_and_leaves_room_for_others() {
    let (silent, lively) = (Raw::start(Reply::Silence).await, Raw::start(ok(b"{}")).await);
    let fetch = Fetch::with_resolver(settings(Reach::Loopback), Scripted::new(&[&["127.0.0.1"]])).unwrap();
    let (hanging, url) = (format!("http://hangs.test:{}/", silent.port), format!("http://lives.test:{}/", lively.port));
    let many = futures_util::future::join_all((0..MAX_FETCHES_PER_HOST + 8).map(|_| fetch.get(&hanging)));
    let other = async {
        plexsphere_testkit::eventually!(silent.requests() >= MAX_FETCHES_PER_HOST, "the share is taken");
        let answer = fetch.get(&url).await.unwrap();
        assert_eq!((answer.status, silent.requests()), (200, MAX_FETCHES_PER_HOST));
    };
    tokio::select! {
        late = many => panic!("the others were not let in: {late:?}"),
        () = other => {}
    }
}

#[tokio::test]
async fn nobody_at_home_is_told_without_the_address() {
    let refused = local().get("http://127.0.0.1:9/?token=abc").await.unwrap_err();
    assert!(refused.is_transient() && !refused.to_string().contains("abc"), "{refused}");
}

#[tokio::test]
async fn a_certificate_is_trusted_by_its_authority_and_for_its_name_only() {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let root = authority.der().to_vec();
    let port = tls_server(&authority, "idp.test").await;
    let resolver = Scripted::new(&[&["127.0.0.1"]]);
    let trusting = |extra_roots: Vec<Vec<u8>>| {
        let settings = FetchSettings { reach: Reach::Loopback, extra_roots, ..FetchSettings::default() };
        Fetch::with_resolver(settings, resolver.clone()).unwrap()
    };
    let answer = trusting(vec![root.clone()]).get(&format!("https://idp.test:{port}/")).await.unwrap();
    assert_eq!(&answer.body[..], b"{}");
    for (roots, host) in [(Vec::new(), "idp.test"), (vec![root], "other.test")] {
        let refused = trusting(roots).get(&format!("https://{host}:{port}/")).await.unwrap_err();
        assert!(matches!(refused, FetchError::Unreachable { .. }), "{host}: {refused:?}");
    }
    let broken = FetchSettings { extra_roots: vec![b"no certificate".to_vec()], ..FetchSettings::default() };
    assert!(matches!(Fetch::new(broken).unwrap_err(), FetchError::Client { .. }));
}

async fn tls_server(authority: &CertifiedIssuer<'static, KeyPair>, name: &str) -> u16 {
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut buffer = [0; 4_096];
                let _ = stream.read(&mut buffer).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}").await;
                let _ = stream.shutdown().await;
            });
        }
    });
    port
}
