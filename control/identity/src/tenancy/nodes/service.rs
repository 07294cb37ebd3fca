//! The use case of the list of Nodes.

use plexsphere_kernel::{Database, Fault, ObjectRef};
use plexsphere_wire::{DomainId, Timestamp};
use uuid::Uuid;

use super::store::{self, NodeRow};
use crate::journal::{Actor, Journal};

/// Reads which Nodes there are.
#[derive(Clone)]
pub struct NodeSummaries {
    db: Database,
    journal: Journal,
}

impl NodeSummaries {
    pub(crate) fn new(db: Database, journal: Journal) -> Self {
        Self { db, journal }
    }

    pub(super) async fn page(
        &self,
        actor: &Actor,
        domain: Option<DomainId>,
        after: Option<(Timestamp, Uuid)>,
        limit: i64,
    ) -> Result<Vec<NodeRow>, Fault> {
        let rows = store::list(self.db.pool(), domain, after, limit).await?;
        let object = domain.map_or_else(ObjectRef::platform, ObjectRef::domain);
        // A Domain that does not exist has no chain.
        let chain = match domain {
            Some(domain) if !rows.is_empty() || store::knows_domain(self.db.pool(), domain).await? => Some(domain),
            Some(_) | None => None,
        };
        self.journal.record_alone(actor.record(chain, "node.list", object)).await?;
        Ok(rows)
    }
}
