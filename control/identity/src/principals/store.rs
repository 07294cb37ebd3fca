//! SQL of Users and API tokens.

use plexsphere_kernel::{Fault, Principal, PrincipalScope, Subject, Tx};
use plexsphere_wire::{DomainId, GroupId, PrincipalId, Timestamp, TokenId};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use super::model::{ApiTokenText, StoredToken};

pub(super) const STATEMENTS: &[&str] = &[
    TOKEN,
    TOKEN_FOR_UPDATE,
    LIVE_TOKENS,
    COUNT_LIVE,
    INSERT_TOKEN,
    ROTATE,
    REVOKE,
    REVOKE_ALL,
    HOLD_LIVE,
    TOUCH,
    RETIRE_PREVIOUS,
    PURGE,
    LOCK_USER,
    LOCK_SERVICE_IDENTITY,
    USER_HOME,
    SERVICE_IDENTITY_HOME,
    EMAIL,
    IS_ADMIN,
    OTHER_ADMIN,
    OWNED_TOKEN,
    HOLD_ACTIVE_USER,
    HOLD_ACTIVE_SERVICE,
    ENSURE_INSTALLATION,
    INSTALLATION,
    SET_BOOTSTRAP,
    CLOSE,
    INSERT_USER,
    GRANT_ADMIN,
    REVOKE_ADMIN,
    REVOKE_ADMIN_UNLESS_LAST,
    USER_STANDS,
    SERVICE_STANDS,
    GROUP_STANDS,
    DOMAIN_STANDS,
    BOOTSTRAP_LOCK,
];

/// The look-up that grows with the tokens of all, with both indexes that it walks.
pub(crate) const PAGES: &[(&str, &str)] =
    &[(LIVE_TOKENS, "api_tokens_of_user"), (LIVE_TOKENS, "api_tokens_of_service_identity")];

// An owner is a User or a ServiceIdentity, and no id is both.
const OWNED_TOKEN: &str = "SELECT t.*, coalesce(u.domain_id, s.domain_id) AS domain_id FROM identity.api_tokens t
    LEFT JOIN identity.users u ON u.id = t.user_id
    LEFT JOIN identity.service_identities s ON s.id = t.service_identity_id WHERE t.id = $1";
// As a credential: that of a suspended owner is none.
const TOKEN: &str = "SELECT t.*, coalesce(u.domain_id, s.domain_id) AS domain_id FROM identity.api_tokens t
    LEFT JOIN identity.users u ON u.id = t.user_id
    LEFT JOIN identity.service_identities s ON s.id = t.service_identity_id
    WHERE t.id = $1 AND u.suspended_at IS NULL AND s.suspended_at IS NULL";
const TOKEN_FOR_UPDATE: &str = "SELECT t.*, coalesce(u.domain_id, s.domain_id) AS domain_id FROM identity.api_tokens t
    LEFT JOIN identity.users u ON u.id = t.user_id
    LEFT JOIN identity.service_identities s ON s.id = t.service_identity_id
    WHERE t.id = $1 AND (t.user_id = $2 OR t.service_identity_id = $2) FOR UPDATE OF t";
const LIVE_TOKENS: &str = "SELECT t.*, coalesce(u.domain_id, s.domain_id) AS domain_id FROM identity.api_tokens t
    LEFT JOIN identity.users u ON u.id = t.user_id
    LEFT JOIN identity.service_identities s ON s.id = t.service_identity_id
    WHERE (t.user_id = $1 OR t.service_identity_id = $1) AND t.revoked_at IS NULL AND t.expires_at > $2
    ORDER BY t.created_at DESC, t.id DESC";
const COUNT_LIVE: &str = "SELECT count(*) FROM identity.api_tokens
    WHERE (user_id = $1 OR service_identity_id = $1) AND revoked_at IS NULL AND expires_at > $2";
