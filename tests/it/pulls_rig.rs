//! The pulls rig: what a pull of a state that has not changed costs control, beside a bare server that answers 304.
//!
//! `PULLS_RIG_PULLS=20000 cargo test --release -p plexsphere --test it pulls_rig -- --nocapture` prints the figures.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use plexsphere_kernel::Database;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::answers::send;
use crate::installation::{EnrolledNode, Installation, Role, client, worked};

/// How long control is watched while nobody asks.
const IDLE: Duration = Duration::from_secs(2);

/// How often each is asked; a larger number is asked for by this variable.
fn pulls() -> u32 {
    std::env::var("PULLS_RIG_PULLS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unchanged_state_is_pulled_without_a_statement() {
    let installation = Installation::start(1, &[]).await;
    let (_, project) = installation.domain_and_project("pulled", "10.61.0.0/16").await;
    let node = installation.enrol(&project, "one").await;
    beat(&installation, &node).await;
    let pull = format!(
        "GET /v1/nodes/{}/state HTTP/1.1\r\nhost: control\r\nauthorization: Bearer {}\r\n\r\n",
        node.node, node.bearer
    );
    let mut control = Asked::connect(installation.control_address()).await;
    let first = control.ask(&pull).await;
    assert!(first.contains(r#""state":"healthy""#), "{first}");
    // The registration and what it set off are heard meanwhile.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let first = control.ask(&pull).await;

    let db = Database::connect(&installation.database_url, 1).await.unwrap();
    let (idle, idle_cpu) = (transactions(&db).await, installation.cpu(Role::Control));
    tokio::time::sleep(IDLE).await;
    let idle = (transactions(&db).await - idle) as f64 / IDLE.as_secs_f64();
    let idle_cpu = (installation.cpu(Role::Control) - idle_cpu).as_secs_f64() / IDLE.as_secs_f64();

    let (before, cpu, began) = (transactions(&db).await, installation.cpu(Role::Control), Instant::now());
    for _ in 0..pulls() {
        let answer = control.ask(&pull).await;
        assert_eq!(answer, first);
    }
    let (took, cpu) = (began.elapsed(), installation.cpu(Role::Control) - cpu);
    // What a session has counted it tells within a second.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let asked = (transactions(&db).await - before) as f64 - idle * (took.as_secs_f64() + 1.2);
    let ours = (cpu.as_secs_f64() - idle_cpu * took.as_secs_f64()) / f64::from(pulls());

    let mut bare = Asked::connect(bare_server()).await;
    let before: u64 = bare.ask("GET /cpu HTTP/1.1\r\nhost: bare\r\n\r\n").await.parse().unwrap();
    for _ in 0..pulls() {
        bare.ask(&pull).await;
    }
    let after: u64 = bare.ask("GET /cpu HTTP/1.1\r\nhost: bare\r\n\r\n").await.parse().unwrap();
    let theirs = (after - before) as f64 / 1e9 / f64::from(pulls());

    let ratio = ours / theirs;
    let word = if ratio <= 1.5 { "ok" } else { "MISSED" };
    println!(
        "{} unchanged pulls of {} bytes: {:.1} us of control's CPU each, a bare 304 {:.1} us: {ratio:.2} times (mark: at \
         most 1.5) {word}; {:.4} transactions each",
        pulls(),
        first.len(),
        ours * 1e6,
        theirs * 1e6,
        asked.max(0.0) / f64::from(pulls()),
    );
    assert!(asked < f64::from(pulls()) / 10.0, "{asked} transactions behind {} pulls", pulls());
}

async fn beat(installation: &Installation, node: &EnrolledNode) {
    let body = json!({
        "client_now": time::OffsetDateTime::now_utc().format(&time::format_description::well_known::Rfc3339).unwrap(),
        "binary_checksum": "ab".repeat(32), "binary_version": "1.0.0", "nat_summary": {},
    });
    let path = format!("{}/v1/nodes/{}/heartbeat", installation.http_url(0), node.node);
    let answer = send(client().post(path).bearer_auth(&node.bearer).json(&body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

/// How many transactions the database has ended.
async fn transactions(db: &Database) -> i64 {
    let sql = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    sqlx::query_scalar(sql).fetch_one(db.pool()).await.unwrap()
}

/// A connection on which one question follows the other.
struct Asked {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Asked {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    /// Asks and returns the body, whose length the answer names.
    async fn ask(&mut self, request: &str) -> String {
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.read.clear();
        loop {
            assert!(self.stream.read_buf(&mut self.read).await.unwrap() > 0, "the server went away");
            let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&self.read[..end]).unwrap();
            let status = head.split(' ').nth(1).unwrap();
            assert!(["200", "304"].contains(&status), "{head}");
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
            });
            let whole = end + 4 + length.unwrap_or(0);
            if self.read.len() >= whole {
                return String::from_utf8(self.read[end + 4..whole].to_vec()).unwrap();
            }
        }
    }
}

/// A server in a thread of its own that answers 304, and `/cpu` with the nanoseconds that its thread has worked.
fn bare_server() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let service = hyper::service::service_fn(answer);
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
    });
    address
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() != "/cpu" {
        return Ok(Response::builder().status(304).body(Full::default()).unwrap());
    }
    let spent = worked(std::path::Path::new("/proc/thread-self"));
    Ok(Response::new(Full::from(spent.as_nanos().to_string())))
}
