//! Copies of chains in an object store.
//!
//! A chain's entries go up in order, in segments: objects that are written once and never again. Nothing in them is
//! personal, so nothing has ever to be erased there; an object lock is welcome. A segment is written down before it is
//! uploaded, goes up only while its rows hold behind their predecessor, and carries its places in its name, so a repeated upload meets its own bytes; other bytes are a divergence.

mod place;
mod segment;

pub use place::{MirrorPlace, MirrorPlaceError};
pub(crate) use segment::Line;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::{ObjectStoreExt as _, PutMode, PutOptions, PutPayload};
use parking_lot::Mutex;
use plexsphere_kernel::tasks::{Health, Progress, Schedule, Task, TaskKind};
use plexsphere_kernel::{Event, EventAudience, Fault, Outbox};
use plexsphere_wire::{DomainId, Timestamp};
use serde_json::json;
use uuid::Uuid;

use crate::chain::{Divergence, GENESIS};
use crate::log::PgAuditLog;
use crate::metrics::Metrics;
use crate::model::PLATFORM_ANCHOR;
use crate::store::mirror::{self as store, Span};

/// Rows of a segment at the most; with fewer, what is there goes up at the next look.
const SEGMENT_ROWS: i64 = 1_000;
const PERIOD: Duration = Duration::from_secs(5);
const CHAINS_AT_ONCE: usize = 4;
const PAGE: i64 = 200;
/// Segments of one chain in one run, so that a long chain holds no other one back.
const SEGMENTS_OF_A_TURN: usize = 50;
/// The first pause of a chain whose upload failed; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The mirror.
pub struct MirrorTask {
    log: Arc<PgAuditLog>,
    place: Option<MirrorPlace>,
    metrics: Metrics,
    resting: Mutex<HashMap<Uuid, Rest>>,
}

/// A chain that is left alone for a while.
#[derive(Clone, Copy)]
struct Rest {
    failures: u32,
    until: Timestamp,
    /// Whether a divergence was told; it is told once.
    told: bool,
}