const INSERT_TOKEN: &str = "INSERT INTO identity.api_tokens
    (id, user_id, service_identity_id, env_prefix, digest, ttl_seconds, created_at, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const ROTATE: &str = "UPDATE identity.api_tokens SET previous_digest = digest, previous_until = $3, digest = $2,
    expires_at = $4, rotated_at = $5 WHERE id = $1";
const REVOKE: &str = "UPDATE identity.api_tokens SET revoked_at = $3
    WHERE id = $1 AND (user_id = $2 OR service_identity_id = $2) AND revoked_at IS NULL AND expires_at > $3";
const REVOKE_ALL: &str = "UPDATE identity.api_tokens SET revoked_at = $2
    WHERE (user_id = $1 OR service_identity_id = $1) AND revoked_at IS NULL AND expires_at > $2 RETURNING id";
const HOLD_LIVE: &str = "SELECT id FROM identity.api_tokens
    WHERE id = $1 AND revoked_at IS NULL AND expires_at > $2 FOR SHARE";
const TOUCH: &str = "UPDATE identity.api_tokens SET last_used_at = $2
    WHERE id = $1 AND (last_used_at IS NULL OR last_used_at <= $2::timestamptz - interval '60 seconds')";
const RETIRE_PREVIOUS: &str = "UPDATE identity.api_tokens SET previous_digest = NULL, previous_until = NULL
    WHERE previous_until <= $1";
const PURGE: &str = "DELETE FROM identity.api_tokens
    WHERE expires_at <= $1::timestamptz - interval '30 days' OR revoked_at <= $1::timestamptz - interval '30 days'";
const LOCK_USER: &str = "SELECT id FROM identity.users WHERE id = $1 FOR NO KEY UPDATE";
const LOCK_SERVICE_IDENTITY: &str = "SELECT id FROM identity.service_identities WHERE id = $1 FOR NO KEY UPDATE";
const USER_HOME: &str = "SELECT domain_id FROM identity.users WHERE id = $1";
const SERVICE_IDENTITY_HOME: &str = "SELECT domain_id FROM identity.service_identities WHERE id = $1";
const EMAIL: &str = "SELECT email FROM identity.users WHERE id = $1";
const IS_ADMIN: &str = "SELECT EXISTS (SELECT FROM identity.platform_admins WHERE user_id = $1)";
const HOLD_ACTIVE_USER: &str = "SELECT id FROM identity.users WHERE id = $1 AND suspended_at IS NULL FOR SHARE";
const HOLD_ACTIVE_SERVICE: &str =
    "SELECT id FROM identity.service_identities WHERE id = $1 AND suspended_at IS NULL FOR SHARE";
// Whoever is suspended administers nothing.
const OTHER_ADMIN: &str = "SELECT EXISTS (SELECT FROM identity.platform_admins a
    JOIN identity.users u ON u.id = a.user_id WHERE a.user_id IS DISTINCT FROM $1 AND u.suspended_at IS NULL)";
const ENSURE_INSTALLATION: &str = "INSERT INTO identity.installation (singleton) VALUES (true) ON CONFLICT DO NOTHING";
const INSTALLATION: &str =
    "SELECT bootstrap_user_id, bootstrap_token_id, closed_at FROM identity.installation FOR UPDATE";
const SET_BOOTSTRAP: &str = "UPDATE identity.installation SET bootstrap_user_id = $1, bootstrap_token_id = $2";
const CLOSE: &str = "UPDATE identity.installation SET closed_at = $1";
const INSERT_USER: &str = "INSERT INTO identity.users (id, issuer, external_subject, display_name, created_at)
    VALUES ($1, $2, $3, $4, $5)";
const GRANT_ADMIN: &str = "INSERT INTO identity.platform_admins (user_id, granted_at) VALUES ($1, $2)
    ON CONFLICT DO NOTHING";
const REVOKE_ADMIN: &str = "DELETE FROM identity.platform_admins WHERE user_id = $1";
// Under the bootstrap lock: two revocations at once cannot leave nobody.
const REVOKE_ADMIN_UNLESS_LAST: &str = "DELETE FROM identity.platform_admins WHERE user_id = $1
    AND EXISTS (SELECT FROM identity.platform_admins a JOIN identity.users u ON u.id = a.user_id
        WHERE a.user_id <> $1 AND u.suspended_at IS NULL)";
const USER_STANDS: &str = "SELECT domain_id FROM identity.users WHERE id = $1 FOR KEY SHARE";
const SERVICE_STANDS: &str = "SELECT domain_id FROM identity.service_identities WHERE id = $1 FOR KEY SHARE";
const GROUP_STANDS: &str = "SELECT domain_id FROM identity.groups WHERE id = $1 FOR KEY SHARE";
const DOMAIN_STANDS: &str = "SELECT id FROM identity.domains WHERE id = $1 FOR KEY SHARE";
const BOOTSTRAP_LOCK: &str = "SELECT pg_advisory_xact_lock(7235419221103001)";

fn timestamp(row: &PgRow, name: &str) -> Result<Timestamp, sqlx::Error> {
    row.try_get::<OffsetDateTime, _>(name).map(Timestamp::new)
}

