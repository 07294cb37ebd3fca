//! Moves pending rows into their chains.
//!
//! Whoever gets a chain's head lock may: the lock makes a single writer of any number of replicas, and `SKIP LOCKED` has
//! the others turn to another chain. A batch is one transaction: rows out of the queue, hashes in memory, one INSERT, the
//! head behind them. A crash at any point leaves the rows pending.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use parking_lot::Mutex;
use plexsphere_kernel::tasks::{Health, Progress, Schedule, Task, TaskKind};
use plexsphere_kernel::{Fault, Tx};
use uuid::Uuid;

use crate::chain::{Hash, Head, Row, link};
use crate::log::PgAuditLog;
use crate::metrics::Metrics;
use crate::model::GENESIS_ACTIONS;
use crate::store::chains::{self, Linked, LockedHead};
use crate::store::pending::{self, Taken};
use crate::wake::{Look, POLL};

/// Rows of a batch while the log keeps up.
const BATCH: i64 = 500;
/// Rows of a batch behind a full one: a backlog is moved with fewer commits.
const BACKLOG_BATCH: i64 = 5_000;
/// Chains moved at the same time by one process.
const CHAINS_AT_ONCE: usize = 4;
/// How long one chain is drained before the run ends and begins anew.
const TURN: Duration = Duration::from_secs(5);
/// How long a run takes up chains; the next one begins behind the last of them.
const RUN: Duration = Duration::from_secs(20);
/// Readiness fails when a row waits longer.
const TOO_OLD: Duration = Duration::from_secs(30);
/// How long a transaction may take behind its enlistment before its row waits for a look for late ones.
const SETTLED: Duration = Duration::from_secs(2);
/// Chains whose floor is known.
const KNOWN_CHAINS: usize = 10_000;
/// Subjects whose mapping is known to be there.
const KNOWN_SUBJECTS: usize = 100_000;

/// The sequencer.
pub struct Sequencer {
    log: Arc<PgAuditLog>,
    metrics: Metrics,
    known: Mutex<HashSet<(Uuid, Hash)>>,
    floors: Mutex<HashMap<Uuid, Floor>>,
    /// The last chain of a run that ended before its chains did.
    resume: Mutex<Option<Uuid>>,
}

/// From where a chain's queue is read. What was taken out leaves dead places in the index until it is vacuumed, and reading
/// over them would cost more than the rows. Rows below the floor are found by the next look for late ones.
struct Floor {
    floor: i64,
    /// The next floor, and since when.
    next: (i64, Instant),
}

/// How far a chain was moved.
#[derive(Clone, Copy, Default)]
struct Moved {
    rows: u64,
    /// Its turn ended before its rows did.
    more: bool,
    /// Rows may be left: its turn ended, somebody else moves it, or it cannot be moved.
    left: bool,
    failed: bool,
}

impl Sequencer {
    /// A sequencer; run it by [`Self::schedule`] and hand its handle to [`PgAuditLog::attach`].
    #[must_use]
    pub(crate) fn new(log: Arc<PgAuditLog>, metrics: Metrics) -> Self {
        Self { log, metrics, known: Mutex::default(), floors: Mutex::default(), resume: Mutex::default() }
    }

    /// Every second, on nudges and notifications, on every replica.
    #[must_use]
    pub const fn schedule() -> Schedule {
        Schedule::every(POLL).and_on("plexsphere_audit").per_replica()
    }

    /// Moves one chain until nothing is pending, somebody else holds it, or its turn is over.
    async fn drain(&self, chain: Uuid, mut floor: i64) -> Result<Moved, Fault> {
        let began = Instant::now();
        let (mut rows, mut limit) = (0, BATCH);
        loop {
            let Some((batch, last)) = self.batch(chain, limit, floor).await? else {
                return Ok(Moved { rows, left: true, ..Moved::default() });
            };
            rows += batch;
            // Within one run nothing that is left lies below what was just taken, but for late commits.
            floor = floor.max(last);
            let full = batch >= u64::try_from(limit).unwrap_or(u64::MAX);
            if !full || began.elapsed() >= TURN {
                return Ok(Moved { rows, more: full, left: full, failed: false });
            }
            limit = BACKLOG_BATCH;
        }
    }

