//! Burying what grows too old while the breaker keeps the route from being tried: the server deletes by age, whether
//! anybody looked at a message or not, and what was answered with 202 must not vanish without a trace.

use std::time::{Duration, Instant};

use super::delivery::Burial;
use super::{Consumer, FETCH_MESSAGES, age};

/// Longest time between two sweeps.
const PERIOD: Duration = Duration::from_secs(30);
/// Shortest time between two sweeps that the lag sampler asked for; its value is at most 15 s old.
const ASKED_PAUSE: Duration = Duration::from_secs(5);

/// How often a waiting route looks for old messages: every half minute, sooner when its horizon is short.
pub(super) fn period(horizon: Duration) -> Duration {
    PERIOD.min(horizon / 100)
}

// === impl Consumer ===

impl Consumer {
    /// How long until the next sweep is due; zero when it is now.
    pub(super) fn sweep_due(&self, now: Instant) -> Duration {
        let Some(last) = self.swept_at else { return Duration::ZERO };
        let period = period(self.context.horizon);
        let pause = if self.oldest_is_too_old() { period.min(ASKED_PAUSE) } else { period };
        pause.saturating_sub(now.saturating_duration_since(last))
    }

    fn oldest_is_too_old(&self) -> bool {
        self.context.vitals.oldest_age(self.context.route) >= self.context.horizon
    }

    /// Buries every message whose age has reached the horizon, without trying the sink, and gives younger ones back.
    ///
    /// Unless the lag sampler saw an old message, one message is a scout for the rest, so that a waiting route leaves its
    /// backlog in order and delivery counts where they are.
    pub(super) async fn sweep(&mut self) {
        let mut most = if self.oldest_is_too_old() { FETCH_MESSAGES } else { 1 };
        while !self.context.stop.is_cancelled() {
            self.context.vitals.tick(self.context.route);
            let messages = match self.fetch(most).await {
                Ok(messages) if messages.is_empty() => break,
                Ok(messages) => self.without_skipped(messages).await,
                Err(error) => {
                    tracing::debug!(consumer = %self.context.route, %error, "fetch failed");
                    self.pull = None;
                    self.context.ensure.notify_one();
                    break;
                }
            };
            let (now, horizon) = (self.context.clock.now(), self.context.horizon);
            let (old, young): (Vec<_>, Vec<_>) =
                messages.into_iter().partition(|message| age(message.published(), now) >= horizon);
            // A scout must be there for the next probe. Among many, a pause keeps them out of the next fetch.
            let pause = if most == 1 { Duration::ZERO } else { period(horizon).min(ASKED_PAUSE) };
            for message in &young {
                message.give_back(pause).await;
            }
            // Redelivered messages come first, then the stream in its order: behind a young new one all are younger.
            let reached_young = young.iter().any(|message| message.deliveries() == 1) || (most == 1 && old.is_empty());
            if !Burial::new(&self.context).bury_all(&old).await || reached_young {
                break;
            }
            most = FETCH_MESSAGES;
        }
        self.swept_at = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_horizon_is_watched_more_often_than_a_long_one() {
        assert_eq!(period(Duration::from_secs(86_400)), Duration::from_secs(30));
        assert_eq!(period(Duration::from_secs(300)), Duration::from_secs(3));
    }
}