fn maybe(row: &PgRow, name: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    Ok(row.try_get::<Option<OffsetDateTime>, _>(name)?.map(Timestamp::new))
}

fn owner(row: &PgRow) -> Result<Subject, sqlx::Error> {
    let id = |name: &str| Ok::<_, sqlx::Error>(row.try_get::<Option<Uuid>, _>(name)?.map(PrincipalId::from_uuid));
    match (id("user_id")?, id("service_identity_id")?) {
        (Some(user), _) => Ok(Subject::User(user)),
        (None, Some(service)) => Ok(Subject::Service(service)),
        (None, None) => Err(sqlx::Error::Decode("a token without an owner".into())),
    }
}

fn read(row: &PgRow) -> Result<StoredToken, sqlx::Error> {
    let previous: Option<Vec<u8>> = row.try_get("previous_digest")?;
    Ok(StoredToken {
        id: TokenId::from_uuid(row.try_get("id")?),
        owner: owner(row)?,
        domain: row.try_get::<Option<Uuid>, _>("domain_id")?.map(DomainId::from_uuid),
        env_prefix: row.try_get("env_prefix")?,
        digest: row.try_get("digest")?,
        previous: previous.zip(maybe(row, "previous_until")?),
        ttl_seconds: row.try_get("ttl_seconds")?,
        created_at: timestamp(row, "created_at")?,
        expires_at: timestamp(row, "expires_at")?,
        rotated_at: maybe(row, "rotated_at")?,
        last_used_at: maybe(row, "last_used_at")?,
        revoked: maybe(row, "revoked_at")?.is_some(),
    })
}

pub(super) async fn token<'e>(db: impl PgExecutor<'e>, id: TokenId) -> Result<Option<StoredToken>, Fault> {
    let row = sqlx::query(TOKEN).bind(id.uuid()).fetch_optional(db).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

/// A token whatever became of its owner.
pub(super) async fn owned_token<'e>(db: impl PgExecutor<'e>, id: TokenId) -> Result<Option<StoredToken>, Fault> {
    let row = sqlx::query(OWNED_TOKEN).bind(id.uuid()).fetch_optional(db).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

/// Whether a principal may authenticate; if so, it is not suspended until the transaction ends.
pub(super) async fn hold_active(tx: &mut Tx, principal: Subject) -> Result<bool, Fault> {
    let query = match principal {
        Subject::User(_) => sqlx::query(HOLD_ACTIVE_USER),
        _ => sqlx::query(HOLD_ACTIVE_SERVICE),
    };
    Ok(query.bind(principal.uuid()).fetch_optional(&mut **tx).await?.is_some())
}

pub(super) async fn lock_token(tx: &mut Tx, id: TokenId, owner: Subject) -> Result<Option<StoredToken>, Fault> {
    let query = sqlx::query(TOKEN_FOR_UPDATE).bind(id.uuid()).bind(owner.uuid());
    let row = query.fetch_optional(&mut **tx).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

pub(super) async fn live_tokens<'e>(
    db: impl PgExecutor<'e>,
    owner: Subject,
    now: Timestamp,
) -> Result<Vec<StoredToken>, Fault> {
    let rows = sqlx::query(LIVE_TOKENS).bind(owner.uuid()).bind(now.inner()).fetch_all(db).await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// Counts under a lock on the owner, so that two requests cannot both be the hundredth.
pub(super) async fn count_live(tx: &mut Tx, owner: Subject, now: Timestamp) -> Result<i64, Fault> {
    let lock = if matches!(owner, Subject::Service(_)) { LOCK_SERVICE_IDENTITY } else { LOCK_USER };
    sqlx::query(lock).bind(owner.uuid()).fetch_optional(&mut **tx).await?;
    let query = sqlx::query_scalar(COUNT_LIVE).bind(owner.uuid()).bind(now.inner());
    Ok(query.fetch_one(&mut **tx).await?)
}

/// Whom a reference names and where that one belongs; `None` when it names nobody.
pub(super) async fn principal<'e>(db: impl PgExecutor<'e>, subject: Subject) -> Result<Option<Principal>, Fault> {
    let statement = match subject {
        Subject::User(_) => USER_HOME,
        Subject::Service(_) => SERVICE_IDENTITY_HOME,
        Subject::Node(_) | Subject::System(_) => return Ok(None),
    };
    let home: Option<Option<Uuid>> = sqlx::query_scalar(statement).bind(subject.uuid()).fetch_optional(db).await?;
    Ok(home.map(|domain| {
        let scope = domain.map(DomainId::from_uuid).map_or(PrincipalScope::Platform, PrincipalScope::Domain);
        Principal { subject, scope }
    }))
}

/// What a new row holds beside its id.
pub(super) struct NewToken<'t> {
    pub(super) text: &'t ApiTokenText,
    pub(super) owner: Subject,
    pub(super) env_prefix: &'t str,
    pub(super) digest: [u8; 32],
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Timestamp,
}

