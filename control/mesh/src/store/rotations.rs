//! Requests to replace a Node's key.

use std::time::Duration;

use plexsphere_kernel::database::violated_constraint;
use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::{DomainId, NodeId, PeerId, RotationId, Timestamp};
use uuid::Uuid;

use crate::model::rotation::{Receipt, RotationEvent, RotationState};
use crate::store::peers::SealedSeed;

pub(crate) const REQUEST: &str = "
    INSERT INTO mesh.peer_key_rotations (rotation_id, peer_id, state, requested_at) VALUES ($1, $2, 'pending', $3)
    ON CONFLICT (peer_id) WHERE state = 'pending' DO NOTHING";

/// Asks for a new key; `false` when one is asked for already, also by a transaction that has just been waited for.
pub(crate) async fn request(tx: &mut Tx, rotation: RotationId, peer: PeerId, now: Timestamp) -> Result<bool, Fault> {
    let asked = sqlx::query(REQUEST).bind(rotation.uuid()).bind(peer.uuid()).bind(now.inner());
    Ok(asked.execute(&mut **tx).await?.rows_affected() > 0)
}

pub(crate) const PENDING: &str =
    "SELECT rotation_id FROM mesh.peer_key_rotations WHERE peer_id = $1 AND state = 'pending'";

/// The pending rotation of a Peer.
pub(crate) async fn pending(tx: &mut Tx, peer: PeerId) -> Result<Option<RotationId>, Fault> {
    let id: Option<Uuid> = sqlx::query_scalar(PENDING).bind(peer.uuid()).fetch_optional(&mut **tx).await?;
    Ok(id.map(RotationId::from_uuid))
}

/// A Peer's key is set when it joins and by rotations alone: one that is the present key and stands here was installed by
/// the latest of them.
pub(crate) const INSTALLED_BY: &str = "
    SELECT rotation_id, kid, wrap_key_version FROM mesh.peer_key_rotations
    WHERE peer_id = $1 AND state = 'completed' AND public_key = $2 ORDER BY ended_at DESC LIMIT 1";

/// What the Node was told when a rotation installed this key last.
pub(crate) async fn installed_by(tx: &mut Tx, peer: PeerId, key: &[u8; 32]) -> Result<Option<Receipt>, Fault> {
    let query = sqlx::query_as(INSTALLED_BY).bind(peer.uuid()).bind(key.as_slice());
    let row: Option<(Uuid, String, i32)> = query.fetch_optional(&mut **tx).await?;
    let receipt = |(id, kid, wrap_key_version)| Receipt { rotation: RotationId::from_uuid(id), kid, wrap_key_version };
    Ok(row.map(receipt))
}

pub(crate) const COMPLETE: &str = "
    UPDATE mesh.peer_key_rotations
    SET state = $2, ended_at = $3, public_key = $4, kid = $5, wrap_key_version = $6
    WHERE rotation_id = $1";