/// Why a segment is not up.
#[derive(Debug, thiserror::Error)]
enum Setback {
    #[error("the object store failed: {0}")]
    Store(#[from] object_store::Error),
    #[error("an object of the same name has other bytes")]
    Differs,
    #[error("the rows do not hold")]
    Broken(Divergence),
    #[error(transparent)]
    Fault(#[from] Fault),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Done,
    More,
    Resting,
}

impl MirrorTask {
    pub(crate) fn new(log: Arc<PgAuditLog>, place: Option<MirrorPlace>, metrics: Metrics) -> Self {
        Self { log, place, metrics, resting: Mutex::default() }
    }

    /// Every five seconds, on one replica.
    #[must_use]
    pub const fn schedule() -> Schedule {
        Schedule::every(PERIOD).within(Duration::from_secs(300))
    }

    async fn chain(&self, place: &MirrorPlace, chain: Uuid) -> Result<(Turn, u64), Fault> {
        let now = self.log.clock().now();
        if self.resting.lock().get(&chain).is_some_and(|rest| now < rest.until) {
            return Ok((Turn::Resting, 0));
        }
        let mut rows = 0;
        for _ in 0..SEGMENTS_OF_A_TURN {
            let Some(span) = store::next(self.log.db().pool(), chain, SEGMENT_ROWS).await? else {
                return Ok((Turn::Done, rows));
            };
            match self.segment(place, chain, span).await {
                Ok(()) => {
                    self.resting.lock().remove(&chain);
                    let count = span.last_seq - span.first_seq + 1;
                    self.metrics.mirrored(count);
                    rows += u64::try_from(count).unwrap_or(0);
                }
                Err(Setback::Fault(fault)) => return Err(fault),
                Err(setback) => {
                    self.rest(chain, span, &setback).await?;
                    return Ok((Turn::Resting, rows));
                }
            }
        }
        Ok((Turn::More, rows))
    }

    async fn segment(&self, place: &MirrorPlace, chain: Uuid, span: Span) -> Result<(), Setback> {
        let pool = self.log.db().pool();
        let lines = store::lines(pool, chain, span).await?;
        let before = match span.first_seq {
            1 => GENESIS,
            first => store::hash(pool, chain, first - 1).await?.unwrap_or(GENESIS),
        };
        segment::check(chain, span, before, &lines).map_err(Setback::Broken)?;
        let body = segment::render(&lines);
        let (objects, folder) = place.of(chain)?;
        let path = segment::path(&folder, span);
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let put = objects.put_opts(&path, PutPayload::from(body.clone()), options).await;
        let etag = match put {
            Ok(put) => put.e_tag,
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                let there = objects.get(&path).await?;
                let etag = there.meta.e_tag.clone();
                if there.bytes().await? != body {
                    return Err(Setback::Differs);
                }
                etag
            }
            Err(error) => return Err(error.into()),
        };
        // A store without tags: the segment's own hash says as much.
        let etag = etag.unwrap_or_else(|| segment::digest(&body));
        let now = self.log.clock().now();
        Ok(store::confirm(pool, chain, span, (&etag, now.inner())).await?)
    }

    async fn rest(&self, chain: Uuid, span: Span, setback: &Setback) -> Result<(), Fault> {
        self.metrics.mirror_failed();
        let now = self.log.clock().now();
        let (failures, told) = self.resting.lock().get(&chain).map_or((0, false), |rest| (rest.failures, rest.told));
        let divergent = match setback {
            Setback::Differs => Some(span.first_seq),
            Setback::Broken(found) => Some(found.seq),
            Setback::Store(_) | Setback::Fault(_) => None,
        };
        let pause = if divergent.is_some() { LONGEST_PAUSE } else { pause(failures) };
        let rest = Rest { failures: failures + 1, until: now.plus(pause), told };
        self.resting.lock().insert(chain, rest);
        let cause = setback.to_string();
        let Some(seq) = divergent else {
            if failures == 0 {
                tracing::warn!(%chain, cause, "a segment of an audit chain was not copied and is tried again");
            }
            return Ok(());
        };
        if told {
            return Ok(());
        }
        tracing::error!(%chain, seq, cause, "the copy of an audit chain differs");
        let mut tx = self.log.db().begin().await?;
        let event = Event {
            domain: (chain != PLATFORM_ANCHOR).then(|| DomainId::from_uuid(chain)),
            context: "audit",
            name: "DivergenceFound",
            audience: EventAudience::Internal,
            payload: json!({ "chain": chain, "seq": seq }),
        };
        Outbox.append(&mut tx, event, now).await?;
        tx.commit().await?;
        self.resting.lock().insert(chain, Rest { told: true, ..rest });
        Ok(())
    }
}

#[async_trait]
impl Task for MirrorTask {
    fn kind(&self) -> TaskKind {
        TaskKind::AuditMirror
    }

    async fn run(&self) -> Result<Progress, Fault> {
        let Some(place) = &self.place else {
            return Ok(Progress { health: Health::Degraded("disabled"), ..Progress::done(0) });
        };
        let (mut after, mut rows, mut more) = (None, 0, false);
        loop {
            let page = store::behind(self.log.db().pool(), after, PAGE).await?;
            let Some(last) = page.last().copied() else { break };
            after = Some(last);
            let turns: Vec<(Turn, u64)> = stream::iter(page)
                .map(|chain| self.chain(place, chain))
                .buffer_unordered(CHAINS_AT_ONCE)
                .try_collect()
                .await?;
            rows += turns.iter().map(|(_, rows)| rows).sum::<u64>();
            more |= turns.iter().any(|(turn, _)| *turn == Turn::More);
        }
        let resting = !self.resting.lock().is_empty();
        // The log goes on without its copies, and readiness with it.
        let health = if resting { Health::Degraded("copies are behind") } else { Health::Good };
        Ok(Progress { health, ..Progress::done(rows) }.and_more(more))
    }
}

/// The pause behind so many failures before.
fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_one_second_to_five_minutes() {
        let pauses: Vec<u64> = (0..11).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }
}
