//! One timer wheel for all streams: a slot per tick, entries of later rounds stay in their slot. Pure: takes `now`.

use std::time::Duration;

const SLOTS: usize = 512;
const TICK_MILLIS: u64 = 100;

/// The wheel. Entries fire at most one tick late.
#[derive(Debug)]
pub struct Wheel<T> {
    slots: Vec<Vec<(u64, T)>>,
    next_tick: u64,
}

impl<T> Wheel<T> {
    /// How often [`Wheel::advance`] wants to be called.
    pub const TICK: Duration = Duration::from_millis(TICK_MILLIS);

    /// An empty wheel that begins at `now`.
    #[must_use]
    pub fn new(now: Duration) -> Self {
        Self { slots: std::iter::repeat_with(Vec::new).take(SLOTS).collect(), next_tick: tick_of(now) }
    }

    /// Fires `item` at `at`, or with the next advance when that is past.
    pub fn schedule(&mut self, at: Duration, item: T) {
        let tick = (tick_of(at) + 1).max(self.next_tick);
        if let Some(slot) = self.slots.get_mut(slot_of(tick)) {
            slot.push((tick, item));
        }
    }

    /// How many entries wait.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.slots.iter().map(Vec::len).sum()
    }

    /// Takes out what is due at `now`.
    pub fn advance(&mut self, now: Duration) -> Vec<T> {
        let last = tick_of(now);
        let mut due = Vec::new();
        // After a long pause one round visits every slot once, which finds all that is due.
        let rounds = (last + 1).saturating_sub(self.next_tick).min(SLOTS as u64);
        for tick in self.next_tick..self.next_tick + rounds {
            let Some(slot) = self.slots.get_mut(slot_of(tick)) else { continue };
            due.extend(slot.extract_if(.., |(at, _)| *at <= last).map(|(_, item)| item));
        }
        self.next_tick = self.next_tick.max(last + 1);
        due
    }
}

fn tick_of(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 2) / TICK_MILLIS
}

fn slot_of(tick: u64) -> usize {
    usize::try_from(tick % SLOTS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn everything_fires_once_never_early_and_at_most_two_ticks_late(
            steps in prop::collection::vec((0u64..200_000, 0u64..90_000), 1..80)
        ) {
            let mut wheel = Wheel::new(Duration::ZERO);
            let mut now = 0;
            let mut waiting: Vec<(u64, usize)> = Vec::new();
            for (index, (delay, step)) in steps.into_iter().enumerate() {
                wheel.schedule(Duration::from_millis(now + delay), index);
                waiting.push((now + delay, index));
                now += step;
                for fired in wheel.advance(Duration::from_millis(now)) {
                    let place = waiting.iter().position(|(_, item)| *item == fired).expect("fires once");
                    prop_assert!(waiting.swap_remove(place).0 <= now);
                }
                prop_assert!(waiting.iter().all(|(at, _)| at + 2 * TICK_MILLIS > now));
            }
        }
    }
}
