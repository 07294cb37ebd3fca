//! SQL of bindings.

use plexsphere_kernel::database::violated_constraint;
use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::{DomainId, IdpBindingId, Timestamp};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgExecutor, Row as _};
use uuid::Uuid;

use super::model::{BindingOwner, BindingRefusal, IdpBinding, JitPolicy, Settings};
use super::status::BindingStatus;

/// The lists, each with the index that it walks.
pub(crate) const PAGES: &[(&str, &str)] =
    &[(OF_DOMAIN, "idp_bindings_by_owner"), (OF_PLATFORM, "idp_bindings_by_owner"), (GET, "idp_bindings_pkey")];

pub(crate) const STATEMENTS: &[&str] =
    &[INSERT, GET, HOLD, LOCK, OF_DOMAIN, OF_PLATFORM, ALL, UPDATE, SET_STATUS, DELETE];

const INSERT: &str = "INSERT INTO identity.idp_bindings (id, domain_id, issuer, client_id, client_secret_ref,
    discovery_url, claim_mappings, required_acr, required_amr, jit_policy, alias, is_primary, status, version,
    created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15)";
const GET: &str = "SELECT * FROM identity.idp_bindings WHERE id = $1";
const HOLD: &str = "SELECT * FROM identity.idp_bindings WHERE id = $1 FOR SHARE";
const LOCK: &str = "SELECT * FROM identity.idp_bindings WHERE id = $1 FOR UPDATE";
const OF_DOMAIN: &str = "SELECT * FROM identity.idp_bindings WHERE domain_id = $1 ORDER BY created_at, id";
const OF_PLATFORM: &str = "SELECT * FROM identity.idp_bindings WHERE domain_id IS NULL ORDER BY created_at, id";
const ALL: &str = "SELECT * FROM identity.idp_bindings ORDER BY domain_id NULLS FIRST, created_at, id";
const UPDATE: &str = "UPDATE identity.idp_bindings SET discovery_url = $3, claim_mappings = $4, required_acr = $5,
    required_amr = $6, jit_policy = $7, alias = $8, is_primary = $9, updated_at = $10, version = version + 1
    WHERE id = $1 AND version = $2 RETURNING *";
const SET_STATUS: &str = "UPDATE identity.idp_bindings SET status = $2, updated_at = $3, version = version + 1
    WHERE id = $1 RETURNING *";
const DELETE: &str = "DELETE FROM identity.idp_bindings WHERE id = $1";

fn unknown(what: &'static str) -> sqlx::Error {
    sqlx::Error::Decode(what.into())
}

fn read(row: &PgRow) -> Result<IdpBinding, sqlx::Error> {
    let owner = row.try_get::<Option<Uuid>, _>("domain_id")?.map(DomainId::from_uuid);
    let Json(claim_mappings) = row.try_get("claim_mappings")?;
    Ok(IdpBinding {
        id: IdpBindingId::from_uuid(row.try_get("id")?),
        owner: owner.map_or(BindingOwner::Platform, BindingOwner::Domain),
        issuer: row.try_get("issuer")?,
        client_id: row.try_get("client_id")?,
        client_secret_ref: row.try_get("client_secret_ref")?,
        settings: Settings {
            discovery_url: row.try_get("discovery_url")?,
            claim_mappings,
            required_acr: row.try_get("required_acr")?,
            required_amr: row.try_get("required_amr")?,
            jit_policy: JitPolicy::parse(row.try_get("jit_policy")?).ok_or_else(|| unknown("unknown policy"))?,
            alias: row.try_get("alias")?,
            primary: row.try_get("is_primary")?,
        },
        status: BindingStatus::parse(row.try_get("status")?).ok_or_else(|| unknown("unknown status"))?,
        version: row.try_get("version")?,
        created_at: Timestamp::new(row.try_get("created_at")?),
        updated_at: Timestamp::new(row.try_get("updated_at")?),
    })
}

/// The constraints have the last word on what is unique, and on the Domain being there.
fn refusal(error: sqlx::Error) -> BindingRefusal {
    match violated_constraint(&error) {
        Some("idp_bindings_live_issuer") => BindingRefusal::IssuerTaken,
        Some("idp_bindings_live_alias") => BindingRefusal::AliasTaken,
        Some("idp_bindings_live_primary") => BindingRefusal::PrimaryTaken,
        Some("idp_bindings_domain_fkey") => BindingRefusal::Invalid("domain_id"),
        _ => BindingRefusal::Fault(error.into()),
    }
}

