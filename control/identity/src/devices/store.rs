//! SQL of device sessions.

use plexsphere_kernel::database::violated_constraint;
use plexsphere_kernel::{Assurance, Fault, Tx};
use plexsphere_oidc::UserCode;
use plexsphere_wire::{DomainId, IdpBindingId, PrincipalId, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use time::OffsetDateTime;
use uuid::Uuid;

use super::model::DeviceState;

pub(crate) const STATEMENTS: &[&str] =
    &[INSERT, BY_DEVICE, LOCK_BY_DEVICE, BY_USER_CODE, APPROVE, POLLED, SLOWED, END, DENY_OF_USER, PURGE, OF_BINDING];

const INSERT: &str = "INSERT INTO identity.device_sessions
    (device_digest, user_code, binding_id, domain_id, state, interval_seconds, created_at, expires_at)
    VALUES ($1, $2, $3, $4, 'pending', $5, $6, $7)";
const BY_DEVICE: &str = "SELECT * FROM identity.device_sessions WHERE device_digest = $1";
const LOCK_BY_DEVICE: &str = "SELECT * FROM identity.device_sessions WHERE device_digest = $1 FOR UPDATE";
const BY_USER_CODE: &str = "SELECT * FROM identity.device_sessions WHERE user_code = $1 FOR UPDATE";
const APPROVE: &str = "UPDATE identity.device_sessions SET state = 'approved', user_id = $2, acr = $3, amr = $4,
    auth_time = $5 WHERE device_digest = $1";
const POLLED: &str = "UPDATE identity.device_sessions SET last_poll_at = $2 WHERE device_digest = $1";
const SLOWED: &str = "UPDATE identity.device_sessions SET last_poll_at = $2, interval_seconds = interval_seconds + $3
    WHERE device_digest = $1";
const END: &str = "UPDATE identity.device_sessions SET state = $2 WHERE device_digest = $1";
const DENY_OF_USER: &str =
    "UPDATE identity.device_sessions SET state = 'denied' WHERE user_id = $1 AND state = 'approved'";
const PURGE: &str = "DELETE FROM identity.device_sessions WHERE expires_at <= $1::timestamptz - interval '1 hour'";
const OF_BINDING: &str = "DELETE FROM identity.device_sessions WHERE binding_id = $1";

/// A stored request.
pub(super) struct DeviceSession {
    pub(super) digest: [u8; 32],
    pub(super) binding: Uuid,
    pub(super) domain: Option<DomainId>,
    pub(super) state: DeviceState,
    pub(super) interval: i32,
    pub(super) last_poll_at: Option<Timestamp>,
    pub(super) user: Option<PrincipalId>,
    pub(super) assurance: Assurance,
    pub(super) expires_at: Timestamp,
}

fn maybe(row: &PgRow, name: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    Ok(row.try_get::<Option<OffsetDateTime>, _>(name)?.map(Timestamp::new))
}

fn read(row: &PgRow) -> Result<DeviceSession, Fault> {
    let digest: Vec<u8> = row.try_get("device_digest")?;
    let state: &str = row.try_get("state")?;
    Ok(DeviceSession {
        digest: digest.as_slice().try_into().map_err(|_| Fault::Invariant("a digest has 32 bytes"))?,
        binding: row.try_get("binding_id")?,
        domain: row.try_get::<Option<Uuid>, _>("domain_id")?.map(DomainId::from_uuid),
        state: DeviceState::parse(state).ok_or(Fault::Invariant("a device session has a known state"))?,
        interval: row.try_get("interval_seconds")?,
        last_poll_at: maybe(row, "last_poll_at")?,
        user: row.try_get::<Option<Uuid>, _>("user_id")?.map(PrincipalId::from_uuid),
        assurance: Assurance {
            acr: row.try_get("acr")?,
            amr: row.try_get("amr")?,
            auth_time: maybe(row, "auth_time")?,
        },
        expires_at: Timestamp::new(row.try_get("expires_at")?),
    })
}

/// A request to be stored.
pub(super) struct NewDevice<'a> {
    pub(super) digest: [u8; 32],
    pub(super) code: &'a UserCode,
    pub(super) binding: Uuid,
    pub(super) domain: Option<DomainId>,
    pub(super) interval: i32,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Timestamp,
}

