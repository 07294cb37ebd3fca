//! Real servers for the tests of every crate: PostgreSQL, NATS with JetStream, OpenBao. A dev-dependency only.
//!
//! One server of each kind per test process, started when the first test asks for it and shared by all. A test gets a
//! database, an account or a mount of its own in it. A test that kills a server takes one of its own (`*_own`).
//!
//! Invariants:
//!
//! - T1: two tests never see each other's rows, streams or secrets.
//! - T2: no server outlives the test process, however that ends; what it left on the disk is removed by a later one.
//! - T3: a failure to start is a panic whose message is the sentence of `plexsphere_local::LocalError`.
//! - T4: an unexpected WARN or ERROR line fails the test that caused it, when the test holds a [`logs::Guard`].
//! - T5: a push that Mimir, Loki or a SIEM would refuse is a violation at the [`receiver`], never a pass.
//! - T6: the OpenID provider is another's, certified, and its packages are pinned by hash; so is the S3 server.
//! - T7: an answer that the API document does not describe fails the test that sees it ([`Answers`]).
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a testkit reports by failing the test")]

mod answers;
mod bao;
mod database;
mod eventually;
pub mod logs;
mod message_bus;
mod openid;
pub mod receiver;
mod s3;
mod servers;
mod walls;

pub use answers::{Answer, Answers, Exchange};
pub use bao::{TestOpenBao, openbao, openbao_own};
pub use database::{TestDatabase, TestPostgres, postgres, postgres_own};
pub use eventually::{Pauses, patience};
pub use message_bus::{TestNats, nats, nats_own};
pub use openid::{Browser, OpenIdSettings, TestOpenId, openid, openid_with};
pub use s3::{TestS3, s3, s3_own};
pub use walls::{Grant, WALLS};
