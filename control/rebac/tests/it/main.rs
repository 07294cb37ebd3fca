//! The relation engine against real PostgreSQL, as the role that may use its own schema only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test reports by failing")]

mod administration;
mod authorizer;
mod gates;
mod http;
mod million;
mod orphans;
mod questions;
mod races;
mod served;
mod statements;
mod sync;
mod tuples;
mod world;