    /// As [`Self::drain`], from the bottom of the queue when rows may be `late`; a chain that cannot be moved holds no other one back.
    async fn attempt(&self, chain: Uuid, late: bool) -> Result<Moved, Fault> {
        let floor = if late { 0 } else { self.floors.lock().get(&chain).map_or(0, |known| known.floor) };
        match self.drain(chain, floor).await {
            Err(fault) if !fault.is_unreachable() => {
                tracing::error!(%chain, cause = ?fault, "an audit chain cannot be moved");
                Ok(Moved { left: true, failed: true, ..Moved::default() })
            }
            outcome => outcome,
        }
    }

    /// One batch: how many rows, and the last one's place in the queue; `None` when another replica holds the chain.
    async fn batch(&self, chain: Uuid, limit: i64, floor: i64) -> Result<Option<(u64, i64)>, Fault> {
        let mut tx = self.log.db().begin().await?;
        let Some(locked) = chains::lock_or_skip(&mut tx, chain).await? else { return Ok(None) };
        let taken = if locked.head.seq == 0 {
            pending::take_first(&mut tx, chain, limit, &GENESIS_ACTIONS).await?
        } else {
            pending::take(&mut tx, chain, limit, floor).await?
        };
        let count = u64::try_from(taken.len()).unwrap_or(u64::MAX);
        let (Some(first), Some(last)) = (taken.first().map(|row| row.n), taken.last().map(|row| row.n)) else {
            return Ok(Some((0, floor)));
        };
        // The first batch of a chain is not in the order of the queue.
        let last = if locked.head.seq == 0 { floor } else { last };
        let subjects = self.unknown(chain, &taken);
        let tx = append(tx, chain, &locked, taken, &subjects).await?;
        tx.commit().await?;
        self.remember(chain, subjects);
        self.raise(chain, first);
        self.metrics.chained(count);
        Ok(Some((count, last)))
    }

    /// A batch that began at `first` is out: in a while, nothing before it is expected any more.
    fn raise(&self, chain: Uuid, first: i64) {
        let now = Instant::now();
        let mut floors = self.floors.lock();
        if floors.len() >= KNOWN_CHAINS {
            floors.clear();
        }
        let known = floors.entry(chain).or_insert(Floor { floor: 0, next: (0, now) });
        if now.duration_since(known.next.1) >= SETTLED {
            *known = Floor { floor: known.next.0, next: (first - 1, now) };
        }
    }

    /// Chains in order, from the one behind the last that was taken up: with more than a run can move, all get their turn.
    fn in_turn(&self, mut chains: Vec<Uuid>) -> Vec<Uuid> {
        chains.sort_unstable();
        if let Some(last) = *self.resume.lock() {
            let behind = chains.partition_point(|chain| *chain <= last);
            chains.rotate_left(behind);
        }
        chains
    }

    /// The batch's subjects whose mapping may be missing. A mapping that was committed is there for good, if only as a
    /// tombstone.
    fn unknown(&self, chain: Uuid, taken: &[Taken]) -> Vec<(Hash, Uuid)> {
        let known = self.known.lock();
        let mut subjects: HashMap<Hash, Uuid> = HashMap::new();
        for row in taken {
            if let Some(id) = row.subject_id
                && !known.contains(&(chain, row.subject))
            {
                subjects.insert(row.subject, id);
            }
        }
        drop(known);
        let mut subjects: Vec<_> = subjects.into_iter().collect();
        // Two chains never share a pseudonym, but an erasure and a batch may: both go in this order.
        subjects.sort_unstable();
        subjects
    }

    fn remember(&self, chain: Uuid, subjects: Vec<(Hash, Uuid)>) {
        let mut known = self.known.lock();
        if known.len() + subjects.len() > KNOWN_SUBJECTS {
            known.clear();
        }
        known.extend(subjects.into_iter().map(|(hash, _)| (chain, hash)));
    }
}

#[async_trait]
impl Task for Sequencer {
    fn kind(&self) -> TaskKind {
        TaskKind::AuditSequencer
    }

