//! When a shard's batch leaves: at once when the shard was idle, else once per window, and always when it is full, by
//! number or by bytes.

use std::collections::VecDeque;
use std::time::Duration;

use plexsphere_wire::heartbeat::{MAX_BATCH, MAX_BATCH_BYTES};

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

/// What a batch costs beside its entries, encoded, in bytes.
const ENVELOPE_BYTES: usize = 64;

/// The pure part of a shard.
#[derive(Debug)]
pub struct Coalescer<T> {
    window: Duration,
    waiting: VecDeque<(T, usize)>,
    bytes: usize,
    last: Option<Duration>,
}

impl<T> Coalescer<T> {
    /// Batches at least `window` apart unless full.
    #[must_use]
    pub const fn new(window: Duration) -> Self {
        Self { window, waiting: VecDeque::new(), bytes: 0, last: None }
    }

    /// One more waits, of so many bytes in a batch.
    pub fn push(&mut self, item: T, bytes: usize) {
        self.bytes += bytes;
        self.waiting.push_back((item, bytes));
    }

    /// What is due at `now`.
    pub fn poll(&mut self, now: Duration) -> Due<T> {
        if self.waiting.is_empty() {
            return Due::Never;
        }
        let next = self.last.map_or(Duration::ZERO, |last| last + self.window);
        let full = self.waiting.len() >= MAX_BATCH || self.bytes + ENVELOPE_BYTES > MAX_BATCH_BYTES;
        if now < next && !full {
            return Due::In(next - now);
        }
        self.last = Some(now);
        Due::Now(self.batch())
    }

    /// The first that fit together; a single one always leaves, for nothing smaller can be made of it.
    fn batch(&mut self) -> Vec<T> {
        let (mut batch, mut total) = (Vec::new(), ENVELOPE_BYTES);
        while let Some((_, bytes)) = self.waiting.front()
            && batch.len() < MAX_BATCH
            && (batch.is_empty() || total + bytes <= MAX_BATCH_BYTES)
        {
            let Some((item, bytes)) = self.waiting.pop_front() else { break };
            total += bytes;
            self.bytes -= bytes;
            batch.push(item);
        }
        batch
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
        shard.push(1, 10);
        assert_eq!(shard.poll(Duration::from_millis(100)), Due::Now(vec![1]));
        shard.push(2, 10);
        assert_eq!(shard.poll(Duration::from_millis(300)), Due::In(Duration::from_millis(800)));
        shard.push(3, 10);
        assert_eq!(shard.poll(Duration::from_millis(1_100)), Due::Now(vec![2, 3]));
    }

    #[test]
    fn a_full_batch_does_not_wait() {
        let mut shard = Coalescer::new(WINDOW);
        shard.push(0, 10);
        assert!(matches!(shard.poll(Duration::ZERO), Due::Now(_)));
        (0..MAX_BATCH + 1).for_each(|item| shard.push(item, 10));
        assert!(matches!(shard.poll(Duration::from_millis(1)), Due::Now(batch) if batch.len() == MAX_BATCH));
        assert!(matches!(shard.poll(Duration::from_millis(1)), Due::In(_)));
    }

    #[test]
    fn a_batch_that_is_full_by_bytes_does_not_wait_and_is_never_larger() {
        let mut shard = Coalescer::new(WINDOW);
        shard.push(0, 10);
        assert!(matches!(shard.poll(Duration::ZERO), Due::Now(_)));
        let bytes = 300 * 1024;
        (1..=3).for_each(|item| shard.push(item, bytes));
        assert!(matches!(shard.poll(Duration::from_millis(1)), Due::In(_)), "three fit");
        (4..=7).for_each(|item| shard.push(item, bytes));
        assert_eq!(shard.poll(Duration::from_millis(1)), Due::Now(vec![1, 2, 3]));
        assert_eq!(shard.poll(Duration::from_millis(1)), Due::Now(vec![4, 5, 6]));
        assert!(matches!(shard.poll(Duration::from_millis(1)), Due::In(_)), "the last one waits for others");
        shard.push(8, MAX_BATCH_BYTES * 2);
        assert_eq!(shard.poll(Duration::from_millis(1)), Due::Now(vec![7]));
        assert_eq!(shard.poll(Duration::from_millis(1)), Due::Now(vec![8]), "alone, for it fits with nobody");
        assert_eq!(shard.poll(Duration::from_secs(9)), Due::Never);
    }
}
