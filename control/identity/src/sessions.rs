//! Short-lived credentials: browser sessions, and access tokens of the device and service flows.

mod http;
mod model;
mod service;
mod store;

pub(crate) use http::{interactive, is_secure, operations, set_cookies};
pub(crate) use model::{AccessTokenText, Bearer, SessionSecret};
pub use service::Sessions;
pub(crate) use service::{NewAccess, Opened};
pub(crate) use store::{STATEMENTS, lock_user, revoke_of_user};
