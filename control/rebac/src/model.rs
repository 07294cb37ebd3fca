//! Pure: the schema, references, caveats and the graph of tuples.

pub mod caveat;
pub mod graph;
pub mod home;
pub mod refs;
pub mod schema;
