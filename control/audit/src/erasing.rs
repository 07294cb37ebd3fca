//! Erasing an identity from one chain.

use std::sync::Arc;

use plexsphere_kernel::audit::{CaveatNames, RequestContext};
use plexsphere_kernel::{Event, EventAudience, Fault, Outbox, Subject};
use plexsphere_wire::{CorrelationId, DomainId, Timestamp};
use serde_json::json;
use uuid::Uuid;

use crate::chain::Hash;
use crate::log::PgAuditLog;
use crate::model::{Enlistment, PLATFORM_ANCHOR};
use crate::sequencer::append;
use crate::store::chains;
use crate::store::pending::{self, Taken};

/// Who erases whom, from which chain.
#[derive(Clone, Debug)]
pub struct Erasure {
    /// The chain.
    pub chain: Uuid,
    /// Who is erased.
    pub identity: Uuid,
    /// Who asked for it.
    pub operator: Subject,
    /// The request.
    pub correlation_id: CorrelationId,
    /// Where it came from.
    pub context: RequestContext,
    /// When.
    pub now: Timestamp,
}

/// What is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erased {
    /// The pseudonym that the chain's rows keep.
    pub pseudonym: Hash,
    /// When: the time of the row that says so.
    pub at: Timestamp,
}

/// Erases identities.
#[derive(Clone)]
pub struct Eraser(Arc<PgAuditLog>);

impl Eraser {
    /// An eraser over the log.
    #[must_use]
    pub(crate) const fn new(log: Arc<PgAuditLog>) -> Self {
        Self(log)
    }

    /// In one transaction that holds the chain's head: the mapping becomes a tombstone, what is personal about the
    /// identity's rows goes, and a row says who asked for it. No entry changes. An identity that never appeared is erased
    /// the same way, and so is one that was erased before.
    ///
    /// # Errors
    /// [`Fault`]; nothing is erased then.
    pub async fn erase(&self, erasure: Erasure) -> Result<Erased, Fault> {
        let Erasure { chain, identity, now, .. } = erasure;
        let pseudonym = self.0.pepper(chain).pseudonym(identity);
        let mut tx = self.0.db().begin().await?;
        let locked = chains::lock(&mut tx, chain).await?;
        chains::bury(&mut tx, chain, &pseudonym, now.inner()).await?;
        pending::clear(&mut tx, chain, &pseudonym).await?;
        let own = self.own_row(erasure, &pseudonym)?;
        let subjects: Vec<_> = own.subject_id.map(|id| (own.subject, id)).into_iter().collect();
        append(&mut tx, chain, &locked, vec![own], &subjects).await?;
        let event = Event {
            domain: (chain != PLATFORM_ANCHOR).then(|| DomainId::from_uuid(chain)),
            context: "audit",
            name: "IdentityErased",
            audience: EventAudience::Internal,
            payload: json!({ "chain": chain, "pseudonym": data_encoding::HEXLOWER.encode(&pseudonym) }),
        };
        Outbox.append(&mut tx, event, now).await?;
        tx.commit().await?;
        Ok(Erased { pseudonym, at: now })
    }

    fn own_row(&self, erasure: Erasure, erased: &Hash) -> Result<Taken, Fault> {
        let own = Enlistment {
            chain: erasure.chain,
            subject: erasure.operator.uuid(),
            relation: "audit.erase-identity".to_owned(),
            object_type: "audit_subject".to_owned(),
            object_id: data_encoding::HEXLOWER.encode(erased),
            reason: "granted",
            correlation_id: erasure.correlation_id,
            context: erasure.context,
            occurred_at: erasure.now,
            repeated: 0,
            caveats: CaveatNames::default(),
        };
        let (id, row, veil) = self.0.veiled(own)?;
        // Who erases themselves leaves nothing behind either.
        let keep = veil.pseudonym != *erased;
        let caveat_names = row.caveat_names();
        Ok(Taken {
            n: 0,
            id,
            subject: veil.pseudonym,
            subject_id: keep.then_some(row.subject),
            salt: keep.then(|| veil.salt.to_vec()),
            ip: row.context.ip,
            user_agent: row.context.user_agent,
            relation: row.relation,
            object_type: row.object_type,
            object_id: row.object_id,
            reason: row.reason.to_owned(),
            caveat_names,
            correlation_id: row.correlation_id.as_str().to_owned(),
            ctx: veil.commitment,
            occurred_at: row.occurred_at.inner(),
            repeated: 0,
        })
    }
}
