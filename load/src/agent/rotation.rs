//! Replaces the Node's mesh key when it is told to.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Happening, Shared};
use crate::api::{ApiError, fresh_public_key};
use crate::transport::{Backoff, BackoffPolicy};

/// The heartbeat's flag is not heeded so soon after a rotation: it may not have heard of it yet.
const FLAG_QUIET: Duration = Duration::from_secs(300);
/// Wishes that may wait; more of them say nothing new.
pub(super) const WISHES: usize = 4;

/// Why a rotation is wished for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// A `rotate_keys` event.
    Event,
    /// The flag of a heartbeat's answer.
    Heartbeat,
}

/// What an answer means for the key that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It is the Node's key already.
    Installed,
    /// It is not wanted.
    Discarded,
    /// Nobody knows: the same key is offered again.
    Again,
}

fn verdict(error: &ApiError) -> Verdict {
    match error.refused().map(|refused| (refused.status, refused.code.as_str())) {
        Some((422, "keys_rotate_public_key_unchanged")) => Verdict::Installed,
        Some((400 | 403 | 404 | 409 | 413 | 422, _)) => Verdict::Discarded,
        Some(_) | None => Verdict::Again,
    }
}

pub(super) async fn rotations(shared: Shared, mut wishes: mpsc::Receiver<Wish>, policy: BackoffPolicy) {
    let mut last: Option<Instant> = None;
    while let Some(wish) = wishes.recv().await {
        let quiet = last.is_some_and(|last| last.elapsed() < FLAG_QUIET);
        if wish == Wish::Heartbeat && quiet {
            continue;
        }
        rotate(&shared, policy).await;
        last = Some(Instant::now());
        // Wishes that came meanwhile were for this rotation.
        while wishes.try_recv().is_ok() {}
    }
}

/// Offers one fresh key until the platform has decided about it.
async fn rotate(shared: &Shared, policy: BackoffPolicy) {
    let key = fresh_public_key();
    let mut backoff = Backoff::new(policy);
    loop {
        let error = match shared.api.rotate_key(&key).await {
            Ok(receipt) => {
                return shared.say(Happening::KeyRotated { rotation_id: Some(receipt.rotation_id) }).await;
            }
            Err(error) => error,
        };
        match verdict(&error) {
            Verdict::Installed => return shared.say(Happening::KeyRotated { rotation_id: None }).await,
            Verdict::Discarded => return shared.say(Happening::failed("rotate_keys", &error)).await,
            Verdict::Again => {
                shared.say(Happening::failed("rotate_keys", &error)).await;
                tokio::time::sleep(backoff.wait()).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Refused;
    use crate::transport::TransportError;

    fn refused(status: u16, code: &str) -> ApiError {
        let (code, detail) = (code.to_owned(), String::new());
        ApiError::Refused(Refused { status, code, detail, retry_after_seconds: None, correlation_id: None })
    }

    #[test]
    fn a_key_is_offered_again_only_while_nobody_has_decided() {
        assert_eq!(verdict(&refused(422, "keys_rotate_public_key_unchanged")), Verdict::Installed);
        assert_eq!(verdict(&refused(422, "keys_rotate_public_key_invalid")), Verdict::Discarded);
        assert_eq!(verdict(&refused(409, "keys_rotate_no_pending_rotation")), Verdict::Discarded);
        for error in
            [refused(503, "datastore_unavailable"), refused(401, "nsk_invalid"), TransportError::Timeout.into()]
        {
            assert_eq!(verdict(&error), Verdict::Again, "{error}");
        }
    }
}
