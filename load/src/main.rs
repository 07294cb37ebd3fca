//! `plexsphere-load`: one Node on this machine, or a fleet of them.

use std::process::ExitCode;

use clap::Parser as _;
use plexsphere_load::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    Box::pin(Cli::parse().run()).await
}
