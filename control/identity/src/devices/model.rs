//! A device's request for access, as a state machine.

use std::time::Duration;

use plexsphere_kernel::Fault;
use plexsphere_wire::{Code, Problem, Timestamp};

use crate::text;

/// How long a device may wait.
pub(super) const LIFE: Duration = Duration::from_secs(600);
/// How long a device must wait between two polls at first, in seconds.
pub(super) const FIRST_INTERVAL: i32 = 5;
/// By how much the pause grows when a device polls too fast, in seconds.
pub(super) const SLOWER_BY: i32 = 5;

/// How far a request is. Every state but the first two is its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum DeviceState {
    /// Nobody has approved it.
    Pending,
    /// A person has, and the device has not come for its token.
    Approved,
    /// The person lost the right in between.
    Denied,
    /// The device has its token.
    Consumed,
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum DeviceEvent {
    /// A person approves it.
    Approve,
    /// The approver may not sign in any more.
    Deny,
    /// The device takes its token.
    Consume,
}

impl DeviceState {
    /// All of them.
    pub(super) const ALL: [Self; 4] = [Self::Pending, Self::Approved, Self::Denied, Self::Consumed];

    /// The word at rest.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Consumed => "consumed",
        }
    }

    /// Reads the word.
    pub(super) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Where an event leads; `None` where it leads nowhere.
    pub(super) const fn transition(self, event: DeviceEvent) -> Option<Self> {
        match (self, event) {
            (Self::Pending, DeviceEvent::Approve) => Some(Self::Approved),
            (Self::Pending | Self::Approved, DeviceEvent::Deny) => Some(Self::Denied),
            (Self::Approved, DeviceEvent::Consume) => Some(Self::Consumed),
            (Self::Pending, DeviceEvent::Consume)
            | (Self::Approved, DeviceEvent::Approve)
            | (Self::Denied | Self::Consumed, _) => None,
        }
    }
}

/// What a device's poll is answered.
#[derive(Debug, thiserror::Error)]
pub enum PollRefusal {
    /// Nobody has approved it yet.
    #[error("nobody has approved the device yet")]
    Pending,
    /// The device asks faster than it was told to; it must wait this much longer.
    #[error("the device polls too fast; its interval grew by five seconds")]
    SlowDown,
    /// The approval is void.
    #[error("the approval was withdrawn")]
    Denied,
    /// The code is too old.
    #[error("the device code has expired")]
    Expired,
    /// The code is none, or was used.
    #[error("there is no such device code, or it was used")]
    Unknown,
    /// Something broke.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl PollRefusal {
    /// The code on the wire.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Pending => Code::AuthorizationPending,
            Self::SlowDown => Code::SlowDown,
            Self::Denied => Code::AccessDenied,
            Self::Expired => Code::ExpiredToken,
            Self::Unknown => Code::InvalidGrant,
            Self::Fault(_) => Code::Internal,
        }
    }
}

impl From<PollRefusal> for Problem {
    fn from(refusal: PollRefusal) -> Self {
        match refusal {
            PollRefusal::Fault(fault) => fault.into(),
            other => Self::new(other.code(), text::sentence(&other)),
        }
    }
}

/// Why an approval is refused.
#[derive(Debug, thiserror::Error)]
pub enum ApproveRefusal {
    /// No such pending request in the approver's scope.
    #[error("no device waits with this code")]
    Unknown,
    /// It waited too long.
    #[error("the device code has expired")]
    Expired,
    /// It was approved before.
    #[error("the device code was approved before")]
    Approved,
    /// The session ended while it approved.
    #[error("the session has ended")]
    SignedOut,
    /// Something broke.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl ApproveRefusal {
    /// The code on the wire.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Unknown => Code::DeviceCodeNotFound,
            Self::Expired => Code::DeviceCodeExpired,
            Self::Approved => Code::DeviceCodeAlreadyApproved,
            Self::SignedOut => Code::Unauthenticated,
            Self::Fault(_) => Code::Internal,
        }
    }
}

impl From<ApproveRefusal> for Problem {
    fn from(refusal: ApproveRefusal) -> Self {
        match refusal {
            ApproveRefusal::Fault(fault) => fault.into(),
            other => Self::new(other.code(), text::sentence(&other)),
        }
    }
}

/// Whether a poll at `now` comes sooner than `interval` seconds behind the last one.
pub(super) fn is_too_fast(last: Option<Timestamp>, interval: i32, now: Timestamp) -> bool {
    let pause = Duration::from_secs(u64::try_from(interval).unwrap_or(0));
    last.is_some_and(|last| now.since(last) < pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_and_event_leads_where_it_must() {
        use DeviceEvent::{Approve, Consume, Deny};
        use DeviceState::{Approved, Consumed, Denied, Pending};
        let leads = [
            (Pending, Approve, Approved),
            (Pending, Deny, Denied),
            (Approved, Deny, Denied),
            (Approved, Consume, Consumed),
        ];
        for state in DeviceState::ALL {
            assert_eq!(DeviceState::parse(state.as_str()), Some(state));
            for event in [Approve, Deny, Consume] {
                let expected = leads.iter().find(|(from, by, _)| (*from, *by) == (state, event)).map(|(_, _, to)| *to);
                assert_eq!(state.transition(event), expected, "{state:?} {event:?}");
            }
        }
    }

    #[test]
    fn a_poll_sooner_than_the_interval_is_too_fast() {
        let at = Timestamp::from_unix_seconds;
        assert!(!is_too_fast(None, 5, at(100)));
        assert!(is_too_fast(Some(at(100)), 5, at(104)));
        assert!(!is_too_fast(Some(at(100)), 5, at(105)));
        assert!(is_too_fast(Some(at(100)), 10, at(105)));
    }
}
