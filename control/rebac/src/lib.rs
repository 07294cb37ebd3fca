//! Relation-based access control: may this subject use this permission on this object, now?
//!
//! Language: a **tuple** is (subject, relation, object, optional caveat); an **object** is `<kind>:<id>`; a **subject**
//! is an object or a **userset** `<kind>:<id>#<name>`; a **relation** may carry tuples, a **permission** is computed by
//! the **schema** (`schema.txt`); an **arrow** is a permission on what a relation points to; a **caveat** is a condition
//! on a tuple, judged at check time; a **scope** is a Domain or the platform, and its **generation** counts the tuple
//! writes in it; a **graph** is one immutable state of all tuples in memory.
//!
//! Invariants:
//! - **I1** A check answers "allowed" only along tuples of one graph whose caveats hold; a limit that is reached, or a
//!   store that is not, is an error and never a grant.
//! - **I2** No tuple is stored whose relation and subject form the schema does not name: the table refuses it.
//! - **I3** Every write moves its scope's generation by exactly one and leaves exactly one row in the change log, in the
//!   writer's transaction.
//! - **I4** A check at a gate sees every write that was committed before it began, on whichever replica.
//! - **I5** What changes in one transaction becomes visible in one step.
//! - **I6** No value of a caveat's parameters leaves for audit or logs: names only.
//!
//! Seams: offers [`RelationAuthorizer`] as [`plexsphere_kernel::Authorizer`], [`TupleWriter`], [`GrantRules`], lookups,
//! operations and a task; needs [`ObjectDirectory`] for what exists and where it belongs.

pub mod engine;
pub mod model;


pub use model::caveat::{Caveat, CaveatInputs};
pub use model::graph::{Graph, Tuple};
pub use model::refs::{ObjectId, ObjectKey, SubjectKey};
pub use model::schema::{Class, Schema, SchemaError};
