//! When the sequencer looks next.
//!
//! A row is enlisted before its transaction commits, and nobody says when that happens. So the sequencer is woken by the
//! first row, and looks again after as long as has passed since the last one: a row whose transaction commits `t` after
//! it was enlisted is seen within `2 t` or the shortest pause, and a silent log costs next to nothing.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use plexsphere_kernel::tasks::TaskHandle;
use uuid::Uuid;

/// The shortest pause between two looks: rows that come in between share a batch, and the commits of batches do not compete
/// with those of the changes that are recorded. A reader that waits does not wait for its end.
const SHORTEST: Duration = Duration::from_millis(40);
/// The pause while nothing happens.
pub(crate) const POLL: Duration = Duration::from_secs(1);

/// Chains that are looked at by name; with more, the queue itself is asked which ones have rows.
const CHAINS: usize = 8;

/// Where the sequencer is to look.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// At the chains that rows were enlisted in since.
    At(Vec<Uuid>),
    /// Everywhere: rows of other processes, and once a second also of transactions that took their time.
    Everywhere {
        /// Whether to look for the latter.
        late: bool,
    },
}

/// Chains that rows were enlisted in: since the last look everywhere, and between the two before, for a row may have been
/// enlisted before a look and committed after it.
#[derive(Default)]
struct Chains {
    fresh: HashSet<Uuid>,
    before: HashSet<Uuid>,
}

pub(crate) struct Wake {
    began: Instant,
    chains: Mutex<Chains>,
    /// When the sequencer looked everywhere, in microseconds since `began`, plus one; 0 before it did.
    everywhere: AtomicU64,
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
            chains: Mutex::default(),
            everywhere: AtomicU64::new(0),
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

    /// Rows were enlisted in a chain; `false` when this process has no sequencer that could be woken.
    pub(crate) fn enlisted(&self, chain: Uuid) -> bool {
        let sequencer = self.sequencer.read();
        let Some(sequencer) = sequencer.as_ref() else { return false };
        let mut chains = self.chains.lock();
        if chains.fresh.len() <= CHAINS {
            chains.fresh.insert(chain);
        }
        drop(chains);
        self.last.store(self.micros(), Ordering::Release);
        if self.asleep.swap(false, Ordering::AcqRel) {
            sequencer.nudge();
        }
        true
    }

    /// Where to look now.
    pub(crate) fn look(&self) -> Look {
        let now = self.micros();
        let before = self.everywhere.load(Ordering::Acquire);
        let due = before == 0 || now.saturating_sub(before) >= u64::try_from(POLL.as_micros()).unwrap_or(u64::MAX);
        let mut chains = self.chains.lock();
        let named: HashSet<Uuid> = chains.fresh.union(&chains.before).copied().collect();
        if due {
            self.everywhere.store(now, Ordering::Release);
        }
        if due || named.is_empty() || named.len() > CHAINS {
            chains.before = std::mem::take(&mut chains.fresh);
            return Look::Everywhere { late: due };
        }
        Look::At(named.into_iter().collect())
    }

    /// Microseconds since the beginning, plus one.
    fn micros(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Somebody waits for rows of a chain.
    pub(crate) fn now(&self, chain: Uuid) {
        self.chains.lock().fresh.insert(chain);
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
    fn a_silent_log_is_polled_everywhere() {
        let wake = Wake::default();
        assert_eq!(wake.pause(), POLL);
        assert!(!wake.enlisted(Uuid::nil()), "there is no sequencer to be woken");
        assert_eq!(wake.pause(), POLL);
        assert_eq!(wake.look(), Look::Everywhere { late: true });
        wake.now(Uuid::from_u128(1));
        assert_eq!(wake.look(), Look::At(vec![Uuid::from_u128(1)]));
    }
}