pub(super) async fn insert_token(tx: &mut Tx, new: NewToken<'_>) -> Result<(), Fault> {
    let (user, service) = match new.owner {
        Subject::User(id) => (Some(id.uuid()), None),
        Subject::Service(id) => (None, Some(id.uuid())),
        Subject::Node(_) | Subject::System(_) => return Err(Fault::Invariant("tokens belong to people and services")),
    };
    let ttl = new.expires_at.since(new.created_at).as_secs().max(1);
    sqlx::query(INSERT_TOKEN)
        .bind(new.text.id.uuid())
        .bind(user)
        .bind(service)
        .bind(new.env_prefix)
        .bind(new.digest.as_slice())
        .bind(i64::try_from(ttl).unwrap_or(i64::MAX))
        .bind(new.created_at.inner())
        .bind(new.expires_at.inner())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(super) async fn rotate(
    tx: &mut Tx,
    id: TokenId,
    digest: [u8; 32],
    (deadline, expires_at): (Timestamp, Timestamp),
    now: Timestamp,
) -> Result<(), Fault> {
    sqlx::query(ROTATE)
        .bind(id.uuid())
        .bind(digest.as_slice())
        .bind(deadline.inner())
        .bind(expires_at.inner())
        .bind(now.inner())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(super) async fn revoke(tx: &mut Tx, id: TokenId, owner: Subject, now: Timestamp) -> Result<bool, Fault> {
    let query = sqlx::query(REVOKE).bind(id.uuid()).bind(owner.uuid()).bind(now.inner());
    Ok(query.execute(&mut **tx).await?.rows_affected() == 1)
}

/// Ends every live token of an owner; which ones.
pub(super) async fn revoke_all(tx: &mut Tx, owner: Subject, now: Timestamp) -> Result<Vec<TokenId>, Fault> {
    let query = sqlx::query_scalar(REVOKE_ALL).bind(owner.uuid()).bind(now.inner());
    let ended: Vec<Uuid> = query.fetch_all(&mut **tx).await?;
    Ok(ended.into_iter().map(TokenId::from_uuid).collect())
}

/// Whether a token lives, which nobody ends until the transaction does.
pub(super) async fn hold_live(tx: &mut Tx, id: TokenId, now: Timestamp) -> Result<bool, Fault> {
    let query = sqlx::query(HOLD_LIVE).bind(id.uuid()).bind(now.inner());
    Ok(query.fetch_optional(&mut **tx).await?.is_some())
}

pub(super) async fn touch<'e>(db: impl PgExecutor<'e>, id: TokenId, now: Timestamp) -> Result<(), Fault> {
    sqlx::query(TOUCH).bind(id.uuid()).bind(now.inner()).execute(db).await?;
    Ok(())
}

/// Drops the old secrets whose overlap is over, and tokens that ended 30 days ago.
pub(super) async fn sweep(tx: &mut Tx, now: Timestamp) -> Result<u64, Fault> {
    let retired = sqlx::query(RETIRE_PREVIOUS).bind(now.inner()).execute(&mut **tx).await?.rows_affected();
    let purged = sqlx::query(PURGE).bind(now.inner()).execute(&mut **tx).await?.rows_affected();
    Ok(retired + purged)
}

pub(super) async fn email<'e>(db: impl PgExecutor<'e>, user: PrincipalId) -> Result<Option<String>, Fault> {
    let email: Option<Option<String>> = sqlx::query_scalar(EMAIL).bind(user.uuid()).fetch_optional(db).await?;
    Ok(email.flatten())
}

pub(super) async fn is_admin<'e>(db: impl PgExecutor<'e>, user: PrincipalId) -> Result<bool, Fault> {
    Ok(sqlx::query_scalar(IS_ADMIN).bind(user.uuid()).fetch_one(db).await?)
}

/// The singleton row.
pub(super) struct Installation {
    pub(super) user: Option<PrincipalId>,
    pub(super) token: Option<TokenId>,
    pub(super) closed: bool,
}

