//! The two clocks of an edge: the calendar and the one that never jumps.

use std::time::{Duration, Instant};

use plexsphere_wire::Timestamp;

/// Where an edge takes the time from, so that a test can drive it.
pub trait Clock: Send + Sync + 'static {
    /// The calendar time in UTC.
    fn now(&self) -> Timestamp;

    /// Time since some fixed point of this process; never goes back.
    fn monotonic(&self) -> Duration;
}

/// The clocks of the operating system.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everything else asks")]
    fn now(&self) -> Timestamp {
        Timestamp::new(time::OffsetDateTime::now_utc())
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}
