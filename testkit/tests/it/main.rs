//! What the tests of every other crate rely on.

mod database;
mod logs;
mod message_bus;
mod openbao;
mod orphans;
