//! The identity context against a real PostgreSQL, with the real mesh, signing and audit contexts.

mod enrolment;
mod principals;
mod refusals;
mod statements;
mod tenancy;
mod world;
