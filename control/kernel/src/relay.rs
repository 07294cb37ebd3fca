//! The outbox relay.

use async_trait::async_trait;
use plexsphere_wire::DomainId;

/// Why the signer did not sign.
#[derive(Debug, thiserror::Error)]
pub enum SignerFault {
    /// The bytes, the key or the time are not what this signer signs.
    #[error("refused to sign: {0}")]
    Refused(&'static str),
    /// The signer cannot be reached or has no key.
    #[error("signer unavailable: {0}")]
    Unavailable(String),
}

/// Signs envelopes.
#[async_trait]
pub trait EnvelopeSigner: Send + Sync + 'static {
    /// The kid under which the relay signs now.
    async fn announced(&self, domain: DomainId) -> Result<String, SignerFault>;
    /// Signs canonical envelope bytes.
    async fn sign(&self, domain: DomainId, kid: &str, canonical: &[u8]) -> Result<[u8; 64], SignerFault>;
}
