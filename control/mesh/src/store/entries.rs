//! State entries and the version of each Node's.
//!
//! Locks are taken in this order: the Peer, the version, the reports. A report shares the Peer's lock, which keeps the Node
//! from ending meanwhile and leaves the pages of the peer list as they are; the platform's writes hold it alone.

use plexsphere_kernel::seams::{StateKind, StateWrite};
use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::{DomainId, NodeId, Timestamp};
use sqlx::PgPool;
use uuid::Uuid;

use crate::model::entries::{EntriesText, Entry, EntryKind, MAX_REPORTS, Report};

pub(crate) const READ: &str = "
    SELECT kind, key, value, workload_tag FROM mesh.state_entries WHERE node_id = $1 ORDER BY kind, key";

/// A Node's entries, at the version that was read in the same snapshot.
pub(crate) async fn read(tx: &mut Tx, node: NodeId, version: i64) -> Result<EntriesText, Fault> {
    let rows: Vec<(String, String, String, String)> =
        sqlx::query_as(READ).bind(node.uuid()).fetch_all(&mut **tx).await?;
    let entry = |(kind, key, value, workload_tag): (String, String, String, String)| {
        let kind = EntryKind::parse(&kind).ok_or(Fault::Invariant("the kind of a state entry has a known word"))?;
        Ok(Entry { kind, key, value, workload_tag })
    };
    let entries: Vec<Entry> = rows.into_iter().map(entry).collect::<Result<_, Fault>>()?;
    EntriesText::render(version, &entries).map_err(|_| Fault::Invariant("a state entry has a json form"))
}

pub(crate) const HOLDS: &str = "
    SELECT EXISTS (
        SELECT FROM mesh.state_entries e
        WHERE e.node_id = p.node_id AND e.kind = 'report' AND e.key = $2 AND e.value = $3 AND e.workload_tag = $4)
    FROM mesh.peers p WHERE p.node_id = $1 AND p.deregistered_at IS NULL";

/// Whether the Node has exactly this report; `None` for a Node without a live Peer.
pub(crate) async fn holds(pool: &PgPool, node: NodeId, report: &Report<'_>) -> Result<Option<bool>, Fault> {
    let query = sqlx::query_scalar(HOLDS).bind(node.uuid()).bind(report.key).bind(report.value);
    Ok(query.bind(report.workload_tag).fetch_optional(pool).await?)
}

pub(crate) const TOUCH: &str = "
    INSERT INTO mesh.state_versions (node_id, version)
    SELECT node_id, nextval('mesh.state_version') FROM unnest($1::uuid[]) AS touched (node_id) ORDER BY node_id
    ON CONFLICT (node_id) DO UPDATE SET version = nextval('mesh.state_version')";

/// Gives these Nodes' entries another version, and locks it.
pub(crate) async fn touch(tx: &mut Tx, nodes: &[NodeId]) -> Result<(), Fault> {
    let nodes: Vec<Uuid> = nodes.iter().map(NodeId::uuid).collect();
    sqlx::query(TOUCH).bind(nodes).execute(&mut **tx).await?;
    Ok(())
}

pub(crate) const PUT_REPORT: &str = "
    INSERT INTO mesh.state_entries (node_id, kind, key, value, workload_tag, written_at)
    SELECT $1, 'report', $2, $3, $4, $5
    WHERE EXISTS (SELECT FROM mesh.state_entries WHERE node_id = $1 AND kind = 'report' AND key = $2)
       OR (SELECT count(*) FROM mesh.state_entries WHERE node_id = $1 AND kind = 'report') < $6
    ON CONFLICT (node_id, kind, key) DO UPDATE SET
        value = EXCLUDED.value, workload_tag = EXCLUDED.workload_tag, written_at = EXCLUDED.written_at";

/// Writes a report of a Node whose version is locked; `false` where its key would be one too many.
pub(crate) async fn put_report(tx: &mut Tx, node: NodeId, report: &Report<'_>, now: Timestamp) -> Result<bool, Fault> {
    let query = sqlx::query(PUT_REPORT).bind(node.uuid()).bind(report.key).bind(report.value);
    let query = query.bind(report.workload_tag).bind(now.inner()).bind(MAX_REPORTS);
    Ok(query.execute(&mut **tx).await?.rows_affected() > 0)
}

pub(crate) const LOCK: &str = "SELECT version FROM mesh.state_versions WHERE node_id = $1 FOR UPDATE";
pub(crate) const DELETE_REPORT: &str = "
    DELETE FROM mesh.state_entries WHERE node_id = $1 AND kind = 'report' AND key = $2";

