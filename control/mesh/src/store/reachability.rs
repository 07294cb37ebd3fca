//! Reachability rows, heartbeats, and the versions that pulls carried.

use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::heartbeat::{Heartbeat, HeartbeatVerdict};
use plexsphere_wire::{DomainId, NodeId, Timestamp};
use sqlx::PgPool;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use crate::events::ReachabilityChange;
use crate::model::reachability::{Reachability, ReachabilityState};

pub(crate) const MATERIALISE: &str = "
    INSERT INTO mesh.reachability (node_id, domain_id, state, changed_at, told_state) VALUES ($1, $2, $3, $4, $3)
    ON CONFLICT (node_id) DO UPDATE SET
        domain_id = EXCLUDED.domain_id, state = EXCLUDED.state, changed_at = EXCLUDED.changed_at,
        told_state = EXCLUDED.told_state, last_heartbeat_at = NULL, binary_checksum = NULL, binary_version = NULL,
        nat_summary = NULL";

/// Writes the row of a Node that has just joined.
pub(crate) async fn materialise(tx: &mut Tx, domain: DomainId, node: NodeId, now: Timestamp) -> Result<(), Fault> {
    let joined = Reachability::joined(now);
    sqlx::query(MATERIALISE)
        .bind(node.uuid())
        .bind(domain.uuid())
        .bind(joined.state.as_str())
        .bind(joined.changed_at.inner())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(crate) const FORGET: &str = "DELETE FROM mesh.reachability WHERE node_id = ANY($1)";
pub(crate) const FORGET_SERVED: &str = "DELETE FROM mesh.served_versions WHERE node_id = ANY($1)";

/// Deletes what is kept of Nodes that left.
pub(crate) async fn forget(tx: &mut Tx, nodes: &[NodeId]) -> Result<(), Fault> {
    let ids: Vec<Uuid> = nodes.iter().map(|node| node.uuid()).collect();
    for statement in [FORGET, FORGET_SERVED] {
        sqlx::query(statement).bind(&ids).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Writes a batch and judges it in one statement. A row is written only by a newer heartbeat. `changed_at` stays where
/// the Node was healthy without a gap, as in the model. Nothing is inserted: a Node without a row is not known.
pub(crate) const BEAT: &str = "
    WITH beat AS (
        SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[])
            AS b (node_id, at, checksum, version, nat)
    ), written AS (
        UPDATE mesh.reachability r SET
            state = 'healthy',
            changed_at = CASE
                WHEN r.state = 'healthy' AND beat.at < r.last_heartbeat_at + d.stale_after_ms * interval '1 millisecond'
                THEN r.changed_at ELSE GREATEST(r.changed_at, beat.at) END,
            last_heartbeat_at = beat.at,
            binary_checksum = beat.checksum,
            binary_version = beat.version,
            nat_summary = beat.nat
        FROM beat, mesh.domains d
        WHERE r.node_id = beat.node_id AND d.domain_id = r.domain_id
          AND (r.last_heartbeat_at IS NULL OR r.last_heartbeat_at < beat.at)
        RETURNING r.node_id, r.last_heartbeat_at
    )
    SELECT p.node_id,
           COALESCE(w.last_heartbeat_at, r.last_heartbeat_at, beat.at),
           (COALESCE(s.mesh_version, 0) < d.mesh_version
                AND d.mesh_version_at <= $6::timestamptz - d.heartbeat_interval_ms * interval '1 millisecond')
            OR (COALESCE(s.node_version, 0) < p.node_version
                AND p.node_version_at <= $6::timestamptz - d.heartbeat_interval_ms * interval '1 millisecond'),
           k.peer_id IS NOT NULL
    FROM beat
    JOIN mesh.peers p ON p.node_id = beat.node_id AND p.deregistered_at IS NULL
    JOIN mesh.domains d ON d.domain_id = p.domain_id
    JOIN mesh.reachability r ON r.node_id = p.node_id
    LEFT JOIN written w ON w.node_id = p.node_id
    LEFT JOIN mesh.served_versions s ON s.node_id = p.node_id
    LEFT JOIN mesh.peer_key_rotations k ON k.peer_id = p.peer_id AND k.state = 'pending'";

/// Writes heartbeats, at most one per Node, and returns a verdict for every Node with a live Peer.
pub(crate) async fn beat(
    pool: &PgPool,
    heartbeats: &[Heartbeat],
    now: Timestamp,
) -> Result<Vec<HeartbeatVerdict>, sqlx::Error> {
    let nodes: Vec<Uuid> = heartbeats.iter().map(|beat| beat.node.uuid()).collect();
    let times: Vec<OffsetDateTime> = heartbeats.iter().map(|beat| beat.received_at.inner()).collect();
    let checksums: Vec<&str> = heartbeats.iter().map(|beat| beat.binary_checksum.as_str()).collect();
    let versions: Vec<&str> = heartbeats.iter().map(|beat| beat.binary_version.as_str()).collect();
    let nats: Vec<&str> = heartbeats.iter().map(|beat| beat.nat_summary.as_str()).collect();
    let rows: Vec<(Uuid, OffsetDateTime, bool, bool)> = sqlx::query_as(BEAT)
        .bind(nodes)
        .bind(times)
        .bind(checksums)
        .bind(versions)
        .bind(nats)
        .bind(now.inner())
        .fetch_all(pool)
        .await?;
    let verdict = |(node, accepted_at, reconcile, rotate_keys)| HeartbeatVerdict {
        node: NodeId::from_uuid(node),
        accepted_at: Timestamp::new(accepted_at),
        reconcile,
        rotate_keys,
    };
    Ok(rows.into_iter().map(verdict).collect())
}

/// The rows are sorted, so that two replicas writing at once lock them in one order.
pub(crate) const SERVED: &str = "
    INSERT INTO mesh.served_versions (node_id, mesh_version, node_version)
    SELECT served.node_id, served.mesh_version, served.node_version
    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS served (node_id, mesh_version, node_version)
    JOIN mesh.peers p ON p.node_id = served.node_id AND p.deregistered_at IS NULL
    ORDER BY served.node_id
    ON CONFLICT (node_id) DO UPDATE SET
        mesh_version = GREATEST(served_versions.mesh_version, EXCLUDED.mesh_version),
        node_version = GREATEST(served_versions.node_version, EXCLUDED.node_version)";

/// Writes which versions Nodes were served; a version never moves backwards.
pub(crate) async fn served(pool: &PgPool, served: &[(NodeId, i64, i64)]) -> Result<(), sqlx::Error> {
    let nodes: Vec<Uuid> = served.iter().map(|(node, _, _)| node.uuid()).collect();
    let mesh: Vec<i64> = served.iter().map(|(_, mesh, _)| *mesh).collect();
    let node: Vec<i64> = served.iter().map(|(_, _, node)| *node).collect();
    sqlx::query(SERVED).bind(nodes).bind(mesh).bind(node).execute(pool).await?;
    Ok(())
}

/// Applies lapsed thresholds and finds what is not told yet: recoveries by heartbeat among it. The join with the locked
/// rows keeps a heartbeat that commits meanwhile from being overwritten.
pub(crate) const SWEEP: &str = "
    WITH due AS (
        SELECT r.node_id, r.told_state, r.state AS kept_state, r.changed_at, now_is.state, r.last_heartbeat_at,
               d.stale_after_ms, d.unreachable_after_ms
        FROM mesh.reachability r
        JOIN mesh.domains d ON d.domain_id = r.domain_id
        CROSS JOIN LATERAL (SELECT CASE
            WHEN r.last_heartbeat_at IS NULL THEN 'unreachable'
            WHEN $1 < r.last_heartbeat_at + d.stale_after_ms * interval '1 millisecond' THEN 'healthy'
            WHEN $1 < r.last_heartbeat_at + d.unreachable_after_ms * interval '1 millisecond' THEN 'stale'
            ELSE 'unreachable' END AS state) AS now_is
        WHERE r.state <> now_is.state OR r.told_state <> now_is.state
        LIMIT $2 FOR UPDATE OF r SKIP LOCKED
    )
    UPDATE mesh.reachability r SET
        state = due.state,
        told_state = due.state,
        changed_at = CASE
            WHEN due.kept_state = due.state THEN due.changed_at
            WHEN due.state = 'healthy' THEN due.last_heartbeat_at
            WHEN due.state = 'stale' THEN due.last_heartbeat_at + due.stale_after_ms * interval '1 millisecond'
            ELSE due.last_heartbeat_at + due.unreachable_after_ms * interval '1 millisecond' END
    FROM due WHERE r.node_id = due.node_id
    RETURNING r.domain_id, r.node_id, due.told_state, r.state, r.changed_at";

/// Sweeps at most `limit` Nodes and returns every change that is to be told.
pub(crate) async fn sweep(
    tx: &mut Tx,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<(DomainId, ReachabilityChange)>, Fault> {
    let rows: Vec<(Uuid, Uuid, String, String, OffsetDateTime)> =
        sqlx::query_as(SWEEP).bind(now.inner()).bind(limit).fetch_all(&mut **tx).await?;
    let state =
        |word: &str| ReachabilityState::parse(word).ok_or(Fault::Invariant("a reachability state has a known word"));
    rows.into_iter()
        .map(|(domain, node, from, to, at)| {
            let change = ReachabilityChange {
                node: NodeId::from_uuid(node),
                from: state(&from)?,
                to: state(&to)?,
                at: Timestamp::new(at),
            };
            Ok((DomainId::from_uuid(domain), change))
        })
        .collect()
}
