//! Where the tier takes the time from.

use std::sync::Arc;

use plexsphere_wire::Timestamp;

/// A source of the current time that a test can replace.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The machine's clock.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everything else is told to use")]
    pub fn system() -> Self {
        Self(Arc::new(|| Timestamp::new(time::OffsetDateTime::now_utc())))
    }

    /// A clock of the caller's choice.
    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The current time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}
