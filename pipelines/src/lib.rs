//! The pipelines tier: drains the telemetry buffer and delivers every batch to its sinks.
//!
//! **Language.** A *sink* is where a batch ends: Mimir, Loki, a SIEM, or a local folder. A *route* is one pair of signal
//! and sink; each has exactly one *durable* consumer, five in all, whose names never change. A *delivery* is one attempt
//! to hand a batch to a sink, its *outcome* is the class of the answer, and a *dead letter* is a message that a route
//! gives up on, kept with the reason. A *tenant* is a Domain as the sinks see it.
//!
//! Invariants:
//! - **I1** A message is acknowledged only after its sink has taken it, after its dead letter is durably stored, or
//!   because its sink is configured off.
//! - **I2** Rendering is a pure function of the batch: a redelivery has the same bytes ([`render`]).
//! - **I3** One sink request carries one Domain, and its tenant is derived from the subject.
//! - **I4** Headers must name the subject's origin; a mismatch reaches no sink ([`batch`]).
//! - **I5** Routes are independent, and so are the Domains of a route.
//! - **I6** The file sink holds each record once, whatever is killed and delivered again ([`file_sink`]).
//!
//! **Seams.** The tier is handed a NATS client, its configuration and a metrics registry, and offers its health and
//! probes. It owns the streams and consumers ([`streams`]): the edge creates none, it opens when it sees them.

pub mod batch;
pub mod breaker;
mod clock;
mod config;
mod consumer;
pub mod dead;
pub mod file_sink;
mod health;
mod lag;
mod metrics;
pub mod outcome;
pub mod render;
mod route;
mod service;
mod sink;
pub mod streams;
mod tenant;

pub use clock::Clock;
pub use config::{
    FileSinkConfig, HttpSinkConfig, LokiConfig, LokiEncoding, PipelinesConfig, SiemConfig, SinkChoice, TopologyConfig,
};
pub use dead::{ReplayError, replay_dead};
pub use file_sink::read_records;
pub use health::{HEALTH_CHECK, PROBE, ProbeStatus, RouteHealth, RoutingHealth};
pub use route::{Route, SinkKind};
pub use service::{Observer, Pipelines, Running};
pub use sink::{AuthorizationError, SinkSetupError, SinksError};
pub use tenant::TenantId;
