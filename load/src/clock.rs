//! The one place that reads the wall clock.

use plexsphere_wire::Timestamp;

/// The time of this machine. A Node lives by its own clock: the platform judges skew, not the Node.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this is the clock that everything else here takes its time from")]
pub fn now() -> Timestamp {
    Timestamp::new(time::OffsetDateTime::now_utc())
}

/// Microseconds of UNIX time, by which processes of one machine compare moments.
#[must_use]
pub fn unix_micros() -> u64 {
    u64::try_from(now().unix_nanos() / 1_000).unwrap_or(0)
}
