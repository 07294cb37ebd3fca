//! The Invitation as a value: its life, its staged tuples, and its rules.

use std::collections::BTreeMap;
use std::time::Duration;

use plexsphere_kernel::{Fault, GrantRules, ObjectRef, StoredCaveat};
use plexsphere_wire::{Code, DomainId, GroupId, InvitationId, PrincipalId, Problem, ProjectId, Timestamp};
use serde_json::{Map, Value};

use crate::text;

/// The most scalar values of an external subject.
const MAX_SUBJECT: usize = 255;
/// The shortest life, in seconds.
const MIN_TTL_SECONDS: i64 = 60;
/// The longest life, in seconds: a week.
const MAX_TTL_SECONDS: i64 = 604_800;
/// The life when none is asked for, in seconds: a day.
const DEFAULT_TTL_SECONDS: i64 = 86_400;
/// The most staged tuples.
const MAX_TUPLES: usize = 32;
/// The most bytes of a caveat's context as JSON.
const MAX_CONTEXT_BYTES: usize = 2_048;
/// The deepest nesting of a caveat's context, itself counted.
const MAX_CONTEXT_DEPTH: usize = 4;
/// The caveats that can be meant by a context alone: their parameters are disjoint.
const CAVEATS: [&str; 3] = ["within_time_window", "from_cidr", "requires_assurance"];

/// How far an Invitation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvitationStatus {
    /// Nobody has taken it.
    Pending,
    /// A sign-in took it.
    Accepted,
    /// It was taken back.
    Revoked,
    /// Its time ran out.
    Expired,
}

/// What happens to an Invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    SignIn,
    TimeOut,
    Revoke,
}

impl InvitationStatus {
    pub(crate) const ALL: [Self; 4] = [Self::Pending, Self::Accepted, Self::Revoked, Self::Expired];

    /// The word on the wire and in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Accepted => "accepted",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// What it becomes; `None` when it has ended and stays as it ended.
    pub(crate) const fn transition(self, trigger: Trigger) -> Option<Self> {
        match (self, trigger) {
            (Self::Pending, Trigger::SignIn) => Some(Self::Accepted),
            (Self::Pending, Trigger::Revoke) => Some(Self::Revoked),
            (Self::Pending, Trigger::TimeOut) => Some(Self::Expired),
            (Self::Accepted | Self::Revoked | Self::Expired, _) => None,
        }
    }
}

/// On what a staged tuple grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StagedObject {
    /// The Invitation's own Domain.
    Domain(DomainId),
    /// A Project of it.
    Project(ProjectId),
    /// A manual Group of it.
    Group(GroupId),
}

impl StagedObject {
    /// The object of the relation graph.
    #[must_use]
    pub fn object(&self) -> ObjectRef {
        match self {
            Self::Domain(id) => ObjectRef::domain(*id),
            Self::Project(id) => ObjectRef::project(*id),
            Self::Group(id) => ObjectRef { kind: "group", id: id.to_string() },
        }
    }

    /// Reads `domain:<this id>`, `project:<id>` or `group:<id>`; `None` for anything else.
    pub(crate) fn parse(text: &str, domain: DomainId) -> Option<Self> {
        let (kind, id) = text.split_once(':')?;
        match kind {
            "domain" => id.parse().ok().filter(|id| *id == domain).map(Self::Domain),
            "project" => id.parse().ok().map(Self::Project),
            "group" => id.parse().ok().map(Self::Group),
            _ => None,
        }
    }
}

/// One promised right.
#[derive(Clone, Debug, PartialEq)]
pub struct StagedTuple {
    /// The relation; for a Group `member`.
    pub relation: String,
    /// On what.
    pub object: StagedObject,
    /// The condition, if any.
    pub caveat: Option<StoredCaveat>,
}

impl StagedTuple {
    /// Whether both are one right, under whatever condition: only one of them could be kept.
    fn grants_what(&self, other: &Self) -> bool {
        (&self.relation, self.object) == (&other.relation, other.object)
    }
}

