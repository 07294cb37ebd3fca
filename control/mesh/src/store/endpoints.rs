//! Where Nodes saw themselves from outside.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use plexsphere_kernel::{Database, Fault, Tx};
use plexsphere_wire::{DomainId, NodeId, PeerId, Timestamp};
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use crate::model::endpoints::{Endpoint, NatType, Observation, Report};

/// An observation with its times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    /// What was seen.
    pub(crate) observation: Observation,
    /// When the Node saw it.
    pub(crate) reported_at: Timestamp,
    /// How long it is fresh.
    pub(crate) freshness: Freshness,
}

/// How long an observation is fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Freshness {
    /// When it was taken.
    pub(crate) accepted_at: Timestamp,
    /// When it goes stale unless it is reported again.
    pub(crate) stale_after: Timestamp,
}

/// What a report is judged by.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    /// The Domain's pool.
    pub(crate) pool: Option<IpNet>,
    /// How long an observation is fresh in the Domain.
    pub(crate) ttl: Duration,
    /// The Node's live Peer with its observation.
    pub(crate) peer: Option<(PeerId, Option<Kept>)>,
}

pub(crate) const GROUND: &str = "
    SELECT d.pool, d.endpoint_ttl_ms, p.peer_id,
           e.host, e.port, e.nat_type, e.stale, e.reported_at, e.accepted_at, e.stale_after
    FROM mesh.domains d
    LEFT JOIN mesh.peers p ON p.node_id = $2 AND p.domain_id = d.domain_id AND p.deregistered_at IS NULL
    LEFT JOIN mesh.endpoints e ON e.peer_id = p.peer_id
    WHERE d.domain_id = $1";

/// Reads what a Node's report is judged by; `None` when the mesh knows nothing of its Domain.
pub(crate) async fn ground(db: &Database, domain: DomainId, node: NodeId) -> Result<Option<Ground>, Fault> {
    use sqlx::Row as _;
    let query = sqlx::query(GROUND).bind(domain.uuid()).bind(node.uuid());
    let Some(row) = query.fetch_optional(db.pool()).await? else { return Ok(None) };
    let ttl: i64 = row.try_get(1)?;
    let peer: Option<Uuid> = row.try_get(2)?;
    let peer = match peer {
        None => None,
        Some(peer) => {
            let has_endpoint = row.try_get::<Option<IpAddr>, _>(3)?.is_some();
            let columns = |first: usize| {
                Ok::<_, sqlx::Error>((
                    row.try_get(first)?,
                    row.try_get(first + 1)?,
                    row.try_get(first + 2)?,
                    row.try_get(first + 3)?,
                    row.try_get(first + 4)?,
                    row.try_get(first + 5)?,
                    row.try_get(first + 6)?,
                ))
            };
            Some((PeerId::from_uuid(peer), if has_endpoint { Some(kept(columns(3)?)?) } else { None }))
        }
    };
    let ttl = Duration::from_millis(u64::try_from(ttl).unwrap_or(0));
    Ok(Some(Ground { pool: row.try_get(0)?, ttl, peer }))
}

pub(crate) const REFRESH: &str = "
    UPDATE mesh.endpoints SET reported_at = $5, accepted_at = $6, stale_after = $7
    WHERE peer_id = $1 AND host = $2 AND port = $3 AND nat_type = $4 AND NOT stale AND reported_at <= $5";

/// Prolongs an observation, if it is still there, fresh, the same and older. Returns whether it was.
pub(crate) async fn refresh(db: &Database, peer: PeerId, report: &Report, freshness: Freshness) -> Result<bool, Fault> {
    let written = sqlx::query(REFRESH)
        .bind(peer.uuid())
        .bind(report.endpoint.host())
        .bind(i32::from(report.endpoint.port()))
        .bind(report.nat_type.as_str())
        .bind(report.reported_at.inner())
        .bind(freshness.accepted_at.inner())
        .bind(freshness.stale_after.inner())
        .execute(db.pool())
        .await?;
    Ok(written.rows_affected() == 1)
}

// Its Peer is locked before an observation is, by whoever changes what others program of it.
pub(crate) const LOCK_PEER: &str =
    "SELECT peer_id FROM mesh.peers WHERE peer_id = $1 AND deregistered_at IS NULL FOR NO KEY UPDATE";

/// Locks a live Peer; `false` when it has ended.
pub(crate) async fn lock_peer(tx: &mut Tx, peer: PeerId) -> Result<bool, Fault> {
    let found: Option<Uuid> = sqlx::query_scalar(LOCK_PEER).bind(peer.uuid()).fetch_optional(&mut **tx).await?;
    Ok(found.is_some())
}

pub(crate) const LOCK: &str = "
    SELECT host, port, nat_type, stale, reported_at, accepted_at, stale_after
    FROM mesh.endpoints WHERE peer_id = $1 FOR UPDATE";

