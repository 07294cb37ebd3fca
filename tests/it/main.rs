//! Tests of the whole program: its roles as processes, over real servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test may fail loudly, and speaks as its client would"
)]

mod answers;
mod architecture;
mod audit_rig;
mod authority;
mod chains;
mod checks_rig;
mod erasure;
mod events;
mod hostile;
mod installation;
mod kills;
mod protocols;
mod pulls_rig;
mod reference;
mod rotation;
mod rotations;
mod streams_rig;
mod surface;
mod tour;
