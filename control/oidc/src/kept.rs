//! A bounded map of things that can be had again: the one that was not used for longest makes room.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

/// At most `most` values. Finding room looks at all of them, which at a thousand costs less than one fetch.
#[derive(Debug)]
pub(crate) struct Kept<K, V> {
    most: usize,
    state: Mutex<State<K, V>>,
}

#[derive(Debug)]
struct State<K, V> {
    entries: HashMap<K, (Arc<V>, u64)>,
    uses: u64,
}

impl<K: Clone + Eq + Hash, V: Default> Kept<K, V> {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, state: Mutex::new(State { entries: HashMap::new(), uses: 0 }) }
    }

    /// The value of this key, made when there is none.
    pub(crate) fn of(&self, key: &K) -> Arc<V> {
        let mut state = self.state.lock();
        state.uses += 1;
        let uses = state.uses;
        if let Some((value, used)) = state.entries.get_mut(key) {
            *used = uses;
            return Arc::clone(value);
        }
        if state.entries.len() >= self.most {
            let oldest = state.entries.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                state.entries.remove(&oldest);
            }
        }
        let value = Arc::<V>::default();
        state.entries.insert(key.clone(), (Arc::clone(&value), uses));
        value
    }

    pub(crate) fn forget(&self, key: &K) {
        self.state.lock().entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_unused_for_longest_makes_room() {
        let kept = Kept::<u8, Mutex<u8>>::new(2);
        *kept.of(&1).lock() = 10;
        *kept.of(&2).lock() = 20;
        assert_eq!(*kept.of(&1).lock(), 10);
        kept.of(&3);
        assert_eq!(*kept.of(&1).lock(), 10);
        assert_eq!(*kept.of(&2).lock(), 0);
        kept.forget(&2);
        assert_eq!(kept.state.lock().entries.len(), 1);
    }
}
