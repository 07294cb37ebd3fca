//! What a pending row says. Pure.

use plexsphere_kernel::audit::{CaveatNames, RequestContext};
use plexsphere_kernel::{AuditRecord, Outcome};
use plexsphere_wire::intake::AuditIntake;
use plexsphere_wire::{CorrelationId, DenialReason, DomainId, Timestamp};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::pepper::Pepper;

/// The anchor of the chain that no Domain owns.
pub const PLATFORM_ANCHOR: Uuid = Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001);

/// The longest `User-Agent` that is stored, in bytes.
const MAX_USER_AGENT_BYTES: usize = 256;
/// The longest object id, in bytes.
const MAX_OBJECT_ID_BYTES: usize = 256;
/// Object types that are persons: their ids are replaced by pseudonyms, for an id in hashed bytes cannot be erased.
const PERSONS: [&str; 2] = ["user", "identity"];
/// Object types that callers name in paths. Only an id is written of what they say: other text could name a person.
const ADDRESSED: [&str; 5] = ["domain", "project", "resource", "node", "group"];
/// Stands for what a caller gave as an id and is none.
const MALFORMED: &str = "malformed";

/// Actions that begin a chain. A fresh chain's first row is one of them, whatever was enlisted around it.
pub(crate) const GENESIS_ACTIONS: [&str; 2] = [CREATE_DOMAIN, "platform.bootstrap"];
const CREATE_DOMAIN: &str = "domain.create";

/// The anchor of a chain.
#[must_use]
pub fn anchor(domain: Option<DomainId>) -> Uuid {
    domain.map_or(PLATFORM_ANCHOR, |domain| domain.uuid())
}

/// What is to be recorded, whoever hands it over.
pub(crate) struct Enlistment {
    pub(crate) chain: Uuid,
    pub(crate) subject: Uuid,
    pub(crate) relation: String,
    pub(crate) object_type: String,
    pub(crate) object_id: String,
    pub(crate) reason: &'static str,
    pub(crate) correlation_id: CorrelationId,
    pub(crate) context: RequestContext,
    pub(crate) occurred_at: Timestamp,
    pub(crate) repeated: u32,
    pub(crate) caveats: CaveatNames,
}

/// A relation or object type outside the permitted form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a relation, an action or an object type")]
pub(crate) struct NotAName;

impl From<AuditRecord> for Enlistment {
    fn from(record: AuditRecord) -> Self {
        Self {
            chain: residence(&record),
            subject: record.subject.uuid(),
            relation: record.relation,
            object_type: record.object.kind.to_owned(),
            object_id: record.object.id,
            reason: match record.outcome {
                Outcome::Granted => "granted",
                Outcome::Denied(reason) => reason_word(reason),
            },
            correlation_id: record.correlation_id,
            context: record.context,
            occurred_at: record.occurred_at,
            repeated: 0,
            caveats: CaveatNames::default(),
        }
    }
}

impl From<AuditIntake> for Enlistment {
    fn from(intake: AuditIntake) -> Self {
        Self {
            chain: intake.domain.uuid(),
            subject: intake.node.uuid(),
            relation: intake.relation,
            object_type: intake.object_type,
            object_id: intake.object_id,
            reason: reason_word(intake.reason),
            correlation_id: intake.correlation_id,
            context: RequestContext { ip: intake.client_ip, user_agent: intake.user_agent },
            occurred_at: intake.occurred_at,
            repeated: intake.repeated,
            caveats: CaveatNames::default(),
        }
    }
}

/// A Domain's creation is the first row of its own chain, wherever its maker belongs; a refused one has no chain of its own
/// and stands on the platform's.
fn residence(record: &AuditRecord) -> Uuid {
    if record.relation != CREATE_DOMAIN || record.object.kind != "domain" {
        return anchor(record.domain);
    }
    match record.outcome {
        Outcome::Granted => anchor(record.object.id.parse::<DomainId>().ok().or(record.domain)),
        Outcome::Denied(_) => PLATFORM_ANCHOR,
    }
}

const fn reason_word(reason: DenialReason) -> &'static str {
    match reason {
        DenialReason::OutOfScope => "out_of_scope",
        DenialReason::InsufficientRelation => "insufficient_relation",
        DenialReason::CaveatViolation => "caveat_violation",
    }
}

