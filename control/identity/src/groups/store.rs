//! SQL of Groups.

use plexsphere_kernel::database::violated_constraint;
use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::{DomainId, GroupId, IdpBindingId, Timestamp};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row as _};
use uuid::Uuid;

use super::model::{Group, GroupRefusal, GroupSource};

/// The pages and look-ups, each with the index that it walks.
pub(crate) const PAGES: &[(&str, &str)] =
    &[(LIST, "groups_slug_key"), (GET, "groups_pkey"), (LOCK_OF_BINDING, "groups_of_binding")];

pub(crate) const STATEMENTS: &[&str] =
    &[INSERT, GET, LOCK, SHARE, LIST, RENAME, DELETE, LOCK_OF_BINDING, BINDING_IN_REACH];

const INSERT: &str = "INSERT INTO identity.groups (id, domain_id, slug, display_name, source, idp_binding_id,
    idp_claim_value, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)";
const GET: &str = "SELECT * FROM identity.groups WHERE id = $1";
const LOCK: &str = "SELECT * FROM identity.groups WHERE id = $1 FOR UPDATE";
const SHARE: &str = "SELECT * FROM identity.groups WHERE id = $1 FOR KEY SHARE";
const LIST: &str = "SELECT * FROM identity.groups WHERE domain_id = $1 AND slug > $2 ORDER BY slug LIMIT $3";
const RENAME: &str = "UPDATE identity.groups SET display_name = $2, updated_at = $3 WHERE id = $1 RETURNING *";
const DELETE: &str = "DELETE FROM identity.groups WHERE id = $1";
const LOCK_OF_BINDING: &str = "SELECT * FROM identity.groups WHERE idp_binding_id = $1 ORDER BY id FOR UPDATE";
const BINDING_IN_REACH: &str = "SELECT id FROM identity.idp_bindings
    WHERE id = $1 AND (domain_id = $2 OR domain_id IS NULL) FOR KEY SHARE";

fn read(row: &PgRow) -> Result<Group, sqlx::Error> {
    let binding: Option<Uuid> = row.try_get("idp_binding_id")?;
    let claim_value: Option<String> = row.try_get("idp_claim_value")?;
    let source = match binding.zip(claim_value) {
        Some((binding, claim_value)) => GroupSource::Idp { binding: IdpBindingId::from_uuid(binding), claim_value },
        None => GroupSource::Manual,
    };
    Ok(Group {
        id: GroupId::from_uuid(row.try_get("id")?),
        domain: DomainId::from_uuid(row.try_get("domain_id")?),
        slug: row.try_get("slug")?,
        display_name: row.try_get("display_name")?,
        source,
        created_at: Timestamp::new(row.try_get("created_at")?),
        updated_at: Timestamp::new(row.try_get("updated_at")?),
    })
}

/// Inserts; the constraints have the last word on slug, Domain and binding.
pub(super) async fn insert(tx: &mut Tx, group: &Group) -> Result<(), GroupRefusal> {
    let (binding, claim_value) = match &group.source {
        GroupSource::Manual => (None, None),
        GroupSource::Idp { binding, claim_value } => (Some(binding.uuid()), Some(claim_value)),
    };
    let result = sqlx::query(INSERT)
        .bind(group.id.uuid())
        .bind(group.domain.uuid())
        .bind(&group.slug)
        .bind(&group.display_name)
        .bind(group.source.as_str())
        .bind(binding)
        .bind(claim_value)
        .bind(group.created_at.inner())
        .execute(&mut **tx)
        .await;
    result.map(|_| ()).map_err(|error| match violated_constraint(&error) {
        Some("groups_slug_key") => GroupRefusal::SlugTaken,
        Some("groups_domain_fkey") => GroupRefusal::Invalid("domain_id"),
        Some("groups_binding_fkey") => GroupRefusal::Invalid("idp_binding_id"),
        _ => GroupRefusal::Fault(error.into()),
    })
}

pub(super) async fn get<'e>(db: impl PgExecutor<'e>, id: GroupId) -> Result<Option<Group>, Fault> {
    let row = sqlx::query(GET).bind(id.uuid()).fetch_optional(db).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

/// The Group, which nobody else changes until the transaction ends.
pub(super) async fn lock(tx: &mut Tx, id: GroupId) -> Result<Option<Group>, Fault> {
    let row = sqlx::query(LOCK).bind(id.uuid()).fetch_optional(&mut **tx).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

/// The Group, which nobody deletes until the transaction ends.
pub(super) async fn share(tx: &mut Tx, id: GroupId) -> Result<Option<Group>, Fault> {
    let row = sqlx::query(SHARE).bind(id.uuid()).fetch_optional(&mut **tx).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

pub(super) async fn list<'e>(
    db: impl PgExecutor<'e>,
    domain: DomainId,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Group>, Fault> {
    let query = sqlx::query(LIST).bind(domain.uuid()).bind(after.unwrap_or("")).bind(limit);
    let rows = query.fetch_all(db).await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

pub(super) async fn rename(
    tx: &mut Tx,
    id: GroupId,
    display_name: &str,
    now: Timestamp,
) -> Result<Option<Group>, Fault> {
    let query = sqlx::query(RENAME).bind(id.uuid()).bind(display_name).bind(now.inner());
    let row = query.fetch_optional(&mut **tx).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

pub(super) async fn delete(tx: &mut Tx, id: GroupId) -> Result<(), Fault> {
    sqlx::query(DELETE).bind(id.uuid()).execute(&mut **tx).await?;
    Ok(())
}

/// The Groups that a binding fills, locked in one order.
pub(super) async fn lock_of_binding(tx: &mut Tx, binding: IdpBindingId) -> Result<Vec<Group>, Fault> {
    let rows = sqlx::query(LOCK_OF_BINDING).bind(binding.uuid()).fetch_all(&mut **tx).await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// Whether the binding is the Domain's own or the platform's; it stays until the transaction ends.
pub(super) async fn is_in_reach(tx: &mut Tx, binding: IdpBindingId, domain: DomainId) -> Result<bool, Fault> {
    let query = sqlx::query(BINDING_IN_REACH).bind(binding.uuid()).bind(domain.uuid());
    Ok(query.fetch_optional(&mut **tx).await?.is_some())
}
