//! Audit: rows that stand or fall with what they record.
//!
//! Language: a **chain** is the ordered rows of one scope; its **anchor** is the Domain's id or [`PLATFORM_ANCHOR`]; a
//! **pseudonym** is a keyed hash of a subject, different on every chain; the **pepper** is a chain's key; a **pending**
//! row is durable and waits to be chained; a **commitment** stands for where a request came from.
//!
//! Invariants:
//! - **I1** A row is written in the transaction of what it records; without the row there is no success.
//! - **I2** No pending row names a person or an address: subjects, and objects that are persons, are pseudonyms.
//! - **I3** What is personal stands in side tables, and deleting it there breaks no hash.
//! - **I4** A row that arose at an edge is written once, however often its message is delivered.
//!
//! Seams: offers [`plexsphere_kernel::AuditLog`]; needs the deployment's audit key.

mod intake;
mod log;
mod model;
mod pepper;
mod store;

pub use intake::{AuditIntakeConsumer, AuditIntakeSweeper};
pub use log::PgAuditLog;
pub use model::{PLATFORM_ANCHOR, anchor};
pub use pepper::{AuditKey, AuditKeyError, Pepper};
#[doc(hidden)]
pub use store::STATEMENTS;
