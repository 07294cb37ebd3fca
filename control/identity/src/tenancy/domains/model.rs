//! The Domain as a value and its rules.

use ipnet::IpNet;
use plexsphere_kernel::Fault;
use plexsphere_kernel::seams::ReachabilityPolicy;
use plexsphere_wire::{ChildCounts, Code, DomainId, Problem, ProjectId, Timestamp};

use crate::attempts::MayBeFault;
use crate::tenancy::cidr::{self, CidrRefusal};
use crate::text;

/// The most scalar values of a name.
pub(crate) const MAX_NAME: usize = 255;

/// A stored Domain.
#[derive(Clone, Debug, PartialEq)]
pub struct Domain {
    /// Its id.
    pub id: DomainId,
    /// What people call it.
    pub name: String,
    /// Its handle, unique over the platform, for life.
    pub slug: String,
    /// What it is for; may be empty.
    pub description: String,
    /// Where it is pinned; `None` when it is not.
    pub region: Option<String>,
    /// The pool of mesh addresses.
    pub mesh_cidr: IpNet,
    /// When a silent Node counts as gone.
    pub reachability: ReachabilityPolicy,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A Domain to be, with its rules checked.
#[derive(Clone, Debug, PartialEq)]
pub struct NewDomain {
    pub(crate) name: String,
    pub(crate) slug: String,
    pub(crate) description: String,
    pub(crate) region: Option<String>,
    pub(crate) mesh_cidr: IpNet,
    pub(crate) reachability: ReachabilityPolicy,
}

/// What a change asks for, with its rules checked. A member that is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DomainPatch {
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) mesh_cidr: Option<IpNet>,
    pub(crate) reachability: Option<ReachabilityPolicy>,
}

/// Interval, stale, unreachable, as a request has them.
pub(crate) type Durations<'a> = (&'a str, &'a str, &'a str);

/// The members of a request to change a Domain, unchecked.
#[derive(Default)]
pub(crate) struct PatchDraft<'a> {
    pub(crate) name: Option<&'a str>,
    pub(crate) description: Option<&'a str>,
    pub(crate) region: Option<&'a str>,
    pub(crate) mesh_cidr: Option<&'a str>,
    pub(crate) reachability: Option<Durations<'a>>,
}

/// The members of a request for a Domain, unchecked.
pub(crate) struct Draft<'a> {
    pub(crate) name: &'a str,
    pub(crate) slug: &'a str,
    pub(crate) description: &'a str,
    pub(crate) region: &'a str,
    pub(crate) mesh_cidr: &'a str,
    /// Interval, stale, unreachable; absent for the default.
    pub(crate) reachability: Option<Durations<'a>>,
}

impl Domain {
    /// The Domain as a patch makes it.
    pub(crate) fn patched(&self, patch: &DomainPatch) -> Self {
        Self {
            name: patch.name.clone().unwrap_or_else(|| self.name.clone()),
            description: patch.description.clone().unwrap_or_else(|| self.description.clone()),
            region: patch.region.clone().or_else(|| self.region.clone()),
            mesh_cidr: patch.mesh_cidr.unwrap_or(self.mesh_cidr),
            reachability: patch.reachability.unwrap_or(self.reachability),
            ..self.clone()
        }
    }

    /// The members in which another state of the same Domain differs.
    pub(crate) fn changes(&self, other: &Self) -> Vec<&'static str> {
        let members = [
            ("name", self.name != other.name),
            ("description", self.description != other.description),
            ("region", self.region != other.region),
            ("mesh_cidr", self.mesh_cidr != other.mesh_cidr),
            ("reachability", self.reachability != other.reachability),
        ];
        members.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
    }
}

impl DomainPatch {
    /// Checks the rules of the members that are there.
    pub(crate) fn check(draft: &PatchDraft<'_>) -> Result<Self, DomainRefusal> {
        let patch = Self {
            name: rule(draft.name, "name", |name| text::name(name, MAX_NAME))?,
            description: rule(draft.description, "description", text::description)?,
            // A region can be changed and not taken away: an empty one is no region.
            region: rule(draft.region, "region", |region| text::is_slug(region).then(|| region.to_owned()))?,
            mesh_cidr: draft.mesh_cidr.map(cidr::pool).transpose().map_err(DomainRefusal::MeshCidr)?,
            reachability: draft.reachability.map(policy).transpose()?,
        };
        if patch == Self::default() { Err(DomainRefusal::EmptyPatch) } else { Ok(patch) }
    }
}

