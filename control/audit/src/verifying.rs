//! Verifying a chain against itself.

mod task;

pub use task::VerifyTask;

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use parking_lot::Mutex;
use plexsphere_kernel::{Database, Fault};
use plexsphere_wire::Code;
use sqlx::PgConnection;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::chain::{ChainCheck, Divergence, GENESIS, Head};
use crate::copied::Copied;
use crate::metrics::Metrics;
use crate::store::{chains, verifying as store};

/// Verifications of one chain at the same time, in this process; further ones wait.
const AT_ONCE: usize = 2;
/// Rows that one statement streams, so that none runs into its time limit.
const STRETCH: i64 = 50_000;

/// Which part of a chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The first row; 1 when absent.
    pub from: Option<i64>,
    /// The last row; the head when absent.
    pub to: Option<i64>,
}

/// What a verification found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The first row that was looked at.
    pub from: i64,
    /// The last row that was to be looked at.
    pub to: i64,
    /// Where the chain does not hold.
    pub divergence: Option<Divergence>,
}

/// Why a chain is not verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyRefusal {
    /// A place below 1, or an end before the beginning.
    #[error("`from_seq` and `to_seq` must be at least 1, and `to_seq` not below `from_seq`")]
    Range,
    /// The beginning lies behind the newest row.
    #[error("`from_seq` lies behind the end of the chain")]
    BehindHead,
    /// Something broke.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl VerifyRefusal {
    /// The code on the wire.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Range | Self::BehindHead => Code::InvalidVerifyRange,
            Self::Fault(_) => Code::Internal,
        }
    }
}

/// Verifies chains.
pub struct ChainVerifier {
    db: Database,
    metrics: Metrics,
    slots: Mutex<HashMap<Uuid, Arc<Semaphore>>>,
}

impl ChainVerifier {
    pub(crate) fn new(db: Database, metrics: Metrics) -> Self {
        Self { db, metrics, slots: Mutex::default() }
    }

    /// Walks a part of a chain in one snapshot, up to the first row that does not hold. An end behind the head is taken as
    /// the head; a walk that reaches it also proves that the head is the last row, and that
    /// it is not before a place that was verified or copied once. Tampering is a verdict, never an error.
    ///
    /// # Errors
    /// [`VerifyRefusal`].
    pub async fn verify(&self, chain: Uuid, range: Range) -> Result<Verdict, VerifyRefusal> {
        let from = range.from.unwrap_or(1);
        if from < 1 || range.to.is_some_and(|to| to < from) {
            return Err(VerifyRefusal::Range);
        }
        let slot = self.slot(chain);
        let _permit = slot.acquire().await.map_err(|_| Fault::Invariant("a semaphore stays open"))?;
        let mut snapshot = self.snapshot().await?;
        let head = chains::head(&mut snapshot, chain).await?.unwrap_or(Head { seq: 0, hash: GENESIS });
        // Rows behind the head are none of ours, so they are looked at as well.
        let end = store::newest(&mut snapshot, chain).await?.max(head.seq);
        let remembered = store::remembered(&mut snapshot, chain).await?;
        if from > end.max(remembered) {
            return Err(VerifyRefusal::BehindHead);
        }
        // The chain once went farther than all of it goes: tail and head were cut together.
        let cut = (end < remembered).then_some(Divergence { seq: end + 1, expected: GENESIS, observed: GENESIS });
        if from > end {
            let to = range.to.map_or(remembered, |to| to.min(remembered));
            return Ok(Verdict { from, to, divergence: cut });
        }
        let to = range.to.map_or(end, |to| to.min(end));
        let check = match from {
            1 => Ok(ChainCheck::from_genesis()),
            _ => match store::hash(&mut snapshot, chain, from - 1).await? {
                Some(hash) => Ok(ChainCheck::behind(Head { seq: from - 1, hash })),
                None => Err(Divergence { seq: from - 1, expected: GENESIS, observed: GENESIS }),
            },
        };
        let divergence = match check {
            Ok(check) => self.walk(&mut snapshot, chain, check, (to, (to == end).then_some(head))).await?,
            Err(divergence) => Some(divergence),
        };
        drop(snapshot);
        let divergence = divergence.or(if to == end { cut } else { None });
        Ok(Verdict { from, to, divergence })
    }

    /// A connection of its own, closed at the end: a COPY that was dropped half-way, as by a request that ran out of
    /// time, would leave a shared one in disorder.
    async fn snapshot(&self) -> Result<PgConnection, Fault> {
        let mut connection = self.db.pool().acquire().await?.detach();
        sqlx::query(store::SNAPSHOT).execute(&mut connection).await?;
        Ok(connection)
    }

    async fn walk(
        &self,
        snapshot: &mut PgConnection,
        chain: Uuid,
        mut check: ChainCheck,
        (to, head): (i64, Option<Head>),
    ) -> Result<Option<Divergence>, Fault> {
        let mut from = check.last().seq + 1;
        while from <= to {
            let until = to.min(from.saturating_add(STRETCH - 1));
            let mut divergence = None;
            let mut copied = Copied::default();
            let mut chunks = snapshot.copy_out_raw(&store::copy(chain, from, until)).await?;
            while let Some(chunk) = chunks.try_next().await? {
                copied.feed(chain, &chunk, |stored| match check.entry(stored) {
                    Ok(()) => true,
                    Err(found) => {
                        divergence = Some(found);
                        false
                    }
                })?;
                if divergence.is_some() {
                    break;
                }
            }
            drop(chunks);
            self.metrics.verified(check.last().seq - from + 1);
            if divergence.is_some() {
                return Ok(divergence);
            }
            // A stretch that ends early has lost its last rows.
            if check.last().seq < until && (until < to || head.is_none()) {
                return Ok(Some(lost(snapshot, chain, check.last()).await?));
            }
            from = until + 1;
        }
        Ok(head.and_then(|head| check.end(&head).err()))
    }

    fn slot(&self, chain: Uuid) -> Arc<Semaphore> {
        let mut slots = self.slots.lock();
        if slots.len() > 1_000 {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(chain).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))))
    }
}

/// The row behind `last` is missing; its successor, if there is one, names its hash.
async fn lost(snapshot: &mut PgConnection, chain: Uuid, last: Head) -> Result<Divergence, Fault> {
    let expected = store::prev_of(snapshot, chain, last.seq + 2).await?.unwrap_or(GENESIS);
    Ok(Divergence { seq: last.seq + 1, expected, observed: GENESIS })
}
