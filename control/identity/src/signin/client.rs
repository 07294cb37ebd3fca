//! The secrets by which this installation proves itself to identity providers.

use async_trait::async_trait;
pub use plexsphere_oidc::Secret;

/// Why a secret cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretFault {
    /// The reference names nothing, or nothing that this installation can read.
    #[error("the secret reference names nothing")]
    Missing,
    /// The store that holds it does not answer.
    #[error("the secret store does not answer")]
    Unreachable,
}

/// Reads what a binding's `client_secret_ref` names: `env:NAME`, `file:/path`, or `secret:<domain id>/<path>`.
///
/// Which owner may name which was judged when the binding was made.
#[async_trait]
pub trait ClientSecrets: Send + Sync + 'static {
    /// The secret.
    ///
    /// # Errors
    /// [`SecretFault`].
    async fn resolve(&self, reference: &str) -> Result<Secret, SecretFault>;
}
