//! The face of the context: what it is built from and what it offers.

use std::sync::Arc;

use plexsphere_kernel::http::Operation;
use plexsphere_kernel::seams::DomainEntries;
use plexsphere_kernel::tasks::Tasks;
use prometheus_client::registry::Registry;

use crate::erasing::Eraser;
use crate::http::{self, Surface};
use crate::log::PgAuditLog;
use crate::metrics::Metrics;
use crate::mirror::{MirrorPlace, MirrorTask};
use crate::sequencer::Sequencer;
use crate::verifying::{ChainVerifier, VerifyTask};

pub use crate::http::CursorKey;

/// What the context needs of others.
pub struct AuditParts {
    /// The log that contexts enlist their rows in.
    pub log: Arc<PgAuditLog>,
    /// Which Domains there are.
    pub domains: Arc<dyn DomainEntries>,
    /// Signs cursors.
    pub cursor_key: CursorKey,
    /// Where chains are copied to; `None` where no object store is configured.
    pub mirror: Option<MirrorPlace>,
}

/// The audit context.
pub struct Audit {
    surface: Arc<Surface>,
    mirror: Option<MirrorPlace>,
    metrics: Metrics,
}

impl Audit {
    /// Puts the context together. Nothing is started and nothing is read.
    #[must_use]
    pub fn new(parts: AuditParts, registry: &mut Registry) -> Self {
        let metrics = Metrics::register(registry);
        let AuditParts { log, domains, cursor_key, mirror } = parts;
        let surface = Surface {
            verifier: Arc::new(ChainVerifier::new(log.db().clone(), metrics.clone())),
            eraser: Eraser::new(Arc::clone(&log)),
            cursors: http::cursors(cursor_key),
            domains,
            log,
            metrics: metrics.clone(),
        };
        Self { surface: Arc::new(surface), mirror, metrics }
    }

    /// Every operation of the context.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        http::operations(&self.surface)
    }

    /// Adds the background work: the sequencer, the mirror and the verification. From then on the log nudges the sequencer
    /// of this process.
    pub fn add_tasks(&mut self, tasks: &mut Tasks) {
        let log = &self.surface.log;
        let sequencer = Sequencer::new(Arc::clone(log), self.metrics.clone());
        log.attach(tasks.add(Arc::new(sequencer), Sequencer::schedule()));
        let mirror = MirrorTask::new(Arc::clone(log), self.mirror.take(), self.metrics.clone());
        tasks.add(Arc::new(mirror), MirrorTask::schedule());
        let verify = VerifyTask::new(Arc::clone(&self.surface.verifier), Arc::clone(log.clock()));
        tasks.add(Arc::new(verify), VerifyTask::schedule());
    }

    /// Verifies chains.
    #[must_use]
    pub fn verifier(&self) -> Arc<ChainVerifier> {
        Arc::clone(&self.surface.verifier)
    }

    /// Erases identities.
    #[must_use]
    pub fn eraser(&self) -> Eraser {
        self.surface.eraser.clone()
    }

    /// The sequencer by itself, for tests and measurements that drive it by hand.
    #[doc(hidden)]
    #[must_use]
    pub fn sequencer(&self) -> Sequencer {
        Sequencer::new(Arc::clone(&self.surface.log), self.metrics.clone())
    }

    /// The mirror by itself, as [`Self::sequencer`].
    #[doc(hidden)]
    #[must_use]
    pub fn mirror(&self, place: Option<MirrorPlace>) -> MirrorTask {
        MirrorTask::new(Arc::clone(&self.surface.log), place, self.metrics.clone())
    }

    /// The verification by itself, as [`Self::sequencer`].
    #[doc(hidden)]
    #[must_use]
    pub fn verify_task(&self) -> VerifyTask {
        VerifyTask::new(Arc::clone(&self.surface.verifier), Arc::clone(self.surface.log.clock()))
    }
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Audit")
    }
}
