//! What benches and load rigs share: telemetry as a fleet sends it, made from numbers so that every run sees the same
//! bytes. The benches themselves are in `benches/`, one file per question, each an entry in `Cargo.toml`.

pub mod corpus;
