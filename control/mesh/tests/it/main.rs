//! The mesh against real PostgreSQL and NATS, as the role that may use its own schema only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test reports by failing")]

mod addresses;
mod callers;
mod endpoints;
mod entries;
mod entries_model;
mod heads;
mod heartbeats;
mod lists;
mod membership;
mod psk_rewrap;
mod pull;
mod reachability;
mod responder;
mod rotation;
mod rotation_model;
mod rotation_races;
mod statements;
mod topology;
mod world;