/// A stored Invitation, without whom it is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Invitation {
    /// Its id.
    pub id: InvitationId,
    /// Its Domain.
    pub domain: DomainId,
    /// What stands for the external subject.
    pub pseudonym: [u8; 32],
    /// How far it has come.
    pub status: InvitationStatus,
    /// What it promises.
    pub tuples: Vec<StagedTuple>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it can no longer be accepted.
    pub expires_at: Timestamp,
    /// When it was accepted and by which User.
    pub accepted: Option<(Timestamp, PrincipalId)>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was found expired.
    pub expired_at: Option<Timestamp>,
}

impl Invitation {
    /// What a sign-in by whom it is for makes of it; `None` when it has ended.
    pub(crate) fn at_sign_in(&self, now: Timestamp) -> Option<InvitationStatus> {
        let in_time = now < self.expires_at;
        self.status.transition(if in_time { Trigger::SignIn } else { Trigger::TimeOut })
    }

    /// What taking it back makes of it; `None` when it has ended.
    pub(crate) fn at_revocation(&self, now: Timestamp) -> Option<InvitationStatus> {
        let in_time = now < self.expires_at;
        self.status.transition(if in_time { Trigger::Revoke } else { Trigger::TimeOut })
    }
}

/// A request's staged tuple, unchecked.
pub(crate) struct TupleDraft<'a> {
    pub(crate) relation: &'a str,
    pub(crate) object: &'a str,
    pub(crate) caveat_context: Option<&'a Map<String, Value>>,
}

/// An Invitation to be, with the rules checked that need no row.
#[derive(Clone, PartialEq)]
pub struct NewInvitation {
    pub(crate) external_subject: String,
    pub(crate) ttl: Duration,
    pub(crate) tuples: Vec<StagedTuple>,
}

impl NewInvitation {
    /// Checks the rules of an Invitation into `domain`. Every object's form is judged before any relation or condition.
    pub(crate) fn check(
        domain: DomainId,
        external_subject: &str,
        ttl_seconds: Option<i64>,
        tuples: &[TupleDraft<'_>],
        grants: &dyn GrantRules,
    ) -> Result<Self, InvitationRefusal> {
        if tuples.len() > MAX_TUPLES {
            return Err(InvitationRefusal::TooManyTuples);
        }
        let external_subject =
            text::name(external_subject, MAX_SUBJECT).ok_or(InvitationRefusal::Invalid("external_subject"))?;
        let ttl = ttl_seconds.unwrap_or(DEFAULT_TTL_SECONDS);
        if !(MIN_TTL_SECONDS..=MAX_TTL_SECONDS).contains(&ttl) {
            return Err(InvitationRefusal::Ttl);
        }
        let mut objects = Vec::with_capacity(tuples.len());
        for (index, tuple) in tuples.iter().enumerate() {
            let object = StagedObject::parse(tuple.object, domain);
            objects.push(object.ok_or(InvitationRefusal::OutOfScope(index))?);
        }
        let mut staged = Vec::with_capacity(tuples.len());
        for (index, (tuple, object)) in tuples.iter().zip(objects).enumerate() {
            let tuple = stage(tuple, object, grants, index)?;
            if staged.iter().any(|other: &StagedTuple| other.grants_what(&tuple)) {
                return Err(InvitationRefusal::Repeated(index));
            }
            staged.push(tuple);
        }
        let ttl = Duration::from_secs(u64::try_from(ttl).unwrap_or(0));
        Ok(Self { external_subject, ttl, tuples: staged })
    }
}

fn stage(
    tuple: &TupleDraft<'_>,
    object: StagedObject,
    grants: &dyn GrantRules,
    index: usize,
) -> Result<StagedTuple, InvitationRefusal> {
    // A membership is no grant of its own: it carries no condition, and its only relation is the one it makes.
    let is_group = matches!(object, StagedObject::Group(_));
    let assignable = match object {
        StagedObject::Group(_) => tuple.relation == "member",
        StagedObject::Domain(_) => grants.is_assignable("domain", tuple.relation),
        StagedObject::Project(_) => grants.is_assignable("project", tuple.relation),
    };
    if !assignable {
        return Err(InvitationRefusal::NotAssignable(index));
    }
    let caveat = match tuple.caveat_context {
        None => None,
        Some(_) if is_group => return Err(InvitationRefusal::Caveat(index)),
        Some(context) => Some(infer(context, grants).ok_or(InvitationRefusal::Caveat(index))?),
    };
    Ok(StagedTuple { relation: tuple.relation.to_owned(), object, caveat })
}

/// The caveat that a context belongs to. An empty one belongs to none: a condition without content is no condition.
fn infer(context: &Map<String, Value>, grants: &dyn GrantRules) -> Option<StoredCaveat> {
    let text = serde_json::to_string(context).ok()?;
    let survives = context.values().all(|value| is_exact(value, 2));
    if context.is_empty() || text.len() > MAX_CONTEXT_BYTES || !survives {
        return None;
    }
    let context: BTreeMap<String, Value> = context.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let name = CAVEATS.into_iter().find(|name| grants.caveat_fits(name, &context))?;
    Some(StoredCaveat { name: name.to_owned(), context })
}

/// Whether a value comes back from a JSON text as it went in, and is not nested too deeply. Numbers with a fraction or
/// beyond 64 bits may not.
fn is_exact(value: &Value, depth: usize) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => number.is_i64() || number.is_u64(),
        Value::Array(items) => depth <= MAX_CONTEXT_DEPTH && items.iter().all(|item| is_exact(item, depth + 1)),
        Value::Object(members) => depth <= MAX_CONTEXT_DEPTH && members.values().all(|item| is_exact(item, depth + 1)),
    }
}

