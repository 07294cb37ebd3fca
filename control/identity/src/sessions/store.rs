//! SQL of sessions and access tokens.

use plexsphere_kernel::{Assurance, Fault, Tx};
use plexsphere_wire::{DomainId, PrincipalId, Timestamp, TokenId};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use super::model::{AccessToken, Bearer, MAX_SESSIONS, Session};

pub(crate) const STATEMENTS: &[&str] = &[
    INSERT_SESSION,
    EVICT_OLDEST,
    SESSION,
    TOUCH,
    REVOKE_SESSION,
    LOCK_USER,
    SESSION_STANDS,
    REVOKE_SESSIONS_OF_USER,
    REVOKE_SESSIONS_OF_BINDING,
    PURGE_SESSIONS,
    INSERT_ACCESS,
    ACCESS,
    REVOKE_ACCESS_OF_USER,
    REVOKE_ACCESS_OF_BINDING,
    PURGE_ACCESS,
];

const INSERT_SESSION: &str = "INSERT INTO identity.sessions
    (digest, user_id, binding_id, acr, amr, auth_time, created_at, last_seen_at, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8)";
// Whoever opens a session holds its User, so that two sign-ins at once count one after the other.
const EVICT_OLDEST: &str = "UPDATE identity.sessions SET revoked_at = $2 WHERE digest IN (
    SELECT digest FROM identity.sessions WHERE user_id = $1 AND revoked_at IS NULL
    ORDER BY created_at DESC OFFSET $3)";
const SESSION: &str = "SELECT s.*, u.domain_id FROM identity.sessions s JOIN identity.users u ON u.id = s.user_id
    WHERE s.digest = $1 AND u.suspended_at IS NULL";
const TOUCH: &str = "UPDATE identity.sessions SET last_seen_at = $2
    WHERE digest = $1 AND last_seen_at <= $2::timestamptz - interval '60 seconds'";
const REVOKE_SESSION: &str = "UPDATE identity.sessions SET revoked_at = $2
    WHERE digest = $1 AND revoked_at IS NULL RETURNING user_id";
const LOCK_USER: &str = "SELECT id FROM identity.users WHERE id = $1 FOR NO KEY UPDATE";
const SESSION_STANDS: &str = "SELECT EXISTS (SELECT FROM identity.sessions WHERE digest = $1 AND user_id = $2
    AND revoked_at IS NULL AND expires_at > $3)";
const REVOKE_SESSIONS_OF_USER: &str = "UPDATE identity.sessions SET revoked_at = $2
    WHERE user_id = $1 AND revoked_at IS NULL";
const REVOKE_SESSIONS_OF_BINDING: &str = "UPDATE identity.sessions SET revoked_at = $2
    WHERE binding_id = $1 AND revoked_at IS NULL";
const PURGE_SESSIONS: &str = "DELETE FROM identity.sessions
    WHERE expires_at <= $1 OR revoked_at <= $1::timestamptz - interval '1 day'";
