//! Tests of the signing context through its public face.
