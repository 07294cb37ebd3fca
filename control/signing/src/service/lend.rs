//! Signing envelopes: for the relay, and announcements of our own.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use plexsphere_kernel::audit::RequestContext;
use plexsphere_kernel::directory::mark_domain;
use plexsphere_kernel::{AuditRecord, EnvelopeSigner, ObjectRef, Outcome, SignerFault, Subject, Tx};
use plexsphere_wire::envelope::{Envelope, EnvelopeError, EventType, Unsigned, attach_signature};
use plexsphere_wire::{CorrelationId, DenialReason, DomainId, EnvelopeId};
use serde_json::{Value, json};

use super::{SIGNING_SUBJECT, Signing, encoded, unavailable};
use crate::metrics::Purpose;
use crate::model::{KeyLine, KeyState};
use crate::store;

/// How far `issued_at` may lie from now.
const ISSUED_AT_TOLERANCE: Duration = Duration::from_secs(60);

impl Signing {
    /// Reads what shall be signed and refuses what is not an envelope of this Domain, kid and time.
    fn inspect(&self, domain: DomainId, kid: &str, canonical: &[u8]) -> Result<Unsigned, SignerFault> {
        // The one parser of envelopes checks member set, order and escapes; it wants a signature, and any will do.
        let envelope = Envelope::parse(&attach_signature(canonical, &[0; 64])).map_err(|error| match error {
            EnvelopeError::UnknownType => SignerFault::Refused("a type outside the taxonomy"),
            EnvelopeError::Scope => SignerFault::Refused("a scope that is no domain"),
            _ => SignerFault::Refused("not a canonical envelope"),
        })?;
        if envelope.unsigned.domain != domain {
            return Err(SignerFault::Refused("the scope of another domain"));
        }
        if envelope.unsigned.key_id != kid {
            return Err(SignerFault::Refused("another key id"));
        }
        if envelope.unsigned.issued_at.distance(self.now()) > ISSUED_AT_TOLERANCE {
            return Err(SignerFault::Untimely);
        }
        Ok(envelope.unsigned)
    }

    /// Whether the relay may sign with `kid`: it is the announced key of the Domain, and not destroyed.
    async fn permitted(&self, domain: DomainId, kid: &str) -> Result<(), SignerFault> {
        let mut line = self.line(domain).await?;
        if line.announced_kid != kid {
            line = self.fresh_line(domain).await?;
        }
        match line.announced() {
            Some(key) if key.kid == kid && key.state != KeyState::Destroyed => Ok(()),
            Some(key) if key.kid == kid => Err(SignerFault::Destroyed),
            _ if line.key(kid).is_some() => Err(SignerFault::NotAnnounced),
            _ => Err(SignerFault::Refused("a key that is not the domain's")),
        }
    }

    /// A rotation to a key that was destroyed while its event waited is announced to nobody: whoever believes the new key
    /// would take the destroyed one from it.
    async fn vouched_for(&self, envelope: &Unsigned) -> Result<(), SignerFault> {
        if envelope.event != EventType::SigningKeyRotated {
            return Ok(());
        }
        let payload: Value = serde_json::from_str(&envelope.payload).unwrap_or_default();
        let kid = payload.get("key_id").and_then(Value::as_str);
        let kid = kid.ok_or(SignerFault::Refused("a rotation that names no key"))?;
        match self.fresh_line(envelope.domain).await?.key(kid).map(|key| key.state) {
            None => Err(SignerFault::Refused("a rotation to a key that is not the domain's")),
            Some(KeyState::Destroyed) => Err(SignerFault::Destroyed),
            Some(KeyState::Current | KeyState::Previous | KeyState::Retired) => Ok(()),
        }
    }

