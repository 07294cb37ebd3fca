//! How a person or a machine stops being one of ours: suspended for the time being, or purged for good.
//!
//! Neither has an operation. Whoever reaches the database with control's keys may do it; each is on the audit log.

mod service;
mod store;

pub use service::{ChainErasure, Departed, DepartureRefusal, Departures, DeparturesNeeds};

/// Every statement of this module, for the test that prepares them.
pub(crate) const STATEMENTS: &[&str] = store::STATEMENTS;
