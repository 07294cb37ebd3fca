//! Tests of the kernel through its public face.

mod projector;
mod relay;
mod rig;
mod statements;
mod tasks;
