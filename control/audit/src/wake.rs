//! When the sequencer looks next.
//!
//! A row is enlisted before its transaction commits, and nobody says when that happens. So the sequencer is woken by the
//! first row, and looks again after as long as has passed since the last one: a row whose transaction commits `t` after
//! it was enlisted is seen within `2 t`, and a silent log costs next to nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use plexsphere_kernel::tasks::TaskHandle;

/// The shortest pause between two looks: rows that come in between share a batch.
const SHORTEST: Duration = Duration::from_millis(5);
/// The pause while nothing happens.
pub(crate) const POLL: Duration = Duration::from_secs(1);

pub(crate) struct Wake {
    began: Instant,
    /// Microseconds since `began`; 0 before the first row.
    last: AtomicU64,
    /// Whether the sequencer pauses so long that it has to be woken.
    asleep: AtomicBool,
    sequencer: RwLock<Option<TaskHandle>>,
}

impl Default for Wake {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            last: AtomicU64::new(0),
            asleep: AtomicBool::new(true),
            sequencer: RwLock::default(),
        }
    }
}

impl Wake {
    pub(crate) fn attach(&self, sequencer: TaskHandle) {
        *self.sequencer.write() = Some(sequencer);
        self.asleep.store(true, Ordering::Release);
    }

    /// A row was enlisted; `false` when this process has no sequencer that could be woken.
    pub(crate) fn enlisted(&self) -> bool {
        let now = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
        self.last.store(now, Ordering::Release);
        let sequencer = self.sequencer.read();
        let Some(sequencer) = sequencer.as_ref() else { return false };
        if self.asleep.swap(false, Ordering::AcqRel) {
            sequencer.nudge();
        }
        true
    }

    /// Somebody waits.
    pub(crate) fn now(&self) {
        if let Some(sequencer) = self.sequencer.read().as_ref() {
            sequencer.nudge();
        }
    }

    /// How long to pause behind a look that found everything done.
    pub(crate) fn pause(&self) -> Duration {
        self.asleep.store(false, Ordering::Release);
        let last = self.last.load(Ordering::Acquire);
        let age = if last == 0 { POLL } else { self.began.elapsed().saturating_sub(Duration::from_micros(last)) };
        let pause = age.clamp(SHORTEST, POLL);
        if pause > 2 * SHORTEST {
            self.asleep.store(true, Ordering::Release);
            // A row that came between the two lines above found nobody asleep; it is not to wait for the whole pause.
            if self.last.load(Ordering::Acquire) != last {
                return SHORTEST;
            }
        }
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_row_is_looked_for_at_once_and_a_silent_log_is_polled() {
        let wake = Wake::default();
        assert_eq!(wake.pause(), POLL);
        assert!(!wake.enlisted(), "there is no sequencer to be woken");
        assert!(wake.pause() < POLL / 10);
    }
}
