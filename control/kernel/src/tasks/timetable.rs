//! When a task runs next: pure arithmetic on the time since the driver began.

use std::time::Duration;

/// The first pause after a failure; doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How soon a nudge is tried again while another replica holds the task.
const HELD_PAUSE: Duration = Duration::from_millis(250);

/// How a run ended, as far as the next one is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Well; perhaps with a wish for the next run.
    Done {
        /// When to run again at the latest.
        again_in: Option<Duration>,
    },
    /// Another replica runs it.
    HeldElsewhere,
    /// It failed, panicked or took too long.
    Failed,
}

/// One task's times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Timetable {
    period: Duration,
    due: Duration,
    /// No run before this, whatever nudges.
    rest: Duration,
    nudged: bool,
    run_was_nudged: bool,
    failures: u32,
    /// When it last ended well.
    good_at: Option<Duration>,
}

impl Timetable {
    /// Due at once.
    pub(super) const fn new(period: Duration) -> Self {
        Self {
            period,
            due: Duration::ZERO,
            rest: Duration::ZERO,
            nudged: false,
            run_was_nudged: false,
            failures: 0,
            good_at: None,
        }
    }

    /// Someone knows of work.
    pub(super) const fn nudge(&mut self) {
        self.nudged = true;
    }

    /// How long to wait from `now`; zero when a run is due.
    pub(super) fn wait(&self, now: Duration) -> Duration {
        let due = if self.nudged { now } else { self.due };
        due.max(self.rest).saturating_sub(now)
    }

    /// A run begins: nudges up to here are served by it, later ones ask for another run.
    pub(super) const fn started(&mut self) {
        self.run_was_nudged = self.nudged;
        self.nudged = false;
    }

    /// The run has ended.
    pub(super) fn finished(&mut self, now: Duration, end: End) {
        if end != End::Failed {
            self.good_at = Some(now);
        }
        match end {
            End::Done { again_in } => {
                self.failures = 0;
                self.due = now + again_in.map_or(self.period, |wish| wish.min(self.period));
            }
            End::HeldElsewhere => {
                self.failures = 0;
                // The holder may have looked before this nudge's cause was there.
                self.due = now + if self.run_was_nudged { HELD_PAUSE.min(self.period) } else { self.period };
            }
            End::Failed => {
                let pause = pause(self.failures);
                self.failures = self.failures.saturating_add(1);
                self.rest = now + pause;
                self.due = now + pause.min(self.period.max(FIRST_PAUSE));
            }
        }
    }

    /// Runs that failed since the last good one.
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether `periods` went by at `now` without a good run, or there was none ever.
    pub(super) fn is_stale(&self, now: Duration, periods: u32) -> bool {
        self.good_at.is_none_or(|good| now.saturating_sub(good) >= self.period.saturating_mul(periods))
    }
}

/// The pause after `failures` earlier failures in a row.
pub(super) fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1u32 << failures.min(10)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_task_runs_at_once_and_then_each_period_after_its_end() {
        let mut table = Timetable::new(10 * SECOND);
        assert_eq!(table.wait(Duration::ZERO), Duration::ZERO);
        table.started();
        table.finished(3 * SECOND, End::Done { again_in: None });
        assert_eq!(table.wait(4 * SECOND), 9 * SECOND);
        assert_eq!(table.wait(13 * SECOND), Duration::ZERO);
    }

    #[test]
    fn a_nudge_during_a_run_asks_for_another_run() {
        let mut table = Timetable::new(10 * SECOND);
        table.nudge();
        table.started();
        table.nudge();
        table.finished(SECOND, End::Done { again_in: None });
        assert_eq!(table.wait(SECOND), Duration::ZERO);
        table.started();
        table.finished(SECOND, End::Done { again_in: None });
        assert_eq!(table.wait(SECOND), 10 * SECOND);
    }

    #[test]
    fn failures_pause_longer_each_time_and_a_nudge_does_not_shorten_the_pause() {
        let mut table = Timetable::new(SECOND / 2);
        let mut now = Duration::ZERO;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            table.started();
            table.finished(now, End::Failed);
            table.nudge();
            pauses.push(table.wait(now).as_millis());
            now += table.wait(now);
        }
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
        table.started();
        table.finished(now, End::Done { again_in: None });
        assert_eq!(table.failures(), 0);
    }

    #[test]
    fn a_task_is_stale_when_its_periods_went_by_without_a_good_run() {
        let mut table = Timetable::new(SECOND);
        assert!(table.is_stale(Duration::ZERO, 5), "it has never run well");
        table.finished(10 * SECOND, End::Done { again_in: None });
        table.finished(14 * SECOND, End::Failed);
        assert!(!table.is_stale(14 * SECOND, 5) && table.is_stale(14 * SECOND, 0));
        assert!(table.is_stale(15 * SECOND, 5));
        table.finished(15 * SECOND, End::HeldElsewhere);
        assert!(!table.is_stale(19 * SECOND, 5));
    }

    #[test]
    fn a_wish_for_more_is_granted_and_never_later_than_the_period() {
        let mut table = Timetable::new(SECOND);
        table.started();
        table.finished(Duration::ZERO, End::Done { again_in: Some(Duration::ZERO) });
        assert_eq!(table.wait(Duration::ZERO), Duration::ZERO);
        table.started();
        table.finished(Duration::ZERO, End::Done { again_in: Some(60 * SECOND) });
        assert_eq!(table.wait(Duration::ZERO), SECOND);
    }

    #[test]
    fn a_nudge_that_met_another_replicas_run_is_tried_again_soon() {
        let mut table = Timetable::new(60 * SECOND);
        table.nudge();
        table.started();
        table.finished(Duration::ZERO, End::HeldElsewhere);
        assert_eq!(table.wait(Duration::ZERO), HELD_PAUSE);
        table.started();
        table.finished(Duration::ZERO, End::HeldElsewhere);
        assert_eq!(table.wait(Duration::ZERO), 60 * SECOND);
    }
}
