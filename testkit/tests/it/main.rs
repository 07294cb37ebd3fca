//! What the tests of every other crate rely on.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a test may fail")]

mod database;
mod logs;
mod message_bus;
mod openbao;
mod orphans;
