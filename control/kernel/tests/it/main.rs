//! Tests of the kernel through its public face.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod changes;
mod faults;
mod metrics;
mod openbao;
mod projector;
mod relay;
mod rig;
mod statements;
mod tasks;
