//! A shard of the hub: the rings of its Domains, and their streams.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use plexsphere_wire::subjects::EventTarget;
use plexsphere_wire::{DomainId, NodeId, Timestamp};

use super::burst::Pending;
use super::connection::Connection;
use super::hub::EventFrame;

/// What is locked together.
#[derive(Default)]
pub(super) struct Shard {
    rings: HashMap<(DomainId, EventTarget), VecDeque<Arc<EventFrame>>>,
    order: VecDeque<Arc<EventFrame>>,
    bytes: usize,
    /// Every frame above this sequence is in the rings.
    pub(super) floor: u64,
    /// When the newest frame that was dropped had been signed.
    pub(super) dropped_issued_at: Option<Timestamp>,
    pub(super) applied: u64,
    pub(super) nodes: HashMap<NodeId, Vec<Arc<Connection>>>,
    pub(super) domains: HashMap<DomainId, Followers>,
}

/// The streams of one Domain.
#[derive(Default)]
pub(super) struct Followers {
    /// Those whose frames go through a response body, by number.
    pub(super) attached: HashMap<u64, Arc<Connection>>,
    /// Those on lines of their own. A walk goes from the end down, and what is taken out is replaced by the last one, so
    /// that it misses nobody.
    pub(super) parked: Vec<Arc<Connection>>,
    /// What has not been offered to every parked one.
    pub(super) pending: Vec<Pending>,
}

/// A stream's place among the parked ones of its Domain. Moved under the shard's lock only.
#[derive(Debug)]
pub(super) struct Slot(AtomicUsize);

impl Default for Slot {
    fn default() -> Self {
        Self(AtomicUsize::new(usize::MAX))
    }
}

impl Followers {
    /// Takes a stream from among the attached ones to the parked ones.
    fn park(&mut self, connection: &Arc<Connection>) {
        self.attached.remove(&connection.id);
        connection.slot.0.store(self.parked.len(), Ordering::Relaxed);
        self.parked.push(Arc::clone(connection));
    }

    /// Parked streams below a place, so many at most, and from which place on they are; `None` when there are none.
    pub(super) fn before(&self, place: usize, count: usize) -> Option<(usize, Vec<Arc<Connection>>)> {
        let end = place.min(self.parked.len());
        let from = end.saturating_sub(count);
        let streams = self.parked.get(from..end).filter(|streams| !streams.is_empty())?;
        Some((from, streams.to_vec()))
    }

    fn remove(&mut self, connection: &Arc<Connection>) {
        self.attached.remove(&connection.id);
        let slot = connection.slot.0.swap(usize::MAX, Ordering::Relaxed);
        if slot < self.parked.len() {
            self.parked.swap_remove(slot);
            if let Some(moved) = self.parked.get(slot) {
                moved.slot.0.store(slot, Ordering::Relaxed);
            }
        }
        if self.parked.is_empty() {
            self.pending.clear();
        }
    }
}

impl Shard {
    /// Forgets all frames: nothing up to `sequence` is in the rings.
    pub(super) fn begin(&mut self, sequence: u64) {
        self.floor = sequence;
        self.dropped_issued_at = None;
        self.applied = sequence;
        // A first load that broke off begins again, and would put its frames beside themselves.
        self.rings.clear();
        self.order.clear();
        self.bytes = 0;
        self.domains.values_mut().for_each(|followers| followers.pending.clear());
    }

    /// Enters a frame into its ring, and drops the oldest ones beyond `share` bytes.
    pub(super) fn enter(&mut self, frame: &Arc<EventFrame>, share: usize) {
        self.applied = frame.sequence;
        self.bytes += frame.bytes.len();
        self.order.push_back(Arc::clone(frame));
        self.rings.entry((frame.domain, frame.target)).or_default().push_back(Arc::clone(frame));
        self.evict(|oldest, bytes| bytes > share && oldest.sequence < frame.sequence);
    }

    /// Takes in a stream.
    pub(super) fn join(&mut self, connection: &Arc<Connection>) {
        self.nodes.entry(connection.node).or_default().push(Arc::clone(connection));
        let followers = self.domains.entry(connection.domain).or_default();
        followers.attached.insert(connection.id, Arc::clone(connection));
    }

    /// Notes that a stream goes on without its response body; the sequence up to which it has been offered all.
    pub(super) fn park(&mut self, connection: &Arc<Connection>) -> u64 {
        self.domains.entry(connection.domain).or_default().park(connection);
        self.applied.max(connection.above)
    }

    /// Takes a stream out.
    pub(super) fn leave(&mut self, connection: &Arc<Connection>) {
        if let Some(streams) = self.nodes.get_mut(&connection.node) {
            streams.retain(|other| other.id != connection.id);
            if streams.is_empty() {
                self.nodes.remove(&connection.node);
            }
        }
        if let Some(followers) = self.domains.get_mut(&connection.domain) {
            followers.remove(connection);
            if followers.attached.is_empty() && followers.parked.is_empty() {
                self.domains.remove(&connection.domain);
            }
        }
    }

    /// Drops frames from the oldest on while `drop_it` says so of the oldest and the bytes held.
    pub(super) fn evict(&mut self, drop_it: impl Fn(&EventFrame, usize) -> bool) {
        while let Some(oldest) = self.order.front()
            && drop_it(oldest, self.bytes)
        {
            let Some(oldest) = self.order.pop_front() else { return };
            self.floor = oldest.sequence;
            self.dropped_issued_at = self.dropped_issued_at.max(Some(oldest.issued_at));
            self.bytes -= oldest.bytes.len();
            let key = (oldest.domain, oldest.target);
            if let Some(ring) = self.rings.get_mut(&key) {
                ring.pop_front();
                if ring.is_empty() {
                    self.rings.remove(&key);
                }
            }
        }
    }

    /// The frames for a Node with sequences in `(from, to]`, in order.
    pub(super) fn between(&self, (node, domain): (NodeId, DomainId), from: u64, to: u64) -> VecDeque<Arc<EventFrame>> {
        let targets = [EventTarget::Domain, EventTarget::Node(node)];
        let rings = targets.iter().filter_map(|target| self.rings.get(&(domain, *target)));
        let wanted = rings.flatten().filter(|frame| frame.sequence > from && frame.sequence <= to);
        let mut frames: Vec<_> = wanted.cloned().collect();
        frames.sort_by_key(|frame| frame.sequence);
        frames.into()
    }
}
