//! Projects: the unit of work inside a Domain, with an optional slice of its pool.

mod http;
mod model;
mod service;
mod store;

pub use model::{NewProject, Project, ProjectPatch, ProjectRefusal};
pub use service::Projects;

pub(crate) use http::operations;
pub(crate) use store::{PAGES, STATEMENTS};
