//! Pseudonyms and the keys that make them.
//!
//! Every chain has a pepper of its own, derived from the deployment's audit key:
//! `HKDF-SHA256(ikm = audit key, salt = none, info = "plexsphere/audit/pepper/v1|" ‖ anchor as text)`. Nothing has to be
//! stored for a chain, and losing the database loses no pepper. The audit key is never rotated while chains live: another
//! key would make other pseudonyms, and neither erasure nor subject filters would find the old ones.

use data_encoding::HEXLOWER_PERMISSIVE;
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use rand::RngCore as _;
use sha2::Sha256;
use uuid::Uuid;
use zeroize::Zeroizing;

const INFO: &str = "plexsphere/audit/pepper/v1|";

/// The text is no audit key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit key is not 64 hex digits")]
pub struct AuditKeyError;

/// The deployment's audit key: 32 bytes. Wiped when dropped, never printed.
pub struct AuditKey(Zeroizing<[u8; 32]>);

/// The key of one chain's pseudonyms.
pub struct Pepper {
    anchor: Uuid,
    key: Zeroizing<[u8; 32]>,
}

impl AuditKey {
    /// Reads 64 hex digits; white space around them is skipped.
    ///
    /// # Errors
    /// [`AuditKeyError`] for anything else.
    pub fn parse(text: &str) -> Result<Self, AuditKeyError> {
        let decoded = Zeroizing::new(HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).map_err(|_| AuditKeyError)?);
        let mut key = Zeroizing::new([0u8; 32]);
        if decoded.len() != key.len() {
            return Err(AuditKeyError);
        }
        key.copy_from_slice(&decoded);
        Ok(Self(key))
    }

    /// The text of a fresh key.
    #[must_use]
    pub fn generate() -> Zeroizing<String> {
        let mut key = Zeroizing::new([0u8; 32]);
        rand::rng().fill_bytes(key.as_mut_slice());
        Zeroizing::new(format!("{}\n", data_encoding::HEXLOWER.encode(key.as_slice())))
    }

    /// The pepper of a chain.
    #[must_use]
    pub fn pepper(&self, anchor: Uuid) -> Pepper {
        let mut key = Zeroizing::new([0u8; 32]);
        let info = format!("{INFO}{}", anchor.hyphenated());
        // 32 bytes are far below the 255 blocks that HKDF can give.
        let _ = Hkdf::<Sha256>::new(None, self.0.as_slice()).expand(info.as_bytes(), key.as_mut_slice());
        Pepper { anchor, key }
    }
}

impl Pepper {
    /// `HMAC-SHA-256(pepper, anchor(16) ‖ subject(16))`.
    #[must_use]
    pub fn pseudonym(&self, subject: Uuid) -> [u8; 32] {
        self.hash(subject.as_bytes())
    }

    /// As [`Self::pseudonym`], for a name that is no UUID.
    #[must_use]
    pub fn pseudonym_of_name(&self, name: &str) -> [u8; 32] {
        self.hash(name.as_bytes())
    }

    fn hash(&self, message: &[u8]) -> [u8; 32] {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.key.as_slice()) else {
            // HMAC takes keys of every length.
            return [0; 32];
        };
        mac.update(self.anchor.as_bytes());
        mac.update(message);
        mac.finalize().into_bytes().into()
    }
}

impl std::fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuditKey")
    }
}

impl std::fmt::Debug for Pepper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pepper").field("anchor", &self.anchor).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_subject_has_unrelated_pseudonyms_on_two_chains_and_the_same_one_on_one() {
        let key = AuditKey::parse(&"ab".repeat(32)).unwrap();
        let (one, two, subject) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
        assert_eq!(key.pepper(one).pseudonym(subject), key.pepper(one).pseudonym(subject));
        assert_ne!(key.pepper(one).pseudonym(subject), key.pepper(two).pseudonym(subject));
        let other = AuditKey::parse(&AuditKey::generate()).unwrap();
        assert_ne!(key.pepper(one).pseudonym(subject), other.pepper(one).pseudonym(subject));
        assert_ne!(key.pepper(one).pseudonym(subject), [0; 32]);
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        for bad in ["", "ab", &"ab".repeat(33), &"zz".repeat(32)] {
            assert_eq!(AuditKey::parse(bad).err(), Some(AuditKeyError));
        }
    }
}
