//! The Resource as a value and its rules.

use plexsphere_kernel::Fault;
use plexsphere_wire::{Code, DomainId, Problem, ProjectId, ResourceId, Timestamp};

use crate::text;

/// Where a Resource came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It existed before.
    Adopted,
    /// The broker made it.
    Provisioned,
}

impl Origin {
    /// The word on the wire and in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Adopted => "adopted",
            Self::Provisioned => "provisioned",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Adopted, Self::Provisioned].into_iter().find(|origin| origin.as_str() == word)
    }
}

/// A stored Resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its id.
    pub id: ResourceId,
    /// Its Project, for life.
    pub project: ProjectId,
    /// Its Project's Domain, for life.
    pub domain: DomainId,
    /// An open word, such as `vm` or `bridge`.
    pub kind: String,
    /// Where it came from.
    pub origin: Origin,
    /// The handle by which a registration names it, unique in the Project.
    pub external_ref: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A request's members about where the Resource came from, unchecked.
pub(crate) struct Draft<'a> {
    pub(crate) origin: Option<&'a str>,
    pub(crate) kind: Option<&'a str>,
    pub(crate) external_ref: Option<&'a str>,
    pub(crate) blueprint_version_id: Option<&'a str>,
    pub(crate) cloud_credential_id: Option<&'a str>,
    pub(crate) has_parameters: bool,
}

/// An adopted Resource to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewResource {
    pub(crate) kind: String,
    pub(crate) external_ref: Option<String>,
}

impl NewResource {
    /// Checks the rules of a Resource's members. The origin is judged before the rest.
    pub(crate) fn check(draft: &Draft<'_>) -> Result<Self, ResourceRefusal> {
        let origin = draft.origin.and_then(Origin::parse).ok_or(ResourceRefusal::Origin)?;
        let kind = draft.kind.and_then(|kind| text::name(kind, 64)).ok_or(ResourceRefusal::Invalid("kind"))?;
        match origin {
            Origin::Adopted => {
                for (name, given) in [
                    ("blueprint_version_id", draft.blueprint_version_id.is_some()),
                    ("cloud_credential_id", draft.cloud_credential_id.is_some()),
                    ("parameters", draft.has_parameters),
                ] {
                    if given {
                        return Err(ResourceRefusal::Misplaced(name));
                    }
                }
                let external_ref = draft.external_ref.map(|text| text::name(text, 256));
                if external_ref == Some(None) {
                    return Err(ResourceRefusal::Invalid("external_ref"));
                }
                Ok(Self { kind, external_ref: external_ref.flatten() })
            }
            Origin::Provisioned => Err(Self::refuse_provisioned(draft)),
        }
    }

    /// A provisioned Resource names a blueprint version, and the catalogue of this installation has none.
    fn refuse_provisioned(draft: &Draft<'_>) -> ResourceRefusal {
        let is_id = |text: Option<&str>| text.is_some_and(|text| text.parse::<ResourceId>().is_ok());
        if draft.external_ref.is_some() {
            ResourceRefusal::Misplaced("external_ref")
        } else if !is_id(draft.blueprint_version_id) {
            ResourceRefusal::Invalid("blueprint_version_id")
        } else if !is_id(draft.cloud_credential_id) {
            ResourceRefusal::Invalid("cloud_credential_id")
        } else {
            ResourceRefusal::BlueprintNotFound
        }
    }
}

/// Why a request about a Resource is refused.
#[derive(Debug, thiserror::Error)]
pub enum ResourceRefusal {
    /// The origin is missing or foreign.
    #[error("`origin` must be `adopted` or `provisioned`")]
    Origin,
    /// A member breaks its rule.
    #[error("`{0}` is missing or not acceptable")]
    Invalid(&'static str),
    /// A member that belongs to the other origin.
    #[error("`{0}` does not go with this origin")]
    Misplaced(&'static str),
    /// The blueprint version does not exist.
    #[error("the blueprint version does not exist")]
    BlueprintNotFound,
    /// Another Resource of the Project has the handle.
    #[error("another resource of the project has this `external_ref`")]
    RefTaken,
    /// There is no such Project.
    #[error("there is no such project")]
    ProjectNotFound,
    /// There is no such Resource.
    #[error("there is no such resource")]
    NotFound,
    /// Something broke.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl ResourceRefusal {
    /// The code on the wire.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Origin => Code::InvalidResourceOrigin,
            Self::Invalid(_) | Self::Misplaced(_) => Code::InvalidBody,
            Self::BlueprintNotFound => Code::BlueprintNotFoundUnprocessable,
            Self::RefTaken => Code::ExternalRefConflict,
            Self::ProjectNotFound => Code::ProjectNotFound,
            Self::NotFound => Code::ResourceNotFound,
            Self::Fault(_) => Code::Internal,
        }
    }
}

impl From<ResourceRefusal> for Problem {
    fn from(refusal: ResourceRefusal) -> Self {
        match refusal {
            ResourceRefusal::Fault(fault) => fault.into(),
            other => Self::new(other.code(), text::sentence(&other)),
        }
    }
}
