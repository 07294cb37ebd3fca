//! The breaker of one route: while the sink as a whole is down, nothing is fetched, so that the backlog keeps its order
//! and delivery counts do not climb. Pure: time comes in as an argument.

use std::time::{Duration, Instant};

use crate::outcome::backoff;

/// Consecutive failures that open the breaker.
pub const THRESHOLD: u32 = 5;

/// Where the breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Deliveries flow; `streak` failures came in a row.
    Closed {
        /// Consecutive failures so far, below [`THRESHOLD`].
        streak: u32,
    },
    /// Nothing is fetched before `until`.
    Open {
        /// Consecutive failures so far.
        streak: u32,
        /// When one delivery may be tried.
        until: Instant,
    },
    /// One delivery is being tried.
    HalfOpen {
        /// Consecutive failures so far.
        streak: u32,
    },
}

/// What a fetch, as a whole, told about the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The sink answered for at least one Domain, whatever it said about the data.
    Answered,
    /// Every Domain tried failed, with so many retryable outcomes.
    Failed {
        /// Retryable outcomes of the fetch.
        outcomes: u32,
    },
    /// Every Domain tried met a fault of the platform.
    Misconfigured,
    /// The pause of an open breaker is over.
    Elapsed,
}

/// What the loop may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Fetch as usual.
    Flow,
    /// Fetch one message and wait for its outcome.
    Probe,
    /// Wait so long.
    Wait(Duration),
}

/// The breaker of one route.
#[derive(Clone, Copy, Debug)]
pub struct Breaker {
    state: State,
    base: Duration,
}

impl Breaker {
    /// A closed breaker whose first pause is `base`.
    #[must_use]
    pub const fn new(base: Duration) -> Self {
        Self { state: State::Closed { streak: 0 }, base }
    }

    /// Where the breaker stands.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Takes an event.
    pub fn observe(&mut self, event: Event, now: Instant) {
        self.state = transition(self.state, event, now, self.base);
    }

    /// What the loop may do at `now`; moves an open breaker whose pause is over to half open.
    pub fn gate(&mut self, now: Instant) -> Gate {
        if let State::Open { until, .. } = self.state {
            if now < until {
                return Gate::Wait(until - now);
            }
            self.observe(Event::Elapsed, now);
        }
        if matches!(self.state, State::HalfOpen { .. }) { Gate::Probe } else { Gate::Flow }
    }
}

impl State {
    /// 0 closed, 1 open, 2 half open: the value of the breaker's gauge.
    #[must_use]
    pub const fn gauge(self) -> u8 {
        match self {
            Self::Closed { .. } => 0,
            Self::Open { .. } => 1,
            Self::HalfOpen { .. } => 2,
        }
    }
}

/// The one transition function.
fn transition(state: State, event: Event, now: Instant, base: Duration) -> State {
    let open = |streak: u32| State::Open { streak, until: now + backoff(base, u64::from(streak)) };
    match (state, event) {
        (State::Closed { streak }, Event::Failed { outcomes }) => match streak.saturating_add(outcomes) {
            streak if streak >= THRESHOLD => open(THRESHOLD),
            streak => State::Closed { streak },
        },
        (State::Closed { streak }, Event::Misconfigured) => open(streak.saturating_add(1)),
        (State::HalfOpen { streak }, Event::Failed { .. } | Event::Misconfigured) => open(streak.saturating_add(1)),
        (State::Closed { .. } | State::HalfOpen { .. }, Event::Answered) => State::Closed { streak: 0 },
        (State::Open { streak, .. }, Event::Elapsed) => State::HalfOpen { streak },
        // Stragglers of a fetch from before the breaker opened decide nothing; only the probe does.
        (State::Open { .. }, Event::Answered | Event::Failed { .. } | Event::Misconfigured)
        | (State::Closed { .. } | State::HalfOpen { .. }, Event::Elapsed) => state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_secs(1);

    #[test]
    fn every_state_meets_every_event_as_the_table_says() {
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        let closed = |streak| State::Closed { streak };
        let open = |streak, seconds| State::Open { streak, until: later(seconds) };
        let half = |streak| State::HalfOpen { streak };
        let failed = |outcomes| Event::Failed { outcomes };
        let table = [
            (closed(0), Event::Answered, closed(0)),
            (closed(4), Event::Answered, closed(0)),
            (closed(0), failed(1), closed(1)),
            (closed(0), failed(4), closed(4)),
            (closed(4), failed(1), open(5, 16)),
            (closed(0), failed(90), open(5, 16)),
            (closed(0), Event::Misconfigured, open(1, 1)),
            (closed(4), Event::Misconfigured, open(5, 16)),
            (closed(3), Event::Elapsed, closed(3)),
            (open(5, 9), Event::Answered, open(5, 9)),
            (open(5, 9), failed(3), open(5, 9)),
            (open(5, 9), Event::Misconfigured, open(5, 9)),
            (open(5, 9), Event::Elapsed, half(5)),
            (half(5), Event::Answered, closed(0)),
            (half(5), failed(1), open(6, 32)),
            (half(9), failed(7), open(10, 300)),
            (half(1), Event::Misconfigured, open(2, 2)),
            (half(5), Event::Elapsed, half(5)),
        ];
        for (state, event, wanted) in table {
            assert_eq!(transition(state, event, now, BASE), wanted, "{state:?} × {event:?}");
        }
    }

    #[test]
    fn an_open_breaker_waits_out_its_pause_and_then_probes_once() {
        let start = Instant::now();
        let mut breaker = Breaker::new(BASE);
        assert_eq!(breaker.gate(start), Gate::Flow);
        breaker.observe(Event::Misconfigured, start);
        assert_eq!(breaker.gate(start), Gate::Wait(BASE));
        assert_eq!(breaker.gate(start + BASE), Gate::Probe);
        breaker.observe(Event::Failed { outcomes: 1 }, start + BASE);
        assert_eq!(breaker.gate(start + BASE), Gate::Wait(2 * BASE));
        assert_eq!(breaker.gate(start + 3 * BASE), Gate::Probe);
        breaker.observe(Event::Answered, start + 3 * BASE);
        assert_eq!(breaker.gate(start + 3 * BASE), Gate::Flow);
        assert_eq!(breaker.state().gauge(), 0);
    }
}
