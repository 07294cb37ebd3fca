//! The tier against a real bus, with strict receivers in place of Mimir, Loki and the SIEM.
#![expect(clippy::unwrap_used, reason = "a helper of a test that fails is a test that fails")]

mod dead;
mod file;
mod routing;
mod topology;
mod trouble;
mod world;
