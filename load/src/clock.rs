//! The one place that reads the wall clock.

use plexsphere_wire::Timestamp;

/// The time of this machine. A Node lives by its own clock: the platform judges skew, not the Node.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this is the clock that everything else here takes its time from")]
pub fn now() -> Timestamp {
    Timestamp::new(time::OffsetDateTime::now_utc())
}
