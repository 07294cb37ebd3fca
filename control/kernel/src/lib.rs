//! What every context of the control tier stands on.
//!
//! Language: an **operation** is one route with its gate, its limits and its words; a **principal** is an authenticated
//! caller; a **decision** says whether a principal may do something; an **outbox row** is an event written in the
//! producer's transaction; a **task** is background work without input.
//!
//! Invariants:
//! - **I1** A mutation writes its rows, its audit entry and its outbox rows in one transaction, or not at all.
//! - **I2** Every operation names its gate beside its route; there is no route without one ([`http::Operation`]).
//! - **I3** A request body is decoded strictly and within its cap before a handler sees it ([`http::strict`]).
//! - **I4** Per Domain, wire order equals commit order ([`relay`]).
//! - **I5** A task never overlaps itself, on one replica or on many ([`tasks`]).
//!
//! Seams: [`Authorizer`] (who may do what), [`Authenticator`] (who calls), [`AuditLog`], [`EnvelopeSigner`], [`Clock`].

pub mod actor;
pub mod audit;
pub mod authz;
pub mod changes;
pub mod clock;
pub mod custody;
pub mod database;
pub mod directory;
pub mod fault;
pub mod http;
pub mod installation;
pub mod outbox;
pub mod paging;
pub mod principal;
pub mod probes;
pub mod projector;
pub mod relations;
pub mod relay;
pub mod seams;
pub mod tasks;

pub use actor::Actor;
pub use audit::{AuditLog, AuditRecord, Outcome};
pub use authz::{Authorizer, Decision};
pub use changes::{ChangeListener, Changes};
pub use clock::{Clock, SystemClock};
pub use custody::{KekRing, SealError};
pub use database::{Database, MIGRATOR, Tx};
pub use fault::Fault;
pub use outbox::{Event, EventAudience, Outbox};
pub use principal::{
    Assurance, Authenticated, Authenticator, Credential, ObjectRef, Principal, PrincipalScope, Subject,
};
pub use probes::Probes;
pub use relations::{GrantRules, RelationTuple, StoredCaveat, SubjectRef, TupleWriter};
pub use relay::{EnvelopeSigner, SignerFault};
