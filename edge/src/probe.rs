//! Named conditions of readiness, as the operations listener of the program reads them.

use std::sync::Arc;

use parking_lot::Mutex;

/// A named condition. Its owner publishes the state; asking costs nothing. Fails until it first passes.
#[derive(Debug)]
pub struct Probe {
    name: &'static str,
    state: Mutex<(bool, String)>,
}

impl Probe {
    /// A probe that has not passed yet; the name matches `^[a-z][a-z0-9-]{1,62}$`.
    #[must_use]
    pub fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self { name, state: Mutex::new((false, "pending".into())) })
    }

    /// The condition holds.
    pub fn pass(&self, detail: &str) {
        *self.state.lock() = (true, detail.to_owned());
    }

    /// The condition does not hold.
    pub fn fail(&self, detail: &str) {
        *self.state.lock() = (false, detail.to_owned());
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the condition holds, and one phrase about it.
    #[must_use]
    pub fn reading(&self) -> (bool, String) {
        self.state.lock().clone()
    }

    /// Whether the condition holds.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.state.lock().0
    }
}
