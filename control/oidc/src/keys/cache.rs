//! One remote key set, kept for an hour; a key id it does not have is asked for once, and at most once a minute.

use std::sync::Arc;
use std::time::Duration;

use plexsphere_wire::Timestamp;
use tokio::sync::Mutex;

use crate::fetch::Fetch;
use crate::json::JsonFault;
use crate::provider::ProviderError;

use super::{Alg, Choice, KeySet, PublicKey, Purpose};

/// How long a set is used without asking again.
pub(crate) const KEYS_KEPT: Duration = Duration::from_secs(3_600);
/// How often an unknown key id may cause a fetch.
pub(crate) const REFRESH_EVERY: Duration = Duration::from_secs(60);
/// How long a failed fetch speaks for the next ones: longer than a fetch takes, so that those who waited for it do not
/// queue up to wait again.
pub(crate) const FAILURE_KEPT: Duration = Duration::from_secs(15);
/// How long a set is still used when it cannot be fetched any more.
const STALE_KEPT: Duration = Duration::from_secs(24 * 3_600);

/// Where a set comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'s> {
    pub(crate) fetch: &'s Fetch,
    pub(crate) url: &'s str,
    pub(crate) purpose: Purpose,
    /// Whether an old set is better than none.
    pub(crate) stale_is_better_than_none: bool,
}

/// Which key is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'t> {
    pub(crate) kid: Option<&'t str>,
    pub(crate) alg: Alg,
}

/// Why there is no key.
#[derive(Debug, Clone)]
pub(crate) enum NoKey {
    /// The set cannot be had.
    Fetch(ProviderError),
    /// The issuer does not have it.
    Unknown,
    /// It has one of that id that does not fit.
    Unfit,
}

/// The cached set. Fetches are serialised, so that many who miss the same key cause one.
#[derive(Debug, Default)]
pub(crate) struct KeyCache {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    set: Option<(Arc<KeySet>, Timestamp)>,
    failed: Option<(ProviderError, Timestamp)>,
    refreshed: Option<Timestamp>,
    url: String,
}

impl KeyCache {
    /// Finds a key, asking the issuer when that may help.
    pub(crate) async fn find(
        &self,
        source: Source<'_>,
        wanted: Wanted<'_>,
        now: Timestamp,
    ) -> Result<PublicKey, NoKey> {
        let mut state = self.state.lock().await;
        if state.url != source.url {
            *state = State { url: source.url.to_owned(), ..State::default() };
        }
        let fresh = state.set.as_ref().is_some_and(|(_, fetched)| now.since(*fetched) < KEYS_KEPT);
        if !fresh {
            state.renew(source, now).await.map_err(NoKey::Fetch)?;
        }
        match state.choose(wanted) {
            // A set that was just fetched has nothing newer behind it.
            Err(NoKey::Unknown) if fresh && state.may_refresh(now) => {
                state.refreshed = Some(now);
                if let Err(error) = state.fetch(source, now).await {
                    tracing::warn!(%error, "the keys of an issuer could not be refreshed");
                }
                state.choose(wanted)
            }
            other => other,
        }
    }

    /// Fetches the set in any case, for a health probe.
    pub(crate) async fn probe(&self, source: Source<'_>, now: Timestamp) -> Result<(), ProviderError> {
        let mut state = self.state.lock().await;
        if state.url != source.url {
            *state = State { url: source.url.to_owned(), ..State::default() };
        }
        state.fetch(source, now).await
    }
}

impl State {
    fn choose(&self, wanted: Wanted<'_>) -> Result<PublicKey, NoKey> {
        let Some((set, _)) = &self.set else { return Err(NoKey::Unknown) };
        match set.choose(wanted.kid, wanted.alg) {
            Choice::Key(key) => Ok(key.clone()),
            Choice::Unfit => Err(NoKey::Unfit),
            Choice::Unknown => Err(NoKey::Unknown),
        }
    }

    fn may_refresh(&self, now: Timestamp) -> bool {
        self.refreshed.is_none_or(|last| now.since(last) >= REFRESH_EVERY)
    }

    /// Replaces a set that is too old, or keeps it when nothing better can be had.
    async fn renew(&mut self, source: Source<'_>, now: Timestamp) -> Result<(), ProviderError> {
        let failed = match &self.failed {
            Some((error, at)) if now.since(*at) < FAILURE_KEPT => error.clone(),
            _ => match self.fetch(source, now).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
        };
        let usable = self.set.as_ref().is_some_and(|(_, fetched)| now.since(*fetched) < STALE_KEPT);
        if source.stale_is_better_than_none && usable { Ok(()) } else { Err(failed) }
    }

    async fn fetch(&mut self, source: Source<'_>, now: Timestamp) -> Result<(), ProviderError> {
        let fetched = async {
            let answer = source.fetch.get(source.url).await?;
            ProviderError::of_status(answer.status)?;
            KeySet::parse(&answer.body, source.purpose).map_err(|fault: JsonFault| ProviderError::Keys { fault })
        };
        match fetched.await {
            Ok(set) => {
                self.set = Some((Arc::new(set), now));
                self.failed = None;
                Ok(())
            }
            Err(error) => {
                self.failed = Some((error.clone(), now));
                Err(error)
            }
        }
    }
}
