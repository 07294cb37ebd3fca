//! The events of this context.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plexsphere_kernel::seams::{LeaveReason, PeerView};
use plexsphere_kernel::{Event, EventAudience};
use plexsphere_wire::envelope::EventType;
use plexsphere_wire::{DomainId, NodeId, RotationId, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

use crate::model::endpoints::{FallbackFill, Observation, fallback_endpoint};
use crate::model::reachability::ReachabilityState;
use crate::model::rotation::Receipt;

const CONTEXT: &str = "mesh";

/// A Node joined: every Node of the Domain adds it.
pub(crate) fn peer_registered(domain: DomainId, peer: &PeerView) -> Event {
    Event {
        domain: Some(domain),
        context: CONTEXT,
        name: "PeerRegistered",
        audience: EventAudience::Domain(EventType::PeerRegistered),
        payload: json!({ "peers": [peer] }),
    }
}

/// The seed behind a peer's pre-shared keys has a new name. The seed itself never travels.
pub(crate) fn peer_psk_assigned(domain: DomainId, node: NodeId, kid: &str, wrap_key_version: i32) -> Event {
    Event {
        domain: Some(domain),
        context: CONTEXT,
        name: "PeerPskAssigned",
        audience: EventAudience::Domain(EventType::PeerPskAssigned),
        payload: json!({ "peers": [{ "node_id": node, "kid": kid, "wrap_key_version": wrap_key_version }] }),
    }
}

/// A Node is asked for a new key.
pub(crate) fn rotate_keys(domain: DomainId, node: NodeId, rotation: RotationId, now: Timestamp) -> Event {
    Event {
        domain: Some(domain),
        context: CONTEXT,
        name: "KeyRotationRequested",
        audience: EventAudience::Node(EventType::RotateKeys, node),
        payload: json!({ "rotation_id": rotation, "requested_at": now }),
    }
}

/// A Node has a new key: every Node of the Domain takes it up.
pub(crate) fn peer_key_rotated(domain: DomainId, node: NodeId, key: &[u8; 32], receipt: &Receipt) -> Event {
    Event {
        domain: Some(domain),
        context: CONTEXT,
        name: "PeerKeyRotated",
        audience: EventAudience::Domain(EventType::PeerKeyRotated),
        payload: json!({ "peers": [{
            "node_id": node,
            "public_key": STANDARD.encode(key),
            "rotation_id": receipt.rotation,
            "kid": receipt.kid,
            "wrap_key_version": receipt.wrap_key_version,
        }] }),
    }
}

/// Nodes left: every Node of the Domain drops them.
pub(crate) fn peers_deregistered(domain: DomainId, nodes: &[NodeId], reason: LeaveReason) -> Event {
    let peers: Vec<Value> = nodes.iter().map(|node| json!({ "node_id": node, "reason": reason.as_str() })).collect();
    Event {
        domain: Some(domain),
        context: CONTEXT,
        name: "PeerDeregistered",
        audience: EventAudience::Domain(EventType::PeerDeregistered),
        payload: json!({ "peers": peers }),
    }
}

/// What others have to program for a peer changed, or nothing is known of it any more.
pub(crate) fn peer_endpoint_changed(
    domain: DomainId,
    node: NodeId,
    observed: &Observation,
    fill: FallbackFill,
) -> Event {
    let mut peer = json!({
        "node_id": node,
        "endpoint": (!observed.stale).then(|| observed.endpoint.to_string()),
        "nat_type": observed.nat_type,
        "stale": observed.stale,
    });
    if let (Some(members), Some(fallback)) = (peer.as_object_mut(), fallback_endpoint(Some(observed), fill)) {
        members.insert("fallback_endpoint".to_owned(), json!(fallback.to_string()));
    }
    Event {
        domain: Some(domain),
        context: CONTEXT,
        name: "PeerEndpointChanged",
        audience: EventAudience::Domain(EventType::PeerEndpointChanged),
        payload: json!({ "peers": [peer] }),
    }
}

/// Entries of a Node that the platform writes have changed: the Node pulls. Values never travel.
pub(crate) fn node_state_updated(domain: DomainId, node: NodeId, revision: i64, changed: &[EntryChange]) -> Event {
    Event {
        domain: Some(domain),
        context: CONTEXT,
        name: "NodeStateUpdated",
        audience: EventAudience::Node(EventType::NodeStateUpdated, node),
        payload: json!({ "node_id": node, "revision": revision, "changed": changed }),
    }
}

/// One entry of a `node_state_updated`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct EntryChange {
    /// `metadata` or `data`.
    pub(crate) kind: String,
    /// The entry's key.
    pub(crate) key: String,
    /// `put` or `delete`.
    pub(crate) op: &'static str,
}

/// A Node's reachability moved between two sweeps. Stays inside.
pub(crate) fn reachability_changed(domain: DomainId, change: &ReachabilityChange) -> Event {
    Event {
        domain: Some(domain),
        context: CONTEXT,
        name: "NodeReachabilityChanged",
        audience: EventAudience::Internal,
        payload: json!({
            "node": change.node,
            "from": change.from.as_str(),
            "to": change.to.as_str(),
            "at": change.at,
        }),
    }
}

/// What a sweep found changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReachabilityChange {
    /// The Node.
    pub(crate) node: NodeId,
    /// The state that was last told.
    pub(crate) from: ReachabilityState,
    /// The state now.
    pub(crate) to: ReachabilityState,
    /// Since when.
    pub(crate) at: Timestamp,
}
