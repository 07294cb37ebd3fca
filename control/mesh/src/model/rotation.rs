//! Replacing a Node's key: how a request moves, what an offered key comes to, how long it may take.

use std::time::Duration;

use plexsphere_wire::RotationId;

/// Where a request to replace a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RotationState {
    /// The Node is asked with every heartbeat.
    Pending,
    /// The Node has a new key.
    Completed,
    /// The Peer ended first.
    Cancelled,
}

/// What moves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RotationEvent {
    /// The Node offered a new key.
    Submitted,
    /// The Peer was deregistered.
    PeerDeregistered,
}

impl RotationState {
    /// The word in the database.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The next state; both ends are final.
    pub(crate) const fn transition(self, event: RotationEvent) -> Self {
        match (self, event) {
            (Self::Pending, RotationEvent::Submitted) => Self::Completed,
            (Self::Pending, RotationEvent::PeerDeregistered) => Self::Cancelled,
            (ended @ (Self::Completed | Self::Cancelled), _) => ended,
        }
    }
}

/// What a Node is told of a completed rotation: the name of its new seed and the version of the key that sealed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// The rotation.
    pub(crate) rotation: RotationId,
    /// The seed's name; never empty.
    pub(crate) kid: String,
    /// The wrap key's version.
    pub(crate) wrap_key_version: i32,
}

/// What an offered key comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// It was installed before and the answer was lost.
    Repeated(Receipt),
    /// It is the present key, and no rotation put it there.
    Unchanged,
    /// Nobody asked for a new key.
    NothingPending,
    /// It is to be installed.
    Fresh,
}

impl Offer {
    /// Judges a key against the present one, the receipt of the rotation that installed the offered one, and whether a
    /// rotation is pending.
    pub(crate) fn judge(offered: &[u8; 32], current: &[u8; 32], installed: Option<Receipt>, is_pending: bool) -> Self {
        match (offered == current, installed, is_pending) {
            (true, Some(receipt), _) => Self::Repeated(receipt),
            (true, None, _) => Self::Unchanged,
            (false, _, false) => Self::NothingPending,
            (false, _, true) => Self::Fresh,
        }
    }
}

/// Peers that take up a new key within one second.
const PEERS_PER_SECOND: u64 = 1_000;

/// How long a rotation may take, in whole seconds: until the Node hears of it, and until its peers have the new key.
pub(crate) const fn estimated_seconds(until_heard: Duration, peers: u64) -> u64 {
    let heard = until_heard.as_secs() + if until_heard.subsec_nanos() > 0 { 1 } else { 0 };
    heard + peers.div_ceil(PEERS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use plexsphere_wire::Timestamp;

    use super::*;

    #[test]
    fn every_state_meets_every_event() {
        use RotationEvent::{PeerDeregistered, Submitted};
        use RotationState::{Cancelled, Completed, Pending};
        for (state, event, next) in [
            (Pending, Submitted, Completed),
            (Pending, PeerDeregistered, Cancelled),
            (Completed, Submitted, Completed),
            (Completed, PeerDeregistered, Completed),
            (Cancelled, Submitted, Cancelled),
            (Cancelled, PeerDeregistered, Cancelled),
        ] {
            assert_eq!(state.transition(event), next, "{state:?} {event:?}");
        }
    }

    #[test]
    fn an_offer_is_judged_by_the_present_key_first() {
        let receipt =
            Receipt { rotation: RotationId::mint(Timestamp::UNIX_EPOCH), kid: "psk-1".to_owned(), wrap_key_version: 3 };
        let (installed, repeated) = (Some(receipt.clone()), Offer::Repeated(receipt));
        for (offered, installed, is_pending, expected) in [
            (1, None, false, Offer::Unchanged),
            (1, None, true, Offer::Unchanged),
            (1, installed.clone(), false, repeated.clone()),
            (1, installed.clone(), true, repeated),
            (2, None, false, Offer::NothingPending),
            (2, installed.clone(), false, Offer::NothingPending),
            (2, None, true, Offer::Fresh),
            (2, installed, true, Offer::Fresh),
        ] {
            let told = format!("{offered} {installed:?} {is_pending}");
            assert_eq!(Offer::judge(&[offered; 32], &[1; 32], installed, is_pending), expected, "{told}");
        }
    }

    #[test]
    fn an_estimate_counts_begun_seconds_and_begun_thousands() {
        let wait = Duration::from_secs(30);
        for (peers, seconds) in [(0, 30), (1, 31), (1_000, 31), (1_001, 32), (10_000, 40)] {
            assert_eq!(estimated_seconds(wait, peers), seconds);
        }
        assert_eq!(estimated_seconds(Duration::from_millis(1_500), 0), 2);
    }
}
