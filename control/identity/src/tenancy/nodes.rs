//! Nodes as the tree has them: which there are and where they belong. Their enrolment and their life lie elsewhere.

mod http;
mod service;
mod store;

pub use service::NodeSummaries;

pub(crate) use http::operations;
pub(crate) use store::{PAGES, STATEMENTS};
