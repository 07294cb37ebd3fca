//! The membership as a value and its rules.

use plexsphere_kernel::{ObjectRef, RelationTuple, SubjectRef};
use plexsphere_wire::{GroupId, PrincipalId, Timestamp};

use super::super::model::{Group, GroupRefusal, object};

/// How many Groups may be one inside the other.
pub(in crate::groups) const MAX_DEPTH: i64 = 10;

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemberKind {
    /// A person.
    User,
    /// A machine principal.
    ServiceIdentity,
    /// Another Group.
    Group,
}

impl MemberKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::User, Self::ServiceIdentity, Self::Group];

    /// The word at rest and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::ServiceIdentity => "service_identity",
            Self::Group => "group",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// A stored membership. Its source is its Group's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The Group.
    pub group: GroupId,
    /// What the member is.
    pub kind: MemberKind,
    /// Which one.
    pub principal: PrincipalId,
    /// Since when.
    pub created_at: Timestamp,
}

impl Membership {
    /// The tuple that says the same to the relation engine.
    pub(in crate::groups) fn tuple(&self) -> RelationTuple {
        RelationTuple::new(object(self.group), "member", subject(self.kind, self.principal))
    }
}

fn subject(kind: MemberKind, principal: PrincipalId) -> SubjectRef {
    let id = principal.to_string();
    match kind {
        MemberKind::User => ObjectRef { kind: "user", id }.into(),
        MemberKind::ServiceIdentity => ObjectRef { kind: "serviceaccount", id }.into(),
        MemberKind::Group => SubjectRef::userset(object(GroupId::from_uuid(principal.uuid())), "member"),
    }
}

/// A membership to be, with its rules checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NewMember {
    pub(super) kind: MemberKind,
    pub(super) principal: PrincipalId,
}

impl NewMember {
    /// Checks the members of a request; its source must be the Group's.
    pub(super) fn check(group: &Group, principal: &str, kind: &str, source: &str) -> Result<Self, GroupRefusal> {
        let principal = principal.parse().map_err(|_| GroupRefusal::InvalidMembership("principal_id"))?;
        let kind = MemberKind::parse(kind).ok_or(GroupRefusal::InvalidMembership("principal_kind"))?;
        if !matches!(source, "manual" | "idp") {
            return Err(GroupRefusal::InvalidMembership("source"));
        }
        if source != group.source.as_str() {
            return Err(GroupRefusal::SourceDiffers);
        }
        Ok(Self { kind, principal })
    }
}

/// How a Group and one that is to be put into it hang together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::groups) struct Nesting {
    /// Whether the outer one is within the inner one already.
    pub(in crate::groups) closes_a_cycle: bool,
    /// Groups on the longest way from the outer one outwards, itself counted.
    pub(in crate::groups) outwards: i64,
    /// Groups on the longest way from the inner one inwards, itself counted.
    pub(in crate::groups) inwards: i64,
}

impl Nesting {
    /// Refuses cycles and depth.
    pub(in crate::groups) const fn check(self) -> Result<(), GroupRefusal> {
        if self.closes_a_cycle {
            return Err(GroupRefusal::Cycle);
        }
        if self.outwards + self.inwards > MAX_DEPTH {
            return Err(GroupRefusal::TooDeep);
        }
        Ok(())
    }
}
