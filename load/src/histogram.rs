//! Latencies in buckets whose width grows with the value: every figure is within 1.6 % of the truth.

mod sparse;

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Buckets per power of two.
const SUB_BUCKETS: u64 = 64;
const SUB_BITS: u32 = SUB_BUCKETS.trailing_zeros();
/// Room for every `u64` of microseconds.
const BUCKETS: usize = 64 * 60;

/// A histogram of durations, in microseconds.
#[derive(Clone, Serialize, Deserialize)]
pub struct Histogram {
    #[serde(with = "sparse")]
    counts: Vec<u64>,
    total: u64,
    max_micros: u64,
    sum_micros: u128,
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Histogram").field("total", &self.total).field("max_micros", &self.max_micros).finish()
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max_micros: 0, sum_micros: 0 }
    }
}

fn bucket(micros: u64) -> usize {
    let shift = (u64::BITS - micros.leading_zeros()).saturating_sub(SUB_BITS + 1);
    let within = micros >> shift;
    usize::try_from(u64::from(shift) * SUB_BUCKETS + within).unwrap_or(usize::MAX)
}

/// The largest value of a bucket.
fn upper(index: usize) -> u64 {
    let index = u64::try_from(index).unwrap_or(0);
    let shift = (index / SUB_BUCKETS).saturating_sub(1);
    let within = index - shift * SUB_BUCKETS;
    ((within + 1) << shift) - 1
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX >> 5).min(u64::MAX >> 5);
        if let Some(count) = self.counts.get_mut(bucket(micros)) {
            *count += 1;
        }
        self.total += 1;
        self.max_micros = self.max_micros.max(micros);
        self.sum_micros += u128::from(micros);
    }

    /// Adds what another one counted.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.max_micros = self.max_micros.max(other.max_micros);
        self.sum_micros += other.sum_micros;
    }

    /// How many durations were counted.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.total
    }

    /// The longest duration.
    #[must_use]
    pub const fn max(&self) -> Duration {
        Duration::from_micros(self.max_micros)
    }

    /// The mean; zero when nothing was counted.
    #[must_use]
    pub fn mean(&self) -> Duration {
        let mean = self.sum_micros.checked_div(u128::from(self.total)).unwrap_or(0);
        Duration::from_micros(u64::try_from(mean).unwrap_or(u64::MAX))
    }

    /// The duration that `per_mille` of a thousand do not exceed; zero when nothing was counted.
    #[must_use]
    pub fn per_mille(&self, per_mille: u64) -> Duration {
        let wanted = (u128::from(self.total) * u128::from(per_mille.min(1_000))).div_ceil(1_000).max(1);
        let mut seen = 0u128;
        for (index, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= wanted {
                return Duration::from_micros(upper(index).min(self.max_micros));
            }
        }
        self.max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_within_the_stated_error() {
        for micros in (0..100_000u64).chain((1..40).map(|power| (1u64 << power) + 12_345)) {
            let upper = upper(bucket(micros));
            assert!(upper >= micros, "{micros} above {upper}");
            assert!((upper - micros) * 1_000 <= micros * 16, "{micros} against {upper}");
        }
    }

    #[test]
    fn percentiles_mean_and_maximum_are_those_of_the_values() {
        let mut histogram = Histogram::default();
        for millis in 1..=1_000 {
            histogram.record(Duration::from_millis(millis));
        }
        let near = |duration: Duration, millis: u64| {
            duration.as_millis().abs_diff(u128::from(millis)) * 60 <= u128::from(millis)
        };
        assert!(near(histogram.per_mille(500), 500));
        assert!(near(histogram.per_mille(990), 990));
        assert_eq!(histogram.per_mille(1_000), Duration::from_secs(1));
        assert_eq!(histogram.mean(), Duration::from_micros(500_500));
        assert_eq!(Histogram::default().per_mille(990), Duration::ZERO);
        let mut doubled = histogram.clone();
        doubled.merge(&histogram);
        assert_eq!((doubled.count(), doubled.per_mille(500)), (2_000, histogram.per_mille(500)));
    }
}
