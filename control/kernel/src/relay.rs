//! The outbox relay: reads committed rows in order, seals them into envelopes, has them signed and publishes them.
//!
//! Per Domain, wire order equals commit order: rows are read below the snapshot's `xmin` by (txid, seq), each Domain
//! belongs to one of 64 shards, and a shard has one worker, by a session advisory lock. A row that fails blocks its own
//! Domain only. What is sealed is stored first, so that a repetition carries the same content under the same id.

use async_trait::async_trait;
use plexsphere_wire::DomainId;

use crate::Tx;

/// Why nothing was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignerFault {
    /// It may work later: the database, a wrap key or the custody backend is out of reach.
    #[error("signing is unavailable: {0}")]
    Unavailable(String),
    /// The Domain has no key yet.
    #[error("the domain has no signing key")]
    NoKey,
    /// The key that would have to sign is destroyed; it never works again.
    #[error("the signing key is destroyed")]
    Destroyed,
    /// What was asked is not allowed: other bytes than a canonical envelope, another Domain, another key, another time.
    #[error("the signer refuses: {0}")]
    Refused(&'static str),
}

/// Signs envelopes of a Domain. Implemented by the signing context.
#[async_trait]
pub trait EnvelopeSigner: Send + Sync + 'static {
    /// The kid under which the relay signs now: the announced one, which trails the current one until
    /// `signing_key_rotated` is on the stream.
    ///
    /// # Errors
    /// [`SignerFault`].
    async fn announced_kid(&self, domain: DomainId) -> Result<String, SignerFault>;

    /// Signs canonical envelope bytes under `kid`.
    ///
    /// # Errors
    /// [`SignerFault`]; `Refused` when the bytes are no canonical envelope of this Domain, kid and time.
    async fn sign(&self, domain: DomainId, kid: &str, canonical: &[u8]) -> Result<[u8; 64], SignerFault>;

    /// Moves the announced key to `kid`: its `signing_key_rotated` is on the stream at `sequence`. Called in the
    /// transaction that marks the row as published.
    ///
    /// # Errors
    /// [`SignerFault`]; the transaction is rolled back and the row repeated under the same id and the old key.
    async fn announced_moved(&self, tx: &mut Tx, domain: DomainId, kid: &str, sequence: u64)
    -> Result<(), SignerFault>;
}
