//! The name under which a batch is recognised when it is sent again.

use sha2::{Digest, Sha256};

use super::Signal;

/// The batch id, which is also its `Nats-Msg-Id`: lowercase hex SHA-256 over
/// `signal ‖ 0x00 ‖ node id ‖ 0x00 ‖ inflated bytes`.
///
/// It takes the bytes as the Node sent them, before any rewriting, so that a batch sent again after a lost answer has the
/// same id however it was compressed.
pub fn batch_id(signal: Signal, node_id: &[u8; 16], inflated: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(signal.as_str());
    hash.update([0]);
    hash.update(node_id);
    hash.update([0]);
    hash.update(inflated);
    data_encoding::HEXLOWER.encode(&hash.finalize())
}
