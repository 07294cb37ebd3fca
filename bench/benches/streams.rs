//! What an open event stream costs an edge, in memory while it is idle and in time for a broadcast, beside a bare program
//! that writes the same bytes to as many sockets. Not a criterion bench: every server and its clients are processes of
//! their own. The servers of the second part take turns in the same minute, and what counts is the ratio.
//!
//! `cargo bench -p plexsphere-bench --bench streams`, with names of parts to run only those: `memory`, `time`.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench that does not run must say so at once"
)]

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use plexsphere_edge::body::{Peer, RequestBody, ResponseBody};
use plexsphere_edge::config::{EventsConfig, ListenConfig};
use plexsphere_edge::fanout::{EventBody, EventFrame, Follower, Hub, Join};
use plexsphere_edge::listen::{Handler, Limits, TlsMaterial, serve_tcp};
use plexsphere_edge::metrics::Metrics;
use plexsphere_edge::{Clock, SystemClock};
use plexsphere_wire::nsk::CredentialDigest;
use plexsphere_wire::subjects::EventTarget;
use plexsphere_wire::{DomainId, NodeId, sse};
use prometheus_client::registry::Registry;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 40;
const BURST: u64 = 32;
/// So long the clients have to read what was sent, and the server to become quiet.
const PAUSE: Duration = Duration::from_millis(250);
/// Where the processes find the certificate of this run, and its key.
const CERTIFICATE: &str = "STREAMS_CERTIFICATE";
const KEY: &str = "STREAMS_KEY";
const REQUEST: &[u8] = b"GET /v1/nodes/x/events HTTP/1.1\r\nhost: edge\r\n\r\n";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", kind, streams] => serve(kind, streams.parse().unwrap()),
        ["follow", kind, address, streams] => follow(kind == "tls", address.parse().unwrap(), streams.parse().unwrap()),
        _ => {
            let wanted = |part: &str| words.is_empty() || words.contains(&part);
            if wanted("memory") {
                memory();
            }
            if wanted("time") {
                time();
            }
        }
    }
}

/// Bytes per idle stream over the empty process, before any event and after a burst of them.
fn memory() {
    println!("streams          number   KB each   KB each after {BURST} events");
    for (kind, streams) in [("library", 10_000), ("parked", 19_000), ("tls", 10_000)] {
        let mut server = Server::start(kind, streams);
        let idle = server.ask("memory");
        server.ask("burst");
        let after = server.ask("memory");
        println!("{kind:<14} {streams:>8} {:>9.2} {:>12.2}", per(idle, streams) / 1e3, per(after, streams) / 1e3);
    }
}

/// Processor time of a broadcast, by turns.
fn time() {
    const STREAMS: u32 = 10_000;
    let kinds = ["bare", "parked", "library"];
    let mut servers = kinds.map(|kind| Server::start(kind, STREAMS));
    let mut spent: [Vec<u64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (server, spent) in servers.iter_mut().zip(&mut spent) {
            spent.push(server.ask("broadcast"));
        }
    }
    let medians = spent.map(|mut spent| {
        spent.sort_unstable();
        spent[spent.len() / 2]
    });
    println!("streams          number   us per delivery   ratio");
    for (kind, median) in kinds.iter().zip(medians) {
        let ratio = per(median, 1) / per(medians[0], 1);
        println!("{kind:<14} {STREAMS:>8} {:>17.2} {ratio:>7.2}", per(median, STREAMS) / 1e3);
    }
    println!("writes of a burst of {BURST} to each stream: {:.2}", per(servers[1].ask("burst"), STREAMS));
}

fn per(total: u64, streams: u32) -> f64 {
    f64::from(u32::try_from(total).unwrap()) / f64::from(streams)
}

