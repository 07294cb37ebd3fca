//! Peers as other Nodes program them.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plexsphere_kernel::seams::PeerView;
use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::{DomainId, NodeId};
use uuid::Uuid;

use super::endpoints::observation;
use crate::model::endpoints::{FallbackFill, Observation, fallback_endpoint};
use crate::model::peer_list::PeerChange;

/// Peers with their observations. Each is looked up by itself: the planner cannot know how few have changed, and would
/// read the observations of all Domains for them.
macro_rules! peers {
    ($live:literal, $which:literal) => {
        concat!(
            "SELECT p.node_id, p.mesh_ip, p.public_key, ",
            $live,
            " AS live, e.host, e.port, e.nat_type, e.stale
             FROM mesh.peers p LEFT JOIN LATERAL (
                 SELECT host, port, nat_type, stale FROM mesh.endpoints WHERE peer_id = p.peer_id LIMIT 1
             ) e ON true
             WHERE p.domain_id = $1 AND ",
            $which
        )
    };
}

pub(crate) const OTHERS: &str = peers!("true", "p.deregistered_at IS NULL AND p.node_id <> $2 ORDER BY p.node_id");

/// Every other live Peer of the Domain, by Node id.
pub(crate) async fn others(
    tx: &mut Tx,
    domain: DomainId,
    own: NodeId,
    fill: FallbackFill,
) -> Result<Vec<PeerView>, Fault> {
    let rows: Vec<Row> = sqlx::query_as(OTHERS).bind(domain.uuid()).bind(own.uuid()).fetch_all(&mut **tx).await?;
    rows.into_iter().map(|row| row.view(fill)).collect()
}

pub(crate) const LIST: &str = peers!("true", "p.deregistered_at IS NULL ORDER BY p.node_id");

/// Every live Peer of the Domain, by Node id.
pub(crate) async fn list(tx: &mut Tx, domain: DomainId, fill: FallbackFill) -> Result<Vec<PeerView>, Fault> {
    let rows: Vec<Row> = sqlx::query_as(LIST).bind(domain.uuid()).fetch_all(&mut **tx).await?;
    rows.into_iter().map(|row| row.view(fill)).collect()
}

/// Of a Node's Peers the live one comes last, so that it counts.
pub(crate) const CHANGED: &str = peers!("p.deregistered_at IS NULL", "p.changed_version > $2 ORDER BY live");

/// What changed of the Domain's Peers behind a mesh version.
pub(crate) async fn changed(
    tx: &mut Tx,
    domain: DomainId,
    mesh_version: i64,
    fill: FallbackFill,
) -> Result<Vec<PeerChange>, Fault> {
    let rows: Vec<Row> = sqlx::query_as(CHANGED).bind(domain.uuid()).bind(mesh_version).fetch_all(&mut **tx).await?;
    rows.into_iter()
        .map(|row| {
            let view = if row.is_live { Some(row.view(fill)?) } else { None };
            Ok(PeerChange { node: NodeId::from_uuid(row.node), view })
        })
        .collect()
}

/// A Peer as others program it, given where it can be reached.
pub(crate) fn peer_view(
    node_id: NodeId,
    (mesh_ip, public_key): (IpAddr, &[u8]),
    observed: Option<&Observation>,
    fill: FallbackFill,
) -> PeerView {
    PeerView {
        node_id,
        mesh_ip: mesh_ip.to_string(),
        public_key: STANDARD.encode(public_key),
        fallback_endpoint: fallback_endpoint(observed, fill).map(|endpoint| endpoint.to_string()),
    }
}

/// A Peer with its observation, if there is one.
struct Row {
    node: Uuid,
    mesh_ip: IpAddr,
    public_key: Vec<u8>,
    is_live: bool,
    observed: Observed,
}

/// Host, port, NAT type, staleness.
type Observed = (Option<IpAddr>, Option<i32>, Option<String>, Option<bool>);

impl<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> for Row {
    fn from_row(row: &'r sqlx::postgres::PgRow) -> Result<Self, sqlx::Error> {
        use sqlx::Row as _;
        Ok(Self {
            node: row.try_get(0)?,
            mesh_ip: row.try_get(1)?,
            public_key: row.try_get(2)?,
            is_live: row.try_get(3)?,
            observed: (row.try_get(4)?, row.try_get(5)?, row.try_get(6)?, row.try_get(7)?),
        })
    }
}

impl Row {
    fn view(&self, fill: FallbackFill) -> Result<PeerView, Fault> {
        let observed = match &self.observed {
            (Some(host), Some(port), Some(nat_type), Some(stale)) => {
                Some(observation((*host, *port), nat_type, *stale)?)
            }
            _ => None,
        };
        let node = NodeId::from_uuid(self.node);
        Ok(peer_view(node, (self.mesh_ip, &self.public_key), observed.as_ref(), fill))
    }
}
