//! Named probes that gate readiness.

use std::sync::Arc;

use parking_lot::RwLock;

/// What a probe last said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The probe's name: `^[a-z][a-z0-9-]{1,62}$`.
    pub name: &'static str,
    /// Whether it passes.
    pub ready: bool,
    /// One phrase, public: no host names, addresses or user names.
    pub detail: String,
}

/// The register of probes. A probe is pending, which counts as failing, until it first reports.
#[derive(Clone, Debug, Default)]
pub struct Probes {
    readings: Arc<RwLock<Vec<Reading>>>,
}

/// One probe's end of the register.
#[derive(Clone, Debug)]
pub struct Probe {
    name: &'static str,
    register: Probes,
}

impl Probes {
    /// Registers a probe before the listener starts. Registering a name again returns the same probe.
    #[must_use]
    pub fn register(&self, name: &'static str) -> Probe {
        let mut readings = self.readings.write();
        if !readings.iter().any(|reading| reading.name == name) {
            readings.push(Reading { name, ready: false, detail: "pending".to_owned() });
        }
        Probe { name, register: self.clone() }
    }

    /// Every probe in the order of registration.
    #[must_use]
    pub fn readings(&self) -> Vec<Reading> {
        self.readings.read().clone()
    }

    /// Whether every probe passes.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.readings.read().iter().all(|reading| reading.ready)
    }
}

impl Probe {
    /// Reports that the probe passes.
    pub fn pass(&self, detail: impl Into<String>) {
        self.set(true, detail.into());
    }

    /// Reports that the probe fails.
    pub fn fail(&self, detail: impl Into<String>) {
        self.set(false, detail.into());
    }

    fn set(&self, ready: bool, detail: String) {
        let mut readings = self.register.readings.write();
        if let Some(reading) = readings.iter_mut().find(|reading| reading.name == self.name) {
            reading.ready = ready;
            reading.detail = detail;
        }
    }
}
