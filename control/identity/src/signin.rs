//! How people and machines from elsewhere become callers: the browser sign-in, and the token of a service identity.

mod client;
mod flows;
mod http;
mod machines;
mod people;
mod select;
mod service;

pub use client::{ClientSecrets, Secret, SecretFault};
pub use service::SignIns;

pub(crate) use flows::drop_of_binding;
pub(crate) use http::{AccessTokenResponse, Parts, operations};
pub(crate) use select::{SelectRefusal, Wanted};
pub(crate) use service::{SignInNeeds, SignInSettings};

/// Every statement of this module, for the test that prepares them.
pub(crate) const STATEMENTS: &[&[&str]] = &[flows::STATEMENTS, people::STATEMENTS, machines::STATEMENTS];
