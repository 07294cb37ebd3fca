//! `plexsphere platform`: rights that no operation grants. It works on the database itself, with the keys of control: who
//! holds those can do all of it anyway, so nothing asks for a relation. Each grant is audited under a fixed subject.

use std::sync::Arc;

use plexsphere_identity::{Actor, Grantee, PlatformGrants, PlatformRight, TokenPepper};
use plexsphere_kernel::{Clock as _, Subject, SystemClock};
use plexsphere_rebac::PgTupleWriter;
use plexsphere_wire::PrincipalId;
use plexsphere_wire::intake::COMMAND_LINE;
use serde_json::json;

use super::{Hand, sentence};
use crate::cli::PlatformCommand;
use crate::config::Config;
use crate::output::say;

/// Runs one of the commands.
///
/// # Errors
/// One sentence.
pub(crate) async fn platform(config: Config, command: PlatformCommand) -> Result<(), String> {
    let grants = open(&config).await?;
    let actor = Actor::background(Subject::System(COMMAND_LINE), SystemClock.now());
    let done = match &command {
        PlatformCommand::Grant { right, principal, .. } => {
            grants.grant(&actor, read_right(right)?, read_grantee(principal)?).await
        }
        PlatformCommand::Revoke { right, principal, .. } => {
            grants.revoke(&actor, read_right(right)?, read_grantee(principal)?).await
        }
        PlatformCommand::GrantDomainAdmin { domain, principal, .. } => {
            let domain = domain.parse().map_err(|error| format!("`--domain` is no Domain id: {error}"))?;
            grants.grant_domain_admin(&actor, domain, read_principal(principal)?).await
        }
    };
    done.map_err(|refusal| sentence(&refusal))?;
    say(json!({ "correlation_id": actor.correlation_id }));
    Ok(())
}

async fn open(config: &Config) -> Result<PlatformGrants, String> {
    let Hand { keys, db, audit } = Hand::open(config).await?;
    let tuples = Arc::new(PgTupleWriter::new(Arc::new(SystemClock)));
    Ok(PlatformGrants::new(db, audit, tuples, TokenPepper::new(*keys.derive("token"))))
}

fn read_right(word: &str) -> Result<PlatformRight, String> {
    PlatformRight::parse(word).ok_or_else(|| format!("`{word}` is not one of admin, operator, auditor, reader"))
}

/// As [`read_principal`], or `group:<id>` for its members.
fn read_grantee(text: &str) -> Result<Grantee, String> {
    match text.strip_prefix("group:") {
        Some(id) => {
            let id = id.strip_suffix("#member").unwrap_or(id);
            let group = id.parse().map_err(|_| format!("`{text}` is no `group:<id>`"))?;
            Ok(Grantee::Members(group))
        }
        None => read_principal(text).map(Grantee::Principal),
    }
}

/// `user:<id>` or `service:<id>`.
pub(super) fn read_principal(text: &str) -> Result<Subject, String> {
    let broken = || format!("`{text}` is neither `user:<id>` nor `service:<id>`");
    let (kind, id) = text.split_once(':').ok_or_else(broken)?;
    let id: PrincipalId = id.parse().map_err(|_| broken())?;
    match kind {
        "user" => Ok(Subject::User(id)),
        "service" => Ok(Subject::Service(id)),
        _ => Err(broken()),
    }
}
