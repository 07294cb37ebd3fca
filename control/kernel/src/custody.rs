//! Key custody: a ring of versioned wrap keys, and sealing under it.

mod rewrap;
mod stored;

use std::collections::BTreeMap;

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, Key, KeyInit as _, Nonce};
use rand::RngCore as _;
use zeroize::Zeroizing;

pub use rewrap::{Rewrap, RewrapParts, Rewrappable, SealedRow};
pub use stored::{SealedRows, WrapKeyRing};

const FORMAT: u8 = 0x01;
const NONCE_BYTES: usize = 12;

/// Why something cannot be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The ring has no key of this version.
    #[error("wrap key version {0} is not loaded")]
    UnknownVersion(i32),
    /// The sealed bytes are malformed, were changed, or belong to another place.
    #[error("sealed value does not open")]
    DoesNotOpen,
    /// The ring's text is malformed.
    #[error("wrap key ring is malformed")]
    MalformedRing,
}

/// Versioned 32-byte keys that encrypt other keys at rest. Wiped when dropped, never printed.
pub struct KekRing {
    keys: BTreeMap<i32, Zeroizing<[u8; 32]>>,
}

impl KekRing {
    /// Reads a ring: lines of `<version>:<64 hex digits>`; blank lines and lines that begin with `#` are skipped.
    ///
    /// # Errors
    /// [`SealError::MalformedRing`] for any other line, a repeated version, or no key at all.
    pub fn parse(text: &str) -> Result<Self, SealError> {
        let mut keys = BTreeMap::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (version, hex) = line.split_once(':').ok_or(SealError::MalformedRing)?;
            let version: i32 = version.trim().parse().map_err(|_| SealError::MalformedRing)?;
            let mut key = Zeroizing::new([0u8; 32]);
            let decoded = Zeroizing::new(
                data_encoding::HEXLOWER_PERMISSIVE
                    .decode(hex.trim().as_bytes())
                    .map_err(|_| SealError::MalformedRing)?,
            );
            if decoded.len() != 32 || version < 1 {
                return Err(SealError::MalformedRing);
            }
            key.copy_from_slice(&decoded);
            if keys.insert(version, key).is_some() {
                return Err(SealError::MalformedRing);
            }
        }
        if keys.is_empty() { Err(SealError::MalformedRing) } else { Ok(Self { keys }) }
    }

    /// A line for a ring file with a fresh key of version 1.
    #[must_use]
    pub fn generate() -> Zeroizing<String> {
        let mut key = Zeroizing::new([0u8; 32]);
        rand::rng().fill_bytes(key.as_mut_slice());
        Zeroizing::new(format!("1:{}\n", data_encoding::HEXLOWER.encode(key.as_slice())))
    }

    /// The version that seals.
    #[must_use]
    pub fn newest(&self) -> i32 {
        self.keys.keys().next_back().copied().unwrap_or(0)
    }

    /// The versions that are loaded, in ascending order.
    #[must_use]
    pub fn versions(&self) -> Vec<i32> {
        self.keys.keys().copied().collect()
    }

    /// Whether a version is loaded.
    #[must_use]
    pub fn has(&self, version: i32) -> bool {
        self.keys.contains_key(&version)
    }

    /// Seals bytes under the newest key: `0x01 ‖ nonce(12) ‖ AES-256-GCM`, bound to `aad`. Returns the version used.
    ///
    /// # Errors
    /// [`SealError::UnknownVersion`] for an empty ring.
    pub fn seal(&self, plaintext: &[u8], aad: &str) -> Result<(i32, Vec<u8>), SealError> {
        let version = self.newest();
        let mut nonce = [0u8; NONCE_BYTES];
        rand::rng().fill_bytes(&mut nonce);
        let ciphertext = self
            .cipher(version)?
            .encrypt(Nonce::from_slice(&nonce), Payload { msg: plaintext, aad: aad.as_bytes() })
            .map_err(|_| SealError::DoesNotOpen)?;
        let mut sealed = Vec::with_capacity(1 + NONCE_BYTES + ciphertext.len());
        sealed.push(FORMAT);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&ciphertext);
        Ok((version, sealed))
    }

    /// Opens what [`Self::seal`] made under the same `aad`.
    ///
    /// # Errors
    /// [`SealError::UnknownVersion`] or [`SealError::DoesNotOpen`].
    pub fn open(&self, version: i32, sealed: &[u8], aad: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let rest = sealed.strip_prefix(&[FORMAT]).ok_or(SealError::DoesNotOpen)?;
        let (nonce, ciphertext) = rest.split_at_checked(NONCE_BYTES).ok_or(SealError::DoesNotOpen)?;
        self.cipher(version)?
            .decrypt(Nonce::from_slice(nonce), Payload { msg: ciphertext, aad: aad.as_bytes() })
            .map(Zeroizing::new)
            .map_err(|_| SealError::DoesNotOpen)
    }

    fn cipher(&self, version: i32) -> Result<Aes256Gcm, SealError> {
        let key = self.keys.get(&version).ok_or(SealError::UnknownVersion(version))?;
        Ok(Aes256Gcm::new(Key::<Aes256Gcm>::from_slice(key.as_slice())))
    }
}

impl std::fmt::Debug for KekRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KekRing").field("versions", &self.keys.keys()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_value_opens_only_in_its_own_place() {
        let ring = KekRing::parse(&KekRing::generate()).unwrap();
        let (version, sealed) = ring.seal(b"secret", "place-a").unwrap();
        assert_eq!(ring.open(version, &sealed, "place-a").unwrap().as_slice(), b"secret");
        assert_eq!(ring.open(version, &sealed, "place-b"), Err(SealError::DoesNotOpen));
        assert_eq!(ring.open(9, &sealed, "place-a"), Err(SealError::UnknownVersion(9)));
        let other = KekRing::parse(&KekRing::generate()).unwrap();
        assert_eq!(other.open(version, &sealed, "place-a"), Err(SealError::DoesNotOpen));
    }

    #[test]
    fn the_newest_key_seals_and_a_malformed_ring_is_refused() {
        let ring = KekRing::parse(&format!("# ring\n1:{}\n3:{}\n", "ab".repeat(32), "cd".repeat(32))).unwrap();
        assert_eq!(ring.newest(), 3);
        for bad in ["", "1:abcd", "x:00", &format!("0:{}", "ab".repeat(32)), &format!("1:{0}\n1:{0}", "ab".repeat(32))]
        {
            assert!(KekRing::parse(bad).is_err());
        }
    }
}
