//! SQL of Nodes, their keys, and the places they register at.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use plexsphere_kernel::database::violated_constraint;
use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::directory::{Credential, CredentialState, NodeEntry, node_key};
use plexsphere_wire::nsk::CredentialDigest;
use plexsphere_wire::{DomainId, NodeId, ProjectId, ResourceId, Timestamp};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row as _};
use uuid::Uuid;

use crate::enrolment::keys::MintedKey;

pub(super) const PAGES: &[(&str, &str)] = &[
    (ENTRIES, "nodes_pkey"),
    (ENTRY, "node_secret_keys_of_node"),
    (LIVE_NODES_OF, "nodes_of_resource"),
    (RESOURCE_BY_REF, "resources_external_ref_key"),
];

pub(super) const STATEMENTS: &[&str] = &[
    LOCK_PROJECT,
    SUB_RANGE,
    RESERVED,
    RESOURCE_BY_ID,
    RESOURCE_BY_REF,
    INSERT_NODE,
    INSERT_KEY,
    LIVE_NODES_OF,
    END_NODES,
    REVOKE_KEYS,
    MARK_NODES,
    NUDGE,
    WRAPPED,
    ENTRY,
    ENTRIES,
    PINNED,
    PURGE_KEYS,
];

// The shared lock on the Domain keeps its pool where it is while an address is drawn from it.
const LOCK_PROJECT: &str = "SELECT p.domain_id, d.mesh_cidr FROM identity.projects p
    JOIN identity.domains d ON d.id = p.domain_id WHERE p.id = $1 FOR SHARE OF p, d";
const SUB_RANGE: &str = "SELECT range FROM identity.sub_ranges WHERE project_id = $1";
const RESERVED: &str = "SELECT range FROM identity.sub_ranges WHERE domain_id = $1 ORDER BY range";
// The row lock is the per-Resource lock: registrations on one Resource, and its deletion, take turns.
const RESOURCE_BY_ID: &str = "SELECT id, kind FROM identity.resources
    WHERE project_id = $1 AND id = $2 FOR NO KEY UPDATE";
const RESOURCE_BY_REF: &str = "SELECT id, kind FROM identity.resources
    WHERE project_id = $1 AND external_ref = $2 FOR NO KEY UPDATE";
const INSERT_NODE: &str = "INSERT INTO identity.nodes (id, domain_id, project_id, resource_id, public_key, mesh_ip,
    pinned_signing_key_id, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const INSERT_KEY: &str = "INSERT INTO identity.node_secret_keys
    (kid, node_id, wrapped, wrap_key_version, digest, created_at) VALUES ($1, $2, $3, $4, $5, $6)";
const LIVE_NODES_OF: &str = "SELECT id FROM identity.nodes WHERE resource_id = $1 AND deregistered_at IS NULL
    ORDER BY id FOR UPDATE";
const END_NODES: &str = "UPDATE identity.nodes SET deregistered_at = $2, deregister_reason = $3
    WHERE id = ANY($1) AND deregistered_at IS NULL RETURNING id, domain_id, project_id, resource_id";
const REVOKE_KEYS: &str = "UPDATE identity.node_secret_keys SET revoked_at = $2, revoke_reason = $3
    WHERE node_id = ANY($1) AND revoked_at IS NULL RETURNING digest";
// What `directory::mark_node` writes, for many.
const MARK_NODES: &str = "INSERT INTO kernel.directory_changes (key) SELECT unnest($1::text[])";
const NUDGE: &str = "SELECT pg_notify('plexsphere_directory', '')";
const WRAPPED: &str = "SELECT wrap_key_version, wrapped FROM identity.node_secret_keys
    WHERE node_id = $1 AND kid = $2 AND revoked_at IS NULL";
const ENTRY: &str = "SELECT n.id, n.domain_id, n.project_id, n.resource_id, n.pinned_signing_key_id,
    n.deregistered_at IS NOT NULL AS ended, array_agg(k.digest ORDER BY k.kid) AS digests,
    array_agg(k.revoked_at IS NOT NULL ORDER BY k.kid) AS revoked
    FROM identity.nodes n JOIN identity.node_secret_keys k ON k.node_id = n.id WHERE n.id = $1 GROUP BY n.id";