fn rule(
    value: Option<&str>,
    name: &'static str,
    check: impl Fn(&str) -> Option<String>,
) -> Result<Option<String>, DomainRefusal> {
    value.map(|text| check(text).ok_or(DomainRefusal::Invalid(name))).transpose()
}

fn policy((interval, stale, unreachable): Durations<'_>) -> Result<ReachabilityPolicy, DomainRefusal> {
    crate::tenancy::durations::policy(interval, stale, unreachable).ok_or(DomainRefusal::Reachability)
}

impl NewDomain {
    /// Checks the rules of a Domain's members.
    pub(crate) fn check(draft: &Draft<'_>) -> Result<Self, DomainRefusal> {
        let reachability = draft.reachability.map(policy).transpose()?.unwrap_or_default();
        if !text::is_slug(draft.slug) {
            return Err(DomainRefusal::Invalid("slug"));
        }
        if !draft.region.is_empty() && !text::is_slug(draft.region) {
            return Err(DomainRefusal::Invalid("region"));
        }
        Ok(Self {
            name: text::name(draft.name, MAX_NAME).ok_or(DomainRefusal::Invalid("name"))?,
            slug: draft.slug.to_owned(),
            description: text::description(draft.description).ok_or(DomainRefusal::Invalid("description"))?,
            region: (!draft.region.is_empty()).then(|| draft.region.to_owned()),
            mesh_cidr: cidr::pool(draft.mesh_cidr).map_err(DomainRefusal::MeshCidr)?,
            reachability,
        })
    }
}

/// Why a request about a Domain is refused.
#[derive(Debug, thiserror::Error)]
pub enum DomainRefusal {
    /// A member breaks its rule.
    #[error("`{0}` is not acceptable")]
    Invalid(&'static str),
    /// The pool is not one.
    #[error("`mesh_cidr` is not acceptable: {0}")]
    MeshCidr(CidrRefusal),
    /// The three durations do not fit each other.
    #[error(
        "`reachability` is not acceptable: the interval lies between 10s and 1h, `stale_after` is at least three times \
         the interval, `unreachable_after` at least twice `stale_after`, and none is over 1h"
    )]
    Reachability,
    /// Another Domain has the slug.
    #[error("another domain has this slug")]
    SlugTaken,
    /// Another Domain's pool overlaps.
    #[error("the pool overlaps that of another domain")]
    PoolOverlap,
    /// A change that names nothing to change.
    #[error("the request changes nothing")]
    EmptyPatch,
    /// A change of what never changes.
    #[error("the slug of a domain never changes")]
    SlugImmutable,
    /// The new pool leaves a Project's sub-range outside.
    #[error("the pool would leave the sub-range {range} of project {project} outside")]
    SubRangeOutside {
        /// The first such Project, by its range.
        project: ProjectId,
        /// Its range.
        range: IpNet,
    },
    /// The new pool leaves addresses of Nodes outside.
    #[error("the pool would leave the addresses of {0} nodes outside")]
    AddressesOutside(i64),
    /// Something still belongs to the Domain.
    #[error("the domain is not empty")]
    NotEmpty(ChildCounts),
    /// There is no such Domain.
    #[error("there is no such domain")]
    NotFound,
    /// Something broke.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl DomainRefusal {
    /// The code on the wire.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Invalid(_) | Self::MeshCidr(_) => Code::InvalidDomain,
            Self::Reachability => Code::InvalidReachabilityPolicy,
            Self::SlugTaken => Code::DomainSlugConflict,
            Self::PoolOverlap => Code::MeshCidrOverlap,
            Self::EmptyPatch => Code::EmptyPatch,
            Self::SlugImmutable => Code::SlugImmutable,
            Self::SubRangeOutside { .. } | Self::AddressesOutside(_) => Code::MeshCidrInvalidatesSubrange,
            Self::NotEmpty(_) => Code::DomainNotEmpty,
            Self::NotFound => Code::DomainNotFound,
            Self::Fault(_) => Code::Internal,
        }
    }
}

impl MayBeFault for DomainRefusal {
    fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Fault(fault) => Some(fault),
            _ => None,
        }
    }
}

impl From<DomainRefusal> for Problem {
    fn from(refusal: DomainRefusal) -> Self {
        match refusal {
            DomainRefusal::Fault(fault) => fault.into(),
            DomainRefusal::NotEmpty(counts) => Self::new(refusal.code(), text::sentence(&refusal)).child_counts(counts),
            other => Self::new(other.code(), text::sentence(&other)),
        }
    }
}
