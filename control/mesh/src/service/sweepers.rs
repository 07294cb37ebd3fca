//! The background work of the mesh.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plexsphere_kernel::tasks::{Progress, Schedule, Task, TaskKind};
use plexsphere_kernel::{Clock, Database, Fault, Outbox};

use crate::events;
use crate::store::{allocations, reachability};

/// Nodes of one sweep; when there are more, the next one follows at once.
const SWEEP_NODES: i64 = 500;
/// Addresses freed at once.
const FREE_ADDRESSES: i64 = 1_000;

/// Applies lapsed thresholds and tells what changed, recoveries included.
pub struct ReachabilitySweeper {
    pub(crate) db: Database,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) outbox: Outbox,
}

impl ReachabilitySweeper {
    /// Every 10 s.
    pub const SCHEDULE: Schedule = Schedule::every(Duration::from_secs(10));
}

#[async_trait]
impl Task for ReachabilitySweeper {
    fn kind(&self) -> TaskKind {
        TaskKind::ReachabilitySweeper
    }

    async fn run(&self) -> Result<Progress, Fault> {
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        let changes = reachability::sweep(&mut tx, now, SWEEP_NODES).await?;
        for (domain, change) in &changes {
            // A Node that recovered and fell silent again between two sweeps is where it was told to be.
            if change.from != change.to {
                self.outbox.append(&mut tx, events::reachability_changed(*domain, change), now).await?;
            }
        }
        tx.commit().await?;
        let done = u64::try_from(changes.len()).unwrap_or(0);
        Ok(Progress::done(done).and_more(i64::try_from(changes.len()).is_ok_and(|count| count >= SWEEP_NODES)))
    }
}

/// Frees addresses whose cooling is over.
pub struct AllocationSweeper {
    pub(crate) db: Database,
    pub(crate) clock: Arc<dyn Clock>,
}

impl AllocationSweeper {
    /// Every minute.
    pub const SCHEDULE: Schedule = Schedule::every(Duration::from_secs(60));
}

#[async_trait]
impl Task for AllocationSweeper {
    fn kind(&self) -> TaskKind {
        TaskKind::AllocationSweeper
    }

    async fn run(&self) -> Result<Progress, Fault> {
        let mut tx = self.db.begin().await?;
        let freed = allocations::free(&mut tx, self.clock.now(), FREE_ADDRESSES).await?;
        tx.commit().await?;
        Ok(Progress::done(freed).and_more(i64::try_from(freed).is_ok_and(|count| count >= FREE_ADDRESSES)))
    }
}