impl Enlistment {
    /// Checks the names, cuts what is too long and replaces ids of persons.
    pub(crate) fn settle(mut self, pepper: &Pepper) -> Result<Self, NotAName> {
        let valid = is_name(&self.relation) && is_name(&self.object_type);
        // A correlation id that came over the bus was not checked by its type.
        if !valid || CorrelationId::accept(self.correlation_id.as_str()).is_none() {
            return Err(NotAName);
        }
        if PERSONS.contains(&self.object_type.as_str()) {
            let pseudonym = match self.object_id.parse::<Uuid>() {
                Ok(id) => pepper.pseudonym(id),
                Err(_) => pepper.pseudonym_of_name(&self.object_id),
            };
            self.object_id = data_encoding::HEXLOWER.encode(&pseudonym);
        } else if ADDRESSED.contains(&self.object_type.as_str()) && self.object_id.parse::<Uuid>().is_err() {
            MALFORMED.clone_into(&mut self.object_id);
        }
        cut(&mut self.object_id, MAX_OBJECT_ID_BYTES);
        // The store takes no NUL in texts, and a caller chooses these.
        self.object_id = self.object_id.replace('\0', "\u{fffd}");
        if let Some(user_agent) = &mut self.context.user_agent {
            *user_agent = user_agent.replace('\0', "?");
            cut(user_agent, MAX_USER_AGENT_BYTES);
        }
        Ok(self)
    }

    /// The caveats as canonical JSON: members and array items are sorted, and no name needs an escape.
    pub(crate) fn caveat_names(&self) -> String {
        serde_json::to_string(self.caveats.names()).unwrap_or_else(|_| "{}".to_owned())
    }
}

/// `^[a-z][a-z0-9_.-]{0,127}$`
fn is_name(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-'))
}

fn cut(text: &mut String, bytes: usize) {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(end);
}

/// `SHA-256(salt ‖ len32(ip) ‖ ip ‖ len32(ua) ‖ ua)`, lengths big endian, an absent text as an empty one.
pub(crate) fn commitment(salt: &[u8; 32], context: &RequestContext) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(salt);
    for text in [&context.ip, &context.user_agent] {
        let text = text.as_deref().unwrap_or("");
        hash.update(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pepper::AuditKey;

    fn enlistment(object_type: &str, object_id: &str) -> Enlistment {
        let now = Timestamp::from_unix_seconds(1_700_000_000);
        Enlistment {
            chain: PLATFORM_ANCHOR,
            subject: Uuid::from_u128(7),
            relation: "user.create".to_owned(),
            object_type: object_type.to_owned(),
            object_id: object_id.to_owned(),
            reason: "granted",
            correlation_id: CorrelationId::mint(now),
            context: RequestContext { ip: None, user_agent: Some("é".repeat(1_000)) },
            occurred_at: now,
            repeated: 0,
            caveats: CaveatNames::default(),
        }
    }

    #[test]
    fn caveats_leave_names_only_sorted_and_once() {
        let mut row = enlistment("node", "n");
        for (caveat, parameter) in [("from_cidr", "b"), ("from_cidr", "a"), ("active", "now"), ("from_cidr", "b")] {
            row.caveats.add(caveat, parameter).unwrap();
        }
        assert!(row.caveats.add("from_cidr", "10.0.0.0/8").is_err());
        assert_eq!(row.caveat_names(), r#"{"active":["now"],"from_cidr":["a","b"]}"#);
    }

    #[test]
    fn the_id_of_a_person_never_stands_in_a_row() {
        let pepper = AuditKey::parse(&"ab".repeat(32)).unwrap().pepper(PLATFORM_ANCHOR);
        let person = Uuid::from_u128(9);
        let settled = enlistment("user", &person.to_string()).settle(&pepper).unwrap();
        assert_eq!(settled.object_id, data_encoding::HEXLOWER.encode(&pepper.pseudonym(person)));
        assert_eq!(settled.context.user_agent.unwrap().len(), 256);
        let node = enlistment("node", &person.to_string()).settle(&pepper).unwrap();
        assert_eq!(node.object_id, person.to_string());
        let named = enlistment("node", "alice@example.com").settle(&pepper).unwrap();
        assert_eq!(named.object_id, "malformed");
    }

    #[test]
    fn a_relation_is_a_name_and_nothing_else() {
        for bad in ["", "Domain", "a b", "ä", ".a", &"a".repeat(129)] {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(is_name("domain.create") && is_name("audit.erase-identity"));
    }

    #[test]
    fn a_commitment_tells_ip_and_user_agent_apart() {
        let context = |ip: &str, ua: &str| RequestContext { ip: Some(ip.into()), user_agent: Some(ua.into()) };
        let salt = [5; 32];
        assert_ne!(commitment(&salt, &context("ab", "c")), commitment(&salt, &context("a", "bc")));
        assert_ne!(commitment(&salt, &context("a", "b")), commitment(&[6; 32], &context("a", "b")));
    }
}
