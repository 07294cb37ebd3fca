//! The token pepper: the server's key without which a digest of a token says nothing.

use std::sync::Arc;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// 32 bytes that never reach the database. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct TokenPepper(Arc<Zeroizing<[u8; 32]>>);

impl TokenPepper {
    /// Takes the bytes from configuration.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Arc::new(Zeroizing::new(bytes)))
    }

    /// HMAC-SHA256 under the pepper.
    #[must_use]
    pub fn digest(&self, message: &[u8]) -> [u8; 32] {
        // HMAC takes a key of any length, so this cannot fail; an all-zero digest would match nothing anyway.
        Hmac::<Sha256>::new_from_slice(self.0.as_slice()).map_or([0; 32], |mut mac| {
            mac.update(message);
            mac.finalize().into_bytes().into()
        })
    }
}

impl std::fmt::Debug for TokenPepper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenPepper(…)")
    }
}
