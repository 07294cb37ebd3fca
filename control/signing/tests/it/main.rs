//! Tests of the signing context through its public face.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod ageing;
mod custody;
mod destruction;
mod lending;
mod rewrapping;
mod rig;
mod rotation;
mod sessions;
mod states;
mod transit;