/// Stores a request; `false` when its user code is another's.
pub(super) async fn insert(tx: &mut Tx, new: NewDevice<'_>) -> Result<bool, Fault> {
    let result = sqlx::query(INSERT)
        .bind(new.digest.as_slice())
        .bind(new.code.as_str())
        .bind(new.binding)
        .bind(new.domain.map(|domain| domain.uuid()))
        .bind(new.interval)
        .bind(new.created_at.inner())
        .bind(new.expires_at.inner())
        .execute(&mut **tx)
        .await;
    match result {
        Ok(_) => Ok(true),
        Err(error) if violated_constraint(&error) == Some("device_sessions_user_code_key") => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn by_device(tx: &mut Tx, digest: &[u8; 32]) -> Result<Option<DeviceSession>, Fault> {
    let row = sqlx::query(BY_DEVICE).bind(digest.as_slice()).fetch_optional(&mut **tx).await?;
    row.as_ref().map(read).transpose()
}

pub(super) async fn lock_by_device(tx: &mut Tx, digest: &[u8; 32]) -> Result<Option<DeviceSession>, Fault> {
    let row = sqlx::query(LOCK_BY_DEVICE).bind(digest.as_slice()).fetch_optional(&mut **tx).await?;
    row.as_ref().map(read).transpose()
}

pub(super) async fn lock_by_user_code(tx: &mut Tx, code: &UserCode) -> Result<Option<DeviceSession>, Fault> {
    let row = sqlx::query(BY_USER_CODE).bind(code.as_str()).fetch_optional(&mut **tx).await?;
    row.as_ref().map(read).transpose()
}

pub(super) async fn approve(
    tx: &mut Tx,
    digest: &[u8; 32],
    user: PrincipalId,
    assurance: &Assurance,
) -> Result<(), Fault> {
    sqlx::query(APPROVE)
        .bind(digest.as_slice())
        .bind(user.uuid())
        .bind(&assurance.acr)
        .bind(&assurance.amr)
        .bind(assurance.auth_time.map(Timestamp::inner))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(super) async fn polled(tx: &mut Tx, digest: &[u8; 32], now: Timestamp) -> Result<(), Fault> {
    sqlx::query(POLLED).bind(digest.as_slice()).bind(now.inner()).execute(&mut **tx).await?;
    Ok(())
}

pub(super) async fn slowed(tx: &mut Tx, digest: &[u8; 32], now: Timestamp, by: i32) -> Result<(), Fault> {
    sqlx::query(SLOWED).bind(digest.as_slice()).bind(now.inner()).bind(by).execute(&mut **tx).await?;
    Ok(())
}

pub(super) async fn end(tx: &mut Tx, digest: &[u8; 32], state: DeviceState) -> Result<(), Fault> {
    sqlx::query(END).bind(digest.as_slice()).bind(state.as_str()).execute(&mut **tx).await?;
    Ok(())
}

/// Takes back what a User, who is held, has approved and no device has fetched.
pub(crate) async fn deny_of_user(tx: &mut Tx, user: PrincipalId) -> Result<(), Fault> {
    sqlx::query(DENY_OF_USER).bind(user.uuid()).execute(&mut **tx).await?;
    Ok(())
}

/// Drops every request through a binding that is switched off or deleted.
pub(crate) async fn drop_of_binding(tx: &mut Tx, binding: IdpBindingId) -> Result<(), Fault> {
    sqlx::query(OF_BINDING).bind(binding.uuid()).execute(&mut **tx).await?;
    Ok(())
}

/// Removes requests an hour behind their end, so that a late poll still hears that it is late.
pub(super) async fn sweep(tx: &mut Tx, now: Timestamp) -> Result<u64, Fault> {
    Ok(sqlx::query(PURGE).bind(now.inner()).execute(&mut **tx).await?.rows_affected())
}
