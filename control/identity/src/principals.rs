//! Principals: platform Users, their API tokens, the first administrator, and the two ports by which the kernel's gates
//! ask who calls and what the caller may do.

mod authenticator;
mod authorizer;
mod bootstrap;
mod cache;
mod http;
mod model;
mod service;
mod store;
mod verdicts;

pub use authenticator::PgAuthenticator;
pub use authorizer::PlatformAuthorizer;
pub use bootstrap::{DeliveryFault, FirstAdministrator};
pub use model::{ApiTokenText, TokenRefusal};
pub use service::ApiTokens;
pub use verdicts::Revocation;

pub(crate) use authenticator::AUTHENTICATE;
pub(crate) use cache::Cache;
pub(crate) use http::operations;
pub(crate) use verdicts::Verdicts;
#[cfg(test)]
mod tests;

/// Every statement of this module, for the test that prepares them.
pub(crate) const STATEMENTS: &[&str] = store::STATEMENTS;
