//! The library against strict stand-in servers over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected shall fail at once, in its helpers too"
)]

mod agent;
mod crew;
mod fleet;
mod platform;
mod streams;
mod transport;
