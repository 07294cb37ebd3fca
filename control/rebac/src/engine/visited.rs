//! The places a walk has been to.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use crate::model::refs::ObjectKey;
use crate::model::schema::NameId;

/// Up to this many places are looked through one by one, which is faster than hashing.
const FEW: usize = 16;

/// A name on an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) object: ObjectKey,
    pub(super) name: NameId,
}

/// A set of places.
#[derive(Default)]
pub(super) struct Visited {
    few: Vec<Place>,
    many: HashSet<Place, BuildHasherDefault<Mixed>>,
}

/// Passes on a number that is well mixed already.
#[derive(Default)]
pub(super) struct Mixed(u64);

impl Hash for Place {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let name = u64::from(self.name.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        state.write_u64(self.object.id.hash(self.object.kind) ^ name);
    }
}

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

impl Visited {
    /// Adds a place; `false` when it was there.
    pub(super) fn insert(&mut self, place: Place) -> bool {
        if !self.many.is_empty() {
            return self.many.insert(place);
        }
        if self.few.contains(&place) {
            return false;
        }
        if self.few.len() == FEW {
            self.many.extend(self.few.drain(..));
            return self.many.insert(place);
        }
        self.few.push(place);
        true
    }
}
