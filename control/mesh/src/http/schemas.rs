//! What the operations answer. The snapshot's types describe the answer for the API document; its bytes are put together
//! from parts that are rendered once and shared.

pub(crate) mod bridge;

use plexsphere_wire::schema::{nullable, nullable_list};
use plexsphere_wire::{NodeId, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use bridge::NodeStateBridge;

use crate::model::reachability::{Reachability, ReachabilityState};

/// A Node's reachability.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Reachability)]
pub(crate) struct ReachabilityView {
    // The document describes the enumeration at its type: words here would wrap it in an `allOf`.
    #[schema(inline)]
    pub state: ReachabilityState,
    /// The newest heartbeat; absent until there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub last_heartbeat_at: Option<Timestamp>,
    /// Since when the state holds.
    pub changed_at: Timestamp,
}

impl From<Reachability> for ReachabilityView {
    fn from(reachability: Reachability) -> Self {
        Self {
            state: reachability.state,
            last_heartbeat_at: reachability.last_heartbeat_at,
            changed_at: reachability.changed_at,
        }
    }
}

/// All desired state of a Node. The agent needs `executions` and `sessions`, which the contract does not name.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never built")]
pub(crate) struct NodeStateSnapshot {
    /// Every other live Peer of the Domain, by Node id.
    peers: Vec<NodeStatePeer>,
    /// The Node's own reachability.
    reachability: ReachabilityView,
    /// The merged policy; `null` when no policy has the Node.
    #[schema(required = true, schema_with = nullable::<NodeStatePolicy>)]
    policy: Option<NodeStatePolicy>,
    /// Bridge duties; `null` when the Node serves no bridge Resource.
    #[schema(required = true, schema_with = nullable::<NodeStateBridge>)]
    bridge: Option<NodeStateBridge>,
    /// The Node's state entries.
    #[schema(required = true, schema_with = nullable::<NodeStateReports>)]
    state: Option<NodeStateReports>,
    /// The same value as `state`.
    #[schema(required = true, schema_with = nullable::<NodeStateReports>)]
    reports: Option<NodeStateReports>,
    /// Invocations that are not ended and not expired, by the time they were asked for.
    #[schema(value_type = Vec<Object>)]
    executions: Vec<serde_json::Value>,
    /// Live sessions, by the time they were issued; `null` when they are not known and what runs is to be kept.
    #[schema(required = true, schema_with = nullable_list)]
    sessions: Option<Vec<serde_json::Value>>,
}

/// A Peer to program.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never built")]
pub(crate) struct NodeStatePeer {
    /// The Node.
    node_id: NodeId,
    /// Its mesh address.
    #[schema(min_length = 1)]
    mesh_ip: String,
    /// Its public key.
    #[schema(min_length = 44, max_length = 44, pattern = "^[A-Za-z0-9+/]{43}=$")]
    public_key: String,
    /// Where to reach it, `host:port`, if anything is known.
    #[schema(nullable = false)]
    fallback_endpoint: Option<String>,
}

/// A compiled policy.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never built")]
pub(crate) struct NodeStatePolicy {
    /// The first policy's revision.
    revision_id: Uuid,
    /// Standard base64 of a SHA-256: equal when the rules are.
    #[schema(min_length = 44, max_length = 44, format = Byte)]
    fingerprint: String,
    /// The rules, in order.
    rules: Vec<NodeStateCompiledRule>,
}

/// One rule of a compiled policy.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never built")]
pub(crate) struct NodeStateCompiledRule {
    /// What happens to the traffic.
    action: PolicyAction,
    /// Which traffic.
    protocol: PolicyProtocol,
    /// From where.
    #[schema(max_length = 49, pattern = r"^([0-9]{1,3}\.){3}[0-9]{1,3}/[0-9]{1,2}$|^[0-9a-fA-F:]+/[0-9]{1,3}$")]
    source_cidr: String,
    /// To where.
    #[schema(max_length = 49, pattern = r"^([0-9]{1,3}\.){3}[0-9]{1,3}/[0-9]{1,2}$|^[0-9a-fA-F:]+/[0-9]{1,3}$")]
    destination_cidr: String,
    /// Which ports, where the protocol has any.
    #[schema(nullable = false)]
    ports: Option<PolicyPortRange>,
}

/// What happens to traffic that a rule matches.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "described, never built")]
pub(crate) enum PolicyAction {
    /// It passes.
    Allow,
    /// It is dropped.
    Deny,
    /// It is recorded.
    Log,
}

/// A protocol that a rule matches.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "described, never built")]
pub(crate) enum PolicyProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP.
    Icmp,
    /// Any.
    Any,
}

/// A range of ports, both ends included.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never built")]
pub(crate) struct PolicyPortRange {
    /// The lowest.
    #[schema(minimum = 1, maximum = 65535)]
    from: u16,
    /// The highest.
    #[schema(minimum = 1, maximum = 65535)]
    to: u16,
}

/// A Node's entries by kind, each by key.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never built")]
pub(crate) struct NodeStateReports {
    /// Written by the platform.
    metadata: Vec<StateEntry>,
    /// Written by the platform.
    data: Vec<StateEntry>,
    /// Written by the Node.
    reports: Vec<StateEntry>,
}

/// One entry.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never built")]
pub(crate) struct StateEntry {
    /// Its key.
    #[schema(min_length = 1, max_length = 128)]
    key: String,
    /// Its value.
    value: String,
    /// Which workload it is of; absent when empty.
    #[schema(nullable = false)]
    workload_tag: Option<String>,
}
