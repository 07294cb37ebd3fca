//! The per-address throttle of anonymous operations: a token bucket per address, in one number each (GCRA).

use std::collections::HashMap;
use std::net::IpAddr;

use parking_lot::Mutex;
use plexsphere_wire::{Code, Problem, Timestamp};

/// The most addresses that are remembered; full buckets are forgotten first.
const MAX_ADDRESSES: usize = 100_000;

/// Admits `burst` requests at once and one more every `interval_ms` per address (IPv6: per /64).
#[derive(Debug)]
pub struct Throttle {
    interval_ms: i64,
    tolerance_ms: i64,
    arrivals: Mutex<HashMap<String, i64>>,
}

impl Default for Throttle {
    /// 60 requests a minute, burst 20.
    fn default() -> Self {
        Self::new(1_000, 20)
    }
}

impl Throttle {
    /// One request per `interval_ms` in the long run, `burst` at once.
    #[must_use]
    pub fn new(interval_ms: i64, burst: i64) -> Self {
        Self { interval_ms, tolerance_ms: interval_ms * (burst - 1).max(0), arrivals: Mutex::new(HashMap::new()) }
    }

    /// Admits a request from `address`, or says when to come back.
    ///
    /// # Errors
    /// 429 `rate_limited` with `Retry-After`.
    pub fn admit(&self, address: &str, now: Timestamp) -> Result<(), Problem> {
        let now_ms = i64::try_from(now.unix_nanos() / 1_000_000).unwrap_or(i64::MAX);
        let mut arrivals = self.arrivals.lock();
        if arrivals.len() >= MAX_ADDRESSES {
            arrivals.retain(|_, arrival| *arrival > now_ms);
        }
        let arrival = arrivals.entry(network(address)).or_insert(now_ms);
        let theoretical = (*arrival).max(now_ms);
        let wait_ms = theoretical - self.tolerance_ms - now_ms;
        if wait_ms > 0 {
            let seconds = u64::try_from((wait_ms + 999) / 1_000).unwrap_or(1);
            return Err(Problem::new(Code::RateLimited, "Too many requests from this address.").retry_after(seconds));
        }
        *arrival = theoretical + self.interval_ms;
        Ok(())
    }
}

fn network(address: &str) -> String {
    match address.parse() {
        Ok(IpAddr::V6(v6)) => v6.segments().iter().take(4).map(|segment| format!("{segment:x}:")).collect(),
        Ok(IpAddr::V4(_)) | Err(_) => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_burst_passes_the_next_waits_and_another_address_is_untouched() {
        let throttle = Throttle::new(1_000, 3);
        let now = Timestamp::from_unix_seconds(1_700_000_000);
        for _ in 0..3 {
            throttle.admit("2001:db8::1", now).unwrap();
        }
        let refusal = throttle.admit("2001:db8::2", now).unwrap_err();
        assert_eq!(refusal.code(), Code::RateLimited);
        assert_eq!(refusal.retry_after_seconds(), Some(1));
        throttle.admit("2001:db8:0:1::1", now).unwrap();
        throttle.admit("2001:db8::1", now.plus(Duration::from_secs(1))).unwrap();
    }
}
