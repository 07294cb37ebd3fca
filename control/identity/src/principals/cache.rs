//! A short memory of what the database said, with an eviction that a racing load cannot undo.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use plexsphere_wire::Timestamp;

/// How long an answer is believed; a change elsewhere acts within this time.
pub(crate) const TTL: Duration = Duration::from_secs(5);

/// The most answers remembered.
const CAPACITY: usize = 10_000;

/// Where a load stood when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch(u64);

struct State<K, V> {
    evictions: u64,
    entries: HashMap<K, (V, Timestamp)>,
}

/// Remembers values for [`TTL`]. What was loaded before an eviction is not remembered after it.
pub(crate) struct Cache<K, V> {
    state: Mutex<State<K, V>>,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State { evictions: 0, entries: HashMap::new() }) }
    }

    /// The value, if it was remembered less than [`TTL`] ago.
    pub(crate) fn get(&self, key: &K, now: Timestamp) -> Option<V> {
        let state = self.state.lock();
        state.entries.get(key).filter(|(_, at)| now.distance(*at) < TTL).map(|(value, _)| value.clone())
    }

    /// To be taken before the value is loaded.
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.state.lock().evictions)
    }

    /// Remembers a value, unless something was evicted since `epoch`.
    pub(crate) fn put(&self, epoch: Epoch, key: K, value: V, now: Timestamp) {
        let mut state = self.state.lock();
        if state.evictions != epoch.0 {
            return;
        }
        if state.entries.len() >= CAPACITY {
            state.entries.retain(|_, (_, at)| now.distance(*at) < TTL);
        }
        if state.entries.len() < CAPACITY {
            state.entries.insert(key, (value, now));
        }
    }

    /// Changes a value that is remembered, and leaves its age: what was not asked again is no younger.
    pub(crate) fn amend(&self, key: &K, change: impl FnOnce(&mut V)) {
        if let Some((value, _)) = self.state.lock().entries.get_mut(key) {
            change(value);
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        let mut state = self.state.lock();
        state.evictions += 1;
        state.entries.clear();
    }

    /// Forgets a value.
    pub(crate) fn evict(&self, key: &K) {
        let mut state = self.state.lock();
        state.evictions += 1;
        state.entries.remove(key);
    }
}
