//! SQL of Projects and their sub-ranges.

use ipnet::IpNet;
use plexsphere_kernel::database::violated_constraint;
use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::{DomainId, ProjectChildCounts, ProjectId, Timestamp};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row as _};
use uuid::Uuid;

use super::model::{Project, ProjectRefusal};

/// The pages, each with the index that it walks.
pub(crate) const PAGES: &[(&str, &str)] = &[(LIST, "projects_by_slug"), (LIST_OF_DOMAIN, "projects_slug_key")];

pub(crate) const STATEMENTS: &[&str] = &[
    SHARE_POOL,
    INSERT,
    INSERT_RANGE,
    GET,
    LIST,
    LIST_OF_DOMAIN,
    KNOWS_DOMAIN,
    LOCK,
    LOCK_POOL,
    SIBLING,
    STRANDED,
    UPDATE,
    SET_RANGE,
    RELEASE_RANGE,
    COUNT,
    DELETE,
];

// A shared lock: the Domain stays, and Projects without a sub-range do not wait for each other.
const SHARE_POOL: &str = "SELECT mesh_cidr FROM identity.domains WHERE id = $1 FOR SHARE";
const INSERT: &str = "INSERT INTO identity.projects (id, domain_id, name, slug, description, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $6)";
const INSERT_RANGE: &str = "INSERT INTO identity.sub_ranges (project_id, domain_id, range, pool)
    SELECT $1, d.id, $3::cidr, d.mesh_cidr FROM identity.domains d WHERE d.id = $2";
const GET: &str = "SELECT p.*, s.range FROM identity.projects p
    LEFT JOIN identity.sub_ranges s ON s.project_id = p.id WHERE p.id = $1";
const LIST: &str = "SELECT p.*, s.range FROM identity.projects p
    LEFT JOIN identity.sub_ranges s ON s.project_id = p.id
    WHERE (p.slug, p.id) > ($1, $2) ORDER BY p.slug, p.id LIMIT $3";
// A slug is unique in its Domain, so it alone says where a page begins.
const LIST_OF_DOMAIN: &str = "SELECT p.*, s.range FROM identity.projects p
    LEFT JOIN identity.sub_ranges s ON s.project_id = p.id
    WHERE p.domain_id = $1 AND p.slug > $2 ORDER BY p.slug LIMIT $3";
const KNOWS_DOMAIN: &str = "SELECT EXISTS (SELECT FROM identity.domains WHERE id = $1)";

// A Project is locked before its Domain, here as in a registration.
const LOCK: &str = "SELECT id FROM identity.projects WHERE id = $1 FOR UPDATE";
// Nobody else reserves or draws from the pool until the transaction ends.
const LOCK_POOL: &str = "SELECT mesh_cidr FROM identity.domains WHERE id = $1 FOR NO KEY UPDATE";
const SIBLING: &str = "SELECT project_id, range FROM identity.sub_ranges
    WHERE domain_id = $1 AND project_id <> $2 AND range && $3::cidr ORDER BY range LIMIT 1";
const STRANDED: &str = "SELECT EXISTS (SELECT FROM identity.nodes WHERE project_id = $1 AND deregistered_at IS NULL
    AND mesh_ip <<= $2::cidr AND NOT mesh_ip <<= $3::cidr)";
const UPDATE: &str = "UPDATE identity.projects SET name = $2, description = $3, updated_at = $4 WHERE id = $1";
const SET_RANGE: &str = "INSERT INTO identity.sub_ranges AS s (project_id, domain_id, range, pool)
    SELECT $1, d.id, $3::cidr, d.mesh_cidr FROM identity.domains d WHERE d.id = $2
    ON CONFLICT (project_id) DO UPDATE SET range = EXCLUDED.range";
const RELEASE_RANGE: &str = "DELETE FROM identity.sub_ranges WHERE project_id = $1";
const COUNT: &str = "SELECT (SELECT count(*) FROM identity.resources WHERE project_id = $1) AS resources,
    (SELECT count(*) FROM identity.nodes WHERE project_id = $1 AND deregistered_at IS NULL) AS nodes";
const DELETE: &str = "DELETE FROM identity.projects WHERE id = $1";

fn read(row: &PgRow) -> Result<Project, sqlx::Error> {
    Ok(Project {
        id: ProjectId::from_uuid(row.try_get("id")?),
        domain: DomainId::from_uuid(row.try_get("domain_id")?),
        name: row.try_get("name")?,
        slug: row.try_get("slug")?,
        description: row.try_get("description")?,
        sub_range: row.try_get::<Option<IpNet>, _>("range")?,
        created_at: Timestamp::new(row.try_get("created_at")?),
        updated_at: Timestamp::new(row.try_get("updated_at")?),
    })
}

/// The Domain's pool, under a shared lock until the transaction ends.
pub(super) async fn share_pool(tx: &mut Tx, domain: DomainId) -> Result<Option<IpNet>, Fault> {
    Ok(sqlx::query_scalar(SHARE_POOL).bind(domain.uuid()).fetch_optional(&mut **tx).await?)
}

