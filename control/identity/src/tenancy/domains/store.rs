//! SQL of Domains.

use std::time::Duration;

use ipnet::IpNet;
use plexsphere_kernel::database::violated_constraint;
use plexsphere_kernel::seams::ReachabilityPolicy;
use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::{ChildCounts, DomainId, ProjectId, Timestamp};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row as _};
use uuid::Uuid;

use super::model::{Domain, DomainRefusal};

/// The pages, each with the index that it walks.
pub(crate) const PAGES: &[(&str, &str)] = &[(LIST, "domains_slug_key")];

pub(crate) const STATEMENTS: &[&str] =
    &[INSERT, GET, LIST, LOCK, UPDATE, SUB_RANGE_OUTSIDE, NODES_OUTSIDE, COUNT, DELETE];

const INSERT: &str = "INSERT INTO identity.domains (id, name, slug, description, region, mesh_cidr,
    heartbeat_interval_ns, stale_after_ns, unreachable_after_ns, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6::cidr, $7, $8, $9, $10, $10)";
const GET: &str = "SELECT * FROM identity.domains WHERE id = $1";
const LIST: &str = "SELECT * FROM identity.domains WHERE slug > $1 ORDER BY slug LIMIT $2";

// Waits for whoever hangs something under the Domain, draws an address from its pool, or reserves a part of it; and they
// for it.
const LOCK: &str = "SELECT * FROM identity.domains WHERE id = $1 FOR UPDATE";
const UPDATE: &str = "UPDATE identity.domains SET name = $2, description = $3, region = $4, mesh_cidr = $5::cidr,
    heartbeat_interval_ns = $6, stale_after_ns = $7, unreachable_after_ns = $8, updated_at = $9 WHERE id = $1";
const SUB_RANGE_OUTSIDE: &str = "SELECT project_id, range FROM identity.sub_ranges
    WHERE domain_id = $1 AND NOT range <<= $2::cidr ORDER BY range, project_id LIMIT 1";
const NODES_OUTSIDE: &str = "SELECT count(*) FROM identity.nodes
    WHERE domain_id = $1 AND deregistered_at IS NULL AND NOT mesh_ip <<= $2::cidr";
const COUNT: &str = "SELECT
    (SELECT count(*) FROM identity.projects WHERE domain_id = $1) AS projects,
    (SELECT count(*) FROM identity.groups WHERE domain_id = $1) AS groups,
    (SELECT count(*) FROM identity.users WHERE domain_id = $1)
        + (SELECT count(*) FROM identity.service_identities WHERE domain_id = $1) AS identities,
    (SELECT count(*) FROM identity.idp_bindings WHERE domain_id = $1) AS idp_bindings,
    (SELECT count(*) FROM identity.nodes WHERE domain_id = $1 AND deregistered_at IS NULL) AS nodes";
const DELETE: &str = "DELETE FROM identity.domains WHERE id = $1";

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn duration(row: &PgRow, column: &str) -> Result<Duration, sqlx::Error> {
    Ok(Duration::from_nanos(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0)))
}

fn read(row: &PgRow) -> Result<Domain, sqlx::Error> {
    Ok(Domain {
        id: DomainId::from_uuid(row.try_get("id")?),
        name: row.try_get("name")?,
        slug: row.try_get("slug")?,
        description: row.try_get("description")?,
        region: row.try_get("region")?,
        mesh_cidr: row.try_get::<IpNet, _>("mesh_cidr")?,
        reachability: ReachabilityPolicy {
            heartbeat_interval: duration(row, "heartbeat_interval_ns")?,
            stale_after: duration(row, "stale_after_ns")?,
            unreachable_after: duration(row, "unreachable_after_ns")?,
        },
        created_at: Timestamp::new(row.try_get("created_at")?),
        updated_at: Timestamp::new(row.try_get("updated_at")?),
    })
}

