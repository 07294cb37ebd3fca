//! The Node Secret Key on the wire: the bearer envelope and the digest by which it is recognised.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::NodeId;

/// Length of a Node Secret Key in bytes.
pub const NSK_BYTES: usize = 32;

/// Bytes of the envelope's payload: 16 of the Node id, 32 of the key.
const PAYLOAD_BYTES: usize = 16 + NSK_BYTES;

/// A credential as a Node presents it: `nsk_<env>_<base64url-nopad(node id ‖ key)>`.
///
/// The key is wiped when the value is dropped and never printed.
pub struct NskBearer {
    /// The Node that the bearer claims to be.
    pub node: NodeId,
    key: Zeroizing<[u8; NSK_BYTES]>,
}

impl NskBearer {
    /// Parses the text behind `Bearer `. The `<env>` segment must be there and is otherwise ignored.
    ///
    /// `None` for another prefix, padding, another length, another alphabet or non-canonical trailing bits.
    #[must_use]
    pub fn parse(token: &str) -> Option<Self> {
        let rest = token.strip_prefix("nsk_")?;
        // The payload's alphabet contains `_`, so only the first one behind the prefix separates.
        let (env, payload) = rest.split_once('_')?;
        if env.is_empty() || payload.len() != PAYLOAD_BYTES / 3 * 4 {
            return None;
        }
        let mut bytes = Zeroizing::new([0u8; PAYLOAD_BYTES]);
        let written = URL_SAFE_NO_PAD.decode_slice(payload, bytes.as_mut_slice()).ok()?;
        if written != PAYLOAD_BYTES {
            return None;
        }
        let node = NodeId::from_bytes(*bytes.first_chunk::<16>()?)?;
        let key = Zeroizing::new(*bytes.last_chunk::<NSK_BYTES>()?);
        Some(Self { node, key })
    }

    /// Parses an `Authorization` header value; the scheme is case-insensitive.
    #[must_use]
    pub fn from_authorization(value: &str) -> Option<Self> {
        let (scheme, token) = value.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") { Self::parse(token.trim_start_matches(' ')) } else { None }
    }

    /// The digest by which the directory and the table recognise the key.
    #[must_use]
    pub fn digest(&self) -> CredentialDigest {
        CredentialDigest::of(self.node, &self.key)
    }
}

/// Renders the bearer of a key, as an agent does.
#[must_use]
pub fn render_bearer(env: &str, node: NodeId, key: &[u8; NSK_BYTES]) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0u8; PAYLOAD_BYTES]);
    let (head, tail) = bytes.split_at_mut(16);
    head.copy_from_slice(node.as_bytes());
    tail.copy_from_slice(key);
    Zeroizing::new(format!("nsk_{env}_{}", URL_SAFE_NO_PAD.encode(bytes.as_slice())))
}

/// SHA-256 over a fixed prefix, the Node id and the key.
///
/// A key is 32 uniformly random bytes, so a fast digest cannot be turned back and a slow one would only cost time.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CredentialDigest([u8; 32]);

impl CredentialDigest {
    /// The digest of a Node's key.
    #[must_use]
    pub fn of(node: NodeId, key: &[u8; NSK_BYTES]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"plexsphere/nsk/v1\0");
        hasher.update(node.as_bytes());
        hasher.update(key);
        Self(hasher.finalize().into())
    }

    /// Takes 32 bytes from a table.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Equality in constant time.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        subtle::ConstantTimeEq::ct_eq(self.0.as_slice(), other.0.as_slice()).into()
    }
}

impl std::fmt::Debug for CredentialDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CredentialDigest(…)")
    }
}

impl Serialize for CredentialDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for CredentialDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text.as_bytes()).map_err(serde::de::Error::custom)?;
        let bytes = <[u8; 32]>::try_from(bytes).map_err(|_| serde::de::Error::custom("not 32 bytes"))?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VECTOR: &str = "nsk_plexd_AZCouKDAegqKCqCgoKCgoyoqKioqKioqKioqKioqKioqKioqKioqKioqKioqKioq";

    #[test]
    fn the_published_vector_parses_and_renders() {
        let node: NodeId = "0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a3".parse().unwrap();
        let bearer = NskBearer::from_authorization(&format!("bEaReR {VECTOR}")).unwrap();
        assert_eq!(bearer.node, node);
        assert!(bearer.digest().matches(&CredentialDigest::of(node, &[0x2a; 32])));
        assert_eq!(render_bearer("plexd", node, &[0x2a; 32]).as_str(), VECTOR);
    }

    #[test]
    fn anything_but_the_exact_envelope_is_refused() {
        let raw = STANDARD.encode([0x2a; 32]);
        let no_env = VECTOR.replace("plexd", "");
        let padded = format!("{VECTOR}=");
        for bad in
            ["", "nsk_", "nsk_plexd_", "psk_plexd_x", raw.as_str(), no_env.as_str(), padded.as_str(), &VECTOR[..70]]
        {
            assert!(NskBearer::parse(bad).is_none(), "{bad}");
        }
        assert!(NskBearer::from_authorization(VECTOR).is_none());
        assert!(NskBearer::from_authorization(&format!("Basic {VECTOR}")).is_none());
    }
}
