//! Use cases: following the tuples into memory, deciding from them, and writing them.

pub(crate) mod administration;
pub(crate) mod authorizer;
pub(crate) mod orphans;
pub(crate) mod sweeper;
pub(crate) mod sync;
pub(crate) mod writer;
