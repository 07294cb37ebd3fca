//! The edge against a real NATS server and a stand-in for control.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a broken test panics")]

mod faults;
mod harness;
mod heartbeat;
mod ingest;
mod listeners;
mod parked;
mod proxy;
mod streams;
