//! The audit log: enlists rows in the transactions of what they record.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::RwLock;
use plexsphere_kernel::audit::CaveatNames;
use plexsphere_kernel::tasks::TaskHandle;
use plexsphere_kernel::{AuditLog, AuditRecord, Clock, Database, Fault, Tx};
use plexsphere_wire::EnvelopeId;
use rand::RngCore as _;
use uuid::Uuid;

use crate::model::{Enlistment, commitment};
use crate::pepper::{AuditKey, Pepper};
use crate::store::pending::{self, Veil};
use crate::wake::Wake;

/// Peppers kept in memory; deriving one costs microseconds.
const PEPPERS: usize = 10_000;
/// How long a reader waits at the most for rows that were committed before it asked.
pub const VISIBILITY: Duration = Duration::from_millis(250);
/// How often a waiting reader looks.
const LOOK: Duration = Duration::from_millis(10);

/// The audit log in PostgreSQL.
pub struct PgAuditLog {
    db: Database,
    key: AuditKey,
    clock: Arc<dyn Clock>,
    peppers: RwLock<HashMap<Uuid, Arc<Pepper>>>,
    wake: Wake,
}

impl PgAuditLog {
    /// A log whose pseudonyms come from `key`.
    #[must_use]
    pub fn new(db: Database, key: AuditKey, clock: Arc<dyn Clock>) -> Self {
        Self { db, key, clock, peppers: RwLock::default(), wake: Wake::default() }
    }

    /// Nudges this process's sequencer from now on instead of notifying those of others: a commit that notifies waits for
    /// every other one that does.
    pub fn attach(&self, sequencer: TaskHandle) {
        self.wake.attach(sequencer);
    }

    /// Waits until every row of a chain that is pending now is chained, at most `patience`; `false` when some are not.
    /// A reader that comes right after a write sees the write then, on whatever replica it was made.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn visible(&self, chain: Uuid, patience: Duration) -> Result<bool, Fault> {
        let Some(newest) = pending::newest(self.db.pool(), chain).await? else { return Ok(true) };
        self.wake.now(chain);
        let until = tokio::time::Instant::now() + patience;
        loop {
            if !pending::left(self.db.pool(), chain, newest).await? {
                return Ok(true);
            }
            if tokio::time::Instant::now() >= until {
                return Ok(false);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(crate) const fn db(&self) -> &Database {
        &self.db
    }

    pub(crate) const fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    pub(crate) const fn wake(&self) -> &Wake {
        &self.wake
    }

    /// Writes one pending row.
    pub(crate) async fn enlist(&self, tx: &mut Tx, row: Enlistment) -> Result<(), Fault> {
        let (id, row, veil) = self.veiled(row)?;
        pending::enlist(tx, id, &row, &veil).await?;
        self.announce(tx, &[row.chain]).await
    }

    /// Checks a row and draws what is secret about it.
    pub(crate) fn veiled(&self, row: Enlistment) -> Result<(Uuid, Enlistment, Veil), Fault> {
        let pepper = self.pepper(row.chain);
        let row = row.settle(&pepper).map_err(|_| Fault::Invariant("an audit row is made of names"))?;
        let mut salt = [0u8; 32];
        rand::rng().fill_bytes(&mut salt);
        let veil = Veil { pseudonym: pepper.pseudonym(row.subject), commitment: commitment(&salt, &row.context), salt };
        Ok((EnvelopeId::mint(self.clock.now()).uuid(), row, veil))
    }

    pub(crate) fn pepper(&self, chain: Uuid) -> Arc<Pepper> {
        if let Some(pepper) = self.peppers.read().get(&chain) {
            return Arc::clone(pepper);
        }
        let pepper = Arc::new(self.key.pepper(chain));
        let mut peppers = self.peppers.write();
        if peppers.len() >= PEPPERS {
            peppers.clear();
        }
        peppers.insert(chain, Arc::clone(&pepper));
        pepper
    }

    async fn announce(&self, tx: &mut Tx, chains: &[Uuid]) -> Result<(), Fault> {
        let woken = chains.iter().all(|chain| self.wake.enlisted(*chain));
        if woken { Ok(()) } else { pending::wake(tx).await }
    }
}

#[async_trait]
impl AuditLog for PgAuditLog {
    async fn record(&self, tx: &mut Tx, record: AuditRecord) -> Result<(), Fault> {
        self.enlist(tx, record.into()).await
    }

    async fn record_many(&self, tx: &mut Tx, records: Vec<AuditRecord>) -> Result<(), Fault> {
        let rows = records.into_iter().map(|record| self.veiled(record.into())).collect::<Result<Vec<_>, _>>()?;
        if rows.is_empty() {
            return Ok(());
        }
        pending::enlist_many(tx, &rows).await?;
        let mut chains: Vec<Uuid> = rows.iter().map(|(_, row, _)| row.chain).collect();
        chains.dedup();
        self.announce(tx, &chains).await
    }

    async fn record_decision(&self, record: AuditRecord, caveats: CaveatNames) -> Result<(), Fault> {
        let mut tx = self.db.begin().await?;
        self.enlist(&mut tx, Enlistment { caveats, ..record.into() }).await?;
        tx.commit().await?;
        Ok(())
    }
}
