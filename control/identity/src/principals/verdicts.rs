//! A memory of keys that were found good, so that Nodes are recognised while the database is away.
//!
//! Keyed by the digest, never by the key. Only good verdicts are kept: a key that is refused is looked up each time.
//! While changes of Nodes are heard, a verdict is believed until its Node has changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use parking_lot::Mutex;
use plexsphere_kernel::Changes;
use plexsphere_kernel::changes::{Forgets, Mark, Memory};
use plexsphere_kernel::principal::NodePlace;
use plexsphere_wire::directory::DirectoryKey;
use plexsphere_wire::nsk::CredentialDigest;
use plexsphere_wire::{NodeId, Timestamp};

/// How long a verdict is believed without asking while changes are not heard. A revocation by another process acts within
/// this time.
pub(crate) const FRESH: Duration = Duration::from_secs(5);
/// How long a verdict is believed while the database cannot be asked.
pub(crate) const USABLE: Duration = Duration::from_secs(600);
/// How long the database is not asked again after it could not be, where memory can answer.
const OUTAGE_PAUSE: Duration = Duration::from_secs(1);
/// The most verdicts kept; the ones least asked for go first.
const MAX_VERDICTS: u64 = 200_000;

#[derive(Clone)]
struct Verdict {
    place: NodePlace,
    at: Timestamp,
}

#[derive(Default)]
struct State {
    /// Revocations that have ended, by commit or not.
    revocations: u64,
    /// Keys with a revocation under way, and how many.
    suspended: HashMap<CredentialDigest, u32>,
    /// Until when the database is not asked.
    outage: Option<Timestamp>,
}

/// The memory. What was read before a revocation is not remembered after it.
pub(crate) struct Verdicts {
    state: Mutex<State>,
    kept: Cache<CredentialDigest, Verdict>,
    heard: Memory<NodeId, (CredentialDigest, NodePlace)>,
}

/// Where a reading stood when it began.
#[derive(Clone, Debug)]
pub(crate) struct Epoch {
    revocations: u64,
    heard: Mark,
}

impl Verdicts {
    pub(crate) fn new(changes: &Arc<Changes>) -> Arc<Self> {
        let verdicts = Arc::new(Self {
            state: Mutex::default(),
            kept: Cache::builder().max_capacity(MAX_VERDICTS).time_to_live(USABLE).build(),
            heard: Memory::new(Arc::clone(changes), MAX_VERDICTS, USABLE),
        });
        changes.follow(&verdicts);
        verdicts
    }

    /// Whose key it is, if that was found and no change of `node` was heard since, or less than [`FRESH`] ago, or less
    /// than [`USABLE`] while an outage is known.
    pub(crate) fn get(&self, node: NodeId, digest: &CredentialDigest, now: Timestamp) -> Option<NodePlace> {
        let state = self.state.lock();
        if state.suspended.contains_key(digest) {
            return None;
        }
        let in_outage = state.outage.is_some_and(|until| now < until);
        drop(state);
        if let Some((_, place)) = self.heard.get(&node).filter(|(known, _)| known == digest) {
            return Some(place);
        }
        self.within(digest, now, if in_outage { USABLE } else { FRESH })
    }

    /// Whose key it is, if that was found less than [`USABLE`] ago: for when the database could not be asked.
    pub(crate) fn in_outage(&self, digest: &CredentialDigest, now: Timestamp) -> Option<NodePlace> {
        self.state.lock().outage = Some(now.plus(OUTAGE_PAUSE));
        self.within(digest, now, USABLE)
    }

    fn within(&self, digest: &CredentialDigest, now: Timestamp, age: Duration) -> Option<NodePlace> {
        let state = self.state.lock();
        if state.suspended.contains_key(digest) {
            return None;
        }
        self.kept.get(digest).filter(|verdict| now.distance(verdict.at) < age).map(|verdict| verdict.place)
    }

