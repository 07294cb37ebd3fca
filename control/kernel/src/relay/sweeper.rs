//! Deletes what was published more than a day ago.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::store::{SWEEP_BATCHES, SWEEP_ROWS};
use crate::tasks::{Progress, Schedule, Task, TaskKind};
use crate::{Clock, Database, Fault};

/// How long published rows are kept.
const KEEP: Duration = Duration::from_secs(24 * 3_600);
/// Rows deleted by one statement.
const BATCH: i64 = 5_000;

/// The sweeper of the outbox.
pub struct OutboxSweeper {
    db: Database,
    clock: Arc<dyn Clock>,
}

impl OutboxSweeper {
    /// A sweeper; run it by [`Self::schedule`].
    #[must_use]
    pub fn new(db: Database, clock: Arc<dyn Clock>) -> Self {
        Self { db, clock }
    }

    /// Every ten minutes.
    #[must_use]
    pub const fn schedule() -> Schedule {
        Schedule::every(Duration::from_secs(600))
    }
}

#[async_trait]
impl Task for OutboxSweeper {
    fn kind(&self) -> TaskKind {
        TaskKind::OutboxSweeper
    }

    async fn run(&self) -> Result<Progress, Fault> {
        let before = self.clock.now().minus(KEEP).inner();
        let mut done = 0;
        let mut more = false;
        for statement in [SWEEP_ROWS, SWEEP_BATCHES] {
            let swept = sqlx::query(statement).bind(before).bind(BATCH).execute(self.db.pool()).await?.rows_affected();
            more |= i64::try_from(swept).is_ok_and(|swept| swept == BATCH);
            done += swept;
        }
        Ok(Progress::done(done).and_more(more))
    }
}
