//! What an answer of a sink means, and how long to wait after it. Pure.

use std::time::Duration;

use crate::route::SinkKind;

/// The longest pause between two deliveries of a batch.
pub const BACKOFF_CAP: Duration = Duration::from_secs(300);

/// The class of one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The sink has it.
    Delivered,
    /// The sink has the valid part and will never take the rest.
    Partial,
    /// It may pass later.
    Retryable,
    /// It can never pass.
    Permanent,
    /// The platform is at fault, not the data.
    Misconfigured,
    /// Too large as one request; smaller ones may pass.
    TooLarge,
}

/// What came back from a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An HTTP status.
    Status(u16),
    /// Connect, TLS, reset or timeout: no answer.
    Transport,
    /// The request could not be built, because a credential file is missing or holds no header value.
    Credentials,
}

impl Outcome {
    /// Every outcome that a message can end a delivery with, for metric labels.
    pub const ALL: [Self; 6] =
        [Self::Delivered, Self::Partial, Self::Retryable, Self::Permanent, Self::Misconfigured, Self::TooLarge];

    /// The outcome's word in logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Partial => "partial",
            Self::Retryable => "retryable",
            Self::Permanent => "permanent",
            Self::Misconfigured => "misconfigured",
            Self::TooLarge => "too_large",
        }
    }
}

/// The class of an answer.
#[must_use]
pub const fn classify(sink: SinkKind, answer: Answer) -> Outcome {
    let status = match answer {
        Answer::Status(status) => status,
        Answer::Transport => return Outcome::Retryable,
        Answer::Credentials => return Outcome::Misconfigured,
    };
    match (status, sink) {
        (200..=299, _) => Outcome::Delivered,
        (408 | 425 | 429 | 500..=599, _) => Outcome::Retryable,
        // Both backends store the valid part and answer so for the rest; the SIEM takes a request whole or not at all.
        (400 | 422, SinkKind::Mimir | SinkKind::Loki) => Outcome::Partial,
        (413, _) => Outcome::TooLarge,
        (401 | 403 | 404 | 300..=399, _) => Outcome::Misconfigured,
        (400..=499, _) => Outcome::Permanent,
        // No server has business sending anything else: something that is not the sink answers.
        _ => Outcome::Misconfigured,
    }
}

/// The pause after delivery `n` (first = 1): `min(base × 2^(n−1), 300 s)`, a function of `n` alone.
#[must_use]
pub fn backoff(base: Duration, n: u64) -> Duration {
    let doublings = u32::try_from(n.saturating_sub(1)).unwrap_or(u32::MAX).min(20);
    base.saturating_mul(1 << doublings).min(BACKOFF_CAP)
}

/// The pause before a redelivery: a sink's `Retry-After` raises [`backoff`], never lowers it, up to the same cap.
#[must_use]
pub fn redelivery_delay(base: Duration, n: u64, retry_after: Option<Duration>) -> Duration {
    backoff(base, n).max(retry_after.unwrap_or_default()).min(BACKOFF_CAP)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn every_status_has_the_class_of_the_table() {
        use Outcome::{Delivered, Misconfigured, Partial, Permanent, Retryable, TooLarge};
        let table = [
            (200, [Delivered; 3]),
            (204, [Delivered; 3]),
            (302, [Misconfigured; 3]),
            (400, [Partial, Partial, Permanent]),
            (401, [Misconfigured; 3]),
            (403, [Misconfigured; 3]),
            (404, [Misconfigured; 3]),
            (408, [Retryable; 3]),
            (409, [Permanent; 3]),
            (413, [TooLarge; 3]),
            (415, [Permanent; 3]),
            (422, [Partial, Partial, Permanent]),
            (425, [Retryable; 3]),
            (429, [Retryable; 3]),
            (500, [Retryable; 3]),
            (503, [Retryable; 3]),
            (599, [Retryable; 3]),
            (600, [Misconfigured; 3]),
        ];
        for (status, wanted) in table {
            let found =
                [SinkKind::Mimir, SinkKind::Loki, SinkKind::Siem].map(|sink| classify(sink, Answer::Status(status)));
            assert_eq!(found, wanted, "status {status}");
        }
        assert_eq!(classify(SinkKind::Loki, Answer::Transport), Retryable);
        assert_eq!(classify(SinkKind::Siem, Answer::Credentials), Misconfigured);
    }

    #[test]
    fn the_backoff_doubles_from_one_second_to_five_minutes_and_stays_there() {
        let schedule: Vec<u64> = (1..=12).map(|n| backoff(SECOND, n).as_secs()).collect();
        assert_eq!(schedule, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(backoff(SECOND, u64::MAX), BACKOFF_CAP);
        assert_eq!(backoff(SECOND, 0), SECOND);
    }

    #[test]
    fn retry_after_raises_the_delay_and_never_lowers_it() {
        let ten = Some(Duration::from_secs(10));
        assert_eq!(redelivery_delay(SECOND, 1, ten).as_secs(), 10);
        assert_eq!(redelivery_delay(SECOND, 6, ten).as_secs(), 32);
        assert_eq!(redelivery_delay(SECOND, 1, Some(Duration::from_secs(86_400))), BACKOFF_CAP);
    }
}
