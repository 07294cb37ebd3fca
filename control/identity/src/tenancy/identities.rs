//! The principals of a Domain: people and ServiceIdentities as one list, and the making of ServiceIdentities.

mod http;
mod model;
mod service;
mod store;

pub use model::{FederationKind, IdentityRefusal, NewServiceIdentity, ServiceIdentity};
pub use service::Identities;

pub(crate) use http::operations;
pub(crate) use store::{PAGES, STATEMENTS};
