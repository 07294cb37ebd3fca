//! Many Nodes in one process, with recorded real data.
//!
//! Load is open: a Node makes its batches when they are due, whether or not the ones before were taken, and latency is
//! measured from then on. The same work runs once per protocol, with the same Nodes and the same data.

mod member;
mod phase;
mod progress;
mod recording;
mod result;
mod setup;
mod stream;
mod tally;

pub use progress::Progress;
pub use result::{EventCounts, FleetResult, Latency, PhaseResult, Point, SignalTotals};
pub(crate) use setup::{Ground, join_one, prepare};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use plexsphere_wire::ProjectId;
use tokio::sync::watch;
use url::Url;
use zeroize::Zeroizing;

use crate::api::{ApiError, EncodingChoice, OperatorApi};
use crate::transport::{BackoffPolicy, Client, Dialer, Protocol, TransportError, Trust};
use crate::{clock, report, verify};

/// How long arrivals in a sink are waited for after the last phase.
const ARRIVAL_PATIENCE: Duration = Duration::from_secs(60);

/// How the Nodes may enrol.
#[derive(Clone, Debug)]
pub enum Access {
    /// As an operator who makes Domains, Projects, Resources and tokens.
    Admin {
        /// An operator's bearer token.
        token: Zeroizing<String>,
        /// How many Domains the Nodes are spread over, at least one.
        domains: usize,
    },
    /// With tokens that were issued before, one per Node.
    Tokens(Vec<TokenLine>),
}

/// One line of a file of tokens: `<project id> <resource handle> <token>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenLine {
    /// The Project.
    pub project: ProjectId,
    /// The Resource's handle.
    pub resource: String,
    /// The token.
    pub token: Zeroizing<String>,
}

impl TokenLine {
    /// Reads a file of tokens; blank lines and lines that begin with `#` are left out.
    ///
    /// # Errors
    /// The number of the first unreadable line, counted from one.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, usize> {
        let mut lines = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.split_whitespace();
            let (Some(project), Some(resource), Some(token), None) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                return Err(index + 1);
            };
            let project = project.parse().map_err(|_| index + 1)?;
            lines.push(Self { project, resource: resource.to_owned(), token: Zeroizing::new(token.to_owned()) });
        }
        Ok(lines)
    }
}

/// What a fleet does.
#[derive(Clone, Debug)]
pub struct FleetConfig {
    /// The run's name: lower-case letters, digits and single hyphens.
    pub name: String,
    /// Where the platform is.
    pub url: Url,
    /// Whose certificates are believed.
    pub trust: Trust,
    /// How many Nodes.
    pub nodes: usize,
    /// How they enrol.
    pub access: Access,
    /// One phase per protocol, in this order.
    pub protocols: Vec<Protocol>,
    /// How long a phase makes new batches.
    pub duration: Duration,
    /// How often a Node makes batches.
    pub interval: Duration,
    /// Log lines per Node and interval.
    pub log_lines: usize,
    /// Audit events per Node and interval.
    pub audit_events: usize,
    /// How often a Node sends a heartbeat.
    pub heartbeat: Duration,
    /// How bodies are compressed.
    pub encoding: EncodingChoice,
    /// Whether every Node holds its event stream open.
    pub events: bool,
    /// Cut every event stream after this long and come back with the cursor.
    pub cut_streams: Option<Duration>,
    /// Pull the state whenever a stream opens or an event arrives, as agents do. Needs `events`.
    pub pulls: bool,
    /// More Nodes that enrol while a phase runs, so that every stream has events to carry. Needs an operator.
    pub joins: usize,
    /// How long batches that are not settled at the end of a phase are still sent.
    pub drain: Duration,
    /// Waits between attempts of registrations and streams.
    pub backoff: BackoffPolicy,
    /// Chooses which recorded data a Node sends.
    pub seed: u64,
    /// Where ledgers, result and report are written.
    pub out: PathBuf,
    /// A file sink to compare with when all phases are done.
    pub sink: Option<PathBuf>,
    /// How progress shows.
    pub progress: Progress,
}

