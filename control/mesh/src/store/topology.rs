//! The live Peers of a Domain with what is known of each.

use std::net::IpAddr;
use std::time::Duration;

use plexsphere_kernel::Fault;
use plexsphere_kernel::seams::ReachabilityPolicy;
use plexsphere_wire::{DomainId, NodeId, Timestamp};
use sqlx::PgPool;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use crate::model::reachability::state_of;
use crate::model::topology::{Topology, TopologyNode};

/// One statement, so that all rows are of one moment.
pub(crate) const READ: &str = "
    SELECT d.heartbeat_interval_ms, d.stale_after_ms, d.unreachable_after_ms, p.node_id, p.mesh_ip, r.last_heartbeat_at
    FROM mesh.domains d
    LEFT JOIN mesh.peers p ON p.domain_id = d.domain_id AND p.deregistered_at IS NULL
    LEFT JOIN mesh.reachability r ON r.node_id = p.node_id
    WHERE d.domain_id = $1 ORDER BY p.node_id";

type Row = (i64, i64, i64, Option<Uuid>, Option<IpAddr>, Option<OffsetDateTime>);

/// A Domain's mesh at `now`; `None` for a Domain that there is not.
pub(crate) async fn read(pool: &PgPool, domain: DomainId, now: Timestamp) -> Result<Option<Topology>, Fault> {
    let rows: Vec<Row> = sqlx::query_as(READ).bind(domain.uuid()).fetch_all(pool).await?;
    let Some((heartbeat, stale, unreachable, ..)) = rows.first() else { return Ok(None) };
    let millis = |value: &i64| Duration::from_millis(u64::try_from(*value).unwrap_or(0));
    let policy = ReachabilityPolicy {
        heartbeat_interval: millis(heartbeat),
        stale_after: millis(stale),
        unreachable_after: millis(unreachable),
    };
    let node = |(.., node, mesh_ip, last): Row| {
        let node_id = NodeId::from_uuid(node?);
        let reachability = state_of(now, last.map(Timestamp::new), &policy);
        Some(TopologyNode { node_id, mesh_ip: mesh_ip?.to_string(), reachability, relay: relay_of(node_id) })
    };
    let nodes = rows.into_iter().filter_map(node).collect();
    Ok(Some(Topology::new(domain, now, policy, nodes)))
}

/// The Node that relays for a Peer. No relay is ever assigned here, so every edge is direct.
const fn relay_of(_peer: NodeId) -> Option<NodeId> {
    None
}
