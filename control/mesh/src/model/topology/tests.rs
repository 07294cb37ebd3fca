use std::collections::HashMap;
use std::time::Duration;

use plexsphere_kernel::seams::ReachabilityPolicy;
use plexsphere_wire::{DomainId, NodeId, Timestamp};
use proptest::prelude::*;
use uuid::Uuid;

use super::{Edge, EdgeMode, FULL_EDGES, Topology, TopologyNode};
use crate::model::reachability::ReachabilityState;

fn now() -> Timestamp {
    Timestamp::from_unix_seconds(1_800_000_000)
}

fn id(n: usize) -> NodeId {
    NodeId::from_uuid(Uuid::from_u128(u128::try_from(n).unwrap() + 1))
}

fn node(n: usize, reachability: ReachabilityState, relay: Option<NodeId>) -> TopologyNode {
    TopologyNode { node_id: id(n), mesh_ip: "10.0.0.1".to_owned(), reachability, relay }
}

fn topology(nodes: Vec<TopologyNode>) -> Topology {
    let domain = DomainId::from_uuid(Uuid::from_u128(7));
    Topology::new(domain, now(), ReachabilityPolicy::default(), nodes)
}

fn all_edges(topology: &Topology, handshakes: &HashMap<NodeId, HashMap<NodeId, Timestamp>>) -> Vec<Edge> {
    let none = HashMap::new();
    let from = |source: &TopologyNode| {
        let handshakes = handshakes.get(&source.node_id).unwrap_or(&none);
        topology.edges_from(source, handshakes).collect::<Vec<_>>()
    };
    topology.nodes.iter().flat_map(from).collect()
}

#[test]
fn an_edge_is_relayed_towards_the_target_that_has_a_relay_and_as_its_worse_end() {
    let topology =
        topology(vec![node(0, ReachabilityState::Healthy, None), node(1, ReachabilityState::Stale, Some(id(9)))]);
    let edge = |source, target, mode, relay| Edge {
        source_node_id: id(source),
        target_node_id: id(target),
        mode,
        relay_node_id: relay,
        status: ReachabilityState::Stale,
    };
    let expected = [edge(0, 1, EdgeMode::Relayed, Some(id(9))), edge(1, 0, EdgeMode::Direct, None)];
    assert_eq!(all_edges(&topology, &HashMap::new()), expected);
}

#[test]
fn a_handshake_counts_for_its_direction_whatever_the_ends_are() {
    let topology =
        topology(vec![node(0, ReachabilityState::Healthy, None), node(1, ReachabilityState::Unreachable, None)]);
    for (age, expected) in
        [(89, ReachabilityState::Healthy), (90, ReachabilityState::Stale), (300, ReachabilityState::Unreachable)]
    {
        let handshakes = HashMap::from([(id(1), now().minus(Duration::from_secs(age)))]);
        let edges = all_edges(&topology, &HashMap::from([(id(0), handshakes)]));
        assert_eq!((edges[0].status, edges[1].status), (expected, ReachabilityState::Unreachable));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Below the limit every pair is listed, above it every pair that is relayed or not healthy, and no other.
    #[test]
    fn what_is_listed_is_what_a_walk_over_all_pairs_lists(
        count in prop::sample::select(vec![0, 1, 2, 40, FULL_EDGES, FULL_EDGES + 1, FULL_EDGES + 60]),
        odd in prop::collection::vec((0usize..600, 0usize..3, any::<bool>()), 0..12),
        heard in prop::collection::vec((0usize..600, 0usize..600, 0u64..400), 0..12),
    ) {
        let mut nodes: Vec<_> = (0..count).map(|n| node(n, ReachabilityState::Healthy, None)).collect();
        for (n, state, relayed) in odd {
            if let Some(node) = nodes.get_mut(n) {
                node.reachability = ReachabilityState::ALL[state];
                node.relay = relayed.then(|| id(700));
            }
        }
        let mut handshakes: HashMap<NodeId, HashMap<NodeId, Timestamp>> = HashMap::new();
        for (source, target, age) in heard {
            let at = now().minus(Duration::from_secs(age));
            handshakes.entry(id(source)).or_default().insert(id(target), at);
        }
        let topology = topology(nodes);
        let mut expected = Vec::new();
        for source in &topology.nodes {
            for target in topology.nodes.iter().filter(|target| target.node_id != source.node_id) {
                let handshake = handshakes.get(&source.node_id).and_then(|from| from.get(&target.node_id)).copied();
                let edge = topology.edge(source, target, handshake);
                let is_odd = edge.mode == EdgeMode::Relayed || edge.status != ReachabilityState::Healthy;
                if count <= FULL_EDGES || is_odd {
                    expected.push(edge);
                }
            }
        }
        prop_assert_eq!(all_edges(&topology, &handshakes), expected);
    }
}
