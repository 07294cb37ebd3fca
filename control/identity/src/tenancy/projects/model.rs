//! The Project as a value and its rules.

use ipnet::IpNet;
use plexsphere_kernel::Fault;
use plexsphere_wire::{Code, DomainId, Problem, ProjectChildCounts, ProjectId, Timestamp};

use crate::attempts::MayBeFault;
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

/// What a change does to a Project's sub-range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RangeChange {
    /// Nothing.
    Keep,
    /// Another one, or a first one.
    Retarget(IpNet),
    /// None any more; addresses from it stay as they are.
    Release,
}

/// What a change asks for, with the rules checked that need no other row. A member that is `None` stays as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct ProjectPatch {
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) range: RangeChange,
}

impl ProjectPatch {
    /// Checks the rules of the members that are there. Not to release is not to ask for anything.
    pub(crate) fn check(
        name: Option<&str>,
        description: Option<&str>,
        (sub_range, release): (Option<&str>, bool),
    ) -> Result<Self, ProjectRefusal> {
        let range = match (sub_range, release) {
            (Some(_), true) => return Err(ProjectRefusal::RangeAndRelease),
            (Some(text), false) => {
                RangeChange::Retarget(cidr::canonical(text).map_err(|_| ProjectRefusal::Invalid("sub_range_cidr"))?)
            }
            (None, true) => RangeChange::Release,
            (None, false) => RangeChange::Keep,
        };
        let invalid = ProjectRefusal::Invalid;
        let name = name.map(|name| text::name(name, 255).ok_or(invalid("name"))).transpose()?;
        let description =
            description.map(|words| text::description(words).ok_or(invalid("description"))).transpose()?;
        if name.is_none() && description.is_none() && range == RangeChange::Keep {
            return Err(ProjectRefusal::EmptyPatch);
        }
        Ok(Self { name, description, range })
    }
}

impl Project {
    /// The Project as a patch makes it.
    pub(crate) fn patched(&self, patch: &ProjectPatch) -> Self {
        Self {
            name: patch.name.clone().unwrap_or_else(|| self.name.clone()),
            description: patch.description.clone().unwrap_or_else(|| self.description.clone()),
            sub_range: match patch.range {
                RangeChange::Keep => self.sub_range,
                RangeChange::Retarget(range) => Some(range),
                RangeChange::Release => None,
            },
            ..self.clone()
        }
    }

    /// The members in which another state of the same Project differs.
    pub(crate) fn changes(&self, other: &Self) -> Vec<&'static str> {
        let members = [
            ("name", self.name != other.name),
            ("description", self.description != other.description),
            ("sub_range_cidr", self.sub_range != other.sub_range),
        ];
        members.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
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
    /// A change that names nothing to change.
    #[error("the request changes nothing")]
    EmptyPatch,
    /// A change of what never changes.
    #[error("the slug of a project never changes")]
    SlugImmutable,
    /// A new sub-range and none at once.
    #[error("`sub_range_cidr` and `release_sub_range` exclude each other")]
    RangeAndRelease,
    /// The new sub-range does not fit its surroundings.
    #[error("the sub-range {why} (project {project}, range {range})")]
    RangeUnfit {
        /// In which way.
        why: &'static str,
        /// Whose range is in the way.
        project: ProjectId,
        /// That range.
        range: IpNet,
    },
    /// Something still belongs to the Project.
    #[error("the project is not empty")]
    NotEmpty(ProjectChildCounts),
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
            Self::EmptyPatch => Code::EmptyPatch,
            Self::SlugImmutable => Code::SlugImmutable,
            Self::RangeAndRelease | Self::RangeUnfit { .. } => Code::SubRangeInvalidatesAllocation,
            Self::NotEmpty(_) => Code::ProjectNotEmpty,
            Self::NotFound => Code::ProjectNotFound,
            Self::Fault(_) => Code::Internal,
        }
    }
}

impl MayBeFault for ProjectRefusal {
    fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Fault(fault) => Some(fault),
            _ => None,
        }
    }
}

impl From<ProjectRefusal> for Problem {
    fn from(refusal: ProjectRefusal) -> Self {
        match refusal {
            ProjectRefusal::Fault(fault) => fault.into(),
            ProjectRefusal::NotEmpty(counts) => {
                Self::new(refusal.code(), text::sentence(&refusal)).project_child_counts(counts)
            }
            other => Self::new(other.code(), text::sentence(&other)),
        }
    }
}
