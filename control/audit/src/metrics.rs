//! What the context counts.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    chained: Counter,
    oldest: Gauge<f64, AtomicU64>,
    verified: Counter,
    divergent: Gauge,
    mirrored: Counter,
    mirror_failures: Counter,
    unknown_reasons: Counter,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("plexsphere_control_audit_chained_rows", "Audit rows chained", metrics.chained.clone());
        registry.register(
            "plexsphere_control_audit_oldest_pending_seconds",
            "How long the oldest audit row has waited to be chained",
            metrics.oldest.clone(),
        );
        registry.register("plexsphere_control_audit_verified_rows", "Audit rows verified", metrics.verified.clone());
        registry.register(
            "plexsphere_control_audit_divergent_chains",
            "Audit chains that did not hold when they were last verified",
            metrics.divergent.clone(),
        );
        registry.register(
            "plexsphere_control_audit_mirrored_rows",
            "Audit rows whose copy the object store has confirmed",
            metrics.mirrored.clone(),
        );
        registry.register(
            "plexsphere_control_audit_mirror_failures",
            "Uploads of audit segments that failed",
            metrics.mirror_failures.clone(),
        );
        registry.register(
            "plexsphere_control_audit_unknown_reasons",
            "Entries that were shown with a reason outside the closed set",
            metrics.unknown_reasons.clone(),
        );
        metrics
    }

    pub(crate) fn chained(&self, rows: u64) {
        self.chained.inc_by(rows);
    }

    pub(crate) fn oldest_pending(&self, age: Duration) {
        self.oldest.set(age.as_secs_f64());
    }

    pub(crate) fn verified(&self, rows: i64) {
        self.verified.inc_by(u64::try_from(rows).unwrap_or(0));
    }

    pub(crate) fn divergent_chains(&self, count: i64) {
        self.divergent.set(count);
    }

    pub(crate) fn mirrored(&self, rows: i64) {
        self.mirrored.inc_by(u64::try_from(rows).unwrap_or(0));
    }

    pub(crate) fn unknown_reason(&self) {
        self.unknown_reasons.inc();
    }

    pub(crate) fn mirror_failed(&self) {
        self.mirror_failures.inc();
    }
}
