//! Resources: what is managed inside a Project. Those that exist outside are adopted.

mod http;
mod model;
mod service;
mod store;

pub use model::{NewResource, Origin, Resource, ResourceRefusal};
pub use service::Resources;

pub(crate) use http::operations;
pub(crate) use store::{PAGES, STATEMENTS};
