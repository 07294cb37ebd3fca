//! Memberships: who is in a Group. A member is a User, a ServiceIdentity, or a Group whose members are members too.

mod http;
mod model;
mod repair;
mod service;
pub(super) mod store;

pub use model::{MemberKind, Membership};
pub(crate) use repair::repair;

pub(super) use http::operations;
pub(super) use model::MAX_DEPTH;
#[cfg(test)]
pub(super) use model::Nesting;
pub(super) use store::{PAGES, STATEMENTS};