    async fn run(&self) -> Result<Progress, Fault> {
        let pool = self.log.db().pool();
        let (pending, late) = match self.log.wake().look() {
            Look::At(chains) => (chains, false),
            Look::Everywhere { late } => (pending::chains(pool).await?, late),
        };
        let until = Instant::now() + RUN;
        let moved: Vec<Moved> = stream::iter(self.in_turn(pending))
            .map(async |chain| {
                if Instant::now() >= until {
                    return Ok(Moved { more: true, left: true, ..Moved::default() });
                }
                *self.resume.lock() = Some(chain);
                self.attempt(chain, late).await
            })
            .buffer_unordered(CHAINS_AT_ONCE)
            .try_collect()
            .await?;
        let any = |what: fn(&Moved) -> bool| moved.iter().any(what);
        let oldest = if any(|moved| moved.left) { pending::oldest(pool).await? } else { Duration::ZERO };
        self.metrics.oldest_pending(oldest);
        let failed = any(|moved| moved.failed);
        let health = match (oldest > TOO_OLD, failed) {
            (true, _) => Health::Bad("rows have waited for more than 30 s"),
            (false, true) => Health::Degraded("a chain cannot be moved"),
            (false, false) => Health::Good,
        };
        let again_in = match (any(|moved| moved.more), failed) {
            (true, _) => Duration::ZERO,
            (false, true) => POLL,
            (false, false) => self.log.wake().pause(),
        };
        let done = moved.iter().map(|moved| moved.rows).sum();
        Ok(Progress { done, again_in: Some(again_in), health })
    }
}

/// Chains rows behind the head that `locked` holds, and keeps what is personal about them in its own place.
pub(crate) async fn append(
    mut tx: Tx,
    chain: Uuid,
    locked: &LockedHead,
    mut taken: Vec<Taken>,
    subjects: &[(Hash, Uuid)],
) -> Result<Tx, Fault> {
    if locked.has_tombstones {
        forget_erased(&mut tx, chain, &mut taken).await?;
    }
    if !subjects.is_empty() {
        chains::map(&mut tx, chain, subjects).await?;
    }
    let contexts: Vec<&Taken> = taken.iter().filter(|row| row.salt.is_some()).collect();
    if !contexts.is_empty() {
        tx = chains::keep_contexts(tx, &contexts).await?;
    }
    let linked = linked(chain, locked.head, taken);
    chains::append(tx, chain, &linked).await
}

/// Rows that were enlisted before their subject was erased, and committed after, bring nothing personal with them.
async fn forget_erased(tx: &mut Tx, chain: Uuid, taken: &mut [Taken]) -> Result<(), Fault> {
    let subjects: HashSet<&[u8]> = taken.iter().map(|row| row.subject.as_slice()).collect();
    let subjects: Vec<&[u8]> = subjects.into_iter().collect();
    let erased = chains::tombstones(tx, chain, &subjects).await?;
    for row in taken {
        if erased.get(&row.subject).is_some_and(|at| row.occurred_at <= *at) {
            row.salt = None;
        }
    }
    Ok(())
}

/// Gives rows their places and hashes.
fn linked(chain: Uuid, head: Head, taken: Vec<Taken>) -> Vec<Linked> {
    let mut last = head;
    taken
        .into_iter()
        .map(|taken| {
            let seq = last.seq + 1;
            let mut canonical = Vec::with_capacity(512);
            row(chain, seq, &taken).encode(&mut canonical);
            let entry_hash = link(&last.hash, &canonical);
            let prev_hash = last.hash;
            last = Head { seq, hash: entry_hash };
            Linked { seq, taken, prev_hash, entry_hash, canonical }
        })
        .collect()
}

fn row(chain: Uuid, seq: i64, taken: &Taken) -> Row<'_> {
    Row {
        chain,
        seq,
        subject: &taken.subject,
        relation: &taken.relation,
        object_type: &taken.object_type,
        object_id: &taken.object_id,
        reason: &taken.reason,
        caveat_names: &taken.caveat_names,
        correlation_id: &taken.correlation_id,
        ctx: &taken.ctx,
        occurred_at: i64::try_from(taken.occurred_at.unix_timestamp_nanos().div_euclid(1_000)).unwrap_or(0),
        repeated: taken.repeated,
    }
}
