//! The generic cell rate algorithm in one atomic word.
//!
//! The word is the *theoretical arrival time*: the moment at which the budget would be full again. What is missing from
//! a full budget is therefore `arrival − now`, and a charge moves the arrival by the time that its bytes take to refill.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Refill and capacity of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    bytes_per_second: u64,
    burst_nanos: u64,
}

impl Rate {
    /// A budget that refills `bytes_per_second` (at least 1) and holds `burst_bytes`.
    #[must_use]
    pub fn new(bytes_per_second: u64, burst_bytes: u64) -> Self {
        let bytes_per_second = bytes_per_second.max(1);
        Self { bytes_per_second, burst_nanos: nanos_of(burst_bytes, bytes_per_second) }
    }

    fn nanos(self, bytes: u64) -> u64 {
        nanos_of(bytes, self.bytes_per_second)
    }
}

fn nanos_of(bytes: u64, bytes_per_second: u64) -> u64 {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_second);
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

/// One budget. Starts full.
#[derive(Debug, Default)]
pub struct Gcra {
    arrival_nanos: AtomicU64,
}

impl Gcra {
    /// A full budget.
    #[must_use]
    pub const fn new() -> Self {
        Self { arrival_nanos: AtomicU64::new(0) }
    }

    /// Takes `bytes` at once, or nothing.
    ///
    /// # Errors
    /// How long until the same charge would pass.
    pub fn charge(&self, rate: Rate, bytes: u64, now: Duration) -> Result<(), Duration> {
        let now = nanos(now);
        let cost = rate.nanos(bytes);
        let mut seen = self.arrival_nanos.load(Ordering::Relaxed);
        loop {
            let next = seen.max(now).saturating_add(cost);
            let missing = next - now;
            if missing > rate.burst_nanos {
                return Err(Duration::from_nanos(missing - rate.burst_nanos));
            }
            match self.arrival_nanos.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(current) => seen = current,
            }
        }
    }

    /// Gives `bytes` back; a full budget stays full.
    pub fn refund(&self, rate: Rate, bytes: u64) {
        let cost = rate.nanos(bytes);
        let back = |arrival: u64| Some(arrival.saturating_sub(cost));
        let _ = self.arrival_nanos.fetch_update(Ordering::Relaxed, Ordering::Relaxed, back);
    }

    /// Takes `bytes` that were spent elsewhere, even past empty, but never below one burst of debt.
    pub fn absorb(&self, rate: Rate, bytes: u64, now: Duration) {
        let now = nanos(now);
        let cost = rate.nanos(bytes);
        let floor = now.saturating_add(rate.burst_nanos.saturating_mul(2));
        let forward = |arrival: u64| Some(arrival.max(now).saturating_add(cost).min(floor.max(arrival)));
        let _ = self.arrival_nanos.fetch_update(Ordering::Relaxed, Ordering::Relaxed, forward);
    }

    /// Whether the budget has been full for at least `idle`.
    #[must_use]
    pub fn idle_since(&self, now: Duration, idle: Duration) -> bool {
        self.arrival_nanos.load(Ordering::Relaxed).saturating_add(nanos(idle)) <= nanos(now)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
