//! The mesh against real PostgreSQL and NATS, as the role that may use its own schema only.

mod addresses;
mod heartbeats;
mod membership;
mod pull;
mod reachability;
mod responder;
mod statements;
mod world;
