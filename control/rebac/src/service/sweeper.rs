//! Deletes changes that every replica has long followed. One that has not reads everything anew.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plexsphere_kernel::tasks::{Progress, Schedule, Task, TaskKind};
use plexsphere_kernel::{Clock, Database, Fault};

use crate::store::feed;

/// How long a change is kept.
const KEEP: Duration = Duration::from_secs(3_600);
/// How often old ones are looked for.
const PERIOD: Duration = Duration::from_secs(600);
/// How many go in one transaction.
const BATCH: i64 = 5_000;

/// The sweeper of `rebac.changes`.
pub struct ChangeSweeper {
    db: Database,
    clock: Arc<dyn Clock>,
}

impl ChangeSweeper {
    /// Every 10 minutes, on one replica at a time.
    pub const SCHEDULE: Schedule = Schedule::every(PERIOD);

    /// A sweeper of this database.
    #[must_use]
    pub const fn new(db: Database, clock: Arc<dyn Clock>) -> Self {
        Self { db, clock }
    }
}

#[async_trait]
impl Task for ChangeSweeper {
    fn kind(&self) -> TaskKind {
        TaskKind::RelationChangeSweeper
    }

    async fn run(&self) -> Result<Progress, Fault> {
        let mut tx = self.db.begin().await?;
        let done = feed::trim(&mut tx, self.clock.now().minus(KEEP), BATCH).await?;
        tx.commit().await?;
        Ok(Progress::done(done).and_more(i64::try_from(done) == Ok(BATCH)))
    }
}
