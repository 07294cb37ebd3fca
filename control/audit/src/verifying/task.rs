//! The background verification: each chain's new rows by the hour, each whole chain once a day.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plexsphere_kernel::tasks::{Health, Progress, Schedule, Task, TaskKind};
use plexsphere_kernel::{Clock, Event, EventAudience, Fault, Outbox};
use plexsphere_wire::{DomainId, Timestamp};
use serde_json::json;
use uuid::Uuid;

use super::{ChainVerifier, Range, VerifyRefusal};
use crate::model::PLATFORM_ANCHOR;
use crate::store::chains;
use crate::store::verifying::{self as store, Mark};

const HOUR: Duration = Duration::from_secs(3_600);
/// Whole chains are walked again after this long.
const WHOLE: Duration = Duration::from_secs(24 * 3_600);
/// The hours of the night, UTC: from then on a whole walk that is due is made. One that was missed is made at any hour.
const NIGHT: std::ops::Range<i64> = 1..5;
/// Rows of one snapshot: a long one holds back the clean-up of the whole database.
const SNAPSHOT: i64 = 1_000_000;
/// Chains read at once out of the list.
const PAGE: i64 = 500;

/// The task.
pub struct VerifyTask {
    verifier: Arc<ChainVerifier>,
    clock: Arc<dyn Clock>,
}

impl VerifyTask {
    pub(crate) const fn new(verifier: Arc<ChainVerifier>, clock: Arc<dyn Clock>) -> Self {
        Self { verifier, clock }
    }

    /// Every hour.
    #[must_use]
    pub const fn schedule() -> Schedule {
        Schedule::every(HOUR).within(Duration::from_secs(55 * 60))
    }

    async fn chain(&self, chain: Uuid, last_seq: i64) -> Result<u64, Fault> {
        let pool = self.verifier.db.pool();
        let mark = store::marked(pool, chain).await?;
        let now = self.clock.now();
        let whole = due(mark.whole_at.map(Timestamp::new), now);
        if !whole && last_seq == mark.verified_to {
            return Ok(0);
        }
        let first = if whole { 1 } else { mark.verified_to.min(last_seq) + 1 };
        let (mut from, mut divergent_seq) = (first, None);
        loop {
            let to = from.saturating_add(SNAPSHOT - 1);
            match self.verifier.verify(chain, Range { from: Some(from), to: Some(to) }).await {
                Ok(verdict) => {
                    from = verdict.to + 1;
                    divergent_seq = verdict.divergence.map(|divergence| divergence.seq);
                    if divergent_seq.is_some() || verdict.to < to {
                        break;
                    }
                }
                // Nothing new, or the last snapshot ended exactly at the head.
                Err(VerifyRefusal::BehindHead | VerifyRefusal::Range) => break,
                Err(VerifyRefusal::Fault(fault)) => return Err(fault),
            }
        }
        let held_to = divergent_seq.map_or(from - 1, |seq| seq.min(from) - 1);
        // A chain that goes less far than it went does not make what was verified forgotten.
        let verified_to = if last_seq < mark.verified_to { held_to.max(mark.verified_to) } else { held_to };
        // A part that holds says nothing of what was found elsewhere before.
        let divergent_seq = if whole { divergent_seq } else { divergent_seq.or(mark.divergent_seq) };
        let next = Mark { whole_at: whole.then(|| now.inner()), verified_to, divergent_seq };
        self.write_down(chain, &mark, &next, now).await?;
        Ok(u64::try_from(held_to - first + 1).unwrap_or(0))
    }

    async fn write_down(&self, chain: Uuid, before: &Mark, found: &Mark, now: Timestamp) -> Result<(), Fault> {
        let mut tx = self.verifier.db.begin().await?;
        store::mark(&mut tx, chain, found, now.inner()).await?;
        if let Some(seq) = found.divergent_seq.filter(|seq| before.divergent_seq != Some(*seq)) {
            tracing::error!(%chain, seq, "an audit chain does not hold");
            let event = Event {
                domain: (chain != PLATFORM_ANCHOR).then(|| DomainId::from_uuid(chain)),
                context: "audit",
                name: "DivergenceFound",
                audience: EventAudience::Internal,
                payload: json!({ "chain": chain, "seq": seq }),
            };
            Outbox.append(&mut tx, event, now).await?;
        }
        Ok(tx.commit().await?)
    }
}

#[async_trait]
impl Task for VerifyTask {
    fn kind(&self) -> TaskKind {
        TaskKind::AuditVerify
    }

    async fn run(&self) -> Result<Progress, Fault> {
        let pool = self.verifier.db.pool();
        let (mut after, mut rows, mut failed) = (None, 0, false);
        loop {
            let page = chains::heads(pool, after, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for (chain, last_seq) in page {
                match self.chain(chain, last_seq).await {
                    Ok(verified) => rows += verified,
                    Err(fault) if fault.is_unreachable() => return Err(fault),
                    Err(fault) => {
                        tracing::error!(%chain, cause = ?fault, "an audit chain cannot be verified");
                        failed = true;
                    }
                }
            }
        }
        let divergent = store::divergent(pool).await?;
        self.verifier.metrics.divergent_chains(divergent);
        let health = match (divergent, failed) {
            (0, false) => Health::Good,
            (0, true) => Health::Degraded("a chain cannot be verified"),
            _ => Health::Degraded("a chain does not hold"),
        };
        Ok(Progress { health, ..Progress::done(rows) })
    }
}

fn due(last: Option<Timestamp>, now: Timestamp) -> bool {
    let Some(last) = last else { return true };
    let age = now.since(last);
    let night = NIGHT.contains(&(now.unix_seconds().div_euclid(3_600).rem_euclid(24)));
    age >= WHOLE || (night && age >= WHOLE - 4 * HOUR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_walk_is_due_in_the_night_or_when_one_was_missed() {
        let noon = Timestamp::from_unix_seconds(1_790_000_000 / 86_400 * 86_400 + 12 * 3_600);
        assert!(due(None, noon));
        assert!(!due(Some(noon), noon.plus(9 * HOUR)));
        assert!(due(Some(noon), noon.plus(24 * HOUR)));
        let two_at_night = noon.plus(14 * HOUR);
        assert!(!due(Some(noon), two_at_night));
        assert!(due(Some(two_at_night), two_at_night.plus(23 * HOUR)));
    }
}
