//! Rotation: a successor becomes current, the old key stays believed for a while.

use std::time::Duration;

use plexsphere_kernel::directory::mark_domain;
use plexsphere_kernel::{Event, EventAudience, Fault, Outbox, Subject};
use plexsphere_wire::envelope::EventType;
use plexsphere_wire::{CorrelationId, DomainId, Timestamp};
use serde_json::json;

use super::keys::Act;
use super::{Signing, encoded};
use crate::model::{KeyEvent, KeyLine, KeyState, NoTransition, PublicHalf};
use crate::store;

/// A rotation to be.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// Whose key.
    pub domain: DomainId,
    /// Who rotates.
    pub actor: Subject,
    /// The request.
    pub correlation_id: CorrelationId,
    /// Rotate although the last rotation's transition goes on; its old key is retired at once.
    pub force: bool,
    /// The longest session of the Domain: the old key is believed at least that long.
    pub longest_session: Duration,
}

/// What a rotation brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The new current key.
    pub kid: String,
    /// The key it supersedes.
    pub previous_kid: String,
    /// Until when the superseded key is believed.
    pub transition_expires: Timestamp,
}

/// Why nothing was rotated.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// The Domain has no key.
    #[error("the domain has no signing key")]
    NoKey,
    /// The last rotation's transition goes on.
    #[error("the last rotation is in transition until {until}")]
    InTransition {
        /// Until then.
        until: Timestamp,
    },
    /// The key line does not allow it.
    #[error("the key line does not allow it")]
    State(#[source] NoTransition),
    /// Something broke.
    #[error("a fault")]
    Fault(#[from] Fault),
}

impl From<sqlx::Error> for RotateError {
    fn from(error: sqlx::Error) -> Self {
        Self::Fault(error.into())
    }
}

impl Signing {
    /// Makes a successor current and announces it by one `signing_key_rotated`. The relay signs that event with the old
    /// key, because the announced key moves only when the event is on the stream.
    ///
    /// # Errors
    /// [`RotateError`].
    pub async fn rotate(&self, rotation: Rotation) -> Result<Rotated, RotateError> {
        let (domain, now) = (rotation.domain, self.now());
        let mut tx = self.parts.db.begin().await?;
        if !store::lock(&mut tx, domain).await? {
            return Err(RotateError::NoKey);
        }
        let line = store::line(&mut *tx, domain).await?.ok_or(RotateError::NoKey)?;
        let current = line.in_state(KeyState::Current).ok_or(RotateError::NoKey)?;
        current.state.after(KeyEvent::Succeeded).map_err(RotateError::State)?;
        if let Some(previous) = retirable(&line, rotation.force, now)? {
            store::retire(&mut tx, domain, &previous.kid, now).await?;
        }
        let expires = now.plus(self.config.transition.max(rotation.longest_session)).whole_second();
        let version = current.version.checked_add(1).ok_or(Fault::Invariant("a key line has an end"))?;
        let key = self.mint(domain, version, rotation.actor.uuid()).await?;
        let rotated = Rotated { kid: key.kid.clone(), previous_kid: current.kid.clone(), transition_expires: expires };
        let payload = json!({
            "key_id": rotated.kid,
            "public_key": encoded(&key.public_key),
            "previous_key_id": rotated.previous_kid,
            "transition_expires": expires,
        });
        store::supersede(&mut tx, domain, &current.kid, expires).await?;
        store::insert(&mut tx, key, now).await?;
        let event = Event {
            domain: Some(domain),
            context: "signing",
            name: "SigningKeyRotated",
            audience: EventAudience::Domain(EventType::SigningKeyRotated),
            payload,
        };
        Outbox.append(&mut tx, event, now).await?;
        mark_domain(&mut tx, domain).await?;
        let act = Act {
            subject: rotation.actor,
            action: "signing_key.rotate",
            kid: rotated.kid.clone(),
            correlation_id: rotation.correlation_id,
            at: now,
        };
        self.record(&mut tx, domain, act).await?;
        tx.commit().await?;
        self.lines.invalidate(&domain);
        Ok(rotated)
    }
}

/// The previous key, which makes room for the next one.
fn retirable(line: &KeyLine, force: bool, now: Timestamp) -> Result<Option<&PublicHalf>, RotateError> {
    let Some(previous) = line.in_state(KeyState::Previous) else { return Ok(None) };
    match previous.transition_expires {
        Some(until) if until > now && !force => Err(RotateError::InTransition { until }),
        _ => {
            previous.state.after(KeyEvent::TransitionEnded).map_err(RotateError::State)?;
            Ok(Some(previous))
        }
    }
}