/// Locks and reads a Peer's observation.
pub(crate) async fn lock(tx: &mut Tx, peer: PeerId) -> Result<Option<Kept>, Fault> {
    let row: Option<KeptRow> = sqlx::query_as(LOCK).bind(peer.uuid()).fetch_optional(&mut **tx).await?;
    row.map(kept).transpose()
}

pub(crate) const WRITE: &str = "
    INSERT INTO mesh.endpoints (peer_id, host, port, nat_type, reported_at, accepted_at, stale_after)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (peer_id) DO UPDATE SET
        host = EXCLUDED.host, port = EXCLUDED.port, nat_type = EXCLUDED.nat_type, reported_at = EXCLUDED.reported_at,
        accepted_at = EXCLUDED.accepted_at, stale_after = EXCLUDED.stale_after, stale = false";

/// Writes a Peer's observation, which is fresh by that.
pub(crate) async fn write(tx: &mut Tx, peer: PeerId, report: &Report, freshness: Freshness) -> Result<(), Fault> {
    sqlx::query(WRITE)
        .bind(peer.uuid())
        .bind(report.endpoint.host())
        .bind(i32::from(report.endpoint.port()))
        .bind(report.nat_type.as_str())
        .bind(report.reported_at.inner())
        .bind(freshness.accepted_at.inner())
        .bind(freshness.stale_after.inner())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(crate) const FORGET: &str = "DELETE FROM mesh.endpoints WHERE peer_id = ANY($1)";

/// Deletes the observations of Peers that have ended.
pub(crate) async fn forget(tx: &mut Tx, peers: &[PeerId]) -> Result<(), Fault> {
    let ids: Vec<Uuid> = peers.iter().map(|peer| peer.uuid()).collect();
    sqlx::query(FORGET).bind(ids).execute(&mut **tx).await?;
    Ok(())
}

/// Waits for nobody: what is locked is being reported anew, or ends. That also keeps a sweep out of any circle of locks.
pub(crate) const SWEEP: &str = "
    WITH due AS (
        SELECT p.domain_id, e.peer_id, p.node_id, e.host, e.port, e.nat_type
        FROM mesh.endpoints e JOIN mesh.peers p ON p.peer_id = e.peer_id
        WHERE NOT e.stale AND e.stale_after <= $1
        ORDER BY e.stale_after LIMIT $2 FOR NO KEY UPDATE OF p, e SKIP LOCKED
    ), marked AS (
        UPDATE mesh.endpoints SET stale = true WHERE peer_id = ANY (ARRAY(SELECT peer_id FROM due))
    )
    SELECT domain_id, peer_id, node_id, host, port, nat_type FROM due ORDER BY domain_id, node_id";

/// An observation that has outlived its time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lapsed {
    /// The Domain.
    pub(crate) domain: DomainId,
    /// The Peer.
    pub(crate) peer: PeerId,
    /// Its Node.
    pub(crate) node: NodeId,
    /// What was seen.
    pub(crate) observation: Observation,
}

/// Marks at most `limit` observations that have outlived their time, the oldest first; by Domain.
pub(crate) async fn sweep(tx: &mut Tx, now: Timestamp, limit: i64) -> Result<Vec<Lapsed>, Fault> {
    let rows: Vec<(Uuid, Uuid, Uuid, IpAddr, i32, String)> =
        sqlx::query_as(SWEEP).bind(now.inner()).bind(limit).fetch_all(&mut **tx).await?;
    let lapsed = |(domain, peer, node, host, port, nat_type): (Uuid, Uuid, Uuid, IpAddr, i32, String)| {
        Ok(Lapsed {
            domain: DomainId::from_uuid(domain),
            peer: PeerId::from_uuid(peer),
            node: NodeId::from_uuid(node),
            observation: observation((host, port), &nat_type, true)?,
        })
    };
    rows.into_iter().map(lapsed).collect()
}

type KeptRow = (IpAddr, i32, String, bool, OffsetDateTime, OffsetDateTime, OffsetDateTime);

fn kept((host, port, nat_type, stale, reported_at, accepted_at, stale_after): KeptRow) -> Result<Kept, Fault> {
    Ok(Kept {
        observation: observation((host, port), &nat_type, stale)?,
        reported_at: Timestamp::new(reported_at),
        freshness: Freshness { accepted_at: Timestamp::new(accepted_at), stale_after: Timestamp::new(stale_after) },
    })
}

/// An observation out of its columns.
pub(crate) fn observation((host, port): (IpAddr, i32), nat_type: &str, stale: bool) -> Result<Observation, Fault> {
    let endpoint = u16::try_from(port).ok().and_then(|port| Endpoint::new(host, port).ok());
    let endpoint = endpoint.ok_or(Fault::Invariant("a kept endpoint is one"))?;
    let nat_type = NatType::parse(nat_type).ok_or(Fault::Invariant("a NAT type has a known word"))?;
    Ok(Observation { endpoint, nat_type, stale })
}
