//! When a shard's batch leaves: at once when the shard was idle, else once per window, and always when it is full.

use std::time::Duration;

use plexsphere_wire::heartbeat::MAX_BATCH;

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Due<T> {
    /// Send these.
    Now(Vec<T>),
    /// Ask again after this time.
    In(Duration),
    /// Nothing waits.
    Never,
}

/// The pure part of a shard.
#[derive(Debug)]
pub struct Coalescer<T> {
    window: Duration,
    waiting: Vec<T>,
    last: Option<Duration>,
}

impl<T> Coalescer<T> {
    /// Batches at least `window` apart unless full.
    #[must_use]
    pub const fn new(window: Duration) -> Self {
        Self { window, waiting: Vec::new(), last: None }
    }

    /// One more waits.
    pub fn push(&mut self, item: T) {
        self.waiting.push(item);
    }

    /// What is due at `now`.
    pub fn poll(&mut self, now: Duration) -> Due<T> {
        if self.waiting.is_empty() {
            return Due::Never;
        }
        let next = self.last.map_or(Duration::ZERO, |last| last + self.window);
        if now < next && self.waiting.len() < MAX_BATCH {
            return Due::In(next - now);
        }
        self.last = Some(now);
        let rest = self.waiting.split_off(self.waiting.len().min(MAX_BATCH));
        Due::Now(std::mem::replace(&mut self.waiting, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_leaves_at_once_and_the_next_ones_together() {
        let mut shard = Coalescer::new(WINDOW);
        assert_eq!(shard.poll(Duration::ZERO), Due::Never);
        shard.push(1);
        assert_eq!(shard.poll(Duration::from_millis(100)), Due::Now(vec![1]));
        shard.push(2);
        assert_eq!(shard.poll(Duration::from_millis(300)), Due::In(Duration::from_millis(800)));
        shard.push(3);
        assert_eq!(shard.poll(Duration::from_millis(1_100)), Due::Now(vec![2, 3]));
    }

    #[test]
    fn a_full_batch_does_not_wait() {
        let mut shard = Coalescer::new(WINDOW);
        shard.push(0);
        assert!(matches!(shard.poll(Duration::ZERO), Due::Now(_)));
        (0..MAX_BATCH + 1).for_each(|item| shard.push(item));
        assert!(matches!(shard.poll(Duration::from_millis(1)), Due::Now(batch) if batch.len() == MAX_BATCH));
        assert!(matches!(shard.poll(Duration::from_millis(1)), Due::In(_)));
    }
}
