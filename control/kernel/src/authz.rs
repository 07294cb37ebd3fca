//! The question every gate asks: may this principal use this relation on this object, now?

use async_trait::async_trait;
use plexsphere_wire::{Code, DenialReason, Problem};

use crate::{ObjectRef, Principal};

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, by these relations.
    Allowed {
        /// The relations walked.
        relation_path: Vec<String>,
    },
    /// No.
    Denied {
        /// Why.
        reason: DenialReason,
        /// The relations walked; empty for `out_of_scope`.
        relation_path: Vec<String>,
    },
}

impl Decision {
    /// Whether the answer is yes.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }
}

/// The relation store cannot be asked and no fresh decision is at hand. Nothing is allowed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the relation store is unreachable")]
pub struct AuthzUnavailable;

impl From<AuthzUnavailable> for Problem {
    fn from(_: AuthzUnavailable) -> Self {
        Problem::new(Code::AuthzUnavailable, "The decision cannot be made right now; try again.")
    }
}

/// Decides. Denies by default.
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    /// Whether `principal` may use `relation` on `object`.
    ///
    /// # Errors
    /// [`AuthzUnavailable`] when it cannot be decided.
    async fn check(
        &self,
        principal: &Principal,
        relation: &str,
        object: &ObjectRef,
    ) -> Result<Decision, AuthzUnavailable>;
}
