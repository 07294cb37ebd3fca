//! The composition root: command line, configuration, roles, and the local supervisor for `dev`.
//!
//! Invariants:
//! - **I1** The tiers share no memory and no database: each role is put together from the bus and its own listeners only,
//!   also when `dev` runs all three in one process.
//! - **I2** Sockets are bound before any work, and a role is announced ready only when each of its probes passes.
//! - **I3** What goes to stdout is data, everything else goes to stderr.

mod admin;
mod cli;
mod client_secrets;
mod commands;
pub mod config;
mod custody;
mod dev;
mod logging;
mod openbao;
mod output;
mod roles;
mod shutdown;

pub use cli::run;
