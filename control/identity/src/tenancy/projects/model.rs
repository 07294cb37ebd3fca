//! The Project as a value and its rules.

use ipnet::IpNet;
use plexsphere_kernel::Fault;
use plexsphere_wire::{Code, DomainId, Problem, ProjectId, Timestamp};

use crate::tenancy::cidr;
use crate::text;

/// A stored Project.
#[derive(Clone, Debug, PartialEq)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Its Domain, for life.
    pub domain: DomainId,
    /// What people call it.
    pub name: String,
    /// Its handle, unique in the Domain, for life.
    pub slug: String,
    /// What it is for; may be empty.
    pub description: String,
    /// Its slice of the Domain's pool, if it has one.
    pub sub_range: Option<IpNet>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A Project to be, with the rules checked that need no other row.
#[derive(Clone, Debug, PartialEq)]
pub struct NewProject {
    pub(crate) domain: DomainId,
    pub(crate) name: String,
    pub(crate) slug: String,
    pub(crate) description: String,
    pub(crate) sub_range: Option<IpNet>,
}

impl NewProject {
    /// Checks the rules of a Project's members.
    pub(crate) fn check(
        domain: DomainId,
        (name, slug): (&str, &str),
        description: &str,
        sub_range: Option<&str>,
    ) -> Result<Self, ProjectRefusal> {
        if !text::is_slug(slug) {
            return Err(ProjectRefusal::Invalid("slug"));
        }
        let sub_range = sub_range.map(cidr::canonical).transpose();
        Ok(Self {
            domain,
            name: text::name(name, 255).ok_or(ProjectRefusal::Invalid("name"))?,
            slug: slug.to_owned(),
            description: text::description(description).ok_or(ProjectRefusal::Invalid("description"))?,
            sub_range: sub_range.map_err(|_| ProjectRefusal::Invalid("sub_range_cidr"))?,
        })
    }

    /// The sub-range must lie inside the pool, and be of its family.
    pub(crate) fn check_inside(&self, pool: &IpNet) -> Result<(), ProjectRefusal> {
        match &self.sub_range {
            Some(range) if !pool.contains(range) => Err(ProjectRefusal::OutsidePool),
            Some(_) | None => Ok(()),
        }
    }
}

/// Why a request about a Project is refused.
#[derive(Debug, thiserror::Error)]
pub enum ProjectRefusal {
    /// A member breaks its rule.
    #[error("`{0}` is not acceptable")]
    Invalid(&'static str),
    /// The sub-range does not lie in the Domain's pool.
    #[error("`sub_range_cidr` is not inside the domain's pool")]
    OutsidePool,
    /// Another Project of the Domain has the slug.
    #[error("another project of the domain has this slug")]
    SlugTaken,
    /// A sibling's sub-range overlaps.
    #[error("the sub-range overlaps that of another project")]
    SubRangeOverlap,
    /// The Domain vanished.
    #[error("the domain does not exist")]
    ParentMissing,
    /// There is no such Project.
    #[error("there is no such project")]
    NotFound,
    /// Something broke.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl ProjectRefusal {
    /// The code on the wire.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Invalid(_) | Self::OutsidePool => Code::InvalidProject,
            Self::SlugTaken => Code::ProjectSlugConflict,
            Self::SubRangeOverlap => Code::SubRangeOverlap,
            Self::ParentMissing => Code::ParentDomainMissing,
            Self::NotFound => Code::ProjectNotFound,
            Self::Fault(_) => Code::Internal,
        }
    }
}

impl From<ProjectRefusal> for Problem {
    fn from(refusal: ProjectRefusal) -> Self {
        match refusal {
            ProjectRefusal::Fault(fault) => fault.into(),
            other => Self::new(other.code(), text::sentence(&other)),
        }
    }
}
