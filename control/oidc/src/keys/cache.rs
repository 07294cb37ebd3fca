//! One remote key set, kept for an hour; a key id it does not have is asked for once, and at most once a minute.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use plexsphere_wire::Timestamp;

use crate::cached::Cached;
use crate::fetch::Fetch;
use crate::provider::ProviderError;

use super::{Alg, Choice, KeySet, PublicKey, Purpose};

/// How long a set is used without asking again.
const KEYS_KEPT: Duration = Duration::from_secs(3_600);
/// How often an unknown key id may cause a fetch.
const REFRESH_EVERY: Duration = Duration::from_secs(60);
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

impl Source<'_> {
    async fn read(self) -> Result<Sourced, ProviderError> {
        let answer = self.fetch.get(self.url).await?;
        ProviderError::of_status(answer.status)?;
        let set = KeySet::parse(&answer.body, self.purpose).map_err(|fault| ProviderError::Keys { fault })?;
        Ok(Sourced { url: self.url.to_owned(), set })
    }
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

/// A set and where it was found: a provider may move it.
#[derive(Debug)]
struct Sourced {
    url: String,
    set: KeySet,
}

impl Sourced {
    fn choose(&self, wanted: Wanted<'_>) -> Result<PublicKey, NoKey> {
        match self.set.choose(wanted.kid, wanted.alg) {
            Choice::Key(key) => Ok(key.clone()),
            Choice::Unfit => Err(NoKey::Unfit),
            Choice::Unknown => Err(NoKey::Unknown),
        }
    }
}

/// The cached set. One fetch at a time, so that many who miss the same key cause one; whoever has a known key waits for
/// none of them, or strangers with made-up keys could hold up everybody.
#[derive(Debug, Default)]
pub(crate) struct KeyCache {
    cached: Cached<Sourced>,
    refreshed: Mutex<Option<Timestamp>>,
}

impl KeyCache {
    /// Finds a key, asking the issuer when that may help.
    pub(crate) async fn find(
        &self,
        source: Source<'_>,
        wanted: Wanted<'_>,
        now: Timestamp,
    ) -> Result<PublicKey, NoKey> {
        let Some(set) = self.younger(KEYS_KEPT, source, now) else {
            // A set that is just fetched has nothing newer behind it.
            return self.renew(source, now).await.map_err(NoKey::Fetch)?.choose(wanted);
        };
        match set.choose(wanted) {
            Err(NoKey::Unknown) => self.refresh(source, now).await.unwrap_or(set).choose(wanted),
            found => found,
        }
    }

    /// Fetches the set in any case, for a health probe.
    pub(crate) async fn probe(&self, source: Source<'_>, now: Timestamp) -> Result<(), ProviderError> {
        self.cached.turn().await.fetch_anyway(now, source.read()).await.map(drop)
    }

    fn younger(&self, kept: Duration, source: Source<'_>, now: Timestamp) -> Option<Arc<Sourced>> {
        self.cached.younger(kept, now).filter(|sourced| sourced.url == source.url)
    }

    /// Replaces a set that is too old, or keeps it when nothing better can be had.
    async fn renew(&self, source: Source<'_>, now: Timestamp) -> Result<Arc<Sourced>, ProviderError> {
        let turn = self.cached.turn().await;
        if let Some(set) = self.younger(KEYS_KEPT, source, now) {
            return Ok(set);
        }
        let old = self.younger(STALE_KEPT, source, now).filter(|_| source.stale_is_better_than_none);
        turn.fetch(now, source.read()).await.or_else(|error| old.ok_or(error))
    }

    /// What the set is after a refresh, this one or the one that was under way; `None` when there was none.
    async fn refresh(&self, source: Source<'_>, now: Timestamp) -> Option<Arc<Sourced>> {
        let turn = self.cached.turn().await;
        let may = {
            let mut refreshed = self.refreshed.lock();
            let may = refreshed.is_none_or(|last| now.since(last) >= REFRESH_EVERY);
            if may {
                *refreshed = Some(now);
            }
            may
        };
        if !may {
            return self.younger(KEYS_KEPT, source, now);
        }
        let fetched = turn.fetch_anyway(now, source.read()).await;
        fetched.inspect_err(|error| tracing::warn!(%error, "the keys of an issuer could not be refreshed")).ok()
    }
}
