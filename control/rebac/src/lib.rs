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
//! Seams: offers through [`Rebac`] the kernel's [`plexsphere_kernel::Authorizer`], [`plexsphere_kernel::TupleWriter`] and
//! [`plexsphere_kernel::GrantRules`], operations and tasks. It needs nobody's directory: what exists and where it
//! belongs is read off the tuples that creation wrote.

pub mod engine;
mod events;
mod face;
mod http;
pub mod model;
mod service;
mod store;

pub use face::{Rebac, RebacConfig, RebacParts, UnknownPermission};
pub use model::caveat::{Caveat, CaveatInputs, CaveatNames};
pub use model::graph::{Change, Generations, Graph, Scope, Tuple};
pub use model::refs::{ObjectId, ObjectKey, RefProblem, SubjectKey};
pub use model::schema::{Class, KindId, NameId, Schema, SchemaError};
pub use service::authorizer::{AuthorizerConfig, RelationAuthorizer};
pub use service::orphans::OrphanSweeper;
pub use service::sweeper::ChangeSweeper;
pub use service::sync::{RelationSync, Relations, Token};
pub use service::writer::PgTupleWriter;
pub use store::STATEMENTS;
