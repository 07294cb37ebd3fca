//! Operations over HTTP: one value per route that says its path, its gate, its limits, its words and its handler.
//!
//! A context builds a list of [`Operation`]s. `control/api` turns the list into a router and into the API document, so
//! neither can say what the other does not. Each request passes the gates in one fixed order ([`pipeline`]).

mod call;
mod operation;
pub mod pipeline;
pub mod strict;
#[cfg(test)]
mod tests;

pub use call::{Call, ClientInfo, PathParams, Query, Reply};
pub use operation::{BodyRules, Gate, ObjectFrom, Operation, OperationBuilder, Scheme, SuccessBody};
pub use pipeline::{Gates, serve};

/// One kibibyte.
pub const KIB: usize = 1_024;