/// A server with its clients, each a process.
struct Server {
    processes: [Child; 2],
    said: Lines<BufReader<ChildStdout>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Server {
    fn start(kind: &str, streams: u32) -> Self {
        let streams = streams.to_string();
        let issued = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let pem = [(CERTIFICATE, issued.cert.pem()), (KEY, issued.signing_key.serialize_pem())];
        let mut server = child(&["serve", kind, &streams], &pem);
        let mut said = BufReader::new(server.stdout.take().unwrap()).lines();
        let address = said.next().unwrap().unwrap();
        let clients = child(&["follow", kind, &address, &streams], &pem);
        assert_eq!(said.next().unwrap().unwrap(), "ready");
        Self { processes: [server, clients], said }
    }

    fn ask(&mut self, what: &str) -> u64 {
        writeln!(self.processes[0].stdin.as_mut().unwrap(), "{what}").unwrap();
        self.said.next().unwrap().unwrap().parse().unwrap()
    }
}

fn child(words: &[&str], pem: &[(&str, String)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(words).envs(pem.iter().map(|(name, pem)| (name, pem)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

// === the server ===

struct Streams {
    hub: Arc<Hub>,
    domain: DomainId,
    clock: SystemClock,
    parks: bool,
}

impl Handler for Streams {
    async fn handle(self: Arc<Self>, _request: Request<RequestBody>, mut peer: Peer) -> Response<ResponseBody> {
        let node = NodeId::mint(self.clock.now());
        let follower = Follower::Node(CredentialDigest::of(node, &[7; 32]));
        let (of, kill) = ((node, self.domain), peer.kill.clone());
        let join = Join { of, follower, cursor: None, generation: self.hub.generation(), kill };
        let joined = self.hub.join(join).expect("there is room");
        peer.activity = peer.activity.filter(|_| self.parks);
        Response::new(ResponseBody::events(EventBody::of(joined, Arc::clone(&self.hub), &peer)))
    }
}

/// Answers one question per line: what a broadcast takes of the processor, in nanoseconds; what is held of memory, in
/// bytes; in how many writes a burst left.
fn serve(kind: &str, streams: usize) {
    let empty = pss();
    if kind == "bare" {
        return bare(streams);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    // No keep-alives among what is measured.
    let config = EventsConfig { keep_alive_millis: 3_600_000, ..EventsConfig::default() };
    let hub = Arc::new(Hub::new(config, Arc::new(SystemClock::new()), metrics.clone()));
    let clock = SystemClock::new();
    let domain = DomainId::mint(clock.now());
    let handler = Arc::new(Streams { hub: Arc::clone(&hub), domain, clock, parks: kind != "library" });
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        let tls = (kind == "tls").then(|| certificate().acceptor().unwrap());
        let limits = Limits::new(Arc::new(ListenConfig::default()), metrics.connections.clone());
        tokio::spawn(serve_tcp(listener, tls, handler, limits));
        while hub.open() < streams {
            tokio::time::sleep(PAUSE).await;
        }
    });
    let mut sequence = 0;
    let mut publish = |events: u64| {
        for _ in 0..events {
            sequence += 1;
            hub.apply(frame(sequence, domain));
        }
        runtime
            .block_on(async {
                tokio::spawn({
                    let hub = Arc::clone(&hub);
                    async move { hub.flush().await }
                })
                .await
            })
            .unwrap();
    };
    answer(|question| match question {
        "broadcast" => timed(|| publish(1)),
        "memory" => pss() - empty,
        _ => {
            let before = metrics.stream_writes.get();
            publish(BURST);
            std::thread::sleep(4 * PAUSE);
            assert_eq!(hub.open(), streams, "nobody left");
            metrics.stream_writes.get() - before
        }
    });
}

/// The cheapest program that writes the same bytes to as many sockets.
fn bare(streams: usize) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    let mut sockets = Vec::new();
    for _ in 0..streams {
        let (socket, _) = listener.accept().unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        (&socket).write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n:ok\n\n\r\n").unwrap();
        sockets.push(socket);
    }
    let mut sequence = 0;
    answer(|_| {
        timed(|| {
            sequence += 1;
            let bytes = frame(sequence, DomainId::mint(SystemClock::new().now())).bytes;
            let chunk = [format!("{:X}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat();
            for socket in &mut sockets {
                assert_eq!(socket.write(&chunk).unwrap(), chunk.len());
            }
        })
    });
}

fn answer(mut answer: impl FnMut(&str) -> u64) {
    std::thread::sleep(4 * PAUSE);
    println!("ready");
    for question in std::io::stdin().lines() {
        println!("{}", answer(&question.unwrap()));
    }
}

/// The processor time of `work` and of what it leaves to other threads, in nanoseconds.
fn timed(work: impl FnOnce()) -> u64 {
    let before = processor_time();
    work();
    std::thread::sleep(PAUSE);
    u64::try_from((processor_time() - before).as_nanos()).unwrap()
}

fn frame(sequence: u64, domain: DomainId) -> EventFrame {
    let bytes = Bytes::from(sse::frame(sequence, "peer_registered", &[b'x'; 256]));
    EventFrame { sequence, domain, target: EventTarget::Domain, issued_at: SystemClock::new().now(), bytes }
}

/// What this process holds of memory, shared pages by its share, in bytes.
fn pss() -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
}

/// What all threads of this process have run.
fn processor_time() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let nanos = threads.map(|thread| {
        let text = std::fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse::<u64>().unwrap()
    });
    Duration::from_nanos(nanos.sum())
}

fn certificate() -> TlsMaterial {
    let pem = |name| std::env::var(name).unwrap().into_bytes();
    TlsMaterial { certificate_pem: pem(CERTIFICATE), key_pem: pem(KEY) }
}

// === the clients ===

/// Opens streams and reads whatever comes, until it is killed.
fn follow(tls: bool, address: SocketAddr, streams: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let connector = tls.then(believer);
        let opening = Arc::new(Semaphore::new(64));
        for _ in 0..streams {
            let place = Arc::clone(&opening).acquire_owned().await.unwrap();
            let connector = connector.clone();
            tokio::spawn(async move {
                let stream = tokio::net::TcpStream::connect(address).await.unwrap();
                match connector {
                    Some(connector) => {
                        let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
                        read(stream, place).await;
                    }
                    None => read(stream, place).await,
                }
            });
        }
        std::future::pending::<()>().await;
    });
}

async fn read(mut stream: impl AsyncRead + AsyncWrite + Unpin, opening: OwnedSemaphorePermit) {
    stream.write_all(REQUEST).await.unwrap();
    let mut space = vec![0; 4_096];
    assert!(stream.read(&mut space).await.unwrap() > 0);
    drop(opening);
    while stream.read(&mut space).await.is_ok_and(|count| count > 0) {}
}

fn believer() -> tokio_rustls::TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(std::env::var(CERTIFICATE).unwrap().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}
