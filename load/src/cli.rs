//! The command line. Results go to stdout, progress and faults to stderr.
//!
//! Exit codes: 0 done, 1 a mistake in what was asked, 2 a failure on the way, records missing or doubled, or a figure
//! beyond its mark, 3 refused by the platform.

mod agent;
mod fleet;
mod streams;
mod verify;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use tokio::sync::watch;

use crate::api::ApiError;

/// The agent's side of the platform.
#[derive(Debug, Parser)]
#[command(name = "plexsphere-load", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Join as a Node and stream this machine's metrics and the lines of real files until stopped.
    Agent(Box<agent::Args>),
    /// Run many Nodes in one process with recorded real data, and report.
    Fleet(Box<fleet::Args>),
    /// Hold very many event streams, and say what they cost.
    Streams(Box<streams::Args>),
    /// A process of `streams`: takes orders from its standard input.
    #[command(hide = true)]
    StreamWorker,
    /// Compare the ledgers of a run with a file sink.
    Verify(verify::Args),
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For programs.
    Json,
    /// For people.
    Text,
}

/// A command's failure: what to say and how to exit.
#[derive(Debug)]
struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    fn mistake(text: impl Into<String>) -> Self {
        Self { code: 1, text: text.into() }
    }

    fn remote(text: impl Into<String>) -> Self {
        Self { code: 2, text: text.into() }
    }

    fn api(error: &ApiError, text: String) -> Self {
        let refused = error.refused().is_some_and(|refused| (400..500).contains(&refused.status));
        Self { code: if refused { 3 } else { 2 }, text }
    }
}

impl Cli {
    /// Runs the command.
    pub async fn run(self) -> ExitCode {
        let outcome = match self.command {
            Command::Agent(args) => Box::pin(args.run()).await,
            Command::Fleet(args) => Box::pin(args.run()).await,
            Command::Streams(args) => Box::pin(args.run()).await,
            Command::StreamWorker => streams::worker().await,
            Command::Verify(args) => args.run().await,
        };
        match outcome {
            Ok(code) => ExitCode::from(code),
            Err(failure) => {
                let _ = writeln!(std::io::stderr(), "plexsphere-load: {}", failure.text);
                ExitCode::from(failure.code)
            }
        }
    }
}

/// Writes a line to stdout; `false` when nobody reads any more.
fn print(text: &str) -> bool {
    writeln!(std::io::stdout(), "{text}").is_ok()
}

/// Says `true` at the first Ctrl-C or termination signal; the second ends the process at once.
fn stop_signal() -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        any_signal().await;
        let _ = sender.send(true);
        any_signal().await;
        std::process::exit(130);
    });
    receiver
}

async fn any_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

/// `250ms`, `30s`, `5m` or `1h`; a bare number means seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().map_err(|_| format!("`{text}` is no duration"))?;
    let seconds = match text.get(digits.len()..) {
        Some("ms") => number / 1_000.0,
        Some("" | "s") => number,
        Some("m") => number * 60.0,
        Some("h") => number * 3_600.0,
        _ => return Err(format!("`{text}` has no unit of ms, s, m, h")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("`{text}` is no duration"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert!(duration("-1s").is_err() && duration("1d").is_err() && duration("s").is_err());
    }
}
