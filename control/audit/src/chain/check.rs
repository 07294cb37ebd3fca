//! Checks a chain row by row. Knows nothing of where the rows come from.

use uuid::Uuid;

use super::{GENESIS, Hash, Row, link};

/// An entry as it is stored, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored<'a> {
    /// What its columns say.
    pub row: Row<'a>,
    /// The hash it names as its predecessor's.
    pub prev_hash: &'a [u8],
    /// Its hash.
    pub entry_hash: &'a [u8],
    /// The bytes that were hashed.
    pub canonical: &'a [u8],
}

/// An entry as it is exported: without columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported<'a> {
    /// Its place.
    pub seq: i64,
    /// The hash it names as its predecessor's.
    pub prev_hash: &'a [u8],
    /// Its hash.
    pub entry_hash: &'a [u8],
    /// The bytes that were hashed.
    pub canonical: &'a [u8],
}

/// Where a chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The place of the last row; 0 for a chain without rows.
    pub seq: i64,
    /// The hash of the last row.
    pub hash: Hash,
}

/// The first row at which a chain does not hold. A finding, not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// Its place.
    pub seq: i64,
    /// The hash it should have: recomputed behind the true predecessor, or, of a missing row, the one its successor names.
    pub expected: Hash,
    /// The hash that is stored; zeros for a missing row.
    pub observed: Hash,
}

/// A walk along a chain. Memory does not grow with it.
#[derive(Clone, Debug)]
pub struct ChainCheck {
    last: Head,
    buffer: Vec<u8>,
}

impl ChainCheck {
    /// From the first row.
    #[must_use]
    pub const fn from_genesis() -> Self {
        Self::behind(Head { seq: 0, hash: GENESIS })
    }

    /// From the row behind `last`.
    #[must_use]
    pub const fn behind(last: Head) -> Self {
        Self { last, buffer: Vec::new() }
    }

    /// Where the walk stands.
    #[must_use]
    pub const fn last(&self) -> Head {
        self.last
    }

    /// The next row: (a) it follows its predecessor, (b) names its hash, (c) has the hash of its bytes, (d) whose columns
    /// say what the bytes say.
    ///
    /// # Errors
    /// [`Divergence`] at the first row that fails.
    pub fn entry(&mut self, stored: &Stored<'_>) -> Result<(), Divergence> {
        self.link(stored.row.seq, stored.prev_hash, stored.entry_hash, stored.canonical)?;
        self.buffer.clear();
        stored.row.encode(&mut self.buffer);
        if self.buffer == stored.canonical {
            self.last = Head { seq: stored.row.seq, hash: fixed(stored.entry_hash) };
            return Ok(());
        }
        let expected = link(&self.last.hash, &self.buffer);
        Err(Divergence { seq: stored.row.seq, expected, observed: fixed(stored.entry_hash) })
    }

    /// As [`Self::entry`] for an exported entry: its bytes must say `chain` and its place.
    ///
    /// # Errors
    /// [`Divergence`].
    pub fn exported(&mut self, chain: Uuid, entry: &Exported<'_>) -> Result<(), Divergence> {
        self.link(entry.seq, entry.prev_hash, entry.entry_hash, entry.canonical)?;
        #[derive(serde::Deserialize)]
        struct Says {
            chain: Uuid,
            seq: i64,
            v: u8,
        }
        let says = serde_json::from_slice::<Says>(entry.canonical);
        let hash = fixed(entry.entry_hash);
        match says {
            Ok(says) if says.chain == chain && says.seq == entry.seq && says.v == 1 => {
                self.last = Head { seq: entry.seq, hash };
                Ok(())
            }
            Ok(_) | Err(_) => Err(Divergence { seq: entry.seq, expected: GENESIS, observed: hash }),
        }
    }

    /// The end of an unbounded walk: the head must be the last row.
    ///
    /// # Errors
    /// [`Divergence`] at the first row that was cut off, or at the last one when the head names another hash.
    pub fn end(&self, head: &Head) -> Result<(), Divergence> {
        if self.last == *head {
            Ok(())
        } else if self.last.seq < head.seq {
            let cut_one = head.seq == self.last.seq + 1;
            let expected = if cut_one { head.hash } else { GENESIS };
            Err(Divergence { seq: self.last.seq + 1, expected, observed: GENESIS })
        } else {
            let seq = self.last.seq.min(head.seq + 1);
            Err(Divergence { seq, expected: head.hash, observed: self.last.hash })
        }
    }

    fn link(&self, seq: i64, prev: &[u8], own: &[u8], canonical: &[u8]) -> Result<(), Divergence> {
        let next = self.last.seq + 1;
        if seq != next {
            return Err(Divergence { seq: next, expected: fixed(prev), observed: GENESIS });
        }
        let expected = link(&self.last.hash, canonical);
        if prev == self.last.hash && own == expected {
            return Ok(());
        }
        Err(Divergence { seq, expected, observed: fixed(own) })
    }
}

/// Stored bytes as a hash: cut or filled with zeros, for somebody may have changed their length.
pub(crate) fn fixed(bytes: &[u8]) -> Hash {
    let mut hash = GENESIS;
    for (place, byte) in hash.iter_mut().zip(bytes) {
        *place = *byte;
    }
    hash
}
