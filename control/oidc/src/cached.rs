//! One thing that is fetched and kept. Whoever finds it fresh never waits for whoever fetches.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use plexsphere_wire::Timestamp;

use crate::provider::ProviderError;

/// How long a failed fetch speaks for the next ones: longer than a fetch takes, so that those who waited for it do not
/// queue up to wait again.
const FAILURE_KEPT: Duration = Duration::from_secs(15);

/// The thing, its age, and the last failure to fetch it.
#[derive(Debug)]
pub(crate) struct Cached<T> {
    slot: Mutex<Slot<T>>,
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Slot<T> {
    value: Option<(Arc<T>, Timestamp)>,
    failed: Option<(ProviderError, Timestamp)>,
}

impl<T> Default for Cached<T> {
    fn default() -> Self {
        Self { slot: Mutex::new(Slot { value: None, failed: None }), fetching: tokio::sync::Mutex::default() }
    }
}

/// The right to fetch. There is one at a time.
pub(crate) struct Turn<'c, T> {
    cached: &'c Cached<T>,
    _fetching: tokio::sync::MutexGuard<'c, ()>,
}

impl<T> Cached<T> {
    /// The thing, when it is younger than `kept`.
    pub(crate) fn younger(&self, kept: Duration, now: Timestamp) -> Option<Arc<T>> {
        let slot = self.slot.lock();
        slot.value.as_ref().filter(|(_, fetched)| now.since(*fetched) < kept).map(|(value, _)| Arc::clone(value))
    }

    /// Waits until nobody else fetches.
    pub(crate) async fn turn(&self) -> Turn<'_, T> {
        Turn { cached: self, _fetching: self.fetching.lock().await }
    }
}

impl<T> Turn<'_, T> {
    /// Fetches, unless that failed a moment ago.
    pub(crate) async fn fetch(
        &self,
        now: Timestamp,
        work: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<Arc<T>, ProviderError> {
        let failed = self.cached.slot.lock().failed.clone();
        match failed {
            Some((error, at)) if now.since(at) < FAILURE_KEPT => Err(error),
            _ => self.fetch_anyway(now, work).await,
        }
    }

    /// Fetches in any case.
    pub(crate) async fn fetch_anyway(
        &self,
        now: Timestamp,
        work: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<Arc<T>, ProviderError> {
        match work.await {
            Ok(value) => {
                let value = Arc::new(value);
                *self.cached.slot.lock() = Slot { value: Some((Arc::clone(&value), now)), failed: None };
                Ok(value)
            }
            Err(error) => {
                self.cached.slot.lock().failed = Some((error.clone(), now));
                Err(error)
            }
        }
    }
}
