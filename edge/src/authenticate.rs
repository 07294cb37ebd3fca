//! Who a Node is: the credential's digest against the directory, and then the path against the Node.

use std::sync::Arc;

use http::header::{self, HeaderMap};
use plexsphere_wire::directory::CredentialVerdict;
use plexsphere_wire::nsk::NskBearer;
use plexsphere_wire::{Code, DenialReason, NodeId, Problem};

use crate::directory::{Lookup, NodeRecord};

/// Why a Node was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthRefusal {
    /// No credential, or not in the form of one.
    #[error("credential is missing or malformed")]
    Unauthorized,
    /// No such key.
    #[error("key is unknown")]
    Invalid,
    /// The key was the Node's and is so no more.
    #[error("key is revoked")]
    Revoked,
    /// The key is another Node's.
    #[error("key is another node's")]
    Mismatch,
    /// The directory cannot answer.
    #[error("directory cannot answer")]
    Fault,
}

impl AuthRefusal {
    /// The code of the answer.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::Unauthorized => Code::Unauthorized,
            Self::Invalid => Code::NskInvalid,
            Self::Revoked => Code::NskRevoked,
            Self::Mismatch => Code::NodeIdMismatch,
            Self::Fault => Code::DatastoreUnavailable,
        }
    }

    /// The answer.
    #[must_use]
    pub fn problem(self) -> Problem {
        let detail = match self {
            Self::Unauthorized => "The Authorization header is missing or malformed.",
            Self::Invalid => "The credential is not known.",
            Self::Revoked => "The credential was revoked.",
            Self::Mismatch => {
                return Problem::denied(self.code(), DenialReason::InsufficientRelation, Vec::new());
            }
            Self::Fault => "The credential cannot be checked at the moment. Try again.",
        };
        Problem::new(self.code(), detail)
    }
}

/// The Node of a request's credential.
///
/// # Errors
/// Every [`AuthRefusal`] but `Mismatch`.
pub async fn authenticate(lookup: &Lookup, headers: &HeaderMap) -> Result<Arc<NodeRecord>, AuthRefusal> {
    let bearer = bearer(headers).ok_or(AuthRefusal::Unauthorized)?;
    let record = lookup.node(bearer.node).await.map_err(|_| AuthRefusal::Fault)?.ok_or(AuthRefusal::Invalid)?;
    match record.entry.judge(&bearer.digest()) {
        CredentialVerdict::Live => Ok(record),
        CredentialVerdict::Revoked => Err(AuthRefusal::Revoked),
        CredentialVerdict::Unknown => Err(AuthRefusal::Invalid),
    }
}

/// Whether the path names the authenticated Node. The path's Node is never looked up.
///
/// # Errors
/// [`AuthRefusal::Mismatch`].
pub fn match_path(record: &NodeRecord, path_id: &str) -> Result<(), AuthRefusal> {
    match path_id.parse::<NodeId>() {
        Ok(node) if node == record.entry.node => Ok(()),
        Ok(_) | Err(_) => Err(AuthRefusal::Mismatch),
    }
}

/// Whether a request shows a Node's credential, well formed or not.
#[must_use]
pub fn shows_nsk(headers: &HeaderMap) -> bool {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Some((scheme, token)) = value.split_once(' ') else { return false };
    scheme.eq_ignore_ascii_case("bearer") && token.trim_start_matches(' ').starts_with("nsk_")
}

pub(crate) fn bearer(headers: &HeaderMap) -> Option<NskBearer> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    NskBearer::from_authorization(value.to_str().ok()?)
}
