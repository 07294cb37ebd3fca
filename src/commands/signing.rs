//! `plexsphere signing`: the operators' hand on the key lines. It works on the database itself, with the keys of control:
//! who holds those can do all of it anyway, so nothing asks for a relation. Each change is audited under a fixed subject.

use std::sync::Arc;
use std::time::Duration;

use plexsphere_identity::NodeReader;
use plexsphere_kernel::{Clock as _, Probes, Subject, SystemClock};
use plexsphere_signing::{Destruction, Rotation, Signing, SigningMetrics, SigningParts};
use plexsphere_wire::intake::COMMAND_LINE;
use plexsphere_wire::{CorrelationId, DomainId};
use serde_json::json;

use super::{Hand, sentence};
use crate::cli::{Output, SigningCommand};
use crate::config::Config;
use crate::output::say;
use crate::roles::control;

/// Runs one of the commands.
///
/// # Errors
/// One sentence.
pub(crate) async fn signing(config: Config, command: SigningCommand) -> Result<(), String> {
    let signing = open(&config).await?;
    match command {
        SigningCommand::List { domain, output, .. } => list(&signing, &domain, output.output).await,
        SigningCommand::Rotate { domain, force, .. } => rotate(&signing, &domain, force).await,
        SigningCommand::Destroy { domain, key, .. } => destroy(&signing, &domain, key).await,
    }
}

async fn open(config: &Config) -> Result<Arc<Signing>, String> {
    let Hand { keys, db, audit } = Hand::open(config).await?;
    let (deployment, probes) = (control::deployment(&keys), Probes::default());
    let parts = SigningParts {
        pins: Arc::new(NodeReader::new(db.clone())),
        db,
        ring: Arc::new(keys.signing_ring),
        transit: crate::openbao::transit(&config.openbao)?,
        audit,
        clock: Arc::new(SystemClock),
        probes: probes.clone(),
        metrics: SigningMetrics::default(),
    };
    let signing = Signing::open(control::signing_config(config, deployment), parts)
        .await
        .map_err(|error| format!("signing cannot start: {}", sentence(&error)))?;
    if !probes.ready() {
        return Err("the database belongs to another deployment than `custody.root_key_file`".to_owned());
    }
    Ok(signing)
}

async fn list(signing: &Signing, domain: &str, output: Output) -> Result<(), String> {
    let keys = signing.keys(parse(domain)?).await.map_err(|fault| sentence(&fault))?;
    if keys.is_empty() {
        return Err("the domain has no signing key".to_owned());
    }
    if output == Output::Json {
        let keys = keys.iter().map(|key| {
            json!({
                "key_id": key.kid,
                "version": key.version,
                "public_key": key.public_key,
                "custody": key.custody.as_str(),
                "state": key.state.as_str(),
                "announced": key.is_announced,
                "transition_expires": key.transition_expires,
            })
        });
        say(serde_json::Value::from_iter(keys));
        return Ok(());
    }
    for key in &keys {
        let until = key.transition_expires.map(|until| format!("  until {until}")).unwrap_or_default();
        let announced = if key.is_announced { "  announced" } else { "" };
        say(format_args!("{:9}  {:7}  {}{until}{announced}", key.state.as_str(), key.custody.as_str(), key.kid));
    }
    Ok(())
}

async fn rotate(signing: &Signing, domain: &str, force: bool) -> Result<(), String> {
    let rotation = Rotation {
        domain: parse(domain)?,
        actor: Subject::System(COMMAND_LINE),
        correlation_id: CorrelationId::mint(SystemClock.now()),
        force,
        // Nothing issues sessions yet.
        longest_session: Duration::ZERO,
    };
    let rotated = signing.rotate(rotation).await.map_err(|error| sentence(&error))?;
    say(json!({
        "key_id": rotated.kid,
        "previous_key_id": rotated.previous_kid,
        "transition_expires": rotated.transition_expires,
    }));
    Ok(())
}

async fn destroy(signing: &Signing, domain: &str, kid: String) -> Result<(), String> {
    let destruction = Destruction {
        domain: parse(domain)?,
        kid: kid.clone(),
        actor: Subject::System(COMMAND_LINE),
        correlation_id: CorrelationId::mint(SystemClock.now()),
    };
    let successor = signing.destroy(destruction).await.map_err(|error| sentence(&error))?;
    say(json!({ "destroyed_key_id": kid, "key_id": successor }));
    Ok(())
}

fn parse(domain: &str) -> Result<DomainId, String> {
    domain.parse().map_err(|error| format!("`--domain` is no Domain id: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use plexsphere_kernel::seams::SigningKeys as _;
    use plexsphere_kernel::{Database, MIGRATOR};
    use plexsphere_testkit::TestDatabase;

    #[tokio::test]
    async fn a_domains_key_is_rotated_once_and_again_only_by_force() {
        let folder = tempfile::tempdir().unwrap();
        let database = TestDatabase::with(&MIGRATOR).await;
        let mut config =
            Config { custody: crate::custody::create_missing(folder.path()).unwrap(), ..Config::default() };
        config.database.url = database.url().to_owned();
        let (now, signing) = (SystemClock.now(), open(&config).await.unwrap());
        let domain = DomainId::mint(now);
        let db = Database::new(database.pool());
        let mut tx = db.begin().await.unwrap();
        signing.ensure(&mut tx, domain, now).await.unwrap();
        tx.commit().await.unwrap();
        let rotate = async |force| {
            let command = SigningCommand::Rotate { config: Default::default(), domain: domain.to_string(), force };
            super::signing(config.clone(), command).await
        };
        rotate(false).await.unwrap();
        assert!(rotate(false).await.unwrap_err().starts_with("the last rotation is in transition until"));
        rotate(true).await.unwrap();
        assert_eq!(signing.keys(domain).await.unwrap().len(), 3);
        let elsewhere = tempfile::tempdir().unwrap();
        config.custody = crate::custody::create_missing(elsewhere.path()).unwrap();
        let refused = open(&config).await.err().unwrap();
        assert!(refused.contains("another deployment"), "{refused}");
    }
}
