//! The Node directory in memory: follows control's key-value bucket, asks control on a miss.
//!
//! Losing the feed does not end service: the map is believed for a grace time, then every answer is a fault.

mod feed;
mod lookup;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ed25519_dalek::VerifyingKey;
use plexsphere_wire::directory::{DomainEntry, NodeEntry};
use plexsphere_wire::envelope::parse_public_key;
use plexsphere_wire::subjects::Origin;
use plexsphere_wire::{DomainId, NodeId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use feed::follow;
pub use lookup::{Lookup, LookupFault};

/// A Node as the hot path needs it.
#[derive(Debug)]
pub struct NodeRecord {
    /// What control projected.
    pub entry: NodeEntry,
    /// Where its telemetry comes from.
    pub origin: Origin,
    batches: Arc<Semaphore>,
}

impl NodeRecord {
    /// Prepares an entry.
    #[must_use]
    pub fn new(entry: NodeEntry) -> Self {
        let origin = Origin { domain: entry.domain, project: entry.project, node: entry.node };
        Self { entry, origin, batches: Arc::new(Semaphore::new(BATCHES_AT_A_TIME)) }
    }

    /// A place among the batches that the Node may have under way here; `None` when all are taken.
    #[must_use]
    pub fn admit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.batches).try_acquire_owned().ok()
    }
}

/// How many batches of one Node may be under way, so that one that sends slowly cannot take every place of the edge. An
/// agent sends its three signals one by one.
const BATCHES_AT_A_TIME: usize = 8;

/// A Domain with its keys ready for use.
#[derive(Debug)]
pub struct DomainRecord {
    /// What control projected.
    pub entry: DomainEntry,
    keys: Vec<(String, VerifyingKey)>,
}

impl DomainRecord {
    /// Prepares an entry; a key that is none is left out.
    #[must_use]
    pub fn new(entry: DomainEntry) -> Self {
        let keys = entry.keys.iter().filter_map(|key| Some((key.kid.clone(), parse_public_key(&key.public_key)?)));
        let keys = keys.collect();
        Self { entry, keys }
    }

    /// The key of a kid.
    #[must_use]
    pub fn key(&self, kid: &str) -> Option<&VerifyingKey> {
        self.keys.iter().find(|(name, _)| name == kid).map(|(_, key)| key)
    }

    /// The version of a kid in the Domain's key line, if it is still listed.
    #[must_use]
    pub fn version(&self, kid: &str) -> Option<i32> {
        self.entry.keys.iter().find(|key| key.kid == kid).map(|key| key.version)
    }
}

/// What an edge knows of Nodes and Domains. Reads take no lock.
#[derive(Default)]
pub struct Directory {
    nodes: papaya::HashMap<NodeId, Arc<NodeRecord>>,
    domains: papaya::HashMap<DomainId, Arc<DomainRecord>>,
    synced: AtomicBool,
    fresh_at_millis: AtomicU64,
}

impl Directory {
    /// An empty directory that was never in step with its feed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The Node, if it is known.
    #[must_use]
    pub fn node(&self, node: NodeId) -> Option<Arc<NodeRecord>> {
        self.nodes.pin().get(&node).cloned()
    }

    /// The Domain, if it is known.
    #[must_use]
    pub fn domain(&self, domain: DomainId) -> Option<Arc<DomainRecord>> {
        self.domains.pin().get(&domain).cloned()
    }

    /// Enters or replaces a Node.
    pub fn put_node(&self, entry: NodeEntry) {
        let nodes = self.nodes.pin();
        let mut record = NodeRecord::new(entry);
        // Batches under way count against the same places, whatever else changed about the Node.
        if let Some(known) = nodes.get(&record.entry.node) {
            record.batches = Arc::clone(&known.batches);
        }
        nodes.insert(record.entry.node, Arc::new(record));
    }

    /// Enters or replaces a Domain.
    pub fn put_domain(&self, entry: DomainEntry) {
        self.domains.pin().insert(entry.domain, Arc::new(DomainRecord::new(entry)));
    }

    /// Forgets a Node.
    pub fn remove_node(&self, node: NodeId) {
        self.nodes.pin().remove(&node);
    }

    /// Forgets a Domain.
    pub fn remove_domain(&self, domain: DomainId) {
        self.domains.pin().remove(&domain);
    }

    /// How many Nodes are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether no Node is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Notes that the map was in step with the bucket at `now`.
    pub fn mark_fresh(&self, now: Duration) {
        self.fresh_at_millis.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.synced.store(true, Ordering::Release);
    }

    /// Whether the map was in step with the bucket within the last `grace`.
    #[must_use]
    pub fn believed(&self, now: Duration, grace: Duration) -> bool {
        let fresh_at = Duration::from_millis(self.fresh_at_millis.load(Ordering::Relaxed));
        self.synced.load(Ordering::Acquire) && now.saturating_sub(fresh_at) <= grace
    }

    /// Forgets what is not to be kept; returns the Nodes among it.
    fn retain(&self, nodes: impl Fn(NodeId) -> bool, domains: impl Fn(DomainId) -> bool) -> Vec<NodeId> {
        let known = self.nodes.pin();
        let gone: Vec<NodeId> = known.keys().copied().filter(|node| !nodes(*node)).collect();
        for node in &gone {
            known.remove(node);
        }
        self.domains.pin().retain(|domain, _| domains(*domain));
        gone
    }
}

#[cfg(test)]
mod tests {
    use plexsphere_wire::{ProjectId, ResourceId, Timestamp};

    use super::*;

    #[test]
    fn one_node_cannot_take_every_place_and_gives_its_own_back() {
        let now = Timestamp::from_unix_seconds(1_780_000_000);
        let record = NodeRecord::new(NodeEntry {
            node: NodeId::mint(now),
            domain: DomainId::mint(now),
            project: ProjectId::mint(now),
            resource: ResourceId::mint(now),
            credentials: Vec::new(),
            deregistered: false,
            pinned_kid: "k-1".to_owned(),
        });
        let mut held: Vec<_> = std::iter::from_fn(|| record.admit()).collect();
        assert_eq!(held.len(), BATCHES_AT_A_TIME);
        held.pop();
        assert!(record.admit().is_some());
    }
}