    /// To be taken before the database is asked.
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch { revocations: self.state.lock().revocations, heard: self.heard.mark() }
    }

    /// Remembers a key that is good, unless a revocation has begun or ended since `epoch`.
    pub(crate) fn put(&self, epoch: &Epoch, digest: CredentialDigest, place: NodePlace, now: Timestamp) {
        let state = self.state.lock();
        if state.revocations == epoch.revocations && !state.suspended.contains_key(&digest) {
            self.heard.put(&epoch.heard, place.node, (digest, place.clone()));
            self.kept.insert(digest, Verdict { place, at: now });
        }
    }

    /// Forgets a key that was found bad.
    pub(crate) fn forget(&self, digest: &CredentialDigest) {
        if let Some(verdict) = self.kept.remove(digest) {
            self.heard.forget(&verdict.place.node);
        }
    }

    /// Forgets keys, and remembers nothing of them until the value is dropped.
    pub(crate) fn suspend(self: &Arc<Self>, digests: Vec<CredentialDigest>) -> Revocation {
        let mut state = self.state.lock();
        for digest in &digests {
            *state.suspended.entry(*digest).or_default() += 1;
            self.forget(digest);
        }
        drop(state);
        Revocation { verdicts: Arc::clone(self), digests }
    }
}

impl Forgets for Verdicts {
    fn changed(&self, key: DirectoryKey) {
        // What is left for an outage goes as well: the change may have been a revocation.
        if let DirectoryKey::Node(node) = key
            && let Some((digest, _)) = self.heard.forget(&node)
        {
            self.kept.invalidate(&digest);
        }
    }

    fn everything(&self) {
        self.heard.clear();
    }
}

/// Keys that a transaction under way revokes. Hold it until the transaction has ended: from then on the database says
/// what they are.
#[must_use = "hold it until the transaction has ended"]
pub struct Revocation {
    verdicts: Arc<Verdicts>,
    digests: Vec<CredentialDigest>,
}

impl Drop for Revocation {
    fn drop(&mut self) {
        let mut state = self.verdicts.state.lock();
        state.revocations += 1;
        for digest in &self.digests {
            if let Some(count) = state.suspended.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    state.suspended.remove(digest);
                }
            }
        }
    }
}

impl std::fmt::Debug for Revocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Revocation").field("keys", &self.digests.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plexsphere_wire::{DomainId, NodeId, ProjectId, ResourceId};

    fn now() -> Timestamp {
        Timestamp::from_unix_seconds(1_790_000_000)
    }

    fn key() -> (CredentialDigest, NodePlace) {
        let node = NodeId::mint(now());
        let place = NodePlace {
            node,
            domain: DomainId::mint(now()),
            project: ProjectId::mint(now()),
            resource: ResourceId::mint(now()),
        };
        (CredentialDigest::of(node, &[7; 32]), place)
    }

    #[test]
    fn a_verdict_is_fresh_for_five_seconds_and_usable_for_ten_minutes_in_an_outage() {
        let (verdicts, (digest, place)) = (Verdicts::new(&Changes::new()), key());
        verdicts.put(&verdicts.epoch(), digest, place.clone(), now());
        let (fresh, usable) = (now().plus(FRESH), now().plus(USABLE));
        assert_eq!(verdicts.get(place.node, &digest, now()), Some(place.clone()));
        assert_eq!(verdicts.get(place.node, &digest, fresh), None);
        assert_eq!(verdicts.in_outage(&digest, fresh), Some(place.clone()));
        assert_eq!(
            verdicts.get(place.node, &digest, fresh),
            Some(place.clone()),
            "an outage is remembered for a second"
        );
        assert_eq!(verdicts.get(place.node, &digest, fresh.plus(OUTAGE_PAUSE)), None);
        assert_eq!(verdicts.in_outage(&digest, usable), None);
    }

    #[test]
    fn what_was_read_before_a_revocation_ended_is_not_remembered() {
        let (verdicts, (digest, place)) = (Verdicts::new(&Changes::new()), key());
        let before = verdicts.epoch();
        verdicts.put(&before, digest, place.clone(), now());
        let revocation = verdicts.suspend(vec![digest]);
        assert_eq!(verdicts.get(place.node, &digest, now()), None);
        let during = verdicts.epoch();
        verdicts.put(&during, digest, place.clone(), now());
        assert_eq!(verdicts.get(place.node, &digest, now()), None, "the revocation may commit at any moment");
        drop(revocation);
        for epoch in [&before, &during] {
            verdicts.put(epoch, digest, place.clone(), now());
            assert_eq!(verdicts.get(place.node, &digest, now()), None);
        }
        verdicts.put(&verdicts.epoch(), digest, place.clone(), now());
        assert_eq!(
            verdicts.get(place.node, &digest, now()),
            Some(place),
            "a revocation that was rolled back costs one reading"
        );
    }
}
