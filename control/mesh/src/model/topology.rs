//! The mesh of a Domain as a graph: every live Peer, and between any two an edge in each direction.

use std::collections::HashMap;

use plexsphere_kernel::seams::ReachabilityPolicy;
use plexsphere_wire::{DomainId, NodeId, Timestamp};
use serde::Serialize;

use super::reachability::{ReachabilityState, state_of};

/// The most Nodes between which every edge is listed. Among more, edges that are direct and healthy are left out.
pub(crate) const FULL_EDGES: usize = 500;

/// A live Peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct TopologyNode {
    pub(crate) node_id: NodeId,
    pub(crate) mesh_ip: String,
    pub(crate) reachability: ReachabilityState,
    /// The Node that relays for it.
    #[serde(skip)]
    pub(crate) relay: Option<NodeId>,
}

/// How traffic from one Node to another travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EdgeMode {
    Direct,
    Relayed,
}

/// One direction between two Peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Edge {
    pub(crate) source_node_id: NodeId,
    pub(crate) target_node_id: NodeId,
    pub(crate) mode: EdgeMode,
    pub(crate) relay_node_id: Option<NodeId>,
    pub(crate) status: ReachabilityState,
}

impl Edge {
    const fn is_plain(&self) -> bool {
        matches!((self.mode, self.status), (EdgeMode::Direct, ReachabilityState::Healthy))
    }
}

/// A Domain's mesh at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Topology {
    pub(crate) domain: DomainId,
    pub(crate) generated_at: Timestamp,
    pub(crate) policy: ReachabilityPolicy,
    /// By Node id.
    pub(crate) nodes: Vec<TopologyNode>,
    /// Places in `nodes` to which an edge is listed from wherever it comes.
    conspicuous: Vec<usize>,
}

impl Topology {
    pub(crate) fn new(
        domain: DomainId,
        generated_at: Timestamp,
        policy: ReachabilityPolicy,
        nodes: Vec<TopologyNode>,
    ) -> Self {
        let is_conspicuous =
            |node: &TopologyNode| node.relay.is_some() || node.reachability != ReachabilityState::Healthy;
        let conspicuous = if nodes.len() <= FULL_EDGES {
            (0..nodes.len()).collect()
        } else {
            nodes.iter().enumerate().filter(|(_, node)| is_conspicuous(node)).map(|(place, _)| place).collect()
        };
        Self { domain, generated_at, policy, nodes, conspicuous }
    }

    /// The listed edges from `source`, by target. `handshakes` are the newest from there, by target: an edge without one
    /// is as its worse end. The work is that of what is listed, unless there are handshakes to look through.
    pub(crate) fn edges_from<'t>(
        &'t self,
        source: &'t TopologyNode,
        handshakes: &'t HashMap<NodeId, Timestamp>,
    ) -> impl Iterator<Item = Edge> + 't {
        let is_any_listed = !handshakes.is_empty() || source.reachability != ReachabilityState::Healthy;
        let some: &[usize] = if is_any_listed { &[] } else { &self.conspicuous };
        let all = if is_any_listed { self.nodes.as_slice() } else { &[] };
        all.iter()
            .chain(some.iter().filter_map(|place| self.nodes.get(*place)))
            .filter(|target| target.node_id != source.node_id)
            .map(|target| self.edge(source, target, handshakes.get(&target.node_id).copied()))
            .filter(|edge| self.nodes.len() <= FULL_EDGES || !edge.is_plain())
    }

    fn edge(&self, source: &TopologyNode, target: &TopologyNode, handshake: Option<Timestamp>) -> Edge {
        let status = match handshake {
            Some(_) => state_of(self.generated_at, handshake, &self.policy),
            None => source.reachability.max(target.reachability),
        };
        Edge {
            source_node_id: source.node_id,
            target_node_id: target.node_id,
            mode: if target.relay.is_some() { EdgeMode::Relayed } else { EdgeMode::Direct },
            relay_node_id: target.relay,
            status,
        }
    }
}

#[cfg(test)]
mod tests;