const INSERT_ACCESS: &str = "INSERT INTO identity.access_tokens
    (id, digest, user_id, service_id, domain_id, binding_id, acr, amr, auth_time, created_at, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
const ACCESS: &str = "SELECT a.* FROM identity.access_tokens a
    LEFT JOIN identity.users u ON u.id = a.user_id LEFT JOIN identity.service_identities s ON s.id = a.service_id
    WHERE a.id = $1 AND num_nonnulls(u.id, s.id) = 1 AND u.suspended_at IS NULL AND s.suspended_at IS NULL";
const REVOKE_ACCESS_OF_USER: &str = "UPDATE identity.access_tokens SET revoked_at = $2
    WHERE user_id = $1 AND revoked_at IS NULL";
const REVOKE_ACCESS_OF_BINDING: &str = "UPDATE identity.access_tokens SET revoked_at = $2
    WHERE binding_id = $1 AND revoked_at IS NULL";
const PURGE_ACCESS: &str = "DELETE FROM identity.access_tokens
    WHERE expires_at <= $1 OR revoked_at <= $1::timestamptz - interval '1 day'";

fn timestamp(row: &PgRow, name: &str) -> Result<Timestamp, sqlx::Error> {
    row.try_get::<OffsetDateTime, _>(name).map(Timestamp::new)
}

fn maybe(row: &PgRow, name: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    Ok(row.try_get::<Option<OffsetDateTime>, _>(name)?.map(Timestamp::new))
}

fn assurance(row: &PgRow) -> Result<Assurance, sqlx::Error> {
    Ok(Assurance { acr: row.try_get("acr")?, amr: row.try_get("amr")?, auth_time: maybe(row, "auth_time")? })
}

fn read_session(row: &PgRow) -> Result<Session, Fault> {
    let digest: Vec<u8> = row.try_get("digest")?;
    Ok(Session {
        digest: digest.as_slice().try_into().map_err(|_| Fault::Invariant("a digest has 32 bytes"))?,
        user: PrincipalId::from_uuid(row.try_get("user_id")?),
        domain: row.try_get::<Option<Uuid>, _>("domain_id")?.map(DomainId::from_uuid),
        assurance: assurance(row)?,
        last_seen_at: timestamp(row, "last_seen_at")?,
        expires_at: timestamp(row, "expires_at")?,
        revoked: maybe(row, "revoked_at")?.is_some(),
    })
}

fn read_access(row: &PgRow) -> Result<AccessToken, Fault> {
    let user: Option<Uuid> = row.try_get("user_id")?;
    let service: Option<Uuid> = row.try_get("service_id")?;
    let bearer = match (user, service) {
        (Some(user), None) => Bearer::User(PrincipalId::from_uuid(user)),
        (None, Some(service)) => Bearer::Service(PrincipalId::from_uuid(service)),
        _ => return Err(Fault::Invariant("an access token has one owner")),
    };
    Ok(AccessToken {
        digest: row.try_get("digest")?,
        bearer,
        domain: row.try_get::<Option<Uuid>, _>("domain_id")?.map(DomainId::from_uuid),
        assurance: assurance(row)?,
        expires_at: timestamp(row, "expires_at")?,
        revoked: maybe(row, "revoked_at")?.is_some(),
    })
}

/// A session to be stored.
pub(super) struct NewSession<'a> {
    pub(super) digest: [u8; 32],
    pub(super) user: PrincipalId,
    pub(super) binding: Uuid,
    pub(super) assurance: &'a Assurance,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Timestamp,
}

/// Stores a session and ends the User's oldest beyond the most that may live.
pub(super) async fn insert_session(tx: &mut Tx, new: NewSession<'_>) -> Result<(), Fault> {
    sqlx::query(EVICT_OLDEST)
        .bind(new.user.uuid())
        .bind(new.created_at.inner())
        .bind(MAX_SESSIONS - 1)
        .execute(&mut **tx)
        .await?;
    sqlx::query(INSERT_SESSION)
        .bind(new.digest.as_slice())
        .bind(new.user.uuid())
        .bind(new.binding)
        .bind(&new.assurance.acr)
        .bind(&new.assurance.amr)
        .bind(new.assurance.auth_time.map(Timestamp::inner))
        .bind(new.created_at.inner())
        .bind(new.expires_at.inner())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(super) async fn session<'e>(db: impl PgExecutor<'e>, digest: &[u8; 32]) -> Result<Option<Session>, Fault> {
    let row = sqlx::query(SESSION).bind(digest.as_slice()).fetch_optional(db).await?;
    row.as_ref().map(read_session).transpose()
}

pub(super) async fn touch<'e>(db: impl PgExecutor<'e>, digest: &[u8; 32], now: Timestamp) -> Result<(), Fault> {
    sqlx::query(TOUCH).bind(digest.as_slice()).bind(now.inner()).execute(db).await?;
    Ok(())
}

