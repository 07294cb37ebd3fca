//! The identity context against a real PostgreSQL, with the real mesh, signing and audit contexts.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test reports by failing")]

mod burst;
mod enrolment;
mod outage;
mod principals;
mod refusals;
mod residence;
mod statements;
mod tenancy;
mod world;
mod tenancy_domains;
mod tenancy_engine;
mod tenancy_identities;
mod tenancy_invitations;
mod tenancy_projects;
mod tenancy_rig;
mod tuples;
