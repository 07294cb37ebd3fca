//! The `fleet` command.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;
use zeroize::Zeroizing;

use super::{Failure, duration, print, stop_signal};
use crate::api::EncodingChoice;
use crate::fleet::{Access, FleetConfig, FleetError, FleetResult, Progress, TokenLine, run};
use crate::transport::{BackoffPolicy, Protocol, Trust};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How many Nodes
    #[arg(long)]
    nodes: usize,
    /// Where the platform is
    #[arg(long)]
    url: Url,
    /// An operator's token; Domains, Projects, Resources and bootstrap tokens are made with it
    #[arg(
        long,
        env = "PLEXSPHERE_ADMIN_TOKEN",
        hide_env_values = true,
        required_unless_present_any = ["admin_token_file", "tokens"]
    )]
    admin_token: Option<String>,
    /// A file whose first line is an operator's token
    #[arg(long, value_name = "FILE", conflicts_with_all = ["admin_token", "tokens"])]
    admin_token_file: Option<PathBuf>,
    /// Spread the Nodes over so many Domains
    #[arg(long, default_value_t = 1)]
    domains: usize,
    /// Lines of `<project id> <resource handle> <bootstrap token>`, one per Node
    #[arg(long, value_name = "FILE", conflicts_with_all = ["admin_token", "joins"])]
    tokens: Option<PathBuf>,
    /// Believe these certificate authorities and no other
    #[arg(long, value_name = "FILE")]
    ca_cert: Option<PathBuf>,
    /// h1, h2 or h3; given several times, the same work runs once per protocol
    #[arg(long = "http", default_value = "h1")]
    protocols: Vec<Protocol>,
    /// How long a phase makes batches
    #[arg(long, default_value = "30s", value_parser = duration)]
    duration: Duration,
    /// How often a Node makes batches
    #[arg(long, default_value = "1s", value_parser = duration)]
    interval: Duration,
    /// Log lines per Node and interval
    #[arg(long, default_value_t = 20)]
    log_lines: usize,
    /// Audit events per Node and interval
    #[arg(long, default_value_t = 2)]
    audit_events: usize,
    /// How often a Node sends a heartbeat
    #[arg(long, default_value = "30s", value_parser = duration)]
    heartbeat: Duration,
    /// agent (gzip above 1,024 bytes), gzip, zstd or identity
    #[arg(long, default_value = "agent")]
    encoding: EncodingChoice,
    /// Hold every Node's event stream open
    #[arg(long)]
    events: bool,
    /// Cut every event stream after this long and come back with the cursor
    #[arg(long, value_name = "AFTER", value_parser = duration, requires = "events")]
    cut_streams: Option<Duration>,
    /// Pull the state whenever a stream opens or an event arrives, as agents do
    #[arg(long, requires = "events")]
    pulls: bool,
    /// Enrol so many more Nodes while a phase runs, so that the streams have something to carry
    #[arg(long, default_value_t = 0)]
    joins: usize,
    /// How long unsettled batches are still sent at the end of a phase
    #[arg(long, default_value = "30s", value_parser = duration)]
    drain: Duration,
    /// Chooses which recorded data a Node sends
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where ledgers, result.json and report.html are written
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The run's name
    #[arg(long, default_value = "fleet", value_parser = name)]
    name: String,
    /// Compare with this file sink when all phases are done
    #[arg(long, value_name = "DIR")]
    sink: Option<PathBuf>,
}

/// A name becomes part of slugs, handles and markers.
fn name(text: &str) -> Result<String, String> {
    let parts = text
        .split('-')
        .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
    if parts && text.len() <= 40 {
        Ok(text.to_owned())
    } else {
        Err("a name is at most 40 lower-case letters, digits and single hyphens".to_owned())
    }
}

pub(super) fn first_line(path: &PathBuf) -> Result<String, Failure> {
    let text = read(path)?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

pub(super) fn read(path: &PathBuf) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::mistake(format!("{}: {error}", path.display())))
}

impl Args {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let config = self.config()?;
        let result = Box::pin(run(config, stop_signal())).await.map_err(|error| failure(&error))?;
        let json = serde_json::to_string_pretty(&result).map_err(|error| Failure::remote(error.to_string()))?;
        summarise(&result);
        print(&json);
        Ok(if result.holds() { 0 } else { 2 })
    }

    fn config(self) -> Result<FleetConfig, Failure> {
        let access = match (&self.tokens, &self.admin_token_file, self.admin_token) {
            (Some(path), _, _) => Access::Tokens(
                TokenLine::parse_all(&read(path)?)
                    .map_err(|line| Failure::mistake(format!("{}, line {line}: unreadable", path.display())))?,
            ),
            (None, Some(path), _) => Access::Admin { token: Zeroizing::new(first_line(path)?), domains: self.domains },
            (None, None, Some(token)) => Access::Admin { token: Zeroizing::new(token), domains: self.domains },
            (None, None, None) => return Err(Failure::mistake("give an operator's token or a file of tokens")),
        };
        Ok(FleetConfig {
            out: self.out.unwrap_or_else(|| PathBuf::from("load-runs").join(&self.name)),
            name: self.name,
            url: self.url,
            trust: Trust::from_option(self.ca_cert),
            nodes: self.nodes,
            access,
            protocols: self.protocols,
            duration: self.duration,
            interval: self.interval,
            log_lines: self.log_lines,
            audit_events: self.audit_events,
            heartbeat: self.heartbeat,
            encoding: self.encoding,
            events: self.events,
            cut_streams: self.cut_streams,
            pulls: self.pulls,
            joins: self.joins,
            drain: self.drain,
            backoff: BackoffPolicy::default(),
            seed: self.seed,
            sink: self.sink,
            progress: Progress::Auto,
        })
    }
}

/// A few lines for people, beside the progress.
fn summarise(result: &FleetResult) {
    let mut out = std::io::stderr().lock();
    for phase in &result.phases {
        let (latency, failures) = (phase.latency_all, phase.errors.values().sum::<u64>());
        let _ = writeln!(
            out,
            "{}: {} records/s, p50 {:.1} ms, p99 {:.1} ms, {} requests, {failures} failures",
            phase.protocol, phase.records_per_second, latency.p50, latency.p99, phase.requests
        );
    }
    if let Some(counts) = &result.verification {
        let _ = write!(out, "{}", counts.table());
    }
}

pub(super) fn failure(error: &FleetError) -> Failure {
    match error {
        FleetError::Config(_) | FleetError::Stopped | FleetError::Transport(_) | FleetError::Io(..) => {
            Failure::mistake(error.to_string())
        }
        FleetError::SetUp { source, .. } => Failure::api(source, error.to_string()),
    }
}
