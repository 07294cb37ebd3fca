//! The identity context against a real PostgreSQL, with the real mesh, signing and audit contexts.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test reports by failing")]

mod admin_tokens;
mod administrators;
mod bindings;
mod bindings_races;
mod bindings_scope;
mod burst;
mod callers;
mod credentials;
mod devices_races;
mod enrolment;
mod grants;
mod groups;
mod groups_engine;
mod groups_nesting;
mod groups_seams;
mod outage;
mod people;
mod principals;
mod probe;
mod refusals;
mod residence;
mod rows;
mod signin;
mod signin_outcomes;
mod statements;
mod svids;
mod tenancy;
mod tenancy_domains;
mod tenancy_engine;
mod tenancy_identities;
mod tenancy_invitations;
mod tenancy_projects;
mod tenancy_rig;
mod tuples;
mod world;