/// Why a request about an Invitation is refused.
#[derive(Debug, thiserror::Error)]
pub enum InvitationRefusal {
    /// More staged tuples than there may be.
    #[error("there may be at most {MAX_TUPLES} initial tuples")]
    TooManyTuples,
    /// A member breaks its rule.
    #[error("`{0}` is not acceptable")]
    Invalid(&'static str),
    /// The life is too short or too long.
    #[error("`ttl_seconds` must lie between {MIN_TTL_SECONDS} and {MAX_TTL_SECONDS}")]
    Ttl,
    /// The object of the staged tuple at this place is not the Domain, a Project of it or a manual Group of it.
    #[error("`initial_tuples[{0}].object` is not in the domain")]
    OutOfScope(usize),
    /// The relation at this place cannot be granted on its object.
    #[error("`initial_tuples[{0}].relation` cannot be granted on its object")]
    NotAssignable(usize),
    /// The right at this place was promised before it.
    #[error("`initial_tuples[{0}]` repeats a relation on an object")]
    Repeated(usize),
    /// The context at this place is no caveat's.
    #[error("`initial_tuples[{0}].caveat_context` belongs to no caveat")]
    Caveat(usize),
    /// There is a pending one for the same subject.
    #[error("invitation {0} for the same subject is pending")]
    AlreadyPending(InvitationId),
    /// It was accepted.
    #[error("the invitation was accepted")]
    AlreadyAccepted,
    /// It has expired.
    #[error("the invitation has expired")]
    AlreadyExpired,
    /// There is no such Domain.
    #[error("there is no such domain")]
    DomainNotFound,
    /// There is no such Invitation in the Domain.
    #[error("there is no such invitation")]
    NotFound,
    /// Something broke.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl InvitationRefusal {
    /// The code on the wire.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::TooManyTuples => Code::TooManyInitialTuples,
            Self::Invalid(_) | Self::NotAssignable(_) | Self::Repeated(_) => Code::InvalidBody,
            Self::Ttl => Code::InvalidTtl,
            Self::OutOfScope(_) => Code::InvitationObjectOutOfScope,
            Self::Caveat(_) => Code::InvalidCaveatContext,
            Self::AlreadyPending(_) => Code::InvitationAlreadyPending,
            Self::AlreadyAccepted => Code::InvitationAlreadyAccepted,
            Self::AlreadyExpired => Code::InvitationAlreadyExpired,
            Self::DomainNotFound => Code::DomainNotFound,
            Self::NotFound => Code::InvitationNotFound,
            Self::Fault(_) => Code::Internal,
        }
    }
}

impl From<InvitationRefusal> for Problem {
    fn from(refusal: InvitationRefusal) -> Self {
        match refusal {
            InvitationRefusal::Fault(fault) => fault.into(),
            other => Self::new(other.code(), text::sentence(&other)),
        }
    }
}
