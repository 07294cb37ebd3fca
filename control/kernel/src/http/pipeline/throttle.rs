//! The throttle of anonymous operations and of rows about strangers: a token bucket per source, in one number each
//! (GCRA).

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};

use parking_lot::Mutex;
use plexsphere_wire::{Code, Problem, Timestamp};

/// The most sources of one generation; two are remembered, at about 2 MiB each.
const MAX_SOURCES: usize = 50_000;

/// Admits `burst` requests at once and one more every `interval_ms` per source. A source is an address, of IPv6 its /64,
/// alone or with more behind a `|`, such as `<address>|<code>`; any other text stands for itself.
///
/// What is remembered is bounded, and a request costs the same however much that is: sources that are seen move into the
/// young generation, and the old one is dropped whole when the young one is full or so old that every bucket in the old
/// one is full again. Only more than 50,000 sources within that time can make it forget one too early, and the price is
/// one burst for it.
#[derive(Debug)]
pub struct Throttle {
    interval_ms: i64,
    tolerance_ms: i64,
    hasher: RandomState,
    generations: Mutex<Generations>,
}

/// The theoretical arrival of each source's next request, by the hash of its text: no text is kept, however long.
#[derive(Debug, Default)]
struct Generations {
    young: HashMap<u64, i64>,
    old: HashMap<u64, i64>,
    young_since_ms: i64,
}

impl Default for Throttle {
    /// 60 requests a minute, burst 20.
    fn default() -> Self {
        Self::new(1_000, 20)
    }
}

// === impl Throttle ===

impl Throttle {
    /// One request per `interval_ms` in the long run, `burst` at once.
    #[must_use]
    pub fn new(interval_ms: i64, burst: i64) -> Self {
        let tolerance_ms = interval_ms.saturating_mul((burst - 1).max(0));
        Self { interval_ms, tolerance_ms, hasher: RandomState::new(), generations: Mutex::default() }
    }

    /// Admits a request from `source`, or says when to come back.
    ///
    /// # Errors
    /// 429 `rate_limited` with `Retry-After`.
    pub fn admit(&self, source: &str, now: Timestamp) -> Result<(), Problem> {
        let now_ms = i64::try_from(now.unix_nanos() / 1_000_000).unwrap_or(i64::MAX);
        let key = self.key(source);
        let mut generations = self.generations.lock();
        generations.age(now_ms, self.tolerance_ms.saturating_add(self.interval_ms));
        let arrival = generations.arrival(key, now_ms);
        let theoretical = (*arrival).max(now_ms);
        let wait_ms = theoretical - self.tolerance_ms - now_ms;
        if wait_ms > 0 {
            let seconds = u64::try_from((wait_ms + 999) / 1_000).unwrap_or(1);
            return Err(Problem::new(Code::RateLimited, "Too many requests from this address.").retry_after(seconds));
        }
        *arrival = theoretical.saturating_add(self.interval_ms);
        Ok(())
    }

    /// How many sources are remembered, at most 100,000.
    #[must_use]
    pub fn remembered(&self) -> usize {
        let generations = self.generations.lock();
        generations.young.len() + generations.old.len()
    }

    fn key(&self, source: &str) -> u64 {
        let (address, rest) = source.split_once('|').unwrap_or((source, ""));
        match address.parse().map(|address: IpAddr| address.to_canonical()) {
            Ok(IpAddr::V6(v6)) => self.hasher.hash_one((network(v6), rest)),
            Ok(v4) => self.hasher.hash_one((v4, rest)),
            Err(_) => self.hasher.hash_one((address, rest)),
        }
    }
}

// === impl Generations ===

impl Generations {
    /// Begins a generation when it is time: in one that is older than `recovery_ms`, so is each bucket of the one before.
    fn age(&mut self, now_ms: i64, recovery_ms: i64) {
        if self.young.len() >= MAX_SOURCES || now_ms.saturating_sub(self.young_since_ms) >= recovery_ms {
            self.old = std::mem::take(&mut self.young);
            self.young_since_ms = now_ms;
        }
    }

    /// The source's number, brought into the young generation.
    fn arrival(&mut self, key: u64, now_ms: i64) -> &mut i64 {
        let old = &mut self.old;
        self.young.entry(key).or_insert_with(|| old.remove(&key).unwrap_or(now_ms))
    }
}

/// The first 64 bits: what one subscriber has.
fn network(address: Ipv6Addr) -> u64 {
    u64::try_from(address.to_bits() >> 64).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn a_burst_passes_the_next_waits_and_another_address_is_untouched() {
        let throttle = Throttle::new(1_000, 3);
        for _ in 0..3 {
            throttle.admit("2001:db8::1", NOW).unwrap();
        }
        let refusal = throttle.admit("2001:db8::2", NOW).unwrap_err();
        assert_eq!(refusal.code(), Code::RateLimited);
        assert_eq!(refusal.retry_after_seconds(), Some(1));
        throttle.admit("2001:db8:0:1::1", NOW).unwrap();
        throttle.admit("2001:db8::1", NOW.plus(Duration::from_secs(1))).unwrap();
    }

    #[test]
    fn a_network_is_one_source_also_with_a_code_behind_it_and_mapped_addresses_are_many() {
        let throttle = Throttle::new(60_000, 1);
        throttle.admit("2001:db8::1|nsk_revoked", NOW).unwrap();
        assert!(throttle.admit("2001:db8::ffff:2|nsk_revoked", NOW).is_err());
        throttle.admit("2001:db8::1|token_expired", NOW).unwrap();
        throttle.admit("::ffff:192.0.2.1", NOW).unwrap();
        throttle.admit("::ffff:192.0.2.2", NOW).unwrap();
        assert!(throttle.admit("192.0.2.1", NOW).is_err(), "both spellings are one address");
    }

    #[test]
    fn what_is_remembered_and_what_a_request_costs_are_bounded() {
        let throttle = Throttle::new(60_000, 2);
        let begun = Instant::now();
        for n in 0..300_000_u32 {
            throttle.admit(&Ipv6Addr::from_bits(u128::from(n) << 64).to_string(), NOW).unwrap();
        }
        assert!(throttle.remembered() <= 2 * MAX_SOURCES, "{}", throttle.remembered());
        // A walk over all sources at each request would take minutes.
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_source_that_comes_back_is_known_across_generations_and_a_full_bucket_is_forgotten() {
        let throttle = Throttle::new(1_000, 20);
        for _ in 0..20 {
            throttle.admit("192.0.2.7", NOW).unwrap();
        }
        let seconds = |seconds| NOW.plus(Duration::from_secs(seconds));
        // One a second comes in for as long as it lasts, and not one more.
        for second in 1..=100 {
            throttle.admit("192.0.2.7", seconds(second)).unwrap();
            assert!(throttle.admit("192.0.2.7", seconds(second)).is_err(), "{second}");
        }
        throttle.admit("192.0.2.8", seconds(140)).unwrap();
        throttle.admit("192.0.2.8", seconds(180)).unwrap();
        assert_eq!(throttle.remembered(), 1);
    }
}
