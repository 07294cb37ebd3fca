//! Tests of the audit context through its public face.
