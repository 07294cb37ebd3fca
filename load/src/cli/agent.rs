//! The `agent` command.

use std::path::PathBuf;
use std::time::Duration;

use plexsphere_wire::ProjectId;
use tokio::sync::mpsc;
use url::Url;
use zeroize::Zeroizing;

use super::{Failure, Output, duration, print, stop_signal};
use crate::agent::{AgentConfig, AgentError, ROTATION_BACKOFF, run};
use crate::api::EncodingChoice;
use crate::transport::{BackoffPolicy, Protocol, Trust};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the platform is
    #[arg(long)]
    url: Url,
    /// A bootstrap token
    #[arg(long, conflicts_with = "token_file", env = "PLEXSPHERE_BOOTSTRAP_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A file whose first line is a bootstrap token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The Project to join
    #[arg(long, value_name = "ID")]
    project: Option<ProjectId>,
    /// The handle (or id) of the Resource that this machine is
    #[arg(long, value_name = "HANDLE")]
    resource: Option<String>,
    /// Keep the identity here, so that a restart does not register again
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Believe these certificate authorities and no other
    #[arg(long, value_name = "FILE")]
    ca_cert: Option<PathBuf>,
    /// h1, h2 or h3
    #[arg(long, default_value = "h1")]
    http: Protocol,
    /// Follow a log file (repeatable)
    #[arg(long = "log", value_name = "FILE")]
    logs: Vec<PathBuf>,
    /// Follow a log of the audit daemon (repeatable)
    #[arg(long = "audit-log", value_name = "FILE")]
    audit_logs: Vec<PathBuf>,
    /// Send metrics this often
    #[arg(long, default_value = "60s", value_parser = duration)]
    interval: Duration,
    /// Send log lines at least this often
    #[arg(long, default_value = "30s", value_parser = duration)]
    log_interval: Duration,
    /// Send audit events at least this often
    #[arg(long, default_value = "15s", value_parser = duration)]
    audit_interval: Duration,
    /// Send a heartbeat this often
    #[arg(long, default_value = "30s", value_parser = duration)]
    heartbeat: Duration,
    /// agent (gzip above 1,024 bytes), gzip, zstd or identity
    #[arg(long, default_value = "agent")]
    encoding: EncodingChoice,
    /// How happenings are written
    #[arg(short, long, default_value = "text")]
    output: Output,
}

impl Args {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let output = self.output;
        let config = self.config()?;
        if [config.interval, config.log_interval, config.audit_interval, config.heartbeat].contains(&Duration::ZERO) {
            return Err(Failure::mistake("intervals are longer than nothing"));
        }
        let (say, mut happenings) = mpsc::channel(256);
        let agent = tokio::spawn(Box::pin(run(config, stop_signal(), say)));
        while let Some(happening) = happenings.recv().await {
            let line = match output {
                Output::Json => serde_json::to_string(&happening).unwrap_or_default(),
                Output::Text => happening.to_string(),
            };
            if !print(&line) {
                // Whoever wanted to know is gone.
                agent.abort();
                return Ok(0);
            }
        }
        match agent.await {
            Ok(Ok(())) => Ok(0),
            Ok(Err(error)) => Err(failure(&error)),
            Err(error) => Err(Failure::remote(error.to_string())),
        }
    }

    fn config(self) -> Result<AgentConfig, Failure> {
        let token = match (self.token, self.token_file) {
            (Some(token), _) => Some(token),
            (None, Some(file)) => {
                let text = std::fs::read_to_string(&file)
                    .map_err(|error| Failure::mistake(format!("{}: {error}", file.display())))?;
                text.lines().next().map(|line| line.trim().to_owned())
            }
            (None, None) => None,
        };
        Ok(AgentConfig {
            url: self.url,
            protocol: self.http,
            trust: Trust::from_option(self.ca_cert),
            token: token.map(Zeroizing::new),
            project: self.project,
            resource: self.resource,
            state_dir: self.state_dir,
            logs: self.logs,
            audit_logs: self.audit_logs,
            interval: self.interval,
            log_interval: self.log_interval,
            audit_interval: self.audit_interval,
            heartbeat: self.heartbeat,
            encoding: self.encoding,
            backoff: BackoffPolicy::default(),
            rotation_backoff: ROTATION_BACKOFF,
        })
    }
}

fn failure(error: &AgentError) -> Failure {
    match error {
        AgentError::NothingToRegisterWith | AgentError::Identity(_) => Failure::mistake(error.to_string()),
        AgentError::Transport(_) => Failure::mistake(error.to_string()),
        AgentError::Api(api) => Failure::api(api, error.to_string()),
    }
}
