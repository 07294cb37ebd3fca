//! The life of a Node after its registration: what edges know of it, and its end.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use plexsphere_kernel::seams::{LeaveReason, MeshMembership, NodeEntries, PinnedKeys};
use plexsphere_kernel::{Database, Fault, ObjectRef, TupleWriter, Tx};
use plexsphere_wire::directory::NodeEntry;
use plexsphere_wire::{DomainId, NodeId, ResourceId, Timestamp};
use serde_json::{Value, json};

use super::store::{self, Ended};
use crate::events::EventName;
use crate::journal::{Actor, Journal};
use crate::principals::{Revocation, Verdicts};

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
    verdicts: Arc<Verdicts>,
    tuples: Arc<dyn TupleWriter>,
}

impl NodeLifecycle {
    pub(crate) fn new(
        journal: Journal,
        mesh: Arc<dyn MeshMembership>,
        verdicts: Arc<Verdicts>,
        tuples: Arc<dyn TupleWriter>,
    ) -> Self {
        Self { journal, mesh, verdicts, tuples }
    }

    /// Ends a Node in the caller's transaction: revokes its keys, retires its Peer, cools its address, tells its peers
    /// and the edges. A Node that has ended, or is unknown, is left alone. The answer is to be held until the
    /// transaction has ended.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn deregister(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        node: NodeId,
        reason: LeaveReason,
    ) -> Result<Revocation, Fault> {
        self.end(tx, actor, &[node], reason).await
    }

    /// Ends every live Node of a Resource and returns which they were.
    pub(crate) async fn deregister_all_of(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        resource: ResourceId,
        reason: LeaveReason,
    ) -> Result<(Vec<NodeId>, Revocation), Fault> {
        let nodes = store::live_nodes_of(tx, resource).await?;
        let revocation = self.end(tx, actor, &nodes, reason).await?;
        Ok((nodes, revocation))
    }

    /// A cluster has thousands of Nodes, so no statement is about one of them.
    async fn end(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        nodes: &[NodeId],
        reason: LeaveReason,
    ) -> Result<Revocation, Fault> {
        let ended = store::end_nodes(tx, nodes, reason.as_str(), actor.now).await?;
        let ids: Vec<NodeId> = ended.iter().map(|ended| ended.node).collect();
        let revocation = self.verdicts.suspend(store::revoke_keys(tx, &ids, reason.as_str(), actor.now).await?);
        let mut domains: Vec<DomainId> = ended.iter().map(|ended| ended.domain).collect();
        domains.sort_unstable();
        domains.dedup();
        for domain in domains {
            let of_domain = |ended: &&Ended| ended.domain == domain;
            let ids: Vec<NodeId> = ended.iter().filter(of_domain).map(|ended| ended.node).collect();
            self.mesh.leave_many(tx, domain, &ids, reason, actor.now).await?;
            let facts = ended.iter().filter(of_domain).map(|ended| ended.facts(reason)).collect();
            self.journal.announce_many(tx, actor, Some(domain), EventName::NodeDeregistered, facts).await?;
            let rows = ids.iter().flat_map(|node| {
                ["node.deregister", "nsk.revoke"]
                    .map(|action| actor.record(Some(domain), action, ObjectRef::node(*node)))
            });
            self.journal.record_many(tx, rows.collect()).await?;
        }
        let objects: Vec<ObjectRef> = ids.iter().map(|node| ObjectRef::node(*node)).collect();
        self.tuples.forget_many(tx, &objects).await?;
        store::mark_nodes(tx, &ids).await?;
        Ok(revocation)
    }
}

impl Ended {
    fn facts(&self, reason: LeaveReason) -> Value {
        json!({
            "node_id": self.node,
            "resource_id": self.resource,
            "project_id": self.project,
            "domain_id": self.domain,
            "reason": reason.as_str(),
        })
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
        store::mark_nodes(&mut tx, &nodes).await?;
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

#[async_trait]
impl PinnedKeys for NodeReader {
    async fn pinned(&self, keys: &[(DomainId, String)]) -> Result<HashMap<String, u64>, Fault> {
        store::pinned(self.db.pool(), keys).await
    }
}
