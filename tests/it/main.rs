//! Tests of the whole program.

mod architecture;
