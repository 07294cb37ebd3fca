//! Erasing an identity from one chain.

use std::collections::BTreeSet;
use std::sync::Arc;

use plexsphere_kernel::audit::{CaveatNames, RequestContext};
use plexsphere_kernel::{Event, EventAudience, Fault, Outbox, Subject};
use plexsphere_wire::{CorrelationId, DomainId, Timestamp};
use serde_json::json;
use uuid::Uuid;

use crate::chain::Hash;
use crate::log::PgAuditLog;
use crate::model::{Enlistment, GENESIS_ACTIONS, PLATFORM_ANCHOR};
use crate::sequencer::append;
use crate::store::chains;
use crate::store::pending::{self, Taken};

/// Entries whose contexts are dropped in one transaction: far below what a statement has time for, also on a slow disk.
const STRETCH: i64 = 5_000;
/// Waiting rows that are chained before the erasure of a chain that has not begun.
const FIRST: i64 = 5_000;

/// Chains that are looked at in one statement.
const CHAINS: i64 = 1_000;

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
pub struct Eraser {
    log: Arc<PgAuditLog>,
    stretch: i64,
}

impl Eraser {
    /// An eraser over the log.
    #[must_use]
    pub const fn new(log: Arc<PgAuditLog>) -> Self {
        Self { log, stretch: STRETCH }
    }

    /// As it is, with that many entries in one transaction.
    #[doc(hidden)]
    #[must_use]
    pub fn by(self, stretch: i64) -> Self {
        Self { stretch, ..self }
    }

    /// In one transaction that holds the chain's head: the mapping becomes a tombstone, what is personal about the
    /// identity's waiting rows and its first entries goes, and a row says who asked for it. Then, without the head and some
    /// at a time, what is personal about its other entries up to there. No entry changes. An identity that never appeared
    /// is erased the same way, and so is one that was erased before.
    ///
    /// # Errors
    /// [`Fault`]. Behind the first transaction a part may be erased then, and a repetition goes on with the rest.
    pub async fn erase(&self, erasure: Erasure) -> Result<Erased, Fault> {
        let Erasure { chain, identity, now, .. } = erasure;
        let pseudonym = self.log.pepper(chain).pseudonym(identity);
        let mut tx = self.log.db().begin().await?;
        let locked = chains::lock(&mut tx, chain).await?;
        chains::bury(&mut tx, chain, &pseudonym, now.inner()).await?;
        pending::clear(&mut tx, chain, &pseudonym).await?;
        let through = locked.head.seq;
        let mut last = chains::drop_contexts(&mut tx, (chain, &pseudonym), (0, through), self.stretch).await?;
        let mut rows = match through {
            // The chain begins with what began it, not with this.
            0 => pending::take_first(&mut tx, chain, FIRST, &GENESIS_ACTIONS).await?,
            _ => Vec::new(),
        };
        rows.push(self.own_row(erasure, &pseudonym)?);
        let subjects: BTreeSet<_> = rows.iter().filter_map(|row| Some((row.subject, row.subject_id?))).collect();
        let subjects: Vec<_> = subjects.into_iter().collect();
        let mut tx = append(tx, chain, &locked, rows, &subjects).await?;
        let event = Event {
            domain: (chain != PLATFORM_ANCHOR).then(|| DomainId::from_uuid(chain)),
            context: "audit",
            name: "IdentityErased",
            audience: EventAudience::Internal,
            payload: json!({ "chain": chain, "pseudonym": data_encoding::HEXLOWER.encode(&pseudonym) }),
        };
        Outbox.append(&mut tx, event, now).await?;
        tx.commit().await?;
        while let Some(after) = last {
            let mut tx = self.log.db().begin().await?;
            last = chains::drop_contexts(&mut tx, (chain, &pseudonym), (after, through), self.stretch).await?;
            tx.commit().await?;
        }
        Ok(Erased { pseudonym, at: now })
    }

    /// The chains that lead from a pseudonym to this identity.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn chains_of(&self, identity: Uuid) -> Result<Vec<Uuid>, Fault> {
        chains::naming(self.log.db().pool(), identity).await
    }

    /// The chains that an identity was ever mapped on, erased or not: an erasure that was broken off goes on there.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn chains_ever_of(&self, identity: Uuid) -> Result<Vec<Uuid>, Fault> {
        let pool = self.log.db().pool();
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page: Vec<Uuid> =
                chains::heads(pool, after, CHAINS).await?.into_iter().map(|(chain, _)| chain).collect();
            let Some(last) = page.last().copied() else { return Ok(found) };
            let pseudonyms: Vec<_> = page.iter().map(|chain| self.log.pepper(*chain).pseudonym(identity)).collect();
            found.extend(chains::mapping(pool, &page, &pseudonyms).await?);
            after = Some(last);
        }
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
        let (id, row, veil) = self.log.veiled(own)?;
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
