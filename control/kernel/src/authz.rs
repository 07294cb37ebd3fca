//! The question every gate asks: may this principal use this relation on this object, now?

use std::net::IpAddr;

use async_trait::async_trait;
use plexsphere_wire::{Code, DenialReason, Problem, Timestamp};

use crate::audit::CaveatNames;
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

/// What a request brings that conditions on grants are compared with. The server fills it in; nothing of it is taken from
/// the caller's word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// When the request was taken.
    pub now: Option<Timestamp>,
    /// The client's address after proxy unwrapping.
    pub client_ip: Option<IpAddr>,
    /// The assurance class of the sign-in; none for tokens and Nodes.
    pub acr: Option<String>,
    /// The methods of the sign-in; none for tokens and Nodes.
    pub amr: Option<Vec<String>>,
    /// When the sign-in was.
    pub auth_time: Option<Timestamp>,
}

/// An answer with what audit needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// The answer.
    pub decision: Decision,
    /// The conditions that were looked at, by name.
    pub caveats: CaveatNames,
}

/// Answers about many objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rulings {
    /// Whether the principal may, object by object.
    pub allowed: Vec<bool>,
    /// The conditions that were looked at for any of them, by name.
    pub caveats: CaveatNames,
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

    /// [`Self::check`] in the circumstances of a request, with what audit records of the answer.
    ///
    /// # Errors
    /// [`AuthzUnavailable`] when it cannot be decided.
    async fn decide(
        &self,
        principal: &Principal,
        relation: &str,
        object: &ObjectRef,
        _circumstances: &Circumstances,
    ) -> Result<Ruling, AuthzUnavailable> {
        let decision = self.check(principal, relation, object).await?;
        Ok(Ruling { decision, caveats: CaveatNames::default() })
    }

    /// Whether `principal` may use `relation` on each of these objects, all from one state where there are states: for
    /// filtering the rows of a list.
    ///
    /// # Errors
    /// [`AuthzUnavailable`] when it cannot be decided.
    async fn check_many(
        &self,
        principal: &Principal,
        relation: &str,
        objects: &[ObjectRef],
        circumstances: &Circumstances,
    ) -> Result<Rulings, AuthzUnavailable> {
        let mut rulings = Rulings::default();
        for object in objects {
            let ruling = self.decide(principal, relation, object, circumstances).await?;
            rulings.allowed.push(ruling.decision.is_allowed());
            rulings.caveats.extend(ruling.caveats);
        }
        Ok(rulings)
    }
}
