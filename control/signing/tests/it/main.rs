//! Tests of the signing context through its public face.

mod custody;
mod lending;
mod rig;
mod rotation;