/// Inserts; the constraints have the last word on slug, parent and sub-range.
pub(super) async fn insert(tx: &mut Tx, project: &Project) -> Result<(), ProjectRefusal> {
    let map = |error: sqlx::Error| match violated_constraint(&error) {
        Some("projects_slug_key") => ProjectRefusal::SlugTaken,
        Some("projects_domain_fkey") => ProjectRefusal::ParentMissing,
        Some("sub_ranges_excl") => ProjectRefusal::SubRangeOverlap,
        _ => ProjectRefusal::Fault(error.into()),
    };
    sqlx::query(INSERT)
        .bind(project.id.uuid())
        .bind(project.domain.uuid())
        .bind(&project.name)
        .bind(&project.slug)
        .bind(&project.description)
        .bind(project.created_at.inner())
        .execute(&mut **tx)
        .await
        .map_err(map)?;
    if let Some(range) = project.sub_range {
        let query = sqlx::query(INSERT_RANGE).bind(project.id.uuid()).bind(project.domain.uuid()).bind(range);
        query.execute(&mut **tx).await.map_err(map)?;
    }
    Ok(())
}

pub(super) async fn get<'e>(db: impl PgExecutor<'e>, id: ProjectId) -> Result<Option<Project>, Fault> {
    let row = sqlx::query(GET).bind(id.uuid()).fetch_optional(db).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

pub(super) async fn list<'e>(
    db: impl PgExecutor<'e>,
    domain: Option<DomainId>,
    after: Option<&(String, Uuid)>,
    limit: i64,
) -> Result<Vec<Project>, Fault> {
    let (slug, id) = after.map_or(("", Uuid::nil()), |(slug, id)| (slug.as_str(), *id));
    let query = match domain {
        Some(domain) => sqlx::query(LIST_OF_DOMAIN).bind(domain.uuid()).bind(slug),
        None => sqlx::query(LIST).bind(slug).bind(id),
    };
    let rows = query.bind(limit).fetch_all(db).await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

pub(super) async fn knows_domain<'e>(db: impl PgExecutor<'e>, domain: DomainId) -> Result<bool, Fault> {
    Ok(sqlx::query_scalar(KNOWS_DOMAIN).bind(domain.uuid()).fetch_one(db).await?)
}

/// The Project under a lock that everything beneath it waits for.
pub(super) async fn lock(tx: &mut Tx, id: ProjectId) -> Result<Option<Project>, Fault> {
    sqlx::query(LOCK).bind(id.uuid()).fetch_optional(&mut **tx).await?;
    // Read behind the lock: the row that was waited for is not the only one that may have changed.
    get(&mut **tx, id).await
}

/// The Domain's pool, which is this transaction's alone until it ends.
pub(super) async fn lock_pool(tx: &mut Tx, domain: DomainId) -> Result<Option<IpNet>, Fault> {
    Ok(sqlx::query_scalar(LOCK_POOL).bind(domain.uuid()).fetch_optional(&mut **tx).await?)
}

/// The first sibling whose sub-range overlaps, by range.
pub(super) async fn sibling(
    tx: &mut Tx,
    (domain, project): (DomainId, ProjectId),
    range: IpNet,
) -> Result<Option<(ProjectId, IpNet)>, Fault> {
    let query = sqlx::query_as(SIBLING).bind(domain.uuid()).bind(project.uuid()).bind(range);
    let row: Option<(Uuid, IpNet)> = query.fetch_optional(&mut **tx).await?;
    Ok(row.map(|(project, range)| (ProjectId::from_uuid(project), range)))
}

/// Whether a live Node of the Project has an address that came from `old` and is not in `new`.
pub(super) async fn stranded(tx: &mut Tx, project: ProjectId, old: IpNet, new: IpNet) -> Result<bool, Fault> {
    Ok(sqlx::query_scalar(STRANDED).bind(project.uuid()).bind(old).bind(new).fetch_one(&mut **tx).await?)
}

/// Writes a changed Project; the constraints have the last word on its sub-range.
pub(super) async fn update(tx: &mut Tx, before: &Project, after: &Project) -> Result<(), ProjectRefusal> {
    sqlx::query(UPDATE)
        .bind(after.id.uuid())
        .bind(&after.name)
        .bind(&after.description)
        .bind(after.updated_at.inner())
        .execute(&mut **tx)
        .await
        .map_err(Fault::from)?;
    if before.sub_range == after.sub_range {
        return Ok(());
    }
    let query = match after.sub_range {
        Some(range) => sqlx::query(SET_RANGE).bind(after.id.uuid()).bind(after.domain.uuid()).bind(range),
        None => sqlx::query(RELEASE_RANGE).bind(after.id.uuid()),
    };
    query.execute(&mut **tx).await.map(|_| ()).map_err(|error| match violated_constraint(&error) {
        Some("sub_ranges_excl") => ProjectRefusal::SubRangeOverlap,
        _ => ProjectRefusal::Fault(error.into()),
    })
}

/// What belongs to a Project and keeps it from being deleted; the tuples are counted by whoever keeps them.
pub(super) async fn count<'e>(db: impl PgExecutor<'e>, project: ProjectId) -> Result<ProjectChildCounts, Fault> {
    let row = sqlx::query(COUNT).bind(project.uuid()).fetch_one(db).await?;
    Ok(ProjectChildCounts { resources: row.try_get("resources")?, nodes: row.try_get("nodes")?, relation_tuples: 0 })
}

/// Deletes a locked Project with what ends with it; `false` when something that must not end with it stands on it.
pub(super) async fn delete(tx: &mut Tx, id: ProjectId) -> Result<bool, Fault> {
    match sqlx::query(DELETE).bind(id.uuid()).execute(&mut **tx).await {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error)) if error.is_foreign_key_violation() => Ok(false),
        Err(error) => Err(error.into()),
    }
}