    pub(super) fn at_home(&self) -> Result<(), SignerFault> {
        if self.at_home.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err(SignerFault::Unavailable("the database belongs to another deployment".to_owned()))
        }
    }

    async fn try_sign(&self, domain: DomainId, kid: &str, canonical: &[u8]) -> Result<[u8; 64], SignerFault> {
        self.at_home()?;
        let envelope = self.inspect(domain, kid, canonical)?;
        self.permitted(domain, kid).await?;
        self.vouched_for(&envelope).await?;
        let signature = self.hand(domain, kid).await?.sign(canonical).await?;
        self.metrics().signed(Purpose::Envelope);
        Ok(signature)
    }

    /// A refusal is a fault of ours or an attack; either way someone should know.
    pub(super) async fn refused(&self, domain: DomainId, kid: &str, why: &'static str) {
        self.metrics().refusals.inc();
        tracing::error!(%domain, kid, why, "the signer refused what it was asked to sign");
        let now = self.now();
        let record = AuditRecord {
            domain: None,
            subject: Subject::System(SIGNING_SUBJECT),
            relation: "signing.refuse".to_owned(),
            object: ObjectRef::domain(domain),
            outcome: Outcome::Denied(DenialReason::OutOfScope),
            correlation_id: CorrelationId::mint(now),
            context: RequestContext::default(),
            occurred_at: now,
        };
        if let Err(cause) = self.parts.audit.record_alone(record).await {
            tracing::error!(?cause, "a refusal of the signer was not recorded");
        }
    }

    /// A fresh `signing_key_rotated` envelope for Nodes that pin `pinned_kid`, signed by that key; `None` when they need
    /// none: they pin the announced key or a newer one, or a key that is unknown or destroyed.
    ///
    /// # Errors
    /// [`SignerFault`] when it cannot be decided or signed now.
    pub async fn announce(&self, domain: DomainId, pinned_kid: &str) -> Result<Option<Arc<Vec<u8>>>, SignerFault> {
        self.at_home()?;
        let line = match self.line(domain).await {
            Err(SignerFault::NoKey) => return Ok(None),
            line => line?,
        };
        let (Some(announced), Some(pinned)) = (line.announced(), line.key(pinned_kid)) else { return Ok(None) };
        if pinned.version >= announced.version || pinned.state == KeyState::Destroyed {
            return Ok(None);
        }
        let key = (domain, pinned_kid.to_owned(), announced.kid.clone());
        if let Some(envelope) = self.announcements.get(&key) {
            return Ok(Some(envelope));
        }
        let unsigned = self.announcement(&line, pinned_kid)?;
        let canonical = unsigned.canonical_bytes().map_err(|_| SignerFault::Refused("not a canonical envelope"))?;
        let signature = self.hand(domain, pinned_kid).await?.sign(&canonical).await?;
        self.metrics().signed(Purpose::Announcement);
        let envelope = Arc::new(attach_signature(&canonical, &signature));
        self.announcements.insert(key, Arc::clone(&envelope));
        Ok(Some(envelope))
    }

    fn announcement(&self, line: &KeyLine, pinned_kid: &str) -> Result<Unsigned, SignerFault> {
        let now = self.now();
        let announced = line.announced().ok_or(SignerFault::NoKey)?;
        let mut payload = json!({ "key_id": announced.kid, "public_key": encoded(&announced.public_key) });
        // Without these two the agent keeps no grace for the old key. A forced rotation retires before the time is up.
        let pinned = line.key(pinned_kid).filter(|key| key.state == KeyState::Previous);
        let expires = pinned.and_then(|key| key.transition_expires).filter(|expires| *expires > now);
        if let (Some(expires), Some(members)) = (expires, payload.as_object_mut()) {
            members.insert("previous_key_id".to_owned(), pinned_kid.into());
            members.insert("transition_expires".to_owned(), expires.to_string().into());
        }
        Ok(Unsigned {
            id: EnvelopeId::mint(now),
            event: EventType::SigningKeyRotated,
            domain: line.domain,
            key_id: pinned_kid.to_owned(),
            issued_at: now,
            payload: payload.to_string(),
        })
    }
}

#[async_trait]
impl EnvelopeSigner for Signing {
    async fn announced_kid(&self, domain: DomainId) -> Result<String, SignerFault> {
        Ok(self.fresh_line(domain).await?.announced_kid.clone())
    }

    async fn sign(&self, domain: DomainId, kid: &str, canonical: &[u8]) -> Result<[u8; 64], SignerFault> {
        let signed = self.try_sign(domain, kid, canonical).await;
        if let Err(SignerFault::Refused(why)) = &signed {
            self.refused(domain, kid, why).await;
        }
        signed
    }

    async fn announced_moved(
        &self,
        tx: &mut Tx,
        domain: DomainId,
        kid: &str,
        sequence: u64,
    ) -> Result<(), SignerFault> {
        let line = store::line(&mut **tx, domain).await.map_err(unavailable)?.ok_or(SignerFault::NoKey)?;
        let next = line.key(kid).ok_or(SignerFault::Refused("an unknown key"))?;
        // A key that was destroyed while its rotation waited is passed over; so is one that is announced already.
        let forward = line.announced().is_none_or(|announced| announced.version < next.version);
        if next.state != KeyState::Destroyed && forward {
            store::announce(tx, domain, kid, sequence).await.map_err(unavailable)?;
            mark_domain(tx, domain).await.map_err(unavailable)?;
            self.lines.invalidate(&domain);
        }
        Ok(())
    }
}
