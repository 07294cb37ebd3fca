//! `plexsphere identity`: suspending and removing people and service identities. As `plexsphere platform`, it works on the
//! database itself, with the keys of control, and is audited under a fixed subject.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use plexsphere_audit::{Eraser, Erasure, anchor};
use plexsphere_identity::{Actor, ChainErasure, Departures, DeparturesNeeds, TokenPepper};
use plexsphere_kernel::{Clock as _, Fault, Subject, SystemClock};
use plexsphere_rebac::PgTupleWriter;
use plexsphere_wire::DomainId;
use plexsphere_wire::intake::COMMAND_LINE;
use serde_json::json;

use super::platform::read_principal;
use super::{Hand, sentence};
use crate::cli::IdentityCommand;
use crate::config::Config;
use crate::output::say;

/// Runs one of the commands.
///
/// # Errors
/// One sentence.
pub(crate) async fn identity(config: Config, command: IdentityCommand) -> Result<(), String> {
    let departures = open(&config).await?;
    let actor = Actor::background(Subject::System(COMMAND_LINE), SystemClock.now());
    let done = match &command {
        IdentityCommand::Suspend { principal, .. } => departures.suspend(&actor, read_principal(principal)?).await,
        IdentityCommand::Resume { principal, .. } => departures.resume(&actor, read_principal(principal)?).await,
        IdentityCommand::Purge { principal, everywhere, .. } => {
            departures.purge(&actor, read_principal(principal)?, *everywhere).await
        }
    };
    let departed = done.map_err(|refusal| sentence(&refusal))?;
    let named = |all: &[Subject]| all.iter().map(name).collect::<Vec<_>>();
    say(json!({
        "correlation_id": actor.correlation_id,
        "principals": named(&departed.principals),
        "others_of_the_same_person": named(&departed.others),
    }));
    Ok(())
}

/// As [`read_principal`] reads it.
fn name(subject: &Subject) -> String {
    let kind = if matches!(subject, Subject::Service(_)) { "service" } else { "user" };
    format!("{kind}:{}", subject.uuid())
}

async fn open(config: &Config) -> Result<Departures, String> {
    let Hand { keys, db, audit } = Hand::open(config).await?;
    let tuples = Arc::new(PgTupleWriter::new(Arc::new(SystemClock)));
    let chains = Arc::new(Chains(Eraser::new(Arc::clone(&audit))));
    let pepper = TokenPepper::new(*keys.derive("token"));
    Ok(Departures::new(DeparturesNeeds { db, audit, tuples, pepper, chains }))
}

/// The audit chains, for the purge.
struct Chains(Eraser);

#[async_trait]
impl ChainErasure for Chains {
    async fn erase(&self, actor: &Actor, identity: Subject, home: Option<DomainId>) -> Result<(), Fault> {
        let identity = identity.uuid();
        let mut chains: BTreeSet<_> = [anchor(None), anchor(home)].into();
        chains.extend(self.0.chains_ever_of(identity).await?);
        // A row of a last request may be enlisted on yet another chain meanwhile.
        while !chains.is_empty() {
            for chain in std::mem::take(&mut chains) {
                let (correlation_id, context) = (actor.correlation_id.clone(), actor.context.clone());
                let (operator, now) = (actor.subject, SystemClock.now());
                self.0.erase(Erasure { chain, identity, operator, correlation_id, context, now }).await?;
            }
            chains.extend(self.0.chains_of(identity).await?);
        }
        Ok(())
    }
}
