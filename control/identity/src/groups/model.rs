//! The Group as a value and its rules.

use plexsphere_kernel::{Fault, ObjectRef};
use plexsphere_wire::{Code, DenialReason, DomainId, GroupId, IdpBindingId, Problem, Timestamp};

use super::members::MAX_DEPTH;
use crate::text;

/// The most scalar values of a display name.
const MAX_NAME: usize = 128;
/// The most scalar values of a claim's value.
const MAX_CLAIM: usize = 4_096;

/// Who fills a Group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupSource {
    /// People, through the API.
    Manual,
    /// An identity provider: who signs in with this value among its groups is a member.
    Idp {
        /// Through which binding.
        binding: IdpBindingId,
        /// The value, compared exactly.
        claim_value: String,
    },
}

impl GroupSource {
    /// The word at rest and on the wire.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Idp { .. } => "idp",
        }
    }
}

/// A stored Group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its id.
    pub id: GroupId,
    /// Its Domain.
    pub domain: DomainId,
    /// Its handle, unique in the Domain, for life.
    pub slug: String,
    /// What people call it.
    pub display_name: String,
    /// Who fills it.
    pub source: GroupSource,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Group {
    /// `group:<id>`.
    #[must_use]
    pub fn object(&self) -> ObjectRef {
        object(self.id)
    }
}

/// `group:<id>`.
pub(crate) fn object(id: GroupId) -> ObjectRef {
    ObjectRef { kind: "group", id: id.to_string() }
}

/// A Group to be, with its rules checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewGroup {
    pub(super) domain: DomainId,
    pub(super) slug: String,
    pub(super) display_name: String,
    pub(super) source: GroupSource,
}

/// The members of a request for a Group, unchecked.
pub(super) struct Draft {
    pub(super) domain_id: String,
    pub(super) slug: String,
    pub(super) display_name: String,
    pub(super) source: String,
    pub(super) idp_binding_id: Option<String>,
    pub(super) idp_claim_value: Option<String>,
}

impl NewGroup {
    /// Checks the rules of a Group's members. A Group of a provider names binding and value; one filled by hand neither.
    pub(super) fn check(draft: Draft) -> Result<Self, GroupRefusal> {
        let domain = draft.domain_id.parse().map_err(|_| GroupRefusal::Invalid("domain_id"))?;
        if !is_group_slug(&draft.slug) {
            return Err(GroupRefusal::Invalid("slug"));
        }
        let display_name = display_name(&draft.display_name)?;
        let source = match (draft.source.as_str(), draft.idp_binding_id, draft.idp_claim_value) {
            ("manual", None, None) => GroupSource::Manual,
            ("manual", Some(_), _) => return Err(GroupRefusal::Invalid("idp_binding_id")),
            ("manual", None, Some(_)) => return Err(GroupRefusal::Invalid("idp_claim_value")),
            ("idp", Some(binding), Some(claim_value)) => {
                let binding = binding.parse().map_err(|_| GroupRefusal::Invalid("idp_binding_id"))?;
                let fits = (1..=MAX_CLAIM).contains(&claim_value.chars().count())
                    && !claim_value.chars().any(char::is_control);
                if !fits {
                    return Err(GroupRefusal::Invalid("idp_claim_value"));
                }
                GroupSource::Idp { binding, claim_value }
            }
            ("idp", None, _) => return Err(GroupRefusal::Invalid("idp_binding_id")),
            ("idp", Some(_), None) => return Err(GroupRefusal::Invalid("idp_claim_value")),
            _ => return Err(GroupRefusal::Invalid("source")),
        };
        Ok(Self { domain, slug: draft.slug, display_name, source })
    }
}

/// A display name: trimmed, 1 to 128 scalar values, no control characters.
pub(super) fn display_name(text: &str) -> Result<String, GroupRefusal> {
    text::name(text, MAX_NAME).ok_or(GroupRefusal::Invalid("display_name"))
}

/// `^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`: a slug whose inner hyphens may be doubled.
fn is_group_slug(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| plain(byte) || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Why a request about a Group or its members is refused.
#[derive(Debug, thiserror::Error)]
pub enum GroupRefusal {
    /// A member of the request breaks its rule.
    #[error("`{0}` is not acceptable")]
    Invalid(&'static str),
    /// Another Group of the Domain has the slug.
    #[error("another group of the domain has this slug")]
    SlugTaken,
    /// There is no such Group.
    #[error("there is no such group")]
    NotFound,
    /// A member of a request about a membership breaks its rule.
    #[error("`{0}` is not acceptable")]
    InvalidMembership(&'static str),
    /// The principal is none of the Group's Domain, or none at all.
    #[error("the domain of the group has no such principal")]
    Stranger,
    /// The Group would be within itself.
    #[error("a group cannot be within itself")]
    Cycle,
    /// Too many Groups, one inside the other.
    #[error("more than {MAX_DEPTH} groups would be one inside the other")]
    TooDeep,
    /// Memberships of a Group have the Group's source.
    #[error("`source` is not that of the group")]
    SourceDiffers,
    /// The principal is a member already.
    #[error("the principal is a member already")]
    AlreadyMember,
    /// The principal is no member.
    #[error("the group has no such member")]
    NoMember,
    /// The Domain would be left without an administrator; the membership gave the last one its right.
    #[error("the last administrator of a domain stays")]
    LastAdministrator,
    /// The same by the end of a whole Group.
    #[error("the group has the last administrator of its domain")]
    Administers,
    /// Not a kind of member.
    #[error("`kind` is `user`, `service_identity` or `group`")]
    Kind,
    /// Something broke.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl GroupRefusal {
    /// The code on the wire.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::InvalidGroup,
            Self::SlugTaken => Code::GroupSlugConflict,
            Self::NotFound => Code::GroupNotFound,
            Self::InvalidMembership(_) | Self::Stranger | Self::Cycle | Self::TooDeep | Self::LastAdministrator => {
                Code::InvalidMembership
            }
            Self::Administers => Code::PermissionDenied,
            Self::SourceDiffers => Code::SourceConflict,
            Self::AlreadyMember => Code::MembershipConflict,
            Self::NoMember => Code::MembershipNotFound,
            Self::Kind => Code::InvalidKind,
            Self::Fault(_) => Code::Internal,
        }
    }
}

impl From<GroupRefusal> for Problem {
    fn from(refusal: GroupRefusal) -> Self {
        match refusal {
            GroupRefusal::Fault(fault) => fault.into(),
            // The operation declares no other refusal of what its caller may do in general.
            GroupRefusal::Administers => {
                Self::denied(GroupRefusal::Administers.code(), DenialReason::InsufficientRelation, Vec::new())
            }
            other => Self::new(other.code(), text::sentence(&other)),
        }
    }
}
