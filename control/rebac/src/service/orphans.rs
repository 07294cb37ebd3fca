//! Removes tuples that name something that is gone: nothing says any more where it belongs.
//!
//! What ends takes its tuples along, and what stands has its place written anew when it is missing, so a tuple is an
//! orphan by accident only. One is removed when it has been one for a whole period, in which its place had time to come
//! back.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use plexsphere_kernel::tasks::{Progress, Schedule, Task, TaskKind};
use plexsphere_kernel::{Database, Fault};
use uuid::Uuid;

use crate::store::orphans;

/// How often orphans are looked for.
const PERIOD: Duration = Duration::from_secs(3_600);
/// How long one run may take.
const DEADLINE: Duration = Duration::from_secs(300);
/// How many tuples are looked at in one statement.
const PAGE: i64 = 5_000;
/// How many go in one transaction.
const BATCH: usize = 500;

/// The sweeper of `rebac.tuples`.
pub struct OrphanSweeper {
    db: Database,
    /// What the last run found.
    suspects: Mutex<HashSet<Uuid>>,
}

impl OrphanSweeper {
    /// Every hour, on one replica at a time.
    pub const SCHEDULE: Schedule = Schedule::every(PERIOD).within(DEADLINE);

    /// A sweeper of this database that suspects nothing yet.
    #[must_use]
    pub fn new(db: Database) -> Self {
        Self { db, suspects: Mutex::default() }
    }

    async fn found(&self) -> Result<HashSet<Uuid>, Fault> {
        let mut found = HashSet::new();
        let mut after = Uuid::nil();
        loop {
            let page = orphans::page(self.db.pool(), after, PAGE).await?;
            found.extend(page.orphans);
            match page.last {
                Some(last) => after = last,
                None => return Ok(found),
            }
        }
    }
}

#[async_trait]
impl Task for OrphanSweeper {
    fn kind(&self) -> TaskKind {
        TaskKind::RelationOrphanSweeper
    }

    async fn run(&self) -> Result<Progress, Fault> {
        let found = self.found().await?;
        let last = self.suspects.lock().clone();
        let (lasting, fresh): (HashSet<Uuid>, HashSet<Uuid>) = found.into_iter().partition(|id| last.contains(id));
        let lasting: Vec<Uuid> = lasting.into_iter().collect();
        let mut done = 0;
        for batch in lasting.chunks(BATCH) {
            let mut tx = self.db.begin().await?;
            done += orphans::remove(&mut tx, batch).await?;
            tx.commit().await?;
        }
        // A run that failed is repeated soon, and is not to take for lasting what it has just found.
        *self.suspects.lock() = fresh;
        if done > 0 {
            tracing::info!(tuples = done, "relation tuples of what is gone were removed");
        }
        Ok(Progress::done(done))
    }
}
