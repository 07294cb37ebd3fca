//! SQL of Projects and their sub-ranges.

use ipnet::IpNet;
use plexsphere_kernel::database::violated_constraint;
use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::{DomainId, ProjectId, Timestamp};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row as _};
use uuid::Uuid;

use super::model::{Project, ProjectRefusal};

/// The pages, each with the index that it walks.
pub(crate) const PAGES: &[(&str, &str)] = &[(LIST, "projects_by_slug"), (LIST_OF_DOMAIN, "projects_slug_key")];

pub(crate) const STATEMENTS: &[&str] = &[SHARE_POOL, INSERT, INSERT_RANGE, GET, LIST, LIST_OF_DOMAIN, KNOWS_DOMAIN];

// A shared lock: the pool cannot be moved away under a sub-range that is being reserved.
const SHARE_POOL: &str = "SELECT mesh_cidr FROM identity.domains WHERE id = $1 FOR SHARE";
const INSERT: &str = "INSERT INTO identity.projects (id, domain_id, name, slug, description, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $6)";
const INSERT_RANGE: &str = "INSERT INTO identity.sub_ranges (project_id, domain_id, range) VALUES ($1, $2, $3::cidr)";
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
