//! Tests of the audit context through its public face.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod enlisting;
mod erasing;
mod intake;
mod metrics;
mod migrating;
mod mirroring;
mod reading;
mod rig;
mod s3;
mod sequencing;
mod statements;
mod tampering;
mod verifying;
