//! Peers and the seeds of their pre-shared keys.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use plexsphere_kernel::database::violated_constraint;
use plexsphere_kernel::seams::{Join, LeaveReason, ReachabilityPolicy};
use plexsphere_kernel::{Database, Fault, Tx};
use plexsphere_wire::{DomainId, NodeId, PeerId, Timestamp};
use sqlx::PgExecutor;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use crate::model::reachability::{Reachability, ReachabilityState};

/// Why a Peer cannot be inserted.
#[derive(Debug)]
pub(crate) enum InsertRefusal {
    /// The public key is live elsewhere in the Domain.
    KeyInUse,
    /// The Node has a live Peer.
    AlreadyLive,
    /// Something broke.
    Fault(Fault),
}

pub(crate) const INSERT: &str = "
    INSERT INTO mesh.peers (peer_id, node_id, domain_id, project_id, public_key, mesh_ip, node_version_at, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $7)";

/// Inserts a live Peer.
pub(crate) async fn insert(tx: &mut Tx, peer: PeerId, join: &Join, mesh_ip: IpAddr) -> Result<(), InsertRefusal> {
    let inserted = sqlx::query(INSERT)
        .bind(peer.uuid())
        .bind(join.node.uuid())
        .bind(join.domain.uuid())
        .bind(join.project.uuid())
        .bind(join.public_key.as_slice())
        .bind(mesh_ip)
        .bind(join.now.inner())
        .execute(&mut **tx)
        .await;
    match inserted {
        Ok(_) => Ok(()),
        Err(error) => Err(match violated_constraint(&error) {
            Some("peers_live_key") => InsertRefusal::KeyInUse,
            Some("peers_live_node") => InsertRefusal::AlreadyLive,
            _ => InsertRefusal::Fault(error.into()),
        }),
    }
}

pub(crate) const INSERT_EPOCH: &str = "
    INSERT INTO mesh.psk_epochs (kid, peer_id, sealed, wrap_key_version, created_at) VALUES ($1, $2, $3, $4, $5)";

/// A seed as it rests.
pub(crate) struct SealedSeed {
    /// Its name.
    pub(crate) kid: String,
    /// The version of the wrap key.
    pub(crate) wrap_key_version: i32,
    /// The sealed bytes.
    pub(crate) sealed: Vec<u8>,
}

/// Inserts a Peer's current seed.
pub(crate) async fn insert_epoch(tx: &mut Tx, peer: PeerId, seed: &SealedSeed, now: Timestamp) -> Result<(), Fault> {
    sqlx::query(INSERT_EPOCH)
        .bind(&seed.kid)
        .bind(peer.uuid())
        .bind(seed.sealed.as_slice())
        .bind(seed.wrap_key_version)
        .bind(now.inner())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(crate) const FOREIGN_EPOCH: &str =
    "SELECT wrap_key_version FROM mesh.psk_epochs WHERE wrap_key_version <> ALL($1) LIMIT 1";

/// The wrap key's version of some seed that is none of these.
pub(crate) async fn foreign_epoch(db: &Database, held: &[i32]) -> Result<Option<i32>, Fault> {
    Ok(sqlx::query_scalar(FOREIGN_EPOCH).bind(held).fetch_optional(db.pool()).await?)
}

/// A live Peer whose row is held.
pub(crate) struct Held {
    /// The Peer.
    pub(crate) peer: PeerId,
    /// Its Domain.
    pub(crate) domain: DomainId,
    /// Its present key.
    pub(crate) public_key: [u8; 32],
}

/// How a Peer's row is held.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hold {
    /// It neither ends nor gets another key; other triggers go on.
    Shared,
    /// It changes for this transaction alone.
    Alone,
}

pub(crate) const SHARE: &str = "
    SELECT peer_id, domain_id, public_key FROM mesh.peers
    WHERE node_id = $1 AND deregistered_at IS NULL FOR SHARE";
pub(crate) const HOLD: &str = "
    SELECT peer_id, domain_id, public_key FROM mesh.peers
    WHERE node_id = $1 AND deregistered_at IS NULL FOR NO KEY UPDATE";

/// The live Peer of a Node, held until the transaction ends.
pub(crate) async fn hold(tx: &mut Tx, node: NodeId, how: Hold) -> Result<Option<Held>, Fault> {
    let statement = match how {
        Hold::Shared => SHARE,
        Hold::Alone => HOLD,
    };
    let row: Option<(Uuid, Uuid, Vec<u8>)> =
        sqlx::query_as(statement).bind(node.uuid()).fetch_optional(&mut **tx).await?;
    let Some((peer, domain, key)) = row else { return Ok(None) };
    let public_key = key.try_into().map_err(|_| Fault::Invariant("a public key has 32 bytes"))?;
    Ok(Some(Held { peer: PeerId::from_uuid(peer), domain: DomainId::from_uuid(domain), public_key }))
}

pub(crate) const DOMAIN_OF: &str = "SELECT domain_id FROM mesh.peers WHERE node_id = $1 AND deregistered_at IS NULL";

/// The Domain of a Node with a live Peer.
pub(crate) async fn domain_of(tx: &mut Tx, node: NodeId) -> Result<Option<DomainId>, Fault> {
    let domain: Option<Uuid> = sqlx::query_scalar(DOMAIN_OF).bind(node.uuid()).fetch_optional(&mut **tx).await?;
    Ok(domain.map(DomainId::from_uuid))
}

