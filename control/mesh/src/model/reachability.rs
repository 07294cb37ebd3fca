//! Whether a Node is alive, judged on the silence since its last heartbeat.

use plexsphere_kernel::seams::ReachabilityPolicy;
use plexsphere_wire::Timestamp;
use serde::{Deserialize, Serialize};

/// The judgement; of two, the greater is the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReachabilityState {
    /// A heartbeat came within the first threshold.
    Healthy,
    /// The first threshold has passed in silence.
    Stale,
    /// The second threshold has passed in silence, or there was never a heartbeat.
    Unreachable,
}

/// What moves the judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReachabilityEvent {
    /// A heartbeat was accepted.
    Heartbeat,
    /// `stale_after` has passed in silence.
    StaleLapsed,
    /// `unreachable_after` has passed in silence.
    UnreachableLapsed,
}

impl ReachabilityState {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Healthy, Self::Stale, Self::Unreachable];

    /// The word in the database and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Stale => "stale",
            Self::Unreachable => "unreachable",
        }
    }

    /// Reads the word back.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// The next state. Silence never makes a Node healthier, and one late sweep may skip `stale`.
    #[must_use]
    pub const fn transition(self, event: ReachabilityEvent) -> Self {
        match (self, event) {
            (_, ReachabilityEvent::Heartbeat) => Self::Healthy,
            (Self::Healthy | Self::Stale, ReachabilityEvent::StaleLapsed) => Self::Stale,
            (Self::Unreachable, ReachabilityEvent::StaleLapsed) | (_, ReachabilityEvent::UnreachableLapsed) => {
                Self::Unreachable
            }
        }
    }
}

/// The state at `now` of a Node that was last heard at `last_heartbeat`.
#[must_use]
pub fn state_of(now: Timestamp, last_heartbeat: Option<Timestamp>, policy: &ReachabilityPolicy) -> ReachabilityState {
    let Some(last) = last_heartbeat else { return ReachabilityState::Unreachable };
    let age = now.since(last);
    if age < policy.stale_after {
        ReachabilityState::Healthy
    } else if age < policy.unreachable_after {
        ReachabilityState::Stale
    } else {
        ReachabilityState::Unreachable
    }
}

/// A Node's reachability as it is kept. A sweeper that lags leaves it behind the truth; [`Reachability::at`] does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reachability {
    /// The state when it was last written.
    pub state: ReachabilityState,
    /// Since when it holds.
    pub changed_at: Timestamp,
    /// The newest heartbeat; never moves backwards.
    pub last_heartbeat_at: Option<Timestamp>,
}

impl Reachability {
    /// A Node that has just joined and was not heard yet.
    #[must_use]
    pub const fn joined(now: Timestamp) -> Self {
        Self { state: ReachabilityState::Unreachable, changed_at: now, last_heartbeat_at: None }
    }

    /// The truth at `now`: where a threshold has passed unswept, `changed_at` is the instant at which it passed.
    #[must_use]
    pub fn at(self, now: Timestamp, policy: &ReachabilityPolicy) -> Self {
        let state = state_of(now, self.last_heartbeat_at, policy);
        let Some(last) = self.last_heartbeat_at.filter(|_| state != self.state) else { return self };
        let changed_at = match state {
            // Only longer thresholds make a silent Node healthy again.
            ReachabilityState::Healthy => last,
            ReachabilityState::Stale => last.plus(policy.stale_after),
            ReachabilityState::Unreachable => last.plus(policy.unreachable_after),
        };
        Self { state, changed_at, ..self }
    }

    /// Takes a heartbeat of the time `at`; one that is not newer than the last changes nothing.
    #[must_use]
    pub fn heartbeat(self, at: Timestamp, policy: &ReachabilityPolicy) -> Self {
        if self.last_heartbeat_at.is_some_and(|last| at <= last) {
            return self;
        }
        let before = self.at(at, policy);
        let changed_at = if self.state == ReachabilityState::Healthy && before.state == ReachabilityState::Healthy {
            self.changed_at
        } else {
            self.changed_at.max(at)
        };
        let state = before.state.transition(ReachabilityEvent::Heartbeat);
        Self { state, changed_at, last_heartbeat_at: Some(at) }
    }
}

#[cfg(test)]
mod tests;
