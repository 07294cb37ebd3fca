//! Making keys, and opening them.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use plexsphere_kernel::audit::RequestContext;
use plexsphere_kernel::directory::mark_domain;
use plexsphere_kernel::{
    AuditRecord, Event, EventAudience, Fault, ObjectRef, Outbox, Outcome, SignerFault, Subject, Tx,
};
use plexsphere_wire::{CorrelationId, DomainId, Timestamp};
use rand::RngCore as _;
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{SIGNING_SUBJECT, Signing, custody, unavailable};
use crate::model::kid_for;
use crate::store::{self, NewKey};

/// The Ed25519 seed's length.
const SEED_BYTES: usize = 32;

/// Something done to a key, for the audit log.
pub(super) struct Act {
    pub(super) subject: Subject,
    pub(super) action: &'static str,
    pub(super) kid: String,
    pub(super) correlation_id: CorrelationId,
    pub(super) at: Timestamp,
}

impl Act {
    /// Done by the context itself, on nobody's request.
    fn of_ours(action: &'static str, kid: String, at: Timestamp) -> Self {
        Self { subject: Subject::System(SIGNING_SUBJECT), action, kid, correlation_id: CorrelationId::mint(at), at }
    }
}

impl Signing {
    /// Makes the first key of a Domain unless it has one.
    pub(super) async fn provision(&self, tx: &mut Tx, domain: DomainId, now: Timestamp) -> Result<(), Fault> {
        if store::has_line(tx, domain).await? {
            return Ok(());
        }
        let key = self.mint(domain, 1, SIGNING_SUBJECT)?;
        let kid = key.kid.clone();
        if !store::claim(tx, domain, &kid).await? {
            return Ok(());
        }
        store::insert(tx, key, now).await?;
        mark_domain(tx, domain).await?;
        let event = Event {
            domain: Some(domain),
            context: "signing",
            name: "SigningKeyProvisioned",
            audience: EventAudience::Internal,
            payload: json!({ "key_id": kid }),
        };
        Outbox.append(tx, event, now).await?;
        self.record(tx, domain, Act::of_ours("signing_key.provision", kid, now)).await
    }

    /// A fresh pair, its seed wrapped for this deployment, Domain and kid.
    pub(super) fn mint(&self, domain: DomainId, version: i32, created_by: Uuid) -> Result<NewKey, Fault> {
        let kid = kid_for(&self.config.issuer_host, domain, version)
            .map_err(|_| Fault::Invariant("the issuer host can stand in a key id"))?;
        let mut seed = Zeroizing::new([0u8; SEED_BYTES]);
        rand::rng().fill_bytes(seed.as_mut_slice());
        let public_key = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
        let (wrap_key_version, wrapped_seed) = self.parts.ring.seal(seed.as_slice(), &self.aad(domain, &kid))?;
        Ok(NewKey { domain, version, kid, public_key, wrapped_seed, wrap_key_version, created_by })
    }

    pub(super) async fn record(&self, tx: &mut Tx, domain: DomainId, act: Act) -> Result<(), Fault> {
        let record = AuditRecord {
            domain: Some(domain),
            subject: act.subject,
            relation: act.action.to_owned(),
            object: ObjectRef { kind: "signing_key", id: act.kid },
            outcome: Outcome::Granted,
            correlation_id: act.correlation_id,
            context: RequestContext::default(),
            occurred_at: act.at,
        };
        self.parts.audit.record(tx, record).await
    }

    /// Records that a key was retired by the sweeper.
    pub(crate) async fn record_retirement(
        &self,
        tx: &mut Tx,
        domain: DomainId,
        kid: String,
        now: Timestamp,
    ) -> Result<(), Fault> {
        self.record(tx, domain, Act::of_ours("signing_key.retire", kid, now)).await
    }

    /// The private key of `kid`, from memory or unwrapped.
    pub(super) async fn unwrapped(&self, domain: DomainId, kid: &str) -> Result<Arc<SigningKey>, SignerFault> {
        if let Some(key) = self.seeds.get(kid) {
            return Ok(key);
        }
        let key = Arc::new(self.unwrap(domain, kid).await?);
        self.seeds.insert(kid.to_owned(), Arc::clone(&key));
        Ok(key)
    }

    /// Opens the stored seed of `kid`, past the memory.
    pub(crate) async fn unwrap(&self, domain: DomainId, kid: &str) -> Result<SigningKey, SignerFault> {
        let (sealed, version) =
            store::seed(&self.parts.db, domain, kid).await.map_err(unavailable)?.ok_or(SignerFault::Destroyed)?;
        let seed = self.parts.ring.open(version, &sealed, &self.aad(domain, kid)).map_err(custody)?;
        let seed: &[u8; SEED_BYTES] = seed.as_slice().try_into().map_err(|_| SignerFault::Refused("seed length"))?;
        Ok(SigningKey::from_bytes(seed))
    }
}