pub(crate) const DEREGISTER: &str = "
    UPDATE mesh.peers SET deregistered_at = $3, deregister_reason = $4
    WHERE domain_id = $1 AND node_id = ANY($2) AND deregistered_at IS NULL RETURNING peer_id, node_id, mesh_ip";

/// A Peer that has just ended.
pub(crate) struct Gone {
    /// The Peer.
    pub(crate) peer: PeerId,
    /// Its Node.
    pub(crate) node: NodeId,
    /// Its address.
    pub(crate) mesh_ip: IpAddr,
}

/// Ends the live Peers of these Nodes, by Node id; those without one are not among the answer.
pub(crate) async fn deregister(
    tx: &mut Tx,
    domain: DomainId,
    nodes: &[NodeId],
    (reason, now): (LeaveReason, Timestamp),
) -> Result<Vec<Gone>, Fault> {
    let ids: Vec<Uuid> = nodes.iter().map(|node| node.uuid()).collect();
    let mut rows: Vec<(Uuid, Uuid, IpAddr)> = sqlx::query_as(DEREGISTER)
        .bind(domain.uuid())
        .bind(ids)
        .bind(now.inner())
        .bind(reason.as_str())
        .fetch_all(&mut **tx)
        .await?;
    rows.sort_unstable_by_key(|(_, node, _)| *node);
    let read = |(peer, node, mesh_ip)| Gone { peer: PeerId::from_uuid(peer), node: NodeId::from_uuid(node), mesh_ip };
    Ok(rows.into_iter().map(read).collect())
}

pub(crate) const DROP_EPOCHS: &str = "DELETE FROM mesh.psk_epochs WHERE peer_id = ANY($1)";

/// Deletes the seeds of Peers that have ended: nothing derives from them any more.
pub(crate) async fn drop_epochs(tx: &mut Tx, peers: &[PeerId]) -> Result<(), Fault> {
    let ids: Vec<Uuid> = peers.iter().map(|peer| peer.uuid()).collect();
    sqlx::query(DROP_EPOCHS).bind(ids).execute(&mut **tx).await?;
    Ok(())
}

/// What a pull needs to know of its own Node, before any list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// The Domain.
    pub(crate) domain: DomainId,
    /// The Domain's mesh version.
    pub(crate) mesh_version: i64,
    /// The Node's own version.
    pub(crate) node_version: i64,
    /// The version of the Node's entries; 0 where it never had one.
    pub(crate) entries_version: i64,
    /// The Node's reachability as kept.
    pub(crate) reachability: Reachability,
    /// The Domain's thresholds.
    pub(crate) policy: ReachabilityPolicy,
}

pub(crate) const HEAD: &str = "
    SELECT p.domain_id, d.mesh_version, p.node_version, COALESCE(v.version, 0), r.state, r.changed_at,
           r.last_heartbeat_at, d.heartbeat_interval_ms, d.stale_after_ms, d.unreachable_after_ms
    FROM mesh.peers p
    JOIN mesh.domains d ON d.domain_id = p.domain_id
    JOIN mesh.reachability r ON r.node_id = p.node_id
    LEFT JOIN mesh.state_versions v ON v.node_id = p.node_id
    WHERE p.node_id = $1 AND p.deregistered_at IS NULL";

type HeadRow = (Uuid, i64, i64, i64, String, OffsetDateTime, Option<OffsetDateTime>, i64, i64, i64);

/// The head of a Node with a live Peer.
pub(crate) async fn head<'e>(executor: impl PgExecutor<'e>, node: NodeId) -> Result<Option<Head>, Fault> {
    let row: Option<HeadRow> = sqlx::query_as(HEAD).bind(node.uuid()).fetch_optional(executor).await?;
    let Some((domain, mesh_version, node_version, entries_version, state, changed_at, last, interval, stale, gone)) =
        row
    else {
        return Ok(None);
    };
    let state = ReachabilityState::parse(&state).ok_or(Fault::Invariant("a reachability state has a known word"))?;
    Ok(Some(Head {
        domain: DomainId::from_uuid(domain),
        mesh_version,
        node_version,
        entries_version,
        reachability: Reachability {
            state,
            changed_at: Timestamp::new(changed_at),
            last_heartbeat_at: last.map(Timestamp::new),
        },
        policy: ReachabilityPolicy {
            heartbeat_interval: millis(interval),
            stale_after: millis(stale),
            unreachable_after: millis(gone),
        },
    }))
}

fn millis(value: i64) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or(0))
}

pub(crate) const BUMP_NODES: &str = "
    UPDATE mesh.peers SET node_version = node_version + 1, node_version_at = $2
    WHERE node_id = ANY ($1) AND deregistered_at IS NULL RETURNING node_id, node_version";

/// Counts a change of what these Nodes pull, their peers aside, and returns the versions it made.
pub(crate) async fn bump_nodes(tx: &mut Tx, nodes: &[NodeId], now: Timestamp) -> Result<HashMap<NodeId, i64>, Fault> {
    let nodes: Vec<Uuid> = nodes.iter().map(NodeId::uuid).collect();
    let rows: Vec<(Uuid, i64)> = sqlx::query_as(BUMP_NODES).bind(nodes).bind(now.inner()).fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(|(node, version)| (NodeId::from_uuid(node), version)).collect())
}