/// Deletes a report; `false` where there is none.
pub(crate) async fn delete_report(tx: &mut Tx, node: NodeId, key: &str) -> Result<bool, Fault> {
    let locked: Option<i64> = sqlx::query_scalar(LOCK).bind(node.uuid()).fetch_optional(&mut **tx).await?;
    if locked.is_none() {
        return Ok(false);
    }
    let deleted = sqlx::query(DELETE_REPORT).bind(node.uuid()).bind(key).execute(&mut **tx).await?;
    Ok(deleted.rows_affected() > 0)
}

pub(crate) const LOCK_PEERS: &str = "
    SELECT node_id, domain_id FROM mesh.peers WHERE node_id = ANY ($1) AND deregistered_at IS NULL
    ORDER BY node_id FOR NO KEY UPDATE";

/// Those of these Nodes that have a live Peer, with their Domains; the Peers are locked.
pub(crate) async fn lock(tx: &mut Tx, nodes: &[NodeId]) -> Result<Vec<(NodeId, DomainId)>, Fault> {
    let ids: Vec<Uuid> = nodes.iter().map(NodeId::uuid).collect();
    let rows: Vec<(Uuid, Uuid)> = sqlx::query_as(LOCK_PEERS).bind(ids).fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(|(node, domain)| (NodeId::from_uuid(node), DomainId::from_uuid(domain))).collect())
}

pub(crate) const PUT_MANY: &str = "
    INSERT INTO mesh.state_entries (node_id, kind, key, value, written_at)
    SELECT put.node_id, put.kind, put.key, put.value, $5
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS put (node_id, kind, key, value)
    ON CONFLICT (node_id, kind, key) DO UPDATE SET value = EXCLUDED.value, written_at = EXCLUDED.written_at
    WHERE state_entries.value <> EXCLUDED.value
    RETURNING node_id, kind, key";
pub(crate) const DELETE_MANY: &str = "
    DELETE FROM mesh.state_entries e
    USING unnest($1::uuid[], $2::text[], $3::text[]) AS gone (node_id, kind, key)
    WHERE e.node_id = gone.node_id AND e.kind = gone.kind AND e.key = gone.key
    RETURNING e.node_id, e.kind, e.key";

/// The Node, kind and key of an entry that has changed.
pub(crate) type Changed = (Uuid, String, String);

/// Writes those of `writes` that have a value and returns what they changed.
pub(crate) async fn put_many(tx: &mut Tx, writes: &[StateWrite], now: Timestamp) -> Result<Vec<Changed>, Fault> {
    let (nodes, kinds, keys) = places(writes);
    let values: Vec<&str> = writes.iter().filter_map(|write| write.value.as_deref()).collect();
    let query = sqlx::query_as(PUT_MANY).bind(nodes).bind(kinds).bind(keys).bind(values);
    Ok(query.bind(now.inner()).fetch_all(&mut **tx).await?)
}

/// Deletes the entries that `writes` name and returns which there were.
pub(crate) async fn delete_many(tx: &mut Tx, writes: &[StateWrite]) -> Result<Vec<Changed>, Fault> {
    let (nodes, kinds, keys) = places(writes);
    Ok(sqlx::query_as(DELETE_MANY).bind(nodes).bind(kinds).bind(keys).fetch_all(&mut **tx).await?)
}

fn places(writes: &[StateWrite]) -> (Vec<Uuid>, Vec<&'static str>, Vec<&str>) {
    let nodes = writes.iter().map(|write| write.node.uuid()).collect();
    let kinds = writes.iter().map(|write| StateKind::as_str(write.kind)).collect();
    (nodes, kinds, writes.iter().map(|write| write.key.as_str()).collect())
}

pub(crate) const FORGET_VERSIONS: &str = "DELETE FROM mesh.state_versions WHERE node_id = ANY ($1)";
pub(crate) const FORGET: &str = "DELETE FROM mesh.state_entries WHERE node_id = ANY ($1)";

/// Deletes all entries of Nodes that left.
pub(crate) async fn forget(tx: &mut Tx, nodes: &[NodeId]) -> Result<(), Fault> {
    let ids: Vec<Uuid> = nodes.iter().map(NodeId::uuid).collect();
    for statement in [FORGET_VERSIONS, FORGET] {
        sqlx::query(statement).bind(&ids).execute(&mut **tx).await?;
    }
    Ok(())
}
