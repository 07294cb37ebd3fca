//! Tenancy: Domain → Project → Resource, the address space, and what may be deleted.

pub(crate) mod cidr;
pub(crate) mod domains;
pub(crate) mod durations;
pub(crate) mod projects;
pub(crate) mod resources;
#[cfg(test)]
mod tests;

pub use cidr::CidrRefusal;
pub use domains::{Domain, DomainRefusal, Domains, NewDomain};
pub use projects::{NewProject, Project, ProjectRefusal, Projects};
pub use resources::{NewResource, Origin, Resource, ResourceRefusal, Resources};
