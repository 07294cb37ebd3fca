//! The relation engine against real PostgreSQL, as the role that may use its own schema only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test reports by failing")]

mod authorizer;
mod http;
mod million;
mod statements;
mod sync;
mod tuples;
mod world;