const ENTRIES: &str = "SELECT n.id, n.domain_id, n.project_id, n.resource_id, n.pinned_signing_key_id,
    n.deregistered_at IS NOT NULL AS ended, array_agg(k.digest ORDER BY k.kid) AS digests,
    array_agg(k.revoked_at IS NOT NULL ORDER BY k.kid) AS revoked
    FROM identity.nodes n JOIN identity.node_secret_keys k ON k.node_id = n.id
    WHERE n.id > $1 GROUP BY n.id ORDER BY n.id LIMIT $2";
const PINNED: &str = "SELECT n.pinned_signing_key_id, count(*) FROM unnest($1::uuid[], $2::text[]) AS k(domain_id, kid)
    JOIN identity.nodes n ON n.domain_id = k.domain_id AND n.pinned_signing_key_id = k.kid
    AND n.deregistered_at IS NULL GROUP BY 1";
const PURGE_KEYS: &str =
    "DELETE FROM identity.node_secret_keys WHERE revoked_at <= $1::timestamptz - interval '30 days'
    RETURNING node_id";

/// Where a registration goes.
pub(in crate::enrolment) struct Place {
    pub(in crate::enrolment) domain: DomainId,
    pub(in crate::enrolment) pool: IpNet,
    pub(in crate::enrolment) sub_range: Option<IpNet>,
}

/// The Resource that a registration is for.
pub(in crate::enrolment) struct Target {
    pub(in crate::enrolment) resource: ResourceId,
    pub(in crate::enrolment) kind: String,
}

/// A Node to be.
pub(in crate::enrolment) struct NewNode<'n> {
    pub(in crate::enrolment) node: NodeId,
    pub(in crate::enrolment) domain: DomainId,
    pub(in crate::enrolment) project: ProjectId,
    pub(in crate::enrolment) resource: ResourceId,
    pub(in crate::enrolment) public_key: &'n [u8; 32],
    pub(in crate::enrolment) mesh_ip: IpAddr,
    pub(in crate::enrolment) signing_kid: &'n str,
    pub(in crate::enrolment) key: &'n MintedKey,
}

/// A Node that has just ended, and where it was.
pub(in crate::enrolment) struct Ended {
    pub(in crate::enrolment) node: NodeId,
    pub(in crate::enrolment) domain: DomainId,
    pub(in crate::enrolment) project: ProjectId,
    pub(in crate::enrolment) resource: ResourceId,
}

/// Where a Project is; neither it nor its Domain's address space changes until the transaction ends.
pub(in crate::enrolment) async fn lock_project(tx: &mut Tx, project: ProjectId) -> Result<Option<Place>, Fault> {
    let row: Option<(Uuid, IpNet)> =
        sqlx::query_as(LOCK_PROJECT).bind(project.uuid()).fetch_optional(&mut **tx).await?;
    let Some((domain, pool)) = row else { return Ok(None) };
    // Read behind the lock: whoever was waited for may have changed it, and its row was not waited for.
    let sub_range = sqlx::query_scalar(SUB_RANGE).bind(project.uuid()).fetch_optional(&mut **tx).await?;
    Ok(Some(Place { domain: DomainId::from_uuid(domain), pool, sub_range }))
}

/// Every sub-range of a Domain.
pub(in crate::enrolment) async fn reserved(tx: &mut Tx, domain: DomainId) -> Result<Vec<IpNet>, Fault> {
    Ok(sqlx::query_scalar(RESERVED).bind(domain.uuid()).fetch_all(&mut **tx).await?)
}

