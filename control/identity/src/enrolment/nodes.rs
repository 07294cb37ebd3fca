//! The life of a Node after its registration: what edges know of it, and its end.

use std::sync::Arc;

use async_trait::async_trait;
use plexsphere_kernel::seams::{LeaveReason, MeshMembership, NodeEntries};
use plexsphere_kernel::{Database, Fault, ObjectRef, Tx, directory};
use plexsphere_wire::directory::NodeEntry;
use plexsphere_wire::{NodeId, ResourceId, Timestamp};
use serde_json::json;

use super::store;
use crate::events::EventName;
use crate::journal::{Actor, Journal};

/// Waits until the edge directory knows a Node, so that its first call on any edge is answered.
#[async_trait]
pub trait DirectoryFlush: Send + Sync + 'static {
    /// Returns when the Node's entry was written, or when it cannot be.
    async fn flush(&self, node: NodeId);
}

/// Ends Nodes.
#[derive(Clone)]
pub struct NodeLifecycle {
    journal: Journal,
    mesh: Arc<dyn MeshMembership>,
}

impl NodeLifecycle {
    pub(crate) fn new(journal: Journal, mesh: Arc<dyn MeshMembership>) -> Self {
        Self { journal, mesh }
    }

    /// Ends a Node in the caller's transaction: revokes its keys, retires its Peer, cools its address, tells its peers
    /// and the edges. A Node that has ended, or is unknown, is left alone.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn deregister(&self, tx: &mut Tx, actor: &Actor, node: NodeId, reason: LeaveReason) -> Result<(), Fault> {
        let Some(ended) = store::end_node(tx, node, reason.as_str(), actor.now).await? else { return Ok(()) };
        self.mesh.leave(tx, node, reason, actor.now).await?;
        directory::mark_node(tx, node).await?;
        let payload = json!({
            "node_id": node,
            "resource_id": ended.resource,
            "project_id": ended.project,
            "domain_id": ended.domain,
            "reason": reason.as_str(),
        });
        let domain = Some(ended.domain);
        self.journal.announce(tx, actor, domain, EventName::NodeDeregistered, payload).await?;
        self.journal.record(tx, actor.record(domain, "node.deregister", ObjectRef::node(node))).await?;
        self.journal.record(tx, actor.record(domain, "nsk.revoke", ObjectRef::node(node))).await
    }

    /// Ends every live Node of a Resource and returns which they were.
    pub(crate) async fn deregister_all_of(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        resource: ResourceId,
        reason: LeaveReason,
    ) -> Result<Vec<NodeId>, Fault> {
        let nodes = store::live_nodes_of(tx, resource).await?;
        for node in &nodes {
            self.deregister(tx, actor, *node, reason).await?;
        }
        Ok(nodes)
    }
}

/// Reads what the edges know of Nodes.
#[derive(Clone)]
pub struct NodeReader {
    db: Database,
}

impl NodeReader {
    /// A reader of a database; it needs nothing else of the context, so that the projector can be built first.
    #[must_use]
    pub const fn new(db: Database) -> Self {
        Self { db }
    }

    /// Removes keys that were revoked 30 days ago and marks their Nodes, whose entries leave the directory with them.
    /// Returns how many went.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn sweep_once(&self, now: Timestamp) -> Result<u64, Fault> {
        let mut tx = self.db.begin().await?;
        let nodes = store::purge_revoked_keys(&mut tx, now).await?;
        let count = u64::try_from(nodes.len()).unwrap_or(u64::MAX);
        for node in nodes {
            directory::mark_node(&mut tx, node).await?;
        }
        tx.commit().await?;
        Ok(count)
    }
}

#[async_trait]
impl NodeEntries for NodeReader {
    async fn node_entry(&self, node: NodeId) -> Result<Option<NodeEntry>, Fault> {
        store::node_entry(self.db.pool(), node).await
    }

    async fn node_entries(&self, after: Option<NodeId>, limit: i64) -> Result<Vec<NodeEntry>, Fault> {
        store::node_entries(self.db.pool(), after, limit).await
    }
}