pub(super) async fn insert(tx: &mut Tx, binding: &IdpBinding) -> Result<(), BindingRefusal> {
    let settings = &binding.settings;
    let result = sqlx::query(INSERT)
        .bind(binding.id.uuid())
        .bind(binding.owner.domain().map(|domain| domain.uuid()))
        .bind(&binding.issuer)
        .bind(&binding.client_id)
        .bind(&binding.client_secret_ref)
        .bind(&settings.discovery_url)
        .bind(Json(&settings.claim_mappings))
        .bind(&settings.required_acr)
        .bind(&settings.required_amr)
        .bind(settings.jit_policy.as_str())
        .bind(&settings.alias)
        .bind(settings.primary)
        .bind(binding.status.as_str())
        .bind(binding.version)
        .bind(binding.created_at.inner())
        .execute(&mut **tx)
        .await;
    result.map(|_| ()).map_err(refusal)
}

pub(super) async fn get<'e>(db: impl PgExecutor<'e>, id: IdpBindingId) -> Result<Option<IdpBinding>, Fault> {
    let row = sqlx::query(GET).bind(id.uuid()).fetch_optional(db).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

/// The binding, which nobody changes until the transaction ends.
pub(super) async fn hold(tx: &mut Tx, id: IdpBindingId) -> Result<Option<IdpBinding>, Fault> {
    let row = sqlx::query(HOLD).bind(id.uuid()).fetch_optional(&mut **tx).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

pub(super) async fn lock(tx: &mut Tx, id: IdpBindingId) -> Result<Option<IdpBinding>, Fault> {
    let row = sqlx::query(LOCK).bind(id.uuid()).fetch_optional(&mut **tx).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

/// Every binding of one owner, whatever its status.
pub(super) async fn of<'e>(db: impl PgExecutor<'e>, owner: BindingOwner) -> Result<Vec<IdpBinding>, Fault> {
    let query = match owner {
        BindingOwner::Platform => sqlx::query(OF_PLATFORM),
        BindingOwner::Domain(domain) => sqlx::query(OF_DOMAIN).bind(domain.uuid()),
    };
    let rows = query.fetch_all(db).await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// Every binding there is, the platform's first.
pub(super) async fn all<'e>(db: impl PgExecutor<'e>) -> Result<Vec<IdpBinding>, Fault> {
    let rows = sqlx::query(ALL).fetch_all(db).await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// Compare and set: `None` when the binding is not at `version` any more.
pub(super) async fn update(
    tx: &mut Tx,
    (id, version): (IdpBindingId, i64),
    settings: &Settings,
    now: Timestamp,
) -> Result<Option<IdpBinding>, BindingRefusal> {
    let query = sqlx::query(UPDATE)
        .bind(id.uuid())
        .bind(version)
        .bind(&settings.discovery_url)
        .bind(Json(&settings.claim_mappings))
        .bind(&settings.required_acr)
        .bind(&settings.required_amr)
        .bind(settings.jit_policy.as_str())
        .bind(&settings.alias)
        .bind(settings.primary)
        .bind(now.inner());
    let row = query.fetch_optional(&mut **tx).await.map_err(refusal)?;
    Ok(row.as_ref().map(read).transpose().map_err(Fault::from)?)
}

pub(super) async fn set_status(
    tx: &mut Tx,
    id: IdpBindingId,
    status: BindingStatus,
    now: Timestamp,
) -> Result<IdpBinding, BindingRefusal> {
    let query = sqlx::query(SET_STATUS).bind(id.uuid()).bind(status.as_str()).bind(now.inner());
    let row = query.fetch_one(&mut **tx).await.map_err(refusal)?;
    Ok(read(&row).map_err(Fault::from)?)
}

pub(super) async fn delete(tx: &mut Tx, id: IdpBindingId) -> Result<(), Fault> {
    sqlx::query(DELETE).bind(id.uuid()).execute(&mut **tx).await?;
    Ok(())
}
