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
/// Addresses freed in one sweep; when there are more, the next one follows at once.
const FREE_ADDRESSES: u64 = 1_000;
/// Domains whose lock is waited for in vain before a sweep gives up.
const BUSY_DOMAINS: usize = 3;

/// Applies lapsed thresholds and tells what changed, recoveries included.
pub struct ReachabilitySweeper {
    pub(crate) db: Database,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) outbox: Outbox,
}

impl ReachabilitySweeper {
    /// Every 10 s.
    pub const SCHEDULE: Schedule = Schedule::every(Duration::from_secs(10)).stale_after(6);
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

    /// One Domain at a time, each under its lock and in a transaction of its own. A Domain whose lock is not to be had
    /// waits for the next sweep.
    async fn run(&self) -> Result<Progress, Fault> {
        let now = self.clock.now();
        let (mut freed, mut passed) = (0, Vec::new());
        while freed < FREE_ADDRESSES && passed.len() < BUSY_DOMAINS {
            let mut tx = self.db.begin().await?;
            let Some(domain) = allocations::due(&mut tx, now, &passed).await? else { return Ok(Progress::done(freed)) };
            match allocations::lock(&mut tx, domain).await {
                Ok(()) => {}
                Err(error) if allocations::is_lock_timeout(&error) => {
                    passed.push(domain);
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            let limit = i64::try_from(FREE_ADDRESSES - freed).unwrap_or(1);
            freed += allocations::free(&mut tx, domain, now, limit).await?;
            tx.commit().await?;
        }
        Ok(Progress::done(freed).and_more(freed >= FREE_ADDRESSES))
    }
}
