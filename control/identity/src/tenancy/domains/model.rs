//! The Domain as a value and its rules.

use ipnet::IpNet;
use plexsphere_kernel::Fault;
use plexsphere_kernel::seams::ReachabilityPolicy;
use plexsphere_wire::{Code, DomainId, Problem, Timestamp};

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

/// The members of a request for a Domain, unchecked.
pub(crate) struct Draft<'a> {
    pub(crate) name: &'a str,
    pub(crate) slug: &'a str,
    pub(crate) description: &'a str,
    pub(crate) region: &'a str,
    pub(crate) mesh_cidr: &'a str,
    /// Interval, stale, unreachable; absent for the default.
    pub(crate) reachability: Option<(&'a str, &'a str, &'a str)>,
}

impl NewDomain {
    /// Checks the rules of a Domain's members.
    pub(crate) fn check(draft: &Draft<'_>) -> Result<Self, DomainRefusal> {
        let reachability = match draft.reachability {
            None => ReachabilityPolicy::default(),
            Some((interval, stale, unreachable)) => {
                crate::tenancy::durations::policy(interval, stale, unreachable).ok_or(DomainRefusal::Reachability)?
            }
        };
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
            Self::NotFound => Code::DomainNotFound,
            Self::Fault(_) => Code::Internal,
        }
    }
}

impl From<DomainRefusal> for Problem {
    fn from(refusal: DomainRefusal) -> Self {
        match refusal {
            DomainRefusal::Fault(fault) => fault.into(),
            other => Self::new(other.code(), text::sentence(&other)),
        }
    }
}
