//! Audit: rows that stand or fall with what they record, chained by hashes.
//!
//! Language: a **chain** is the ordered rows of one scope; its **anchor** is the Domain's id or [`PLATFORM_ANCHOR`]; a
//! **pseudonym** is a keyed hash of a subject, different on every chain; the **pepper** is a chain's key; a **pending**
//! row is durable and waits to be chained; an **entry** is a chained row; the **canonical bytes** are what is hashed; the
//! **head** is where a chain ends; a **commitment** stands for where a request came from; a **divergence** is the first
//! entry at which a chain does not hold, a finding and no error; a **segment** is consecutive entries in the object store.
//!
//! Invariants:
//! - **I1** A row is written in the transaction of what it records; without the row there is no success.
//! - **I2** No entry names a person or an address: subjects, and objects that are persons, are pseudonyms.
//! - **I3** What is personal stands in side tables, and deleting it there breaks no hash.
//! - **I4** A row that arose at an edge is written once, however often its message is delivered.
//! - **I5** Places of a chain rise by one from 1, without gap or fork, whoever appends.
//! - **I6** `entry_hash = SHA-256(prev_hash ‖ SHA-256(canonical))`; entries are never changed or removed.
//! - **I7** A Domain's chain begins with its creation, the platform's with `platform.bootstrap`.
//! - **I8** A caller without `auditor` learns nothing of which entries there are.
//! - **I9** An erased identity is not mapped again.
//!
//! Seams: offers [`plexsphere_kernel::AuditLog`], operations, tasks, [`ChainVerifier`], [`verify_export`]; needs the
//! deployment's audit key, [`plexsphere_kernel::seams::DomainEntries`], and where there is one an object store.

pub mod chain;
mod copied;
mod erasing;
mod export;
mod face;
mod http;
mod intake;
mod log;
mod metrics;
mod mirror;
mod model;
mod pepper;
mod sequencer;
mod store;
mod verifying;
mod wake;

pub use erasing::{Erased, Eraser, Erasure};
pub use export::{ExportFault, ExportedChain, verify_export};
pub use face::{Audit, AuditParts, CursorKey};
pub use intake::{AuditIntakeConsumer, AuditIntakeSweeper};
pub use log::{PgAuditLog, VISIBILITY};
pub use mirror::{MirrorPlace, MirrorPlaceError, MirrorTask};
pub use model::{PLATFORM_ANCHOR, anchor};
pub use pepper::{AuditKey, AuditKeyError, Pepper};
pub use sequencer::Sequencer;
#[doc(hidden)]
pub use store::statements;
pub use verifying::{ChainVerifier, Range, Verdict, VerifyRefusal, VerifyTask};
