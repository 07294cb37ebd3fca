//! What a chain is made of: canonical bytes and hashes. Pure.

mod canonical;
mod check;
#[cfg(test)]
mod tests;

pub use canonical::Row;
pub(crate) use check::fixed;
pub use check::{ChainCheck, Divergence, Exported, Head, Stored};

use sha2::{Digest as _, Sha256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// What stands before the first row: 32 zero bytes.
pub const GENESIS: Hash = [0; 32];

/// `SHA-256(prev ‖ SHA-256(canonical))`, both as raw 32 bytes.
#[must_use]
pub fn link(prev: &Hash, canonical: &[u8]) -> Hash {
    let mut outer = [0u8; 64];
    let (left, right) = outer.split_at_mut(32);
    left.copy_from_slice(prev);
    right.copy_from_slice(&Sha256::digest(canonical));
    Sha256::digest(outer).into()
}
