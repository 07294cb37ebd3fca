//! Tests of the audit context through its public face.

mod enlisting;
mod intake;
mod rig;
