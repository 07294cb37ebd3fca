//! The context put together.

use std::sync::Arc;

use plexsphere_kernel::http::{Gate, ObjectFrom, Operation};
use plexsphere_kernel::paging::CursorCodec;
use plexsphere_kernel::{AuditLog, Authorizer, Clock, Database, Fault, GrantRules, TupleWriter};

use crate::http::{self, Parts};
use crate::service::administration::Administration;
use crate::service::authorizer::{AuthorizerConfig, RelationAuthorizer};
use crate::service::orphans::OrphanSweeper;
use crate::service::sweeper::ChangeSweeper;
use crate::service::sync::{RelationSync, Relations};
use crate::service::writer::PgTupleWriter;

/// How the context behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RebacConfig {
    /// The authoriser's part.
    pub authorizer: AuthorizerConfig,
    /// Whether questions about others are clamped to Domains that the caller can read.
    pub clamp: bool,
}

impl Default for RebacConfig {
    fn default() -> Self {
        Self { authorizer: AuthorizerConfig::default(), clamp: true }
    }
}

/// What the context needs.
pub struct RebacParts {
    /// The database.
    pub db: Database,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where questions and changes are recorded.
    pub audit: Arc<dyn AuditLog>,
    /// For the list of tuples.
    pub cursors: CursorCodec,
}

/// A gate asks for what the schema does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the gate of {operation} asks for `{permission}` on `{kind}`, which the relation schema does not have")]
pub struct UnknownPermission {
    /// The operation.
    pub operation: &'static str,
    /// The kind of its object.
    pub kind: &'static str,
    /// The permission.
    pub permission: &'static str,
}

/// The kind and the permission that a gate asks for.
const fn asked(gate: &Gate) -> Option<(&'static str, &'static str)> {
    match *gate {
        Gate::Open(_) | Gate::AnyCaller(_) => None,
        Gate::Relation { relation, object: ObjectFrom::Platform } => Some(("platform", relation)),
        Gate::Relation { relation, object: ObjectFrom::Path { kind, .. } } | Gate::AfterRead { relation, kind } => {
            Some((kind, relation))
        }
        Gate::OwnNode { relation, .. } => Some(("node", relation)),
    }
}

/// The relation context.
pub struct Rebac {
    db: Database,
    clock: Arc<dyn Clock>,
    relations: Arc<Relations>,
    authorizer: Arc<RelationAuthorizer>,
    http: Arc<Parts>,
}

impl Rebac {
    /// Reads every tuple and compares the database's forms with the schema.
    ///
    /// # Errors
    /// [`Fault`] when the database cannot be read, or holds what the schema does not allow.
    pub async fn open(config: RebacConfig, parts: RebacParts) -> Result<Self, Fault> {
        let RebacParts { db, clock, audit, cursors } = parts;
        let relations = Relations::open(db.clone(), Arc::clone(&clock)).await?;
        let authorizer =
            Arc::new(RelationAuthorizer::new(Arc::clone(&relations), Arc::clone(&clock), config.authorizer));
        let administration = Administration { db: db.clone(), audit: Arc::clone(&audit), schema: relations.schema() };
        let http = Arc::new(Parts {
            relations: Arc::clone(&relations),
            authorizer: Arc::clone(&authorizer),
            administration,
            audit,
            cursors,
            clamp: config.clamp,
            lookups: Parts::turns(),
        });
        Ok(Self { db, clock, relations, authorizer, http })
    }

    /// The operations of this context.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        http::operations(&self.http)
    }

    /// Decides at the gates.
    #[must_use]
    pub fn authorizer(&self) -> Arc<dyn Authorizer> {
        Arc::clone(&self.authorizer) as Arc<dyn Authorizer>
    }

    /// Writes other contexts' tuples in their transactions.
    #[must_use]
    pub fn tuple_writer(&self) -> Arc<dyn TupleWriter> {
        Arc::new(PgTupleWriter::new(Arc::clone(&self.clock)))
    }

    /// What may be granted, and under which conditions.
    #[must_use]
    pub fn grant_rules(&self) -> Arc<dyn GrantRules> {
        Arc::new(PgTupleWriter::new(Arc::clone(&self.clock)))
    }

    /// The tuples in memory.
    #[must_use]
    pub const fn relations(&self) -> &Arc<Relations> {
        &self.relations
    }

    /// The task that keeps them fresh; see [`RelationSync::schedule`].
    #[must_use]
    pub fn sync(&self) -> RelationSync {
        RelationSync::new(Arc::clone(&self.relations))
    }

    /// Whether every gate asks for what the schema has: one that does not would refuse everybody.
    ///
    /// # Errors
    /// [`UnknownPermission`], for the first that does not.
    pub fn admit(&self, operations: &[Operation]) -> Result<(), UnknownPermission> {
        let schema = self.relations.schema();
        let unknown = operations.iter().find_map(|operation| {
            let (kind, permission) = asked(&operation.gate)?;
            let unknown = UnknownPermission { operation: operation.id, kind, permission };
            (!schema.knows(kind, permission)).then_some(unknown)
        });
        unknown.map_or(Ok(()), Err)
    }

    /// The task that removes tuples of what is gone; see [`OrphanSweeper::SCHEDULE`].
    #[must_use]
    pub fn orphan_sweeper(&self) -> OrphanSweeper {
        OrphanSweeper::new(self.db.clone())
    }

    /// The task that clears old changes away; see [`ChangeSweeper::SCHEDULE`].
    #[must_use]
    pub fn sweeper(&self) -> ChangeSweeper {
        ChangeSweeper::new(self.db.clone(), Arc::clone(&self.clock))
    }
}
