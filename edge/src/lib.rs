//! The edge tier: everything that the world touches first. Stateless; no database.
//!
//! **Language.** A *route* is what an edge serves itself; the rest goes to *control*. The *directory* is the map of
//! Nodes and Domains that control projects. A *batch* of telemetry becomes a *receipt* once its stream has acknowledged
//! it. A *stream* is one open response of events; its *frames* are shared bytes; its *cursor* is a sequence of the event
//! stream.
//!
//! Invariants:
//! - **I1** A fault of ours is a 5xx, never a 401, 403 or 404 to a Node.
//! - **I2** A 202 is sent only after the stream's own acknowledgement.
//! - **I3** Gates answer in the order of the briefs, and the first one that refuses ends the request.
//! - **I4** A stream hears every event above its cursor once, in order, or it is closed.
//! - **I5** One slow client holds up nobody but itself.
//! - **I6** Nothing is forwarded to a Node that was not verified under its Domain's keys.
//! - **I7** Control's internal paths cannot be reached from outside.
//!
//! Seams: [`Clock`], [`ByteBudget`], [`IngestBuffer`]; NATS subjects and HTTP to control otherwise.

pub mod authenticate;
pub mod body;
pub mod clock;
pub mod config;
pub mod directory;
mod edge;
pub mod fanout;
pub mod heartbeat;
pub mod ingest;
pub mod intake;
pub mod listen;
pub mod metrics;
pub mod probe;
pub mod proxy;
pub mod quota;
pub mod respond;
pub mod route;
mod service;

pub use clock::{Clock, SystemClock};
pub use config::{ConfigError, EdgeConfig};
pub use edge::{Addresses, BuildError, BuiltEdge, Edge, EdgeDeps};
pub use ingest::IngestBuffer;
pub use listen::{ListenError, TlsMaterial};
pub use quota::ByteBudget;
pub use service::EdgeService;
