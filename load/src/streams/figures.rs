//! What a rig prints: figures, some with a mark beside them.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// One measured figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// What it is to stay at or below.
    pub mark: Option<f64>,
}

/// A count to reckon with.
#[allow(clippy::cast_precision_loss, reason = "figures for people")]
pub(super) const fn real(count: u64) -> f64 {
    count as f64
}

impl Figure {
    /// A figure without a mark.
    #[must_use]
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, mark: None }
    }

    /// A count.
    #[must_use]
    pub fn count(name: impl Into<String>, value: u64) -> Self {
        Self::new(name, real(value), "")
    }

    /// A duration, in milliseconds.
    #[must_use]
    pub fn millis(name: impl Into<String>, value: Duration) -> Self {
        Self::new(name, value.as_secs_f64() * 1_000.0, "ms")
    }

    /// The same figure with a mark that it is not to exceed.
    #[must_use]
    pub fn at_most(mut self, mark: f64) -> Self {
        self.mark = Some(mark);
        self
    }

    /// Whether it keeps its mark; one without a mark does.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.mark.is_none_or(|mark| self.value <= mark)
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: f64| if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.3}") };
        let unit = if self.unit.is_empty() { String::new() } else { format!(" {}", self.unit) };
        write!(f, "{}: {}{unit}", self.name, number(self.value))?;
        match self.mark {
            Some(mark) => write!(f, " (mark {}: {})", number(mark), if self.holds() { "ok" } else { "MISSED" }),
            None => Ok(()),
        }
    }
}

/// A value of which `per_mille` of a thousand are not larger; 0 of none.
#[must_use]
pub fn per_mille(sorted: &[u64], per_mille: usize) -> u64 {
    let place = (sorted.len() * per_mille).div_ceil(1_000).saturating_sub(1);
    sorted.get(place).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_says_whether_it_keeps_its_mark() {
        assert_eq!(Figure::new("memory", 2.25, "KB").at_most(2.5).to_string(), "memory: 2.250 KB (mark 2.500: ok)");
        assert_eq!(Figure::count("events", 3).at_most(2.0).to_string(), "events: 3 (mark 2: MISSED)");
        assert_eq!(Figure::millis("connect", Duration::from_micros(1_500)).to_string(), "connect: 1.500 ms");
    }

    #[test]
    fn a_share_is_counted_from_the_smallest() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!([per_mille(&hundred, 990), per_mille(&hundred, 1), per_mille(&hundred, 1_000)], [99, 1, 100]);
        assert_eq!(per_mille(&[], 990), 0);
    }
}
