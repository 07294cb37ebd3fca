//! Domains: the top tenancy boundary, with its mesh pool and its reachability policy.

mod http;
mod model;
mod service;
mod store;

pub use model::{Domain, DomainPatch, DomainRefusal, NewDomain};
pub use service::Domains;

pub(crate) use http::{EmptyReason, operations};
pub(crate) use store::{PAGES, STATEMENTS};
