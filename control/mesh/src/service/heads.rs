//! What a pull needs to know before any list, remembered until it is heard to have changed: an unchanged pull asks the
//! database nothing.

use std::sync::Arc;
use std::time::Duration;

use plexsphere_kernel::changes::{Forgets, Memory};
use plexsphere_kernel::seams::ReachabilityPolicy;
use plexsphere_kernel::{Changes, Database, Fault};
use plexsphere_wire::directory::DirectoryKey;
use plexsphere_wire::heartbeat::HeartbeatVerdict;
use plexsphere_wire::{DomainId, NodeId, Timestamp};

use crate::model::reachability::{Reachability, ReachabilityState};
use crate::store::peers::{self, Head};

const MAX_NODES: u64 = 200_000;
const MAX_DOMAINS: u64 = 10_000;
/// How long anything is remembered.
const LONGEST: Duration = Duration::from_secs(600);

#[derive(Clone, Copy)]
struct NodeHead {
    domain: DomainId,
    node_version: i64,
    entries_version: i64,
    reachability: Reachability,
}

#[derive(Clone, Copy)]
struct DomainHead {
    mesh_version: i64,
    policy: ReachabilityPolicy,
}

/// The heads of Nodes and their Domains.
pub(crate) struct Heads {
    db: Database,
    nodes: Memory<NodeId, NodeHead>,
    domains: Memory<DomainId, DomainHead>,
}

impl Heads {
    /// Remembers nothing until `changes` are heard.
    pub(crate) fn new(db: Database, changes: &Arc<Changes>) -> Arc<Self> {
        let heads = Arc::new(Self {
            db,
            nodes: Memory::new(Arc::clone(changes), MAX_NODES, LONGEST),
            domains: Memory::new(Arc::clone(changes), MAX_DOMAINS, LONGEST),
        });
        changes.follow(&heads);
        heads
    }

    /// The head of a Node with a live Peer. Heartbeats that other replicas took are heard of one by one and may be
    /// missed, so what is remembered of a Node counts while that says it is healthy.
    pub(crate) async fn of(&self, node: NodeId, now: Timestamp) -> Result<Option<Head>, Fault> {
        let healthy = |head: &Head| head.reachability.at(now, &head.policy).state == ReachabilityState::Healthy;
        if let Some(head) = self.known(node).filter(healthy) {
            return Ok(Some(head));
        }
        let (nodes, domains) = (self.nodes.mark(), self.domains.mark());
        let head = peers::head(self.db.pool(), node).await?;
        if let Some(Head { domain, mesh_version, node_version, entries_version, reachability, policy }) = head {
            self.nodes.put(&nodes, node, NodeHead { domain, node_version, entries_version, reachability });
            self.domains.put(&domains, domain, DomainHead { mesh_version, policy });
        }
        Ok(head)
    }

    /// What is remembered of a Node and its Domain.
    pub(crate) fn known(&self, node: NodeId) -> Option<Head> {
        let NodeHead { domain, node_version, entries_version, reachability } = self.nodes.get(&node)?;
        let DomainHead { mesh_version, policy } = self.domains.get(&domain)?;
        Some(Head { domain, mesh_version, node_version, entries_version, reachability, policy })
    }

    /// Forgets a Node that has just been changed here: whoever changed it sees that at once.
    pub(crate) fn forget(&self, node: NodeId) {
        self.nodes.forget(&node);
    }

    /// Takes note of heartbeats that were written.
    pub(crate) fn beaten(&self, verdicts: &[HeartbeatVerdict]) {
        for verdict in verdicts {
            let Some(head) = self.known(verdict.node) else { continue };
            self.nodes.amend(&verdict.node, |kept| {
                kept.reachability = kept.reachability.heartbeat(verdict.accepted_at, &head.policy);
            });
        }
    }
}

impl Forgets for Heads {
    fn changed(&self, key: DirectoryKey) {
        match key {
            DirectoryKey::Node(node) => self.forget(node),
            DirectoryKey::Domain(domain) => {
                self.domains.forget(&domain);
            }
        }
    }

    fn everything(&self) {
        self.nodes.clear();
        self.domains.clear();
    }
}