/// Ends a pending rotation with the key that it installed and the seed that the Node is told of.
pub(crate) async fn complete(
    tx: &mut Tx,
    rotation: RotationId,
    key: &[u8; 32],
    (seed, now): (&SealedSeed, Timestamp),
) -> Result<(), Fault> {
    sqlx::query(COMPLETE)
        .bind(rotation.uuid())
        .bind(RotationState::Pending.transition(RotationEvent::Submitted).as_str())
        .bind(now.inner())
        .bind(key.as_slice())
        .bind(&seed.kid)
        .bind(seed.wrap_key_version)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(crate) const CANCEL: &str = "
    UPDATE mesh.peer_key_rotations SET state = $2, ended_at = $3 WHERE peer_id = ANY($1) AND state = 'pending'";

/// Ends what is pending of Peers that have ended.
pub(crate) async fn cancel(tx: &mut Tx, peers: &[PeerId], now: Timestamp) -> Result<(), Fault> {
    let ids: Vec<Uuid> = peers.iter().map(|peer| peer.uuid()).collect();
    let state = RotationState::Pending.transition(RotationEvent::PeerDeregistered);
    sqlx::query(CANCEL).bind(ids).bind(state.as_str()).bind(now.inner()).execute(&mut **tx).await?;
    Ok(())
}

pub(crate) const KEY_ELSEWHERE: &str = "
    SELECT EXISTS (SELECT 1 FROM mesh.peers
        WHERE domain_id = $1 AND public_key = $2 AND node_id <> $3 AND deregistered_at IS NULL)";

/// Whether a key is that of another live Peer of the Domain.
pub(crate) async fn key_elsewhere(tx: &mut Tx, domain: DomainId, key: &[u8; 32], node: NodeId) -> Result<bool, Fault> {
    let query = sqlx::query_scalar(KEY_ELSEWHERE).bind(domain.uuid()).bind(key.as_slice()).bind(node.uuid());
    Ok(query.fetch_one(&mut **tx).await?)
}

pub(crate) const INSTALL: &str = "UPDATE mesh.peers SET public_key = $2 WHERE peer_id = $1";

/// Sets a Peer's key; `false` when another Peer of the Domain was first with it, and the transaction is at its end.
pub(crate) async fn install(tx: &mut Tx, peer: PeerId, key: &[u8; 32]) -> Result<bool, Fault> {
    match sqlx::query(INSTALL).bind(peer.uuid()).bind(key.as_slice()).execute(&mut **tx).await {
        Ok(_) => Ok(true),
        Err(error) if violated_constraint(&error) == Some("peers_live_key") => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What a rotation of a Node would touch, its peers aside.
pub(crate) struct Outlook {
    /// The Peer.
    pub(crate) peer: PeerId,
    /// Its Domain.
    pub(crate) domain: DomainId,
    /// The name of its seed.
    pub(crate) kid: String,
    /// The version of the key that sealed it.
    pub(crate) wrap_key_version: i32,
    /// Whether a rotation is pending.
    pub(crate) is_pending: bool,
    /// How often the Domain's Nodes send heartbeats.
    pub(crate) heartbeat_interval: Duration,
}

pub(crate) const OUTLOOK: &str = "
    SELECT p.peer_id, p.domain_id, e.kid, e.wrap_key_version,
           EXISTS (SELECT 1 FROM mesh.peer_key_rotations r WHERE r.peer_id = p.peer_id AND r.state = 'pending'),
           d.heartbeat_interval_ms
    FROM mesh.peers p
    JOIN mesh.psk_epochs e ON e.peer_id = p.peer_id
    JOIN mesh.domains d ON d.domain_id = p.domain_id
    WHERE p.node_id = $1 AND p.deregistered_at IS NULL";

/// What a rotation of a Node with a live Peer would touch.
pub(crate) async fn outlook(tx: &mut Tx, node: NodeId) -> Result<Option<Outlook>, Fault> {
    let row: Option<(Uuid, Uuid, String, i32, bool, i64)> =
        sqlx::query_as(OUTLOOK).bind(node.uuid()).fetch_optional(&mut **tx).await?;
    Ok(row.map(|(peer, domain, kid, wrap_key_version, is_pending, interval)| Outlook {
        peer: PeerId::from_uuid(peer),
        domain: DomainId::from_uuid(domain),
        kid,
        wrap_key_version,
        is_pending,
        heartbeat_interval: Duration::from_millis(u64::try_from(interval).unwrap_or(0)),
    }))
}

pub(crate) const OTHER_NODES: &str = "
    SELECT node_id FROM mesh.peers
    WHERE domain_id = $1 AND node_id <> $2 AND deregistered_at IS NULL ORDER BY node_id";

/// The Nodes of every other live Peer of the Domain, in order.
pub(crate) async fn other_nodes(tx: &mut Tx, domain: DomainId, own: NodeId) -> Result<Vec<NodeId>, Fault> {
    let ids: Vec<Uuid> =
        sqlx::query_scalar(OTHER_NODES).bind(domain.uuid()).bind(own.uuid()).fetch_all(&mut **tx).await?;
    Ok(ids.into_iter().map(NodeId::from_uuid).collect())
}
