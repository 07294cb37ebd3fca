//! Sealing anew what rests under an older wrap key, so that the old key can leave the ring.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plexsphere_wire::CorrelationId;

use super::{KekRing, SealError};
use crate::audit::RequestContext;
use crate::tasks::{Progress, Schedule, Task, TaskKind};
use crate::{AuditLog, AuditRecord, Clock, Database, Fault, ObjectRef, Outcome, Subject, Tx};

/// A row that rests sealed.
pub struct SealedRow {
    /// Its key in the table.
    pub key: String,
    /// What the sealed bytes are bound to.
    pub aad: String,
    /// The version of the wrap key.
    pub wrap_key_version: i32,
    /// The sealed bytes.
    pub sealed: Vec<u8>,
}

/// A table whose rows can be sealed anew.
#[async_trait]
pub trait Rewrappable: Send + Sync + 'static {
    /// The task that does it.
    fn kind(&self) -> TaskKind;

    /// Who does it, in audit rows.
    fn subject(&self) -> Subject;

    /// What is done, in audit rows, such as `nsk.rewrap`.
    fn action(&self) -> &'static str;

    /// Rows of one transaction.
    fn batch(&self) -> i64;

    /// At most `limit` rows under versions below `version`, by key, behind `after`, held until the transaction ends. Rows
    /// that somebody else holds are left out: who holds many rows and waits for more meets others who do the same.
    ///
    /// # Errors
    /// [`Fault`].
    async fn sealed_below(&self, tx: &mut Tx, version: i32, after: &str, limit: i64) -> Result<Vec<SealedRow>, Fault>;

    /// Writes rows, by key, that were sealed anew under `version`.
    ///
    /// # Errors
    /// [`Fault`].
    async fn write(&self, tx: &mut Tx, version: i32, rows: (Vec<String>, Vec<Vec<u8>>)) -> Result<(), Fault>;
}

/// What a rewrap stands on.
#[derive(Clone)]
pub struct RewrapParts {
    /// The database.
    pub db: Database,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where a run is recorded.
    pub audit: Arc<dyn AuditLog>,
    /// The wrap keys.
    pub ring: Arc<KekRing>,
}

/// Seals the rows of one table under the newest wrap key.
pub struct Rewrap {
    rows: Arc<dyn Rewrappable>,
    parts: RewrapParts,
}

impl Rewrap {
    /// A rewrap of these rows; run it by [`Self::SCHEDULE`].
    #[must_use]
    pub fn new(rows: Arc<dyn Rewrappable>, parts: RewrapParts) -> Self {
        Self { rows, parts }
    }

    /// At the start, when the ring was read, and every hour for what a replica with an older ring has sealed since.
    pub const SCHEDULE: Schedule = Schedule::every(Duration::from_secs(3_600)).within(Duration::from_secs(600));

    fn sealed_anew(&self, row: &SealedRow) -> Result<Vec<u8>, SealError> {
        let opened = self.parts.ring.open(row.wrap_key_version, &row.sealed, &row.aad)?;
        Ok(self.parts.ring.seal(&opened, &row.aad)?.1)
    }

    /// The audit row of a run stands in the transaction of its first batch.
    async fn record(&self, tx: &mut Tx, version: i32) -> Result<(), Fault> {
        let now = self.parts.clock.now();
        let record = AuditRecord {
            domain: None,
            subject: self.rows.subject(),
            relation: self.rows.action().to_owned(),
            object: ObjectRef { kind: "wrap_key", id: version.to_string() },
            outcome: Outcome::Granted,
            correlation_id: CorrelationId::mint(now),
            context: RequestContext::default(),
            occurred_at: now,
        };
        self.parts.audit.record(tx, record).await
    }
}

#[async_trait]
impl Task for Rewrap {
    fn kind(&self) -> TaskKind {
        self.rows.kind()
    }

    /// Batch by batch, each in a transaction of its own. A row that does not open is passed over and keeps its wrap key.
    async fn run(&self) -> Result<Progress, Fault> {
        let (version, batch) = (self.parts.ring.newest(), self.rows.batch());
        let (mut done, mut after) = (0, String::new());
        loop {
            let mut tx = self.parts.db.begin().await?;
            let rows = self.rows.sealed_below(&mut tx, version, &after, batch).await?;
            let Some(last) = rows.last() else { break };
            after.clone_from(&last.key);
            let is_last = i64::try_from(rows.len()).is_ok_and(|found| found < batch);
            let (mut keys, mut sealed) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
            for row in rows {
                match self.sealed_anew(&row) {
                    Ok(anew) => {
                        keys.push(row.key);
                        sealed.push(anew);
                    }
                    Err(cause) => {
                        tracing::error!(key = row.key, %cause, "a sealed value does not open and keeps its wrap key");
                    }
                }
            }
            let count = u64::try_from(keys.len()).unwrap_or(u64::MAX);
            if count > 0 {
                if done == 0 {
                    self.record(&mut tx, version).await?;
                }
                self.rows.write(&mut tx, version, (keys, sealed)).await?;
            }
            tx.commit().await?;
            done += count;
            if is_last {
                break;
            }
        }
        if done > 0 {
            tracing::info!(what = self.rows.action(), version, done, "sealed values rest under the newest wrap key");
        }
        Ok(Progress::done(done))
    }
}
