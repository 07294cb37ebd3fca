//! What a user of this crate relies on: real servers, real processes, a fake Python where a failure is wanted.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "a test may fail")]

mod fetch;
mod node;
mod servers;
