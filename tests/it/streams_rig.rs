//! The stream rigs: very many event streams on real edges, each figure beside what a bare program needs in the same run.
//!
//! Small without variables, and then only what must hold is asserted; times and sizes are printed as `ok` or `MISSED`.
//! `docs/how-to/measure-an-installation.md` has the commands that make them large.

mod broadcast;
mod fire;
mod herd;
mod idle;
mod producer;
mod revoked;
mod seed;

use std::time::Duration;

use plexsphere_load::streams::{Crew, Figure, Habits, Identity, Site, WorkerProgram, serve_orders};
use plexsphere_load::transport::Protocol;

use crate::installation::{EnrolledNode, Installation, Role};
use producer::Producer;

/// How long streams may take to open, and events to arrive.
const PATIENCE: Duration = Duration::from_secs(600);

/// The workers of the rigs are this program again: a process may have only so many descriptors.
#[test]
#[ignore = "a process of the rigs, which give it orders over its standard input"]
fn stream_worker() {
    if let Err(error) = serve_orders() {
        println!("nobody gives orders: {error}");
    }
}

fn worker_program() -> WorkerProgram {
    let arguments = ["streams_rig::stream_worker", "--exact", "--ignored", "--test-threads=1"];
    WorkerProgram { program: std::env::current_exe().unwrap(), arguments: arguments.map(Into::into).to_vec() }
}

/// A number that a variable may make larger.
fn number(variable: &str, small: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(small)
}

fn count(variable: &str, small: usize) -> usize {
    usize::try_from(number(variable, small as u64)).unwrap()
}

fn seconds(variable: &str, small: u64) -> Duration {
    Duration::from_secs(number(variable, small))
}

/// An installation with Nodes in one Domain, and crews to hold their streams.
struct Rig {
    installation: Installation,
    identities: Vec<Identity>,
    producer: Producer,
    crew: Crew,
    /// Bare programs.
    server: Crew,
}

impl Rig {
    async fn start(edges: usize, nodes: usize) -> Self {
        let installation = Installation::start(edges, &[]).await;
        let (_, project) = installation.domain_and_project("rig", "10.70.0.0/15").await;
        let first: EnrolledNode = installation.enrol(&project, "first").await;
        let producer = Producer::beside(&installation, &first).await;
        // What the registration told is not to be heard by the streams.
        producer.published(PATIENCE).await;
        let identities = seed::nodes(&installation, &first, nodes).await;
        Self {
            installation,
            identities,
            producer,
            crew: Crew::hire(&worker_program(), nodes, 2).unwrap(),
            server: Crew::hire(&worker_program(), 0, 1).unwrap().numbered_from(100),
        }
    }

    /// Streams over HTTP or HTTPS to all edges.
    fn site(&self, tls: bool, protocol: Protocol) -> Site {
        let edges = 0..self.installation.http_ports.len();
        let url = |edge| if tls { self.installation.https_url(edge) } else { self.installation.http_url(edge) };
        let ca_cert = tls.then(|| self.installation.ca_cert());
        Site {
            habits: Habits::new(edges.map(url).collect(), ca_cert, protocol),
            edges: self.edge_pids(),
            memory_mark: None,
        }
    }

    fn edge_pids(&self) -> Vec<u32> {
        self.installation.edges().map(|edge| self.installation.pid(edge)).collect()
    }

    /// Starts every edge anew: memory that one measurement has left behind is not to count in the next.
    async fn fresh_edges(&mut self) {
        let edges: Vec<Role> = self.installation.edges().collect();
        for edge in edges {
            self.installation.kill_and_restart(edge).await;
        }
        self.installation.ready().await;
    }

    /// The last sequence of the event stream.
    async fn head(&self) -> u64 {
        let jetstream = self.installation.nats.jetstream().await;
        let stream = jetstream.get_stream(plexsphere_wire::subjects::EVENTS_STREAM).await.unwrap();
        stream.cached_info().state.last_sequence
    }
}

fn print(title: &str, figures: &[Figure]) {
    println!("== {title}");
    for figure in figures {
        println!("{figure}");
    }
}
