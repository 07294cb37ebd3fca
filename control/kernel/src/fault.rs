//! Faults of ours or of what we depend on, as opposed to refusals of what a caller asked.

use plexsphere_wire::{Code, Problem};

/// Something broke. The cause goes to the log; the caller reads a constant sentence. `Debug` is what is logged: of what the
/// database refuses it shows what names the rule, never the row that broke it.
#[derive(thiserror::Error)]
pub enum Fault {
    /// The database refused or did not answer.
    #[error("database fault")]
    Database(#[from] sqlx::Error),
    /// The message bus refused or did not answer.
    #[error("message bus fault: {0}")]
    Bus(String),
    /// Key custody failed: a wrap key is missing, or a sealed value does not open.
    #[error("custody fault")]
    Custody(#[from] crate::SealError),
    /// The signer failed.
    #[error("signer fault")]
    Signer(#[source] crate::SignerFault),
    /// An invariant that only code can break.
    #[error("broken invariant: {0}")]
    Invariant(&'static str),
}

impl std::fmt::Debug for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Database(sqlx::Error::Database(refusal)) => f
                .debug_struct("Database")
                .field("sqlstate", &refusal.code())
                .field("message", &refusal.message())
                .field("table", &refusal.table())
                .field("constraint", &refusal.constraint())
                .finish(),
            Self::Database(error) => f.debug_tuple("Database").field(error).finish(),
            Self::Bus(cause) => f.debug_tuple("Bus").field(cause).finish(),
            Self::Custody(cause) => f.debug_tuple("Custody").field(cause).finish(),
            Self::Signer(cause) => f.debug_tuple("Signer").field(cause).finish(),
            Self::Invariant(what) => f.debug_tuple("Invariant").field(what).finish(),
        }
    }
}

impl Fault {
    /// Whether the database could not be reached, as opposed to refusing a statement.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Database(error) => match error {
                sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed => true,
                // 08: connection, 53: resources, 57P: the server is going down or coming up.
                sqlx::Error::Database(inner) => inner
                    .code()
                    .is_some_and(|code| code.starts_with("08") || code.starts_with("53") || code.starts_with("57P")),
                _ => false,
            },
            Self::Bus(_) | Self::Custody(_) | Self::Signer(_) | Self::Invariant(_) => false,
        }
    }

    /// Whether the database asks to come back because others were first: a lock was not to be had in time (55P03), a
    /// deadlock (40P01) or a serialisation failure (40001).
    #[must_use]
    pub fn is_contended(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(inner)) => {
                inner.code().is_some_and(|code| matches!(code.as_ref(), "55P03" | "40P01" | "40001"))
            }
            Self::Database(_) | Self::Bus(_) | Self::Custody(_) | Self::Signer(_) | Self::Invariant(_) => false,
        }
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        if fault.is_unreachable() {
            tracing::error!(cause = ?fault, "the database cannot be reached");
            Problem::new(Code::DatastoreUnavailable, "The service is temporarily unable to answer; try again.")
        } else if fault.is_contended() {
            tracing::info!(cause = ?fault, "a request gave way to others");
            Problem::new(Code::DatastoreUnavailable, "Too many requests change the same thing at once; try again.")
        } else {
            tracing::error!(cause = ?fault, "a request failed");
            Problem::internal()
        }
    }
}
