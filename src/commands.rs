//! Commands that do one thing and end.

use std::path::Path;
use std::process::ExitCode;

use plexsphere_kernel::Database;
use plexsphere_local::{Artifacts, Outcome, Paths};
use serde_json::json;

use crate::cli::Output;
use crate::config::{Config, Loaded, is_secret};
use crate::output::{say, tell};

/// Applies the migrations that are missing.
pub(crate) async fn migrate(config: Config) -> Result<(), String> {
    let database = Database::connect(&config.database.url, 2).await.map_err(|error| sentence(&error))?;
    database.migrate().await.map_err(|error| format!("the migrations cannot be applied: {error}"))?;
    tell("The database is up to date.");
    Ok(())
}

/// An error with its causes as one sentence.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// Prints the effective configuration.
pub(crate) fn show(loaded: &Loaded, output: Output) {
    let mut rows = Vec::new();
    for (key, (value, origin)) in &loaded.keys {
        let shown = if is_secret(key) && !value.is_null() { json!("••••••") } else { value.clone() };
        rows.push((key, shown, origin.to_string()));
    }
    match output {
        Output::Json => {
            let members: serde_json::Map<String, serde_json::Value> = rows
                .into_iter()
                .map(|(key, value, origin)| (key.clone(), json!({ "value": value, "origin": origin })))
                .collect();
            say(serde_json::Value::Object(members));
        }
        Output::Table => {
            let width = rows.iter().map(|(key, ..)| key.len()).max().unwrap_or(0);
            for (key, value, origin) in rows {
                say(format_args!("{key:width$}  {value}  ({origin})"));
            }
        }
    }
}

/// Looks at this machine. Fails when something that `dev` needs is missing.
pub(crate) fn doctor(output: Output) -> ExitCode {
    let checks = match Paths::discover() {
        Ok(paths) => {
            let artifacts = Artifacts::new(&paths);
            plexsphere_local::doctor(&paths, &artifacts)
        }
        Err(error) => {
            tell(format_args!("plexsphere: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let word = |outcome: Outcome| match outcome {
        Outcome::Ok => "ok",
        Outcome::Warn => "warn",
        Outcome::Fail => "fail",
    };
    match output {
        Output::Json => say(json!(
            checks
                .iter()
                .map(|check| json!({ "name": check.name, "outcome": word(check.outcome), "detail": check.sentence }))
                .collect::<Vec<_>>()
        )),
        Output::Table => {
            for check in &checks {
                say(format_args!("{:4}  {:16}  {}", word(check.outcome), check.name, check.sentence));
            }
        }
    }
    if checks.iter().any(|check| check.outcome == Outcome::Fail) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
