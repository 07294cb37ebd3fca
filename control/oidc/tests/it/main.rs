//! The relying party against servers on loopback: a strict one of ours with our own keys, and a real provider.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod fetching;
mod keys;
mod machines;
mod real;
mod rig;
mod tokens;