/// Takes the bootstrap lock and reads the singleton row, which it makes if need be.
pub(super) async fn installation(tx: &mut Tx) -> Result<Installation, Fault> {
    sqlx::query(BOOTSTRAP_LOCK).execute(&mut **tx).await?;
    sqlx::query(ENSURE_INSTALLATION).execute(&mut **tx).await?;
    let row = sqlx::query(INSTALLATION).fetch_one(&mut **tx).await?;
    Ok(Installation {
        user: row.try_get::<Option<Uuid>, _>("bootstrap_user_id")?.map(PrincipalId::from_uuid),
        token: row.try_get::<Option<Uuid>, _>("bootstrap_token_id")?.map(TokenId::from_uuid),
        closed: maybe(&row, "closed_at")?.is_some(),
    })
}

pub(super) async fn other_admin(tx: &mut Tx, user: Option<PrincipalId>) -> Result<bool, Fault> {
    Ok(sqlx::query_scalar(OTHER_ADMIN).bind(user.map(|user| user.uuid())).fetch_one(&mut **tx).await?)
}

pub(super) async fn set_bootstrap(tx: &mut Tx, user: PrincipalId, token: TokenId) -> Result<(), Fault> {
    sqlx::query(SET_BOOTSTRAP).bind(user.uuid()).bind(token.uuid()).execute(&mut **tx).await?;
    Ok(())
}

pub(super) async fn close(tx: &mut Tx, user: Option<PrincipalId>, now: Timestamp) -> Result<(), Fault> {
    sqlx::query(CLOSE).bind(now.inner()).execute(&mut **tx).await?;
    if let Some(user) = user {
        sqlx::query(REVOKE_ADMIN).bind(user.uuid()).execute(&mut **tx).await?;
    }
    Ok(())
}

pub(super) async fn insert_platform_user(
    tx: &mut Tx,
    user: PrincipalId,
    (issuer, subject, display_name): (&str, &str, &str),
    now: Timestamp,
) -> Result<(), Fault> {
    sqlx::query(INSERT_USER)
        .bind(user.uuid())
        .bind(issuer)
        .bind(subject)
        .bind(display_name)
        .bind(now.inner())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(super) async fn grant_admin(tx: &mut Tx, user: PrincipalId, now: Timestamp) -> Result<(), Fault> {
    sqlx::query(GRANT_ADMIN).bind(user.uuid()).bind(now.inner()).execute(&mut **tx).await?;
    Ok(())
}

/// Takes the administration of the platform away from a User; `false` when nobody else has it.
pub(super) async fn revoke_admin(tx: &mut Tx, user: PrincipalId) -> Result<bool, Fault> {
    sqlx::query(BOOTSTRAP_LOCK).execute(&mut **tx).await?;
    if !is_admin(&mut **tx, user).await? {
        return Ok(true);
    }
    let query = sqlx::query(REVOKE_ADMIN_UNLESS_LAST).bind(user.uuid());
    Ok(query.execute(&mut **tx).await?.rows_affected() == 1)
}

/// Where a person or service identity belongs, held until the transaction ends; `None` when there is none.
pub(super) async fn scope_of(tx: &mut Tx, subject: Subject) -> Result<Option<PrincipalScope>, Fault> {
    let statement = match subject {
        Subject::User(_) => USER_STANDS,
        Subject::Service(_) => SERVICE_STANDS,
        Subject::Node(_) | Subject::System(_) => return Ok(None),
    };
    let query = sqlx::query_scalar(statement).bind(subject.uuid());
    let domain: Option<Option<Uuid>> = query.fetch_optional(&mut **tx).await?;
    let scope = |domain: Uuid| PrincipalScope::Domain(DomainId::from_uuid(domain));
    Ok(domain.map(|domain| domain.map_or(PrincipalScope::Platform, scope)))
}

/// The Domain of a Group, which is held until the transaction ends; `None` when there is none.
pub(super) async fn domain_of_group(tx: &mut Tx, group: GroupId) -> Result<Option<DomainId>, Fault> {
    let domain: Option<Uuid> = sqlx::query_scalar(GROUP_STANDS).bind(group.uuid()).fetch_optional(&mut **tx).await?;
    Ok(domain.map(DomainId::from_uuid))
}

/// Whether a Domain exists, held until the transaction ends.
pub(super) async fn lock_domain(tx: &mut Tx, domain: DomainId) -> Result<bool, Fault> {
    Ok(sqlx::query(DOMAIN_STANDS).bind(domain.uuid()).fetch_optional(&mut **tx).await?.is_some())
}
