//! The edge against a real NATS server and a stand-in for control.

mod harness;
mod heartbeat;
mod ingest;
mod listeners;
mod proxy;
mod streams;
