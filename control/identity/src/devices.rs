//! The device flow (RFC 8628): a machine without a browser borrows a person's sign-in.

mod http;
mod model;
mod service;
mod store;

pub(crate) use http::{Parts, operations};
pub(crate) use service::{Devices, DevicesNeeds};
pub(crate) use store::{STATEMENTS, deny_of_user, drop_of_binding};
