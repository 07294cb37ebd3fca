//! SQL of Domains.

use std::time::Duration;

use ipnet::IpNet;
use plexsphere_kernel::database::violated_constraint;
use plexsphere_kernel::seams::ReachabilityPolicy;
use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::{DomainId, Timestamp};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row as _};

use super::model::{Domain, DomainRefusal};

/// The pages, each with the index that it walks.
pub(crate) const PAGES: &[(&str, &str)] = &[(LIST, "domains_slug_key")];

pub(crate) const STATEMENTS: &[&str] = &[INSERT, GET, LIST];

const INSERT: &str = "INSERT INTO identity.domains (id, name, slug, description, region, mesh_cidr,
    heartbeat_interval_ns, stale_after_ns, unreachable_after_ns, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6::cidr, $7, $8, $9, $10, $10)";
const GET: &str = "SELECT * FROM identity.domains WHERE id = $1";
const LIST: &str = "SELECT * FROM identity.domains WHERE slug > $1 ORDER BY slug LIMIT $2";

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