/// The Resource that `handle` names inside a Project: by id when it is one, else by its exact `external_ref`.
pub(in crate::enrolment) async fn lock_resource(
    tx: &mut Tx,
    project: ProjectId,
    handle: &str,
) -> Result<Option<Target>, Fault> {
    let mut row = None;
    if let Ok(id) = handle.parse::<ResourceId>() {
        let query = sqlx::query(RESOURCE_BY_ID).bind(project.uuid()).bind(id.uuid());
        row = query.fetch_optional(&mut **tx).await?;
    }
    if row.is_none() {
        let query = sqlx::query(RESOURCE_BY_REF).bind(project.uuid()).bind(handle);
        row = query.fetch_optional(&mut **tx).await?;
    }
    let read = |row: PgRow| -> Result<Target, sqlx::Error> {
        Ok(Target { resource: ResourceId::from_uuid(row.try_get("id")?), kind: row.try_get("kind")? })
    };
    Ok(row.map(read).transpose()?)
}

/// Inserts a Node and its key; `false` when its public key is live elsewhere in the Domain.
pub(in crate::enrolment) async fn insert_node(tx: &mut Tx, new: NewNode<'_>, now: Timestamp) -> Result<bool, Fault> {
    let inserted = sqlx::query(INSERT_NODE)
        .bind(new.node.uuid())
        .bind(new.domain.uuid())
        .bind(new.project.uuid())
        .bind(new.resource.uuid())
        .bind(new.public_key.as_slice())
        .bind(IpNet::from(new.mesh_ip))
        .bind(new.signing_kid)
        .bind(now.inner())
        .execute(&mut **tx)
        .await;
    match inserted {
        Ok(_) => {}
        Err(error) if violated_constraint(&error) == Some("nodes_live_key") => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    sqlx::query(INSERT_KEY)
        .bind(&new.key.kid)
        .bind(new.node.uuid())
        .bind(&new.key.wrapped)
        .bind(new.key.wrap_key_version)
        .bind(new.key.digest.as_bytes().as_slice())
        .bind(now.inner())
        .execute(&mut **tx)
        .await?;
    Ok(true)
}

/// The live Nodes of a Resource, under a lock.
pub(in crate::enrolment) async fn live_nodes_of(tx: &mut Tx, resource: ResourceId) -> Result<Vec<NodeId>, Fault> {
    let ids: Vec<Uuid> = sqlx::query_scalar(LIVE_NODES_OF).bind(resource.uuid()).fetch_all(&mut **tx).await?;
    Ok(ids.into_iter().map(NodeId::from_uuid).collect())
}

fn uuids(nodes: &[NodeId]) -> Vec<Uuid> {
    nodes.iter().map(|node| node.uuid()).collect()
}

/// Ends those of these Nodes that are live; which they were, by id.
pub(in crate::enrolment) async fn end_nodes(
    tx: &mut Tx,
    nodes: &[NodeId],
    reason: &str,
    now: Timestamp,
) -> Result<Vec<Ended>, Fault> {
    let query = sqlx::query(END_NODES).bind(uuids(nodes)).bind(now.inner()).bind(reason);
    let rows = query.fetch_all(&mut **tx).await?;
    let read = |row: &PgRow| -> Result<Ended, sqlx::Error> {
        Ok(Ended {
            node: NodeId::from_uuid(row.try_get("id")?),
            domain: DomainId::from_uuid(row.try_get("domain_id")?),
            project: ProjectId::from_uuid(row.try_get("project_id")?),
            resource: ResourceId::from_uuid(row.try_get("resource_id")?),
        })
    };
    let mut ended = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    ended.sort_unstable_by_key(|ended| ended.node);
    Ok(ended)
}

/// Revokes every key of these Nodes; by which they are recognised.
pub(in crate::enrolment) async fn revoke_keys(
    tx: &mut Tx,
    nodes: &[NodeId],
    reason: &str,
    now: Timestamp,
) -> Result<Vec<CredentialDigest>, Fault> {
    let query = sqlx::query_scalar(REVOKE_KEYS).bind(uuids(nodes)).bind(now.inner()).bind(reason);
    let digests: Vec<Vec<u8>> = query.fetch_all(&mut **tx).await?;
    Ok(digests.iter().map(|bytes| digest(bytes)).collect::<Result<_, _>>()?)
}

fn digest(bytes: &[u8]) -> Result<CredentialDigest, sqlx::Error> {
    let bytes: [u8; 32] = bytes.try_into().map_err(|_| sqlx::Error::Decode("a digest has 32 bytes".into()))?;
    Ok(CredentialDigest::from_bytes(bytes))
}

/// Marks the entries of these Nodes as changed, and wakes the projector at the commit.
pub(in crate::enrolment) async fn mark_nodes(tx: &mut Tx, nodes: &[NodeId]) -> Result<(), Fault> {
    let keys: Vec<String> = nodes.iter().map(|node| node_key(*node)).collect();
    sqlx::query(MARK_NODES).bind(keys).execute(&mut **tx).await?;
    sqlx::query(NUDGE).execute(&mut **tx).await?;
    Ok(())
}

/// The wrap key's version and the sealed bytes of an unrevoked key.
pub(in crate::enrolment) async fn wrapped<'e>(
    db: impl PgExecutor<'e>,
    node: NodeId,
    kid: &str,
) -> Result<Option<(i32, Vec<u8>)>, Fault> {
    Ok(sqlx::query_as(WRAPPED).bind(node.uuid()).bind(kid).fetch_optional(db).await?)
}

