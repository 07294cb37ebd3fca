//! The edges of a `dev` run: one inside this process, or several as processes of their own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use plexsphere_kernel::Probes;
use plexsphere_local::{Child, ChildSpec, free_port};
use prometheus_client::registry::Registry;

use super::ready::EdgeUrls;
use crate::config::Config;
use crate::roles;

/// How long an edge may drain before it is killed.
const GRACE: Duration = Duration::from_secs(40);

/// All edges of a run.
pub(crate) enum Edges {
    /// One, in this process.
    Inside(Box<roles::edge::EdgeStarted>),
    /// Several, each a process.
    Apart(Vec<Apart>),
}

/// An edge that is a process.
pub(crate) struct Apart {
    child: Child,
    urls: EdgeUrls,
    admin: SocketAddr,
}

impl Edges {
    /// Starts the edges.
    pub(crate) async fn start(
        count: Option<u16>,
        config: &Config,
        logs: &Path,
        probes: &Probes,
        registry: &mut Registry,
    ) -> Result<Self, String> {
        let Some(count) = count else {
            let edge = roles::edge::start(config, probes, registry).await.map_err(|sentence| {
                let taken = sentence.contains("Address already in use");
                let hint = if taken { "; choose other ports with --http-port and --https-port" } else { "" };
                format!("{sentence}{hint}")
            })?;
            return Ok(Self::Inside(Box::new(edge)));
        };
        let mut edges = Vec::new();
        for index in 0..count {
            edges.push(Apart::start(index, config, logs)?);
        }
        Ok(Self::Apart(edges))
    }

    /// Whether every edge says that it is ready.
    pub(crate) async fn ready(&self) -> bool {
        match self {
            Self::Inside(edge) => edge.started.probes.ready(),
            Self::Apart(edges) => {
                for edge in edges {
                    if !answers_ready(edge.admin).await {
                        return false;
                    }
                }
                true
            }
        }
    }

    /// Resolves when an edge has ended by itself, with a sentence.
    pub(crate) async fn died(&mut self) -> String {
        match self {
            Self::Inside(edge) => super::unasked("edge", (&mut edge.started.ended).await),
            Self::Apart(edges) => {
                let deaths = edges.iter().map(|edge| Box::pin(edge.child.died()));
                let (error, ..) = futures_util::future::select_all(deaths).await;
                error.to_string()
            }
        }
    }

    /// The addresses, first edge first.
    pub(crate) fn urls(&self) -> Vec<EdgeUrls> {
        match self {
            Self::Inside(edge) => vec![urls(edge.http, edge.https)],
            Self::Apart(edges) => edges.iter().map(|edge| edge.urls.clone()).collect(),
        }
    }

    /// The processes by name.
    pub(crate) fn pids(&self) -> Vec<(String, u32)> {
        match self {
            Self::Inside(_) => Vec::new(),
            Self::Apart(edges) => edges.iter().map(|edge| (edge.child.name().to_owned(), edge.child.pid())).collect(),
        }
    }

    /// Drains and stops them.
    pub(crate) async fn stop(self) {
        match self {
            Self::Inside(edge) => {
                edge.started.cancel.cancel();
                if !edge.started.ended.is_finished() {
                    let _ = tokio::time::timeout(GRACE, edge.started.ended).await;
                }
            }
            Self::Apart(edges) => {
                let stops = edges.iter().map(|edge| edge.child.stop(GRACE));
                futures_util::future::join_all(stops).await;
            }
        }
    }
}

impl Apart {
    fn start(index: u16, config: &Config, logs: &Path) -> Result<Self, String> {
        let port = |asked: Option<SocketAddr>| match asked.map(|address| address.port()) {
            Some(0) | None => free_port().map_err(|error| error.to_string()),
            Some(port) => Ok(port + index),
        };
        let (http, https) = (port(config.edge.listen.http)?, port(config.edge.listen.https)?);
        let admin = free_port().map_err(|error| error.to_string())?;
        let name = format!("edge-{}", index + 1);
        let program = std::env::current_exe().map_err(|error| format!("this program cannot be found: {error}"))?;
        let path = |file: &Option<std::path::PathBuf>| file.as_deref().unwrap_or(Path::new("")).as_os_str().to_owned();
        let spec = ChildSpec::new(name.clone(), program)
            .args(["edge"])
            // In the environment and not in the arguments, which everyone on the machine can read.
            .env("PLEXSPHERE_NATS_URL", &config.nats.url)
            .env("PLEXSPHERE_EDGE_PROXY_CONTROL_URL", &config.edge.proxy.control_url)
            .env("PLEXSPHERE_EDGE_LISTEN_HTTP", format!("127.0.0.1:{http}"))
            .env("PLEXSPHERE_EDGE_LISTEN_HTTPS", format!("127.0.0.1:{https}"))
            .env("PLEXSPHERE_ADMIN_LISTEN", format!("127.0.0.1:{admin}"))
            .env("PLEXSPHERE_TLS_CERT_FILE", path(&config.tls.cert_file))
            .env("PLEXSPHERE_TLS_KEY_FILE", path(&config.tls.key_file))
            .log_file(logs.join(format!("{name}.log")));
        let child = Child::spawn(spec).map_err(|error| error.to_string())?;
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Self { child, urls: urls(Some(loopback(http)), Some(loopback(https))), admin: loopback(admin) })
    }
}

fn urls(http: Option<SocketAddr>, https: Option<SocketAddr>) -> EdgeUrls {
    let url = |scheme: &str, host: &str, address: Option<SocketAddr>| {
        address.map(|address| format!("{scheme}://{host}:{}", address.port())).unwrap_or_default()
    };
    EdgeUrls { http_url: url("http", "127.0.0.1", http), https_url: url("https", "localhost", https) }
}

/// Asks `/readyz`, by hand: one line is all that matters.
async fn answers_ready(address: SocketAddr) -> bool {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let ask = async {
        let mut socket = tokio::net::TcpStream::connect(address).await?;
        socket.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").await?;
        let mut head = [0u8; 12];
        socket.read_exact(&mut head).await?;
        std::io::Result::Ok(head.ends_with(b" 200"))
    };
    matches!(tokio::time::timeout(Duration::from_secs(1), ask).await, Ok(Ok(true)))
}