/// Ends one session; whose it was, unless it had ended.
pub(super) async fn revoke_session(
    tx: &mut Tx,
    digest: &[u8; 32],
    now: Timestamp,
) -> Result<Option<PrincipalId>, Fault> {
    let query = sqlx::query_scalar(REVOKE_SESSION).bind(digest.as_slice()).bind(now.inner());
    let user: Option<Uuid> = query.fetch_optional(&mut **tx).await?;
    Ok(user.map(PrincipalId::from_uuid))
}

/// Holds a User until the transaction ends, against another that ends or begins what is theirs.
pub(crate) async fn lock_user(tx: &mut Tx, user: PrincipalId) -> Result<(), Fault> {
    sqlx::query(LOCK_USER).bind(user.uuid()).fetch_optional(&mut **tx).await?;
    Ok(())
}

/// Whether a session of a User who is held has not been ended.
pub(super) async fn session_stands(
    tx: &mut Tx,
    (digest, user): (&[u8; 32], PrincipalId),
    now: Timestamp,
) -> Result<bool, Fault> {
    let query = sqlx::query_scalar(SESSION_STANDS).bind(digest.as_slice()).bind(user.uuid()).bind(now.inner());
    Ok(query.fetch_one(&mut **tx).await?)
}

/// Ends every session and every device token of a User, who is held; how many sessions.
pub(crate) async fn revoke_of_user(tx: &mut Tx, user: PrincipalId, now: Timestamp) -> Result<u64, Fault> {
    lock_user(tx, user).await?;
    let query = sqlx::query(REVOKE_SESSIONS_OF_USER).bind(user.uuid()).bind(now.inner());
    let sessions = query.execute(&mut **tx).await?.rows_affected();
    sqlx::query(REVOKE_ACCESS_OF_USER).bind(user.uuid()).bind(now.inner()).execute(&mut **tx).await?;
    Ok(sessions)
}

/// Ends every session and access token that came through a binding.
pub(super) async fn revoke_of_binding(tx: &mut Tx, binding: Uuid, now: Timestamp) -> Result<(), Fault> {
    for statement in [REVOKE_SESSIONS_OF_BINDING, REVOKE_ACCESS_OF_BINDING] {
        sqlx::query(statement).bind(binding).bind(now.inner()).execute(&mut **tx).await?;
    }
    Ok(())
}

/// An access token to be stored.
pub(super) struct NewRow<'a> {
    pub(super) id: TokenId,
    pub(super) digest: [u8; 32],
    pub(super) bearer: Bearer,
    pub(super) domain: Option<DomainId>,
    pub(super) binding: Option<Uuid>,
    pub(super) assurance: &'a Assurance,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Timestamp,
}

pub(super) async fn insert_access(tx: &mut Tx, new: NewRow<'_>) -> Result<(), Fault> {
    let (user, service) = match new.bearer {
        Bearer::User(user) => (Some(user.uuid()), None),
        Bearer::Service(service) => (None, Some(service.uuid())),
    };
    sqlx::query(INSERT_ACCESS)
        .bind(new.id.uuid())
        .bind(new.digest.as_slice())
        .bind(user)
        .bind(service)
        .bind(new.domain.map(|domain| domain.uuid()))
        .bind(new.binding)
        .bind(&new.assurance.acr)
        .bind(&new.assurance.amr)
        .bind(new.assurance.auth_time.map(Timestamp::inner))
        .bind(new.created_at.inner())
        .bind(new.expires_at.inner())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(super) async fn access<'e>(db: impl PgExecutor<'e>, id: TokenId) -> Result<Option<AccessToken>, Fault> {
    let row = sqlx::query(ACCESS).bind(id.uuid()).fetch_optional(db).await?;
    row.as_ref().map(read_access).transpose()
}

/// Removes what ended; how many rows.
pub(super) async fn sweep(tx: &mut Tx, now: Timestamp) -> Result<u64, Fault> {
    let sessions = sqlx::query(PURGE_SESSIONS).bind(now.inner()).execute(&mut **tx).await?.rows_affected();
    let tokens = sqlx::query(PURGE_ACCESS).bind(now.inner()).execute(&mut **tx).await?.rows_affected();
    Ok(sessions + tokens)
}
