//! What a look at the streams means for the front door. Pure: takes `now`.

use std::time::Duration;

use super::SurfaceState;
use crate::config::seconds;

/// How long an open surface stays ready without a look that succeeds.
const TRUST: Duration = Duration::from_secs(60);
/// The pause between looks until the first one succeeds.
const EAGER: Duration = Duration::from_millis(250);
/// The longest pause between looks afterwards, in seconds: what is published while a consumer is gone is lost.
const MAX_PAUSE_SECONDS: u64 = 2;

/// What one look found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Looked {
    /// Everything stands.
    Stands,
    /// Something is known to be missing or to be set otherwise.
    Missing(String),
    /// The look could not be made, which says nothing about the streams.
    Unknown(String),
}

impl Looked {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Stands => "streams and consumers stand",
            Self::Missing(found) | Self::Unknown(found) => found,
        }
    }
}

/// What is to be told after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// The state of the surface.
    pub(super) state: SurfaceState,
    /// Whether the probe passes.
    pub(super) ready: bool,
    /// When to look again.
    pub(super) pause: Duration,
}

/// What the looks so far have shown.
#[derive(Debug)]
pub(super) struct Watch {
    state: SurfaceState,
    confirmed_at: Option<Duration>,
    pause: Duration,
}

impl Watch {
    /// A watch that has not looked yet.
    pub(super) fn new(check_seconds: u64) -> Self {
        Self { state: SurfaceState::Starting, confirmed_at: None, pause: seconds(check_seconds.min(MAX_PAUSE_SECONDS)) }
    }

    /// Takes in a look that was made at `now`.
    pub(super) fn note(&mut self, looked: &Looked, now: Duration) -> Told {
        match looked {
            Looked::Stands => {
                self.state = SurfaceState::Open;
                self.confirmed_at = Some(now);
            }
            Looked::Missing(_) => self.state = SurfaceState::Starting,
            // A batch that cannot be stored is refused by itself; a look that went wrong must not refuse the others.
            Looked::Unknown(_) => {}
        }
        let ready = self.confirmed_at.is_some_and(|at| now.saturating_sub(at) <= TRUST);
        let pause = if self.confirmed_at.is_some() { self.pause } else { EAGER.min(self.pause) };
        Told { state: self.state, ready, pause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown() -> Looked {
        Looked::Unknown("timed out".into())
    }

    fn missing() -> Looked {
        Looked::Missing("stream not found".into())
    }

    #[test]
    fn a_look_that_times_out_neither_closes_the_surface_nor_fails_the_probe() {
        let mut watch = Watch::new(30);
        let open = Told { state: SurfaceState::Open, ready: true, pause: seconds(2) };
        assert_eq!(watch.note(&Looked::Stands, seconds(10)), open);
        for at in 11..=70 {
            assert_eq!(watch.note(&unknown(), seconds(at)), open, "{at}");
        }
        assert_eq!(watch.note(&unknown(), seconds(71)), Told { ready: false, ..open }, "not confirmed for a minute");
        assert_eq!(watch.note(&Looked::Stands, seconds(72)), open);
    }

    #[test]
    fn what_is_known_to_be_missing_closes_the_surface_until_it_stands() {
        let mut watch = Watch::new(30);
        watch.note(&Looked::Stands, seconds(10));
        let closed = Told { state: SurfaceState::Starting, ready: true, pause: seconds(2) };
        assert_eq!(watch.note(&missing(), seconds(12)), closed);
        assert_eq!(watch.note(&unknown(), seconds(14)), closed, "a failed look opens nothing");
        assert_eq!(watch.note(&missing(), seconds(71)), Told { ready: false, ..closed });
        assert_eq!(watch.note(&Looked::Stands, seconds(73)).state, SurfaceState::Open);
    }

    #[test]
    fn a_surface_that_never_opened_is_not_ready_and_looks_often() {
        let mut watch = Watch::new(30);
        for looked in [unknown(), missing(), unknown()] {
            let told = watch.note(&looked, seconds(1));
            assert_eq!(told, Told { state: SurfaceState::Starting, ready: false, pause: EAGER });
        }
        assert_eq!(Watch::new(1).note(&Looked::Stands, seconds(1)).pause, seconds(1));
    }
}