fn entry(row: &PgRow) -> Result<NodeEntry, sqlx::Error> {
    let digests: Vec<Vec<u8>> = row.try_get("digests")?;
    let revoked: Vec<bool> = row.try_get("revoked")?;
    let mut credentials = Vec::with_capacity(digests.len());
    for (bytes, revoked) in digests.iter().zip(revoked) {
        let state = if revoked { CredentialState::Revoked } else { CredentialState::Live };
        credentials.push(Credential { digest: digest(bytes)?, state });
    }
    Ok(NodeEntry {
        node: NodeId::from_uuid(row.try_get("id")?),
        domain: DomainId::from_uuid(row.try_get("domain_id")?),
        project: ProjectId::from_uuid(row.try_get("project_id")?),
        resource: ResourceId::from_uuid(row.try_get("resource_id")?),
        credentials,
        deregistered: row.try_get("ended")?,
        pinned_kid: row.try_get("pinned_signing_key_id")?,
    })
}

/// A Node's entry; `None` when it is unknown or its last key was removed, 30 days after its end.
pub(in crate::enrolment) async fn node_entry<'e>(
    db: impl PgExecutor<'e>,
    node: NodeId,
) -> Result<Option<NodeEntry>, Fault> {
    let row = sqlx::query(ENTRY).bind(node.uuid()).fetch_optional(db).await?;
    Ok(row.as_ref().map(entry).transpose()?)
}

pub(in crate::enrolment) async fn node_entries<'e>(
    db: impl PgExecutor<'e>,
    after: Option<NodeId>,
    limit: i64,
) -> Result<Vec<NodeEntry>, Fault> {
    let rows =
        sqlx::query(ENTRIES).bind(after.map_or(Uuid::nil(), |node| node.uuid())).bind(limit).fetch_all(db).await?;
    Ok(rows.iter().map(entry).collect::<Result<_, _>>()?)
}

/// How many live Nodes pin each of these signing keys; keys that none pins are left out.
pub(in crate::enrolment) async fn pinned<'e>(
    db: impl PgExecutor<'e>,
    keys: &[(DomainId, String)],
) -> Result<HashMap<String, u64>, Fault> {
    let (domains, kids): (Vec<Uuid>, Vec<&str>) =
        keys.iter().map(|(domain, kid)| (domain.uuid(), kid.as_str())).unzip();
    let rows: Vec<(String, i64)> = sqlx::query_as(PINNED).bind(domains).bind(kids).fetch_all(db).await?;
    Ok(rows.into_iter().map(|(kid, nodes)| (kid, nodes.unsigned_abs())).collect())
}

/// Removes keys that were revoked 30 days ago; whose they were.
pub(in crate::enrolment) async fn purge_revoked_keys(tx: &mut Tx, now: Timestamp) -> Result<Vec<NodeId>, Fault> {
    let ids: Vec<Uuid> = sqlx::query_scalar(PURGE_KEYS).bind(now.inner()).fetch_all(&mut **tx).await?;
    Ok(ids.into_iter().map(NodeId::from_uuid).collect())
}
