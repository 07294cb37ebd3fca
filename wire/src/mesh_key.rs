//! The Curve25519 public keys of Nodes as text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The length of a key.
pub const MESH_KEY_BYTES: usize = 32;
/// The length of its text.
const TEXT_BYTES: usize = 44;

/// Reads a key: exactly 32 bytes, canonical standard-padded base64, not all zero. The decoder refuses stray trailing bits.
#[must_use]
pub fn parse_mesh_key(text: &str) -> Option<[u8; MESH_KEY_BYTES]> {
    if text.len() != TEXT_BYTES {
        return None;
    }
    let bytes: [u8; MESH_KEY_BYTES] = STANDARD.decode(text).ok()?.as_slice().try_into().ok()?;
    (bytes != [0; MESH_KEY_BYTES]).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_is_32_canonical_bytes_that_are_not_all_zero() {
        assert_eq!(parse_mesh_key(&STANDARD.encode([7; 32])), Some([7; 32]));
        let stray = STANDARD.encode([7; 32]).replace("Bwc=", "Bwd=");
        let url = STANDARD.encode([0xff; 32]).replace('/', "_");
        for bad in ["", &STANDARD.encode([7; 31]), &STANDARD.encode([7; 33]), &STANDARD.encode([0; 32]), &stray, &url] {
            assert_eq!(parse_mesh_key(bad), None, "{bad}");
        }
    }
}
