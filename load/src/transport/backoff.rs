//! How long an agent waits before it tries again.

use std::time::Duration;

use rand::Rng as _;

/// The numbers of a [`Backoff`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// The first wait.
    pub first: Duration,
    /// The longest wait before jitter.
    pub longest: Duration,
    /// How far a wait may lie off, in percent to either side.
    pub jitter_percent: u32,
}

impl Default for BackoffPolicy {
    /// The agent's: 1 s doubling to 60 s, ±25 %.
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_secs(60), jitter_percent: 25 }
    }
}

/// A doubling wait with jitter.
#[derive(Clone, Debug)]
pub struct Backoff {
    policy: BackoffPolicy,
    next: Duration,
}

impl Backoff {
    /// Starts at the policy's first wait.
    #[must_use]
    pub const fn new(policy: BackoffPolicy) -> Self {
        Self { policy, next: policy.first }
    }

    /// The next wait; the one after it is twice as long, up to the longest.
    pub fn wait(&mut self) -> Duration {
        let base = self.next;
        self.next = base.saturating_mul(2).min(self.policy.longest);
        let spread = self.policy.jitter_percent.min(100);
        let percent = rand::rng().random_range(100 - spread..=100 + spread);
        base.saturating_mul(percent) / 100
    }

    /// Back to the first wait.
    pub const fn reset(&mut self) {
        self.next = self.policy.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_stay_within_the_jitter() {
        let mut backoff = Backoff::new(BackoffPolicy::default());
        for expected in [1u64, 2, 4, 8, 16, 32, 60, 60] {
            let wait = backoff.wait().as_millis();
            let centre = u128::from(expected) * 1_000;
            assert!((centre * 75 / 100..=centre * 125 / 100).contains(&wait), "{wait} around {centre}");
        }
        backoff.reset();
        assert!(backoff.wait() <= Duration::from_millis(1_250));
    }
}
