//! What the tiers and the Nodes say to each other: the words, the bytes and their limits, without any I/O.
//!
//! Invariants:
//! - **I1** An id is never a bare `Uuid` or `String`: every id has a type of its own ([`ids`]).
//! - **I2** A problem code that is not in the catalogue cannot be sent ([`Code`]).
//! - **I3** The canonical bytes of an envelope are a fixed point of the agent's encoder ([`envelope`]).
//! - **I4** A telemetry batch is judged in place and strictly; one bad record refuses the whole batch ([`telemetry`]).
//! - **I5** Subjects are built from typed ids only, never from strings of a request ([`subjects`]).
//!
//! Nothing here opens a socket, reads a clock or logs.

pub mod directory;
pub mod envelope;
pub mod heartbeat;
pub mod ids;
pub mod intake;
pub mod mesh_key;
pub mod nsk;
pub mod problem;
pub mod schema;
pub mod signing;
pub mod sse;
pub mod strict_json;
pub mod subjects;
pub mod telemetry;
pub mod timestamp;

pub use ids::{
    CorrelationId, DomainId, EnvelopeId, GroupId, IdError, IdpBindingId, InvitationId, NodeId, PeerId, PrincipalId,
    ProjectId, ResourceId, RotationId, TokenId,
};
pub use problem::{ChildCounts, Code, Denial, DenialReason, Problem, ProjectChildCounts};
pub use timestamp::Timestamp;
