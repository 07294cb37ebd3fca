//! Destruction of a compromised key: its private half is gone at once, and nothing it signs deserves belief.

use plexsphere_kernel::directory::mark_domain;
use plexsphere_kernel::{Fault, Subject};
use plexsphere_wire::{CorrelationId, DomainId};

use super::Signing;
use super::keys::Act;
use crate::model::{DestroyReason, KeyEvent, KeyState, NoTransition};
use crate::store;

/// A destruction to be.
#[derive(Clone, Debug)]
pub struct Destruction {
    /// Whose key.
    pub domain: DomainId,
    /// Which one.
    pub kid: String,
    /// Who destroys it.
    pub actor: Subject,
    /// The request.
    pub correlation_id: CorrelationId,
}

/// Why nothing was destroyed.
#[derive(Debug, thiserror::Error)]
pub enum DestroyError {
    /// The Domain has no such key.
    #[error("the domain has no such signing key")]
    NoKey,
    /// It is destroyed already.
    #[error("the key line does not allow it")]
    State(#[source] NoTransition),
    /// Something broke.
    #[error("a fault")]
    Fault(#[from] Fault),
}

impl From<sqlx::Error> for DestroyError {
    fn from(error: sqlx::Error) -> Self {
        Self::Fault(error.into())
    }
}

impl Signing {
    /// Destroys a key; the kid of its successor when it was the current one. Where it is announced, or its own rotation
    /// still waits to be, the newest key is announced at once: no `signing_key_rotated` is published, what waits goes out
    /// under the new key, and Nodes that pin the destroyed one live on pulls until they enrol again.
    ///
    /// # Errors
    /// [`DestroyError`].
    pub async fn destroy(&self, destruction: Destruction) -> Result<Option<String>, DestroyError> {
        let (domain, now) = (destruction.domain, self.now());
        let mut tx = self.parts.db.begin().await?;
        if !store::lock(&mut tx, domain).await? {
            return Err(DestroyError::NoKey);
        }
        let line = store::line(&mut *tx, domain).await?.ok_or(DestroyError::NoKey)?;
        let key = line.key(&destruction.kid).ok_or(DestroyError::NoKey)?;
        key.state.after(KeyEvent::Destroyed).map_err(DestroyError::State)?;
        let current = line.in_state(KeyState::Current).ok_or(DestroyError::NoKey)?;
        store::destroy(&mut tx, domain, &key.kid, DestroyReason::Compromise, now).await?;
        let mut done = vec![("signing_key.destroy", "SigningKeyDestroyed", key.kid.clone())];
        let successor = if key.state == KeyState::Current {
            let version = current.version.checked_add(1).ok_or(Fault::Invariant("a key line has an end"))?;
            let new = self.mint(domain, version, destruction.actor.uuid()).await?;
            let kid = new.kid.clone();
            store::insert(&mut tx, new, now).await?;
            done.push(("signing_key.provision", "SigningKeyProvisioned", kid.clone()));
            Some(kid)
        } else {
            None
        };
        if successor.is_some() || line.announced_kid == key.kid {
            // It stands nowhere in the stream, so no cursor says that a Node has seen it.
            store::announce(&mut tx, domain, successor.as_ref().unwrap_or(&current.kid), store::UNSEEN).await?;
        }
        for (action, name, kid) in done {
            self.tell(&mut tx, domain, name, &kid, now).await?;
            let (subject, correlation_id) = (destruction.actor, destruction.correlation_id.clone());
            self.record(&mut tx, domain, Act { subject, action, kid, correlation_id, at: now }).await?;
        }
        mark_domain(&mut tx, domain).await?;
        tx.commit().await?;
        self.lines.invalidate(&domain);
        self.hands.invalidate(&destruction.kid);
        // What OpenBao cannot forget yet, the sweeper has it forget later; nothing is signed with it either way.
        if let Err(cause) = self.trim(domain).await {
            tracing::info!(%domain, ?cause, "openbao keeps a destroyed key for now");
        }
        Ok(successor)
    }
}
