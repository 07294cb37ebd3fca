//! The `verify` command.

use std::path::PathBuf;

use super::{Failure, Output, print};
use crate::verify::compare_all;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A ledger, or a folder of a run that holds `*.ledger.ndjson` (repeatable)
    #[arg(long = "ledger", value_name = "FILE|DIR", required = true)]
    ledgers: Vec<PathBuf>,
    /// The root folder of the file sink
    #[arg(long, value_name = "DIR")]
    sink: PathBuf,
    /// How the counts are written
    #[arg(short, long, default_value = "text")]
    output: Output,
}

impl Args {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let ledgers = files(&self.ledgers)?;
        let sink = self.sink;
        let counts = tokio::task::spawn_blocking(move || compare_all(&ledgers, &sink))
            .await
            .map_err(|error| Failure::remote(error.to_string()))?
            .map_err(|error| Failure::mistake(error.to_string()))?;
        match self.output {
            Output::Json => print(&serde_json::to_string_pretty(&counts).unwrap_or_default()),
            Output::Text => print(counts.table().trim_end()),
        };
        Ok(if counts.holds() { 0 } else { 2 })
    }
}

fn files(given: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut ledgers = Vec::new();
    for path in given {
        if !path.is_dir() {
            ledgers.push(path.clone());
            continue;
        }
        let failed = |error: std::io::Error| Failure::mistake(format!("{}: {error}", path.display()));
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            if file.to_string_lossy().ends_with(".ledger.ndjson") {
                ledgers.push(file);
            }
        }
    }
    if ledgers.is_empty() { Err(Failure::mistake("there is no ledger")) } else { Ok(ledgers) }
}
