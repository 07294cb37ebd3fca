//! Enrolment: one-shot tokens, registration, and the Node Secret Key for the rest of a Node's life.

mod hashing;
mod http;
mod keys;
mod nodes;
mod register;
mod rewrap;
mod store;
mod token;
mod tokens;

pub use keys::NskCustodian;
pub use nodes::{DirectoryFlush, NodeLifecycle, NodeReader};
pub use register::{RegisterRefusal, Registration};
pub use token::{BootstrapTokenText, StoredToken as BootstrapToken, TokenKind, TokenState};
pub use tokens::{BootstrapTokenRefusal, BootstrapTokens};

pub(crate) use hashing::Hasher;
pub(crate) use http::operations;
pub(crate) use register::Needs as RegistrationNeeds;
pub(crate) use store::{PAGES, STATEMENTS};
