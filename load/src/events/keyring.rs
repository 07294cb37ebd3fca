//! Which keys a Node believes, and what it checks on every envelope.

use std::time::Duration;

use ed25519_dalek::VerifyingKey;
use plexsphere_wire::envelope::{Envelope, EnvelopeError, EventType, parse_public_key};
use plexsphere_wire::{DomainId, Timestamp};
use serde::Deserialize;

/// How far an envelope's time may lie from the Node's, to either side.
pub(super) const STALENESS: Duration = Duration::from_secs(300);

/// Why an envelope is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// Its bytes are no envelope, or the signature does not fit them.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Signed by a key that the Node neither has now nor had before within its deadline.
    #[error("unknown key")]
    UnknownKey,
    /// More than five minutes off.
    #[error("issued more than five minutes ago or ahead")]
    Stale,
    /// It speaks for another Domain.
    #[error("scope of another domain")]
    ForeignScope,
    /// The frame's `event` field is not the envelope's type.
    #[error("frame and envelope name different types")]
    TypeMismatch,
}

#[derive(Clone, Debug)]
struct Key {
    kid: String,
    key: VerifyingKey,
}

/// The keys of one Node. A Node starts with the key of its registration and follows rotations from there.
#[derive(Clone, Debug)]
pub struct KeyRing {
    /// Learnt from the first believed envelope: a registration does not name the Domain, its key implies it.
    domain: Option<DomainId>,
    current: Key,
    previous: Option<(Key, Timestamp)>,
}

#[derive(Deserialize)]
struct Rotation {
    key_id: String,
    public_key: String,
    previous_key_id: Option<String>,
    transition_expires: Option<Timestamp>,
}

impl KeyRing {
    /// A ring with the pinned key.
    #[must_use]
    pub const fn new(kid: String, key: VerifyingKey) -> Self {
        Self { domain: None, current: Key { kid, key }, previous: None }
    }

    /// The id of the key that is current for this Node.
    #[must_use]
    pub fn current_kid(&self) -> &str {
        &self.current.kid
    }

    /// The Domain, once an envelope was believed.
    #[must_use]
    pub const fn domain(&self) -> Option<DomainId> {
        self.domain
    }

    /// Judges the `data` of a frame whose `event` field is `word`, and follows a key rotation that it believes.
    ///
    /// # Errors
    /// The first [`Distrust`] met.
    pub fn check(&mut self, data: &[u8], word: &str, now: Timestamp) -> Result<Envelope, Distrust> {
        // Long bodies come in several lines, split between tokens; the joints are no part of what was signed.
        let wire: Vec<u8> = data.iter().copied().filter(|byte| *byte != b'\n').collect();
        let envelope = Envelope::parse(&wire)?;
        let unsigned = &envelope.unsigned;
        if unsigned.event.as_str() != word {
            return Err(Distrust::TypeMismatch);
        }
        if unsigned.issued_at.distance(now) > STALENESS {
            return Err(Distrust::Stale);
        }
        envelope.verify(self.key(&unsigned.key_id, now).ok_or(Distrust::UnknownKey)?)?;
        if self.domain.is_some_and(|domain| domain != unsigned.domain) {
            return Err(Distrust::ForeignScope);
        }
        self.domain = Some(unsigned.domain);
        if unsigned.event == EventType::SigningKeyRotated {
            self.rotate(&unsigned.payload);
        }
        Ok(envelope)
    }

    fn key(&self, kid: &str, now: Timestamp) -> Option<&VerifyingKey> {
        if self.current.kid == kid {
            return Some(&self.current.key);
        }
        let (previous, deadline) = self.previous.as_ref()?;
        (previous.kid == kid && now < *deadline).then_some(&previous.key)
    }

    /// Installs the named key. A malformed payload changes nothing; the old key stays believed only when the payload
    /// names it together with a deadline.
    fn rotate(&mut self, payload: &str) {
        let Ok(rotation) = serde_json::from_str::<Rotation>(payload) else { return };
        let Some(key) = parse_public_key(&rotation.public_key) else { return };
        if rotation.key_id == self.current.kid {
            return;
        }
        let old = std::mem::replace(&mut self.current, Key { kid: rotation.key_id, key });
        let named = rotation.previous_key_id.as_deref() == Some(old.kid.as_str());
        self.previous = rotation.transition_expires.filter(|_| named).map(|deadline| (old, deadline));
    }
}

#[cfg(test)]
mod tests;
