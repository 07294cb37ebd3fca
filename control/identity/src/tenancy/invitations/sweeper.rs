//! Ending Invitations whose time is over. Acceptance and revocation judge the time themselves, so a sweeper that stands
//! still extends nothing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plexsphere_kernel::tasks::{Progress, Schedule, Task, TaskKind};
use plexsphere_kernel::{Clock, Fault, ObjectRef, Subject};
use serde_json::Value;
use uuid::Uuid;

use super::service::{self, Invitations};
use super::store;
use crate::events::EventName;
use crate::journal::Actor;

/// How many are ended in one transaction.
const BATCH: i64 = 500;
/// Who the sweeper is, in the audit log.
const SWEEPER: Subject = Subject::System(Uuid::from_u128(0x706c_6578_0000_7000_8000_0000_0000_0002));

/// The task.
pub struct InvitationExpirySweeper {
    invitations: Invitations,
    clock: Arc<dyn Clock>,
}

impl InvitationExpirySweeper {
    /// Every minute, on one replica at a time; stale after five without a good run.
    pub const SCHEDULE: Schedule = Schedule::every(Duration::from_secs(60)).stale_after(5);

    pub(crate) const fn new(invitations: Invitations, clock: Arc<dyn Clock>) -> Self {
        Self { invitations, clock }
    }

    /// Ends one batch: one event each, and one row on the platform's chain for all. How many were ended.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn sweep_once(&self) -> Result<u64, Fault> {
        let needs = &self.invitations.needs;
        let actor = Actor::background(SWEEPER, self.clock.now());
        let mut tx = needs.db.begin().await?;
        let ended = store::expire_due(&mut tx, actor.now, BATCH).await?;
        let mut count = 0;
        for (domain, ids) in ended {
            count += u64::try_from(ids.len()).unwrap_or(u64::MAX);
            let payloads: Vec<Value> = ids.into_iter().map(|id| service::facts(domain, id)).collect();
            let name = EventName::InvitationExpired;
            needs.journal.announce_many(&mut tx, &actor, Some(domain), name, payloads).await?;
        }
        if count > 0 {
            let row = actor.record(None, "invitation.expire-sweep", ObjectRef::platform());
            needs.journal.record(&mut tx, row).await?;
        }
        tx.commit().await?;
        Ok(count)
    }
}

#[async_trait]
impl Task for InvitationExpirySweeper {
    fn kind(&self) -> TaskKind {
        TaskKind::InvitationExpirySweeper
    }

    async fn run(&self) -> Result<Progress, Fault> {
        let count = self.sweep_once().await?;
        Ok(Progress::done(count).and_more(i64::try_from(count).is_ok_and(|count| count >= BATCH)))
    }
}
