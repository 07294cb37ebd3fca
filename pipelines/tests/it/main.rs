//! The tier against a real bus, with strict receivers in place of Mimir, Loki and the SIEM.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a helper of a test that fails is a test that fails")]

mod dead;
mod file;
mod receiver;
mod routing;
mod topology;
mod trouble;
mod world;