/// Inserts; the constraints have the last word on slug and pool.
pub(super) async fn insert(tx: &mut Tx, domain: &Domain) -> Result<(), DomainRefusal> {
    let result = sqlx::query(INSERT)
        .bind(domain.id.uuid())
        .bind(&domain.name)
        .bind(&domain.slug)
        .bind(&domain.description)
        .bind(&domain.region)
        .bind(domain.mesh_cidr)
        .bind(nanos(domain.reachability.heartbeat_interval))
        .bind(nanos(domain.reachability.stale_after))
        .bind(nanos(domain.reachability.unreachable_after))
        .bind(domain.created_at.inner())
        .execute(&mut **tx)
        .await;
    result.map(|_| ()).map_err(|error| match violated_constraint(&error) {
        Some("domains_slug_key") => DomainRefusal::SlugTaken,
        Some("domains_mesh_cidr_excl") => DomainRefusal::PoolOverlap,
        _ => DomainRefusal::Fault(error.into()),
    })
}

pub(super) async fn get<'e>(db: impl PgExecutor<'e>, id: DomainId) -> Result<Option<Domain>, Fault> {
    let row = sqlx::query(GET).bind(id.uuid()).fetch_optional(db).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

pub(super) async fn list<'e>(db: impl PgExecutor<'e>, after: Option<&str>, limit: i64) -> Result<Vec<Domain>, Fault> {
    let rows = sqlx::query(LIST).bind(after.unwrap_or("")).bind(limit).fetch_all(db).await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// The Domain under a lock that everything beneath it waits for.
pub(super) async fn lock(tx: &mut Tx, id: DomainId) -> Result<Option<Domain>, Fault> {
    let row = sqlx::query(LOCK).bind(id.uuid()).fetch_optional(&mut **tx).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

/// Writes a changed Domain; the constraints have the last word on its pool.
pub(super) async fn update(tx: &mut Tx, domain: &Domain) -> Result<(), DomainRefusal> {
    let result = sqlx::query(UPDATE)
        .bind(domain.id.uuid())
        .bind(&domain.name)
        .bind(&domain.description)
        .bind(&domain.region)
        .bind(domain.mesh_cidr)
        .bind(nanos(domain.reachability.heartbeat_interval))
        .bind(nanos(domain.reachability.stale_after))
        .bind(nanos(domain.reachability.unreachable_after))
        .bind(domain.updated_at.inner())
        .execute(&mut **tx)
        .await;
    result.map(|_| ()).map_err(|error| match violated_constraint(&error) {
        Some("domains_mesh_cidr_excl") => DomainRefusal::PoolOverlap,
        _ => DomainRefusal::Fault(error.into()),
    })
}

/// The first sub-range that a pool would leave outside, by range.
pub(super) async fn sub_range_outside(
    tx: &mut Tx,
    domain: DomainId,
    pool: IpNet,
) -> Result<Option<(ProjectId, IpNet)>, Fault> {
    let query = sqlx::query_as(SUB_RANGE_OUTSIDE).bind(domain.uuid()).bind(pool);
    let row: Option<(Uuid, IpNet)> = query.fetch_optional(&mut **tx).await?;
    Ok(row.map(|(project, range)| (ProjectId::from_uuid(project), range)))
}

/// How many live Nodes a pool would leave outside.
pub(super) async fn nodes_outside(tx: &mut Tx, domain: DomainId, pool: IpNet) -> Result<i64, Fault> {
    Ok(sqlx::query_scalar(NODES_OUTSIDE).bind(domain.uuid()).bind(pool).fetch_one(&mut **tx).await?)
}

/// What belongs to a Domain and keeps it from being deleted.
pub(super) async fn count<'e>(db: impl PgExecutor<'e>, domain: DomainId) -> Result<ChildCounts, Fault> {
    let row = sqlx::query(COUNT).bind(domain.uuid()).fetch_one(db).await?;
    Ok(ChildCounts {
        projects: row.try_get("projects")?,
        groups: row.try_get("groups")?,
        identities: row.try_get("identities")?,
        idp_bindings: row.try_get("idp_bindings")?,
        nodes: row.try_get("nodes")?,
    })
}

/// Deletes a locked Domain with what ends with it; `false` when something that must not end with it stands on it.
pub(super) async fn delete(tx: &mut Tx, id: DomainId) -> Result<bool, Fault> {
    match sqlx::query(DELETE).bind(id.uuid()).execute(&mut **tx).await {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error)) if error.is_foreign_key_violation() => Ok(false),
        Err(error) => Err(error.into()),
    }
}
