//! Making keys, and recording what is done to them.

use plexsphere_kernel::audit::RequestContext;
use plexsphere_kernel::directory::mark_domain;
use plexsphere_kernel::{AuditRecord, Fault, ObjectRef, Outcome, Subject, Tx};
use plexsphere_wire::{CorrelationId, DomainId, Timestamp};
use uuid::Uuid;

use super::{SIGNING_SUBJECT, Signing};
use crate::model::kid_for;
use crate::store::{self, NewKey};

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
    pub(super) fn of_ours(action: &'static str, kid: String, at: Timestamp) -> Self {
        Self { subject: Subject::System(SIGNING_SUBJECT), action, kid, correlation_id: CorrelationId::mint(at), at }
    }
}

impl Signing {
    /// Makes the first key of a Domain unless it has one.
    pub(super) async fn provision(&self, tx: &mut Tx, domain: DomainId, now: Timestamp) -> Result<(), Fault> {
        if store::has_line(tx, domain).await? {
            return Ok(());
        }
        let kid = self.kid(domain, 1)?;
        if !store::claim(tx, domain, &kid).await? {
            return Ok(());
        }
        store::insert(tx, self.mint(domain, 1, SIGNING_SUBJECT).await?, now).await?;
        mark_domain(tx, domain).await?;
        self.tell(tx, domain, "SigningKeyProvisioned", &kid, now).await?;
        self.record(tx, domain, Act::of_ours("signing_key.provision", kid, now)).await
    }

    fn kid(&self, domain: DomainId, version: i32) -> Result<String, Fault> {
        kid_for(&self.config.issuer_host, domain, version)
            .map_err(|_| Fault::Invariant("the issuer host can stand in a key id"))
    }

    /// A fresh key of the Domain whose row the caller holds.
    pub(super) async fn mint(&self, domain: DomainId, version: i32, created_by: Uuid) -> Result<NewKey, Fault> {
        let kid = self.kid(domain, version)?;
        let (public_key, private) = self.pair(domain, &kid).await?;
        Ok(NewKey { domain, version, kid, public_key, private, created_by })
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
}
