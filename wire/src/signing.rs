//! What an edge asks of the signer.

use serde::{Deserialize, Serialize};

use crate::DomainId;

/// Asks for a fresh `signing_key_rotated` envelope for Nodes that pin `pinned_kid`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnouncementRequest {
    /// The Domain.
    pub domain: DomainId,
    /// The kid that the Node received at registration.
    pub pinned_kid: String,
}
