//! Commands that do one thing and end.

pub(crate) mod audit;
mod identity;
mod platform;
mod signing;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use plexsphere_audit::{AuditKey, PgAuditLog};
use plexsphere_kernel::{Database, SystemClock};
use plexsphere_local::{Artifacts, Outcome, Paths};
use serde_json::json;

use crate::cli::Output;
use crate::config::{Config, Loaded, is_secret};
use crate::custody::Keys;
use crate::output::{say, tell};

pub(crate) use identity::identity;
pub(crate) use platform::platform;
pub(crate) use signing::signing;

/// What a command needs that does by itself what control does: the keys, the database and the audit log.
pub(crate) struct Hand {
    pub(crate) keys: Keys,
    pub(crate) db: Database,
    pub(crate) audit: Arc<PgAuditLog>,
}

impl Hand {
    /// # Errors
    /// One sentence.
    pub(crate) async fn open(config: &Config) -> Result<Self, String> {
        let keys = Keys::load(&config.custody, &config.openbao).await?;
        let db = Database::connect(&config.database.url, 2)
            .await
            .map_err(|error| format!("the database cannot be reached: {}", sentence(&error)))?;
        let audit_key = AuditKey::parse(&data_encoding::HEXLOWER.encode(keys.derive("audit").as_slice()))
            .map_err(|error| error.to_string())?;
        let audit = Arc::new(PgAuditLog::new(db.clone(), audit_key, Arc::new(SystemClock)));
        Ok(Self { keys, db, audit })
    }
}

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

/// Sends dead letters back to the stream they came from.
pub(crate) async fn replay_dead(config: Config, consumer: String, domain: String) -> Result<(), String> {
    use plexsphere_pipelines::Route;
    let route = Route::ALL
        .into_iter()
        .find(|route| route.durable() == consumer)
        .ok_or_else(|| format!("`{consumer}` is none of: {}", Route::ALL.map(Route::durable).join(", ")))?;
    let domain = domain.parse().map_err(|error| format!("`--domain` is no Domain id: {error}"))?;
    let client = crate::roles::connect_bus(&config.nats.url, "replay").await?;
    let jetstream = async_nats::jetstream::new(client);
    let count = plexsphere_pipelines::replay_dead(&jetstream, route, domain).await.map_err(|error| sentence(&error))?;
    say(json!({ "consumer": consumer, "replayed": count }));
    Ok(())
}

/// Prints the records of a file sink's folder, one JSON object a line.
pub(crate) fn records(folder: &Path, signal: Option<&str>, node: Option<&str>) -> Result<ExitCode, String> {
    let records = plexsphere_pipelines::read_records(folder).map_err(|error| sentence(&error))?;
    for record in records {
        let (of, record) = record.map_err(|error| sentence(&error))?;
        let wanted = signal.is_none_or(|signal| of.as_str() == signal)
            && node.is_none_or(|node| record.node_id.to_string() == node);
        if wanted {
            say(serde_json::to_string(&record).map_err(|error| error.to_string())?);
        }
    }
    Ok(ExitCode::SUCCESS)
}
