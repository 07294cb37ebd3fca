//! The audit port: what a context hands over, in its own transaction.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use plexsphere_wire::{CorrelationId, DenialReason, DomainId, Timestamp};

use crate::{Fault, ObjectRef, Subject, Tx};

/// How a decision ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Granted.
    Granted,
    /// Denied.
    Denied(DenialReason),
}

/// Where a request came from; both absent for background work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestContext {
    /// The client's address after proxy unwrapping.
    pub ip: Option<String>,
    /// The `User-Agent`, cut at 256 bytes.
    pub user_agent: Option<String>,
}

/// The caveats that a decision looked at, with the names of their parameters. Names only: a value has no place in here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaveatNames(BTreeMap<String, BTreeSet<String>>);

/// A text that is no name of a caveat or of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a caveat or of a parameter")]
pub struct NotACaveatName;

impl CaveatNames {
    /// Adds a caveat with one of its parameters. Names match `^[a-z][a-z0-9_]{0,63}$`.
    ///
    /// # Errors
    /// [`NotACaveatName`]; nothing is added then.
    pub fn add(&mut self, caveat: &str, parameter: &str) -> Result<(), NotACaveatName> {
        let fits = |name: &str| {
            name.len() <= 64
                && name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        if !fits(caveat) || !fits(parameter) {
            return Err(NotACaveatName);
        }
        self.0.entry(caveat.to_owned()).or_default().insert(parameter.to_owned());
        Ok(())
    }

    /// Adds a name that has no parameters: a mark on the decision, such as `stale_cache`.
    pub fn mark(&mut self, name: &'static str) {
        self.0.entry(name.to_owned()).or_default();
    }

    /// Adds those of another decision.
    pub fn extend(&mut self, other: Self) {
        for (caveat, parameters) in other.0 {
            self.0.entry(caveat).or_default().extend(parameters);
        }
    }

    /// Whether no caveat was looked at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Caveats with their parameters, both in order.
    #[must_use]
    pub const fn names(&self) -> &BTreeMap<String, BTreeSet<String>> {
        &self.0
    }
}

/// One row to be. There is no member for free text, so nothing personal or secret can travel in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// The chain: a Domain's, or the platform's for `None`.
    pub domain: Option<DomainId>,
    /// Who acted.
    pub subject: Subject,
    /// A relation that was checked, or a dotted action name such as `domain.create`.
    pub relation: String,
    /// On what.
    pub object: ObjectRef,
    /// How it ended.
    pub outcome: Outcome,
    /// The request.
    pub correlation_id: CorrelationId,
    /// Where the request came from.
    pub context: RequestContext,
    /// When it was decided.
    pub occurred_at: Timestamp,
}

/// Takes rows. A row that cannot be enlisted fails its operation: no unaudited success.
#[async_trait]
pub trait AuditLog: Send + Sync + 'static {
    /// Enlists a row in the caller's transaction.
    ///
    /// # Errors
    /// [`Fault`] when the row cannot be written.
    async fn record(&self, tx: &mut Tx, record: AuditRecord) -> Result<(), Fault>;

    /// Enlists many rows in the caller's transaction. A log that can write them in one statement does so.
    ///
    /// # Errors
    /// [`Fault`] when a row cannot be written.
    async fn record_many(&self, tx: &mut Tx, records: Vec<AuditRecord>) -> Result<(), Fault> {
        for record in records {
            self.record(tx, record).await?;
        }
        Ok(())
    }

    /// Writes a row in a transaction of its own, as for a denial.
    ///
    /// # Errors
    /// [`Fault`] when the row cannot be written.
    async fn record_alone(&self, record: AuditRecord) -> Result<(), Fault> {
        self.record_decision(record, CaveatNames::default()).await
    }

    /// As [`Self::record_alone`], with the caveats that the decision looked at.
    ///
    /// # Errors
    /// [`Fault`] when the row cannot be written.
    async fn record_decision(&self, record: AuditRecord, caveats: CaveatNames) -> Result<(), Fault>;
}
