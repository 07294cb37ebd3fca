//! SQL of sign-ins that a browser began, and of assertions that were used.

use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::{DomainId, IdpBindingId, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

pub(super) const STATEMENTS: &[&str] = &[INSERT, TAKE, DROP_OF_BINDING, PURGE, USE_ASSERTION, PURGE_ASSERTIONS];

const INSERT: &str = "INSERT INTO identity.auth_flows (state_digest, binding_id, domain_id, nonce, verifier_version,
    verifier, return_to, prompted_login, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
// Single use: of two callbacks one takes the row.
const TAKE: &str = "DELETE FROM identity.auth_flows WHERE state_digest = $1 RETURNING *";
const DROP_OF_BINDING: &str = "DELETE FROM identity.auth_flows WHERE binding_id = $1";
const PURGE: &str = "DELETE FROM identity.auth_flows WHERE expires_at <= $1::timestamptz - interval '1 hour'";
const USE_ASSERTION: &str = "INSERT INTO identity.used_assertions (digest, expires_at) VALUES ($1, $2)
    ON CONFLICT DO NOTHING";
const PURGE_ASSERTIONS: &str = "DELETE FROM identity.used_assertions WHERE expires_at <= $1";

/// A sign-in under way.
pub(super) struct Flow {
    pub(super) binding: IdpBindingId,
    pub(super) domain: Option<DomainId>,
    pub(super) nonce: String,
    /// The verifier, sealed under this version of the wrap key.
    pub(super) verifier: (i32, Vec<u8>),
    pub(super) return_to: String,
    /// The person was to sign in anew, not earlier than the flow began.
    pub(super) prompted_login: bool,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Timestamp,
}

fn read(row: &PgRow) -> Result<Flow, sqlx::Error> {
    Ok(Flow {
        binding: IdpBindingId::from_uuid(row.try_get("binding_id")?),
        domain: row.try_get::<Option<Uuid>, _>("domain_id")?.map(DomainId::from_uuid),
        nonce: row.try_get("nonce")?,
        verifier: (row.try_get("verifier_version")?, row.try_get("verifier")?),
        return_to: row.try_get("return_to")?,
        prompted_login: row.try_get("prompted_login")?,
        created_at: Timestamp::new(row.try_get("created_at")?),
        expires_at: Timestamp::new(row.try_get("expires_at")?),
    })
}

pub(super) async fn insert(tx: &mut Tx, state: &[u8; 32], flow: &Flow) -> Result<(), Fault> {
    sqlx::query(INSERT)
        .bind(state.as_slice())
        .bind(flow.binding.uuid())
        .bind(flow.domain.map(|domain| domain.uuid()))
        .bind(&flow.nonce)
        .bind(flow.verifier.0)
        .bind(&flow.verifier.1)
        .bind(&flow.return_to)
        .bind(flow.prompted_login)
        .bind(flow.created_at.inner())
        .bind(flow.expires_at.inner())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Takes a flow out, so that nobody finishes it twice.
pub(super) async fn take(tx: &mut Tx, state: &[u8; 32]) -> Result<Option<Flow>, Fault> {
    let row = sqlx::query(TAKE).bind(state.as_slice()).fetch_optional(&mut **tx).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

/// Drops every sign-in through a binding that is switched off or deleted.
pub(crate) async fn drop_of_binding(tx: &mut Tx, binding: IdpBindingId) -> Result<(), Fault> {
    sqlx::query(DROP_OF_BINDING).bind(binding.uuid()).execute(&mut **tx).await?;
    Ok(())
}

/// Marks an assertion as used until nobody accepts it any more; `false` when it was used before.
pub(super) async fn use_assertion(tx: &mut Tx, digest: &[u8; 32], until: Timestamp) -> Result<bool, Fault> {
    let query = sqlx::query(USE_ASSERTION).bind(digest.as_slice()).bind(until.inner());
    Ok(query.execute(&mut **tx).await?.rows_affected() == 1)
}

/// Removes what ended; how many rows.
pub(super) async fn sweep(tx: &mut Tx, now: Timestamp) -> Result<u64, Fault> {
    let flows = sqlx::query(PURGE).bind(now.inner()).execute(&mut **tx).await?.rows_affected();
    let used = sqlx::query(PURGE_ASSERTIONS).bind(now.inner()).execute(&mut **tx).await?.rows_affected();
    Ok(flows + used)
}
