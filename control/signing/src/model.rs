//! Keys, their states and their names. Pure.

use data_encoding::{BASE32_NOPAD, Encoding};
use plexsphere_wire::envelope::valid_kid;
use plexsphere_wire::{DomainId, Timestamp};
use serde::{Deserialize, Serialize};

/// The state of a signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyState {
    /// Signs once it is announced.
    Current,
    /// Believed until its transition is over.
    Previous,
    /// Signs announcements to Nodes that pin it, and nothing else.
    Retired,
    /// Has no private half any more.
    Destroyed,
}

/// Where the private half of a key rests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Custody {
    /// In the database, its seed sealed under the signing ring.
    #[default]
    Wrapped,
    /// In OpenBao's transit engine, which signs and never gives it away.
    Transit,
}

impl Custody {
    /// The word in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wrapped => "wrapped",
            Self::Transit => "transit",
        }
    }

    /// Reads the word of the database.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Wrapped, Self::Transit].into_iter().find(|custody| custody.as_str() == word)
    }
}

/// The private half itself, as far as the database knows it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PrivateHalf {
    /// The sealed seed and the version of its wrap key.
    Wrapped { seed: Vec<u8>, wrap_key: i32 },
    /// The version of the Domain's key in OpenBao.
    Transit { version: i32 },
}

impl PrivateHalf {
    pub(crate) const fn custody(&self) -> Custody {
        match self {
            Self::Wrapped { .. } => Custody::Wrapped,
            Self::Transit { .. } => Custody::Transit,
        }
    }
}

/// The name of a Domain's key in OpenBao; its versions are the Domain's keys in that custody.
pub(crate) fn transit_name(domain: DomainId) -> String {
    format!("plexsphere-signing-{domain}")
}

/// Why a key was destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DestroyReason {
    /// It was declared compromised.
    Compromise,
    /// No Node has pinned it for long.
    Unpinned,
    /// Its transition is over and the installation keeps no retired keys.
    NotKept,
    /// Its Domain was deleted.
    DomainDeleted,
}

impl DestroyReason {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Compromise => "compromise",
            Self::Unpinned => "unpinned",
            Self::NotKept => "not_kept",
            Self::DomainDeleted => "domain_deleted",
        }
    }
}

/// What happens to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyEvent {
    /// A successor was made current.
    Succeeded,
    /// The transition is over, or a second rotation was forced.
    TransitionEnded,
    /// No Node pins it any more.
    Unpinned,
    /// It was declared compromised, or its Domain was deleted.
    Destroyed,
}

/// A state has no way from here by this event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {from} key does not take {event:?}", from = from.as_str())]
pub struct NoTransition {
    /// From where.
    pub from: KeyState,
    /// By what.
    pub event: KeyEvent,
}

/// Why a row of the database is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stored signing key is malformed")]
pub struct KeyLineError;

impl KeyState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Current, Self::Previous, Self::Retired, Self::Destroyed];

    /// The word in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Previous => "previous",
            Self::Retired => "retired",
            Self::Destroyed => "destroyed",
        }
    }

    /// Reads the word of the database.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// The state after an event.
    ///
    /// # Errors
    /// [`NoTransition`] where there is no such way; `Destroyed` is the end of all ways.
    pub const fn after(self, event: KeyEvent) -> Result<Self, NoTransition> {
        match (self, event) {
            (Self::Current, KeyEvent::Succeeded) => Ok(Self::Previous),
            (Self::Previous, KeyEvent::TransitionEnded) => Ok(Self::Retired),
            (Self::Retired, KeyEvent::Unpinned)
            | (Self::Current | Self::Previous | Self::Retired, KeyEvent::Destroyed) => Ok(Self::Destroyed),
            (from, event) => Err(NoTransition { from, event }),
        }
    }
}

/// A key without its private half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicHalf {
    pub(crate) kid: String,
    pub(crate) version: i32,
    pub(crate) public_key: [u8; 32],
    pub(crate) custody: Custody,
    pub(crate) state: KeyState,
    pub(crate) transition_expires: Option<Timestamp>,
}

/// All keys of a Domain, and which of them is announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyLine {
    pub(crate) domain: DomainId,
    pub(crate) announced_kid: String,
    pub(crate) announced_seq: u64,
    /// In version order.
    pub(crate) keys: Vec<PublicHalf>,
}

impl KeyLine {
    pub(crate) fn key(&self, kid: &str) -> Option<&PublicHalf> {
        self.keys.iter().find(|key| key.kid == kid)
    }

    pub(crate) fn in_state(&self, state: KeyState) -> Option<&PublicHalf> {
        self.keys.iter().find(|key| key.state == state)
    }

    pub(crate) fn announced(&self) -> Option<&PublicHalf> {
        self.key(&self.announced_kid)
    }
}

/// RFC 4648 base32 in lower case: 26 characters for a UUID.
fn base32() -> Option<Encoding> {
    let mut specification = BASE32_NOPAD.specification();
    specification.symbols = "abcdefghijklmnopqrstuvwxyz234567".to_owned();
    specification.encoding().ok()
}

/// The kid of a Domain's key: `did:web:<issuer_host>#<domain in base32>-<version>`.
///
/// # Errors
/// [`KeyLineError`] when the host has a byte that cannot stand in an envelope, or is too long.
pub fn kid_for(issuer_host: &str, domain: DomainId, version: i32) -> Result<String, KeyLineError> {
    let domain = base32().ok_or(KeyLineError)?.encode(domain.as_bytes());
    let kid = format!("did:web:{issuer_host}#{domain}-{version}");
    if issuer_host.is_empty() || !valid_kid(&kid) { Err(KeyLineError) } else { Ok(kid) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// I2: every state meets every event.
    #[test]
    fn every_state_takes_exactly_the_events_that_lead_forward() {
        use KeyEvent as E;
        use KeyState as S;
        let ways = [
            (S::Current, E::Succeeded, S::Previous),
            (S::Current, E::Destroyed, S::Destroyed),
            (S::Previous, E::TransitionEnded, S::Retired),
            (S::Previous, E::Destroyed, S::Destroyed),
            (S::Retired, E::Unpinned, S::Destroyed),
            (S::Retired, E::Destroyed, S::Destroyed),
        ];
        for from in S::ALL {
            for event in [E::Succeeded, E::TransitionEnded, E::Unpinned, E::Destroyed] {
                let expected = ways.iter().find(|way| (way.0, way.1) == (from, event)).map(|way| way.2);
                assert_eq!(from.after(event).ok(), expected, "{from:?} {event:?}");
            }
            assert_eq!(S::parse(from.as_str()), Some(from));
        }
    }

    #[test]
    fn a_kid_names_host_domain_and_version() {
        let domain: DomainId = "0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a1".parse().unwrap();
        let kid = kid_for("cp.example.org", domain, 1).unwrap();
        let (host, rest) = kid.split_once('#').unwrap();
        assert_eq!(host, "did:web:cp.example.org");
        let (name, version) = rest.rsplit_once('-').unwrap();
        assert_eq!((name.len(), version), (26, "1"));
        assert_eq!(kid_for("cp example", domain, 1), Err(KeyLineError));
        assert_eq!(kid_for("", domain, 1), Err(KeyLineError));
        assert_eq!(kid_for(&"a".repeat(200), domain, 1), Err(KeyLineError));
    }
}