/// Why a fleet could not run.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// Fewer tokens than Nodes, no Node, or no protocol.
    #[error("{0}")]
    Config(&'static str),
    /// The client could not be built.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Setting up was refused.
    #[error("set-up, {step}: {source}")]
    SetUp {
        /// Which step.
        step: &'static str,
        /// The refusal.
        source: ApiError,
    },
    /// Stopped while setting up.
    #[error("stopped before the first phase")]
    Stopped,
    /// A file could not be written or read.
    #[error("{0}")]
    Io(PathBuf, #[source] std::io::Error),
}

/// Sets up, runs every phase, compares with the sink, writes `result.json` and `report.html`, and returns the result.
///
/// `stop` ends the running phase early and cleanly; later phases do not start.
///
/// # Errors
/// [`FleetError`]; what happens to single batches is no error but part of the result.
pub async fn run(config: FleetConfig, stop: watch::Receiver<bool>) -> Result<FleetResult, FleetError> {
    check(&config)?;
    crate::descriptors::raise_limit();
    std::fs::create_dir_all(&config.out).map_err(|error| FleetError::Io(config.out.clone(), error))?;
    let config = Arc::new(config);
    let started_at = clock::now();
    let dialer = Dialer::new(config.trust.clone());
    let progress = Arc::new(config.progress.start());
    let first = config.protocols.first().copied().unwrap_or(Protocol::H1);
    let operator = operator(&config, &dialer, first)?;
    let mut stopped = stop.clone();
    let ground = tokio::select! {
        ground = Box::pin(setup::prepare(&config, &dialer, operator, &progress)) => ground?,
        () = crate::agent::until(&mut stopped) => return Err(FleetError::Stopped),
    };
    let scene = phase::Scene { config: Arc::clone(&config), dialer, ground, display: progress, stop };
    let mut phases = Vec::new();
    for protocol in &config.protocols {
        if *scene.stop.borrow() {
            break;
        }
        phases.push(Box::pin(phase::run(&scene, *protocol)).await?);
    }
    scene.display.finish();
    let ledgers: Vec<PathBuf> = phases.iter().map(|phase| phase.ledger.clone()).collect();
    let verification = match &config.sink {
        Some(sink) => Some(arrivals(&ledgers, sink).await?),
        None => None,
    };
    let result = FleetResult::new(&config, started_at, scene.ground.registration(), phases, verification);
    write(&config, &result)?;
    Ok(result)
}

fn check(config: &FleetConfig) -> Result<(), FleetError> {
    if config.nodes == 0 || config.protocols.is_empty() {
        return Err(FleetError::Config("a fleet has at least one node and one protocol"));
    }
    let twice = |(place, one): (usize, &Protocol)| config.protocols.iter().take(place).any(|other| other == one);
    if config.protocols.iter().enumerate().any(twice) {
        return Err(FleetError::Config("a protocol is named twice"));
    }
    if config.interval.is_zero() || config.heartbeat.is_zero() {
        return Err(FleetError::Config("intervals are longer than nothing"));
    }
    match &config.access {
        Access::Tokens(tokens) if tokens.len() < config.nodes => {
            Err(FleetError::Config("there are fewer tokens than nodes"))
        }
        Access::Tokens(_) if config.joins > 0 => Err(FleetError::Config("joins need an operator's token")),
        Access::Admin { .. } | Access::Tokens(_) => Ok(()),
    }
}

fn operator(config: &FleetConfig, dialer: &Arc<Dialer>, protocol: Protocol) -> Result<Option<OperatorApi>, FleetError> {
    let Access::Admin { token, .. } = &config.access else { return Ok(None) };
    let client = Arc::new(Client::new(dialer, &config.url, protocol)?);
    OperatorApi::new(client, token).map(Some).map_err(|source| FleetError::SetUp { step: "token", source })
}

/// Compares again and again until everything arrived or patience ends: pipelines work behind the acknowledgement.
async fn arrivals(ledgers: &[PathBuf], sink: &std::path::Path) -> Result<verify::Counts, FleetError> {
    let deadline = tokio::time::Instant::now() + ARRIVAL_PATIENCE;
    loop {
        let (ledgers, root) = (ledgers.to_vec(), sink.to_path_buf());
        let compared = tokio::task::spawn_blocking(move || verify::compare_all(&ledgers, &root)).await;
        let counts = compared
            .unwrap_or_else(|_| Err(std::io::Error::other("the comparison was cancelled")))
            .map_err(|error| FleetError::Io(sink.to_path_buf(), error))?;
        if counts.signals.values().all(|signal| signal.missing == 0) || tokio::time::Instant::now() >= deadline {
            return Ok(counts);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

fn write(config: &FleetConfig, result: &FleetResult) -> Result<(), FleetError> {
    let write = |name: &str, bytes: &[u8]| {
        let path = config.out.join(name);
        std::fs::write(&path, bytes).map_err(|error| FleetError::Io(path, error))
    };
    let json = serde_json::to_vec_pretty(result).unwrap_or_default();
    write("result.json", &json)?;
    write("report.html", report::html(result).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_tokens_is_read_and_a_broken_line_is_named() {
        let good = "# project resource token\n\n0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a1 web-1 psb_load_x_node_y\n";
        let lines = TokenLine::parse_all(good).unwrap();
        assert_eq!((lines.len(), lines[0].resource.as_str()), (1, "web-1"));
        assert_eq!(TokenLine::parse_all(&format!("{good}nonsense\n")), Err(4));
    }
}
