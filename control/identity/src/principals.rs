//! Principals: platform Users, their API tokens, the first administrator, and the two ports by which the kernel's gates
//! ask who calls and what the caller may do.

mod admin;
mod authenticator;
mod bootstrap;
mod cache;
mod grants;
mod http;
mod model;
mod service;
mod store;
mod verdicts;

pub use authenticator::PgAuthenticator;
pub(crate) use bootstrap::EndedTokens;
pub use bootstrap::{DeliveryFault, FirstAdministrator};
pub use grants::{GrantRefusal, Grantee, PlatformGrants, PlatformRight};
pub use model::{ApiTokenText, TokenRefusal};
pub use service::ApiTokens;
pub use verdicts::Revocation;

pub(crate) use authenticator::AUTHENTICATE;
pub(crate) use cache::{Cache, TTL as CREDENTIAL_MEMORY};
pub(crate) use service::TokenCache;
pub(crate) use store::PAGES;
pub(crate) use verdicts::Verdicts;
#[cfg(test)]
mod tests;

/// The operations on tokens: the caller's own, and those of others.
pub(crate) fn operations(tokens: &ApiTokens) -> Vec<plexsphere_kernel::http::Operation> {
    let mut all = http::operations(tokens);
    all.extend(admin::operations(tokens));
    all
}

/// Every statement of this module, for the test that prepares them.
pub(crate) const STATEMENTS: &[&str] = store::STATEMENTS;
