//! Counts as pairs of place and count: nearly all of a histogram's buckets are empty.

use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

use super::BUCKETS;

pub(super) fn serialize<S: Serializer>(counts: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
    let pairs: Vec<(usize, u64)> = counts.iter().copied().enumerate().filter(|(_, count)| *count > 0).collect();
    pairs.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    let mut counts = vec![0; BUCKETS];
    for (place, count) in Vec::<(usize, u64)>::deserialize(deserializer)? {
        *counts.get_mut(place).ok_or_else(|| serde::de::Error::custom("there is no such bucket"))? = count;
    }
    Ok(counts)
}
