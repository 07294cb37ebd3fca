//! Tenancy: Domain → Project → Resource → Node, the address space, what may be deleted, the principals of a Domain, and
//! the Invitations into it.

pub(crate) mod cidr;
pub(crate) mod domains;
pub(crate) mod durations;
pub(crate) mod edges;
pub(crate) mod identities;
pub(crate) mod invitations;
pub(crate) mod nodes;
pub(crate) mod projects;
pub(crate) mod repair;
pub(crate) mod resources;
pub(crate) mod subjects;
#[cfg(test)]
mod tests;

pub use cidr::CidrRefusal;
pub use domains::{Domain, DomainPatch, DomainRefusal, Domains, NewDomain};
pub use identities::{FederationKind, Identities, IdentityRefusal, NewServiceIdentity, ServiceIdentity};
pub use invitations::{
    Invitation, InvitationAcceptor, InvitationExpirySweeper, InvitationRefusal, InvitationStatus, Invitations, Invitee,
    NewInvitation, StagedObject, StagedTuple,
};
pub use nodes::NodeSummaries;
pub use projects::{NewProject, Project, ProjectPatch, ProjectRefusal, Projects};
pub use repair::TenancyTupleRepair;
pub use resources::{NewResource, Origin, Resource, ResourceRefusal, Resources};
