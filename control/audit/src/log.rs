//! The audit log: enlists rows in the transactions of what they record.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::RwLock;
use plexsphere_kernel::{AuditLog, AuditRecord, Clock, Database, Fault, Tx};
use plexsphere_wire::EnvelopeId;
use rand::RngCore as _;
use uuid::Uuid;

use crate::model::{Enlistment, commitment};
use crate::pepper::{AuditKey, Pepper};
use crate::store::{self, Veil};

/// Peppers kept in memory; deriving one costs microseconds.
const PEPPERS: usize = 10_000;

/// The audit log in PostgreSQL.
pub struct PgAuditLog {
    db: Database,
    key: AuditKey,
    clock: Arc<dyn Clock>,
    peppers: RwLock<HashMap<Uuid, Arc<Pepper>>>,
}

impl PgAuditLog {
    /// A log whose pseudonyms come from `key`.
    #[must_use]
    pub fn new(db: Database, key: AuditKey, clock: Arc<dyn Clock>) -> Self {
        Self { db, key, clock, peppers: RwLock::default() }
    }

    pub(crate) const fn db(&self) -> &Database {
        &self.db
    }

    pub(crate) const fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Writes one pending row.
    pub(crate) async fn enlist(&self, tx: &mut Tx, row: Enlistment) -> Result<(), Fault> {
        let pepper = self.pepper(row.chain);
        let row = row.settle(&pepper).map_err(|_| Fault::Invariant("an audit row is made of names"))?;
        let mut salt = [0u8; 32];
        rand::rng().fill_bytes(&mut salt);
        let veil = Veil { pseudonym: pepper.pseudonym(row.subject), commitment: commitment(&salt, &row.context), salt };
        store::enlist(tx, EnvelopeId::mint(self.clock.now()).uuid(), &row, &veil).await
    }

    fn pepper(&self, chain: Uuid) -> Arc<Pepper> {
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
}

#[async_trait]
impl AuditLog for PgAuditLog {
    async fn record(&self, tx: &mut Tx, record: AuditRecord) -> Result<(), Fault> {
        self.enlist(tx, record.into()).await
    }

    async fn record_alone(&self, record: AuditRecord) -> Result<(), Fault> {
        let mut tx = self.db.begin().await?;
        self.enlist(&mut tx, record.into()).await?;
        tx.commit().await?;
        Ok(())
    }
}
