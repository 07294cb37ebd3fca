//! The agent's side of the platform: one Node that is this machine, a fleet of Nodes in one process, or very many event
//! streams in a few.
//!
//! **Language.** A *Node* enrols once and then speaks with its own key. A *batch* is settled when it was accepted or
//! dropped for good; until then the same bytes are sent again. A *phase* is one run of a fleet's work over one protocol.
//! The *ledger* says what was sent and acknowledged; *verification* compares it with what a file sink holds.
//!
//! Invariants:
//! - **I1** A batch's bytes never change between attempts ([`api::Batch`]).
//! - **I2** An envelope is acted on only after its signature, its age and its scope were checked ([`events::KeyRing`]).
//! - **I3** The cursor moves past every frame, believed or not, and never back ([`events::Cursor`]).
//! - **I4** Latency is measured from the moment a batch was due, not from when it could be sent ([`fleet`]).
//! - **I5** Every record of a fleet has a key of its own, so that arrivals can be counted exactly ([`ledger`]).

pub mod agent;
pub mod api;
pub mod cli;
pub mod clock;
pub mod collect;
mod descriptors;
pub mod events;
pub mod fleet;
pub mod follow;
pub mod histogram;
pub mod ledger;
pub mod records;
pub mod report;
pub mod ship;
pub mod streams;
pub mod transport;
pub mod verify;
