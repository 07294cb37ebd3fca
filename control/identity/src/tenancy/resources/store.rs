//! SQL of Resources.

use plexsphere_kernel::database::violated_constraint;
use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::{DomainId, ProjectId, ResourceId, Timestamp};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use super::model::{Origin, Resource, ResourceRefusal};
use crate::pages;

/// The pages, each with the index that it walks.
pub(crate) const PAGES: &[(&str, &str)] = &[(LIST, "resources_by_creation")];

pub(crate) const STATEMENTS: &[&str] = &[PARENT, HOME, INSERT, GET, LOCK, LIST, DELETE];

const PARENT: &str = "SELECT domain_id FROM identity.projects WHERE id = $1 FOR KEY SHARE";
const HOME: &str = "SELECT domain_id FROM identity.projects WHERE id = $1";
const INSERT: &str = "INSERT INTO identity.resources
    (id, project_id, domain_id, kind, origin, external_ref, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $7)";
const GET: &str = "SELECT * FROM identity.resources WHERE id = $1";
const LOCK: &str = "SELECT * FROM identity.resources WHERE id = $1 FOR UPDATE";
const LIST: &str = "SELECT * FROM identity.resources WHERE project_id = $1 AND (created_at, id) > ($2, $3)
    ORDER BY created_at, id LIMIT $4";
const DELETE: &str = "DELETE FROM identity.resources WHERE id = $1";

fn read(row: &PgRow) -> Result<Resource, sqlx::Error> {
    let origin: &str = row.try_get("origin")?;
    Ok(Resource {
        id: ResourceId::from_uuid(row.try_get("id")?),
        project: ProjectId::from_uuid(row.try_get("project_id")?),
        domain: DomainId::from_uuid(row.try_get("domain_id")?),
        kind: row.try_get("kind")?,
        origin: Origin::parse(origin).ok_or_else(|| sqlx::Error::Decode("unknown origin".into()))?,
        external_ref: row.try_get("external_ref")?,
        created_at: Timestamp::new(row.try_get::<OffsetDateTime, _>("created_at")?),
        updated_at: Timestamp::new(row.try_get::<OffsetDateTime, _>("updated_at")?),
    })
}

/// The Domain of a Project, which cannot be deleted until the transaction ends.
pub(super) async fn parent(tx: &mut Tx, project: ProjectId) -> Result<Option<DomainId>, Fault> {
    let domain: Option<Uuid> = sqlx::query_scalar(PARENT).bind(project.uuid()).fetch_optional(&mut **tx).await?;
    Ok(domain.map(DomainId::from_uuid))
}

/// The Domain of a Project, if there is one.
pub(super) async fn home<'e>(db: impl PgExecutor<'e>, project: ProjectId) -> Result<Option<DomainId>, Fault> {
    let domain: Option<Uuid> = sqlx::query_scalar(HOME).bind(project.uuid()).fetch_optional(db).await?;
    Ok(domain.map(DomainId::from_uuid))
}

pub(super) async fn insert(tx: &mut Tx, resource: &Resource) -> Result<(), ResourceRefusal> {
    let result = sqlx::query(INSERT)
        .bind(resource.id.uuid())
        .bind(resource.project.uuid())
        .bind(resource.domain.uuid())
        .bind(&resource.kind)
        .bind(resource.origin.as_str())
        .bind(&resource.external_ref)
        .bind(resource.created_at.inner())
        .execute(&mut **tx)
        .await;
    result.map(|_| ()).map_err(|error| match violated_constraint(&error) {
        Some("resources_external_ref_key") => ResourceRefusal::RefTaken,
        _ => ResourceRefusal::Fault(error.into()),
    })
}

pub(super) async fn get<'e>(db: impl PgExecutor<'e>, id: ResourceId) -> Result<Option<Resource>, Fault> {
    let row = sqlx::query(GET).bind(id.uuid()).fetch_optional(db).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

/// The Resource under a lock that registrations on it wait for.
pub(super) async fn lock(tx: &mut Tx, id: ResourceId) -> Result<Option<Resource>, Fault> {
    let row = sqlx::query(LOCK).bind(id.uuid()).fetch_optional(&mut **tx).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

pub(super) async fn list<'e>(
    db: impl PgExecutor<'e>,
    project: ProjectId,
    after: Option<(Timestamp, Uuid)>,
    limit: i64,
) -> Result<Vec<Resource>, Fault> {
    let (at, id) = after.unwrap_or(pages::BEGINNING);
    let rows = sqlx::query(LIST).bind(project.uuid()).bind(at.inner()).bind(id).bind(limit).fetch_all(db).await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

pub(super) async fn delete(tx: &mut Tx, id: ResourceId) -> Result<(), Fault> {
    sqlx::query(DELETE).bind(id.uuid()).execute(&mut **tx).await?;
    Ok(())
}
