//! Thresholds, pool and mesh version of a Domain.

use std::time::Duration;

use ipnet::IpNet;
use plexsphere_kernel::seams::ReachabilityPolicy;
use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::{DomainId, PeerId, Timestamp};
use uuid::Uuid;

pub(crate) const SET_POLICY: &str = "
    INSERT INTO mesh.domains
        (domain_id, mesh_version_at, heartbeat_interval_ms, stale_after_ms, unreachable_after_ms, pool)
    VALUES ($1, transaction_timestamp(), $2, $3, $4, $5)
    ON CONFLICT (domain_id) DO UPDATE SET
        heartbeat_interval_ms = EXCLUDED.heartbeat_interval_ms,
        stale_after_ms = EXCLUDED.stale_after_ms,
        unreachable_after_ms = EXCLUDED.unreachable_after_ms,
        pool = EXCLUDED.pool";

/// Writes a Domain's thresholds and pool.
pub(crate) async fn set_policy(
    tx: &mut Tx,
    domain: DomainId,
    policy: &ReachabilityPolicy,
    pool: IpNet,
) -> Result<(), Fault> {
    sqlx::query(SET_POLICY)
        .bind(domain.uuid())
        .bind(millis(policy.heartbeat_interval))
        .bind(millis(policy.stale_after))
        .bind(millis(policy.unreachable_after))
        .bind(pool)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// A Domain that nobody set thresholds for has the defaults of the table.
pub(crate) const BUMP: &str = "
    WITH bumped AS (
        INSERT INTO mesh.domains (domain_id, mesh_version, mesh_version_at) VALUES ($1, 1, $2)
        ON CONFLICT (domain_id) DO UPDATE SET
            mesh_version = domains.mesh_version + 1, mesh_version_at = EXCLUDED.mesh_version_at
        RETURNING mesh_version
    )
    UPDATE mesh.peers SET changed_version = bumped.mesh_version FROM bumped WHERE peer_id = ANY($3)";

/// Counts a change of the Domain's peer projection and marks the Peers that it changed or ended: a list that is at hand
/// is brought up to date by them alone. The caller holds their rows; the Domain's row is held from here on.
pub(crate) async fn bump(tx: &mut Tx, domain: DomainId, peers: &[PeerId], now: Timestamp) -> Result<(), Fault> {
    let peers: Vec<Uuid> = peers.iter().map(|peer| peer.uuid()).collect();
    sqlx::query(BUMP).bind(domain.uuid()).bind(now.inner()).bind(peers).execute(&mut **tx).await?;
    Ok(())
}

/// In one statement: what the mesh keeps of a Domain beside its Nodes.
pub(crate) const FORGET: &str = "
    WITH cooling AS (DELETE FROM mesh.allocations WHERE domain_id = $1),
         floors AS (DELETE FROM mesh.allocation_floors WHERE domain_id = $1)
    DELETE FROM mesh.domains WHERE domain_id = $1";

/// Removes what the mesh keeps of a Domain whose last Node has ended.
pub(crate) async fn forget(tx: &mut Tx, domain: DomainId) -> Result<(), Fault> {
    sqlx::query(FORGET).bind(domain.uuid()).execute(&mut **tx).await?;
    Ok(())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
