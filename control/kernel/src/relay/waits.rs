//! Which Domains rest, and until when: pure arithmetic on the time since the relay began.

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wait {
    until: Duration,
    failures: u32,
}

/// Domains that are passed over for now.
#[derive(Clone, Debug, Default)]
pub(super) struct Waits {
    domains: HashMap<Uuid, Wait>,
}

impl Waits {
    /// The Domain failed; its pause doubles from 100 ms to 30 s.
    pub(super) fn failed(&mut self, domain: Uuid, now: Duration) -> Duration {
        let wait = self.domains.entry(domain).or_default();
        let pause = FIRST_PAUSE.saturating_mul(1u32 << wait.failures.min(10)).min(LONGEST_PAUSE);
        wait.failures = wait.failures.saturating_add(1);
        wait.until = now + pause;
        pause
    }

    /// The Domain's next broadcast waits for company until then.
    pub(super) fn hold(&mut self, domain: Uuid, until: Duration) {
        self.domains.entry(domain).or_default().until = until;
    }

    /// The Domain published what it had. A hold stays.
    pub(super) fn succeeded(&mut self, domain: Uuid) {
        if let Some(wait) = self.domains.get_mut(&domain) {
            wait.failures = 0;
        }
    }

    /// Who is passed over at `now`. Forgets who neither waits nor has failed.
    pub(super) fn blocked(&mut self, now: Duration) -> Vec<Uuid> {
        self.domains.retain(|_, wait| wait.until > now || wait.failures > 0);
        self.domains.iter().filter(|(_, wait)| wait.until > now).map(|(domain, _)| *domain).collect()
    }

    /// How long until the first of them is due.
    pub(super) fn next(&self, now: Duration) -> Option<Duration> {
        self.domains.values().filter(|wait| wait.until > now).map(|wait| wait.until - now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_domain_pauses_from_a_tenth_of_a_second_to_half_a_minute() {
        let mut waits = Waits::default();
        let domain = Uuid::from_u128(1);
        let mut now = Duration::ZERO;
        let pauses: Vec<u128> = (0..11)
            .map(|_| {
                let pause = waits.failed(domain, now);
                assert_eq!(waits.blocked(now), [domain]);
                now += pause;
                assert!(waits.blocked(now).is_empty());
                pause.as_millis()
            })
            .collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
        waits.succeeded(domain);
        assert_eq!(waits.failed(domain, now), FIRST_PAUSE);
    }

    #[test]
    fn a_hold_blocks_one_domain_and_names_the_next_wake() {
        let mut waits = Waits::default();
        waits.hold(Uuid::from_u128(1), Duration::from_secs(3));
        waits.hold(Uuid::from_u128(2), Duration::from_secs(2));
        assert_eq!(waits.next(Duration::from_secs(1)), Some(Duration::from_secs(1)));
        assert_eq!(waits.blocked(Duration::from_secs(2)), [Uuid::from_u128(1)]);
        assert!(waits.blocked(Duration::from_secs(3)).is_empty());
        assert_eq!(waits.next(Duration::from_secs(3)), None);
    }
}
