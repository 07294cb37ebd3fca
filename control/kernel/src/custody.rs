//! Key custody: a ring of versioned wrap keys, and sealing under it.

pub mod openbao;
mod rewrap;
mod stored;

use std::collections::BTreeMap;

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, Key, KeyInit as _, Nonce};
use rand::RngCore as _;
use subtle::ConstantTimeEq as _;
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
    sealing: i32,
}

impl KekRing {
    /// Reads a ring: lines of `<version>:<64 hex digits>`, or the same with `:standby` behind for a key that opens and
    /// does not seal, until every replica holds it. A comma ends a line too, for values of one line. Blank lines and
    /// lines that begin with `#` are skipped.
    ///
    /// # Errors
    /// [`SealError::MalformedRing`] for any other line, a repeated version, or no key that seals.
    pub fn parse(text: &str) -> Result<Self, SealError> {
        let (mut keys, mut sealing) = (BTreeMap::new(), 0);
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        for line in lines.flat_map(|line| line.split(',')).map(str::trim).filter(|line| !line.is_empty()) {
            let (version, hex) = line.split_once(':').ok_or(SealError::MalformedRing)?;
            let (hex, seals) = hex.strip_suffix(":standby").map_or((hex, true), |hex| (hex, false));
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
            if seals {
                sealing = sealing.max(version);
            }
        }
        if sealing == 0 { Err(SealError::MalformedRing) } else { Ok(Self { keys, sealing }) }
    }

    /// A line for a ring file with a fresh key of version 1.
    #[must_use]
    pub fn generate() -> Zeroizing<String> {
        let mut key = Zeroizing::new([0u8; 32]);
        rand::rng().fill_bytes(key.as_mut_slice());
        Zeroizing::new(format!("1:{}\n", data_encoding::HEXLOWER.encode(key.as_slice())))
    }

    /// The version that seals: the newest one that does not stand by.
    #[must_use]
    pub const fn newest(&self) -> i32 {
        self.sealing
    }

    /// Whether some key is in both rings, under whatever version.
    #[must_use]
    pub fn shares_a_key_with(&self, other: &Self) -> bool {
        self.keys
            .values()
            .any(|key| other.keys.values().any(|theirs| bool::from(key.as_slice().ct_eq(theirs.as_slice()))))
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
        let standby = KekRing::parse(&format!("1:{},2:{}:standby", "ab".repeat(32), "cd".repeat(32))).unwrap();
        assert_eq!((standby.newest(), standby.versions()), (1, vec![1, 2]));
        assert!(standby.shares_a_key_with(&ring));
        assert!(!standby.shares_a_key_with(&KekRing::parse(&KekRing::generate()).unwrap()));
        let all_stand_by = format!("1:{}:standby", "ab".repeat(32));
        for bad in [
            &all_stand_by,
            "",
            "1:abcd",
            "x:00",
            &format!("0:{}", "ab".repeat(32)),
            &format!("1:{0}\n1:{0}", "ab".repeat(32)),
        ] {
            assert!(KekRing::parse(bad).is_err());
        }
    }
}
