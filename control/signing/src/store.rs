//! The SQL of the signing context.

use plexsphere_kernel::{Database, Fault, Tx};
use plexsphere_wire::{DomainId, Timestamp};
use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::model::{KeyLine, KeyState, PublicHalf};

const LINES: &str = "SELECT k.domain_id, d.announced_kid, d.announced_seq, k.kid, k.version, k.public_key, k.state, \
     k.transition_expires FROM signing.domains d JOIN signing.keys k ON k.domain_id = d.domain_id \
     WHERE d.domain_id = ANY($1) ORDER BY k.domain_id, k.version";
const PAGE: &str = "SELECT domain_id FROM signing.domains WHERE domain_id > $1 ORDER BY domain_id LIMIT $2";
const SEED: &str = "SELECT wrapped_seed, wrap_key_version FROM signing.keys WHERE domain_id = $1 AND kid = $2";
const CLAIM: &str =
    "INSERT INTO signing.domains (domain_id, announced_kid) VALUES ($1, $2) ON CONFLICT (domain_id) DO NOTHING";
const HAS: &str = "SELECT EXISTS (SELECT 1 FROM signing.domains WHERE domain_id = $1)";
const LOCK: &str = "SELECT announced_kid FROM signing.domains WHERE domain_id = $1 FOR UPDATE";
const INSERT: &str = "INSERT INTO signing.keys (id, domain_id, version, kid, public_key, wrapped_seed, \
     wrap_key_version, state, created_at, activated_at, created_by) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, 'current', $8, $8, $9)";
const SUPERSEDE: &str = "UPDATE signing.keys SET state = 'previous', transition_expires = $3 \
     WHERE domain_id = $1 AND kid = $2 AND state = 'current'";
const RETIRE: &str = "UPDATE signing.keys SET state = 'retired', retired_at = $3 \
     WHERE domain_id = $1 AND kid = $2 AND state = 'previous'";
const DESTROY: &str = "UPDATE signing.keys SET state = 'destroyed', wrapped_seed = NULL, wrap_key_version = NULL, \
     destroyed_at = $3, destroy_reason = 'compromise' WHERE domain_id = $1 AND kid = $2 AND state <> 'destroyed'";
const EXPIRED: &str = "SELECT domain_id, kid FROM signing.keys \
     WHERE state = 'previous' AND transition_expires <= $1 ORDER BY transition_expires LIMIT $2 FOR UPDATE SKIP LOCKED";
const ANNOUNCED: &str = "UPDATE signing.domains SET announced_kid = $2, announced_seq = $3 WHERE domain_id = $1";
/// Any key with a private half: a retired one that does not open is missed by the Nodes that pin it.
const SAMPLE: &str =
    "SELECT domain_id, kid FROM signing.keys WHERE wrapped_seed IS NOT NULL ORDER BY random() LIMIT $1";
const FOREIGN: &str = "SELECT wrap_key_version FROM signing.keys WHERE wrap_key_version <> ALL($1) LIMIT 1";
const OLD: &str = "SELECT k.domain_id FROM signing.keys k WHERE k.state = 'current' AND k.activated_at <= $1 \
     AND NOT EXISTS (SELECT 1 FROM signing.keys p WHERE p.domain_id = k.domain_id AND p.state = 'previous' \
     AND p.transition_expires > $2) ORDER BY k.activated_at LIMIT $3";
const MINTED_SINCE: &str =
    "SELECT count(*) FROM signing.keys WHERE created_by = $1 AND version > 1 AND created_at > $2";

/// Every statement of the context, for the test that prepares them.
pub const STATEMENTS: [&str; 16] = [
    LINES,
    PAGE,
    SEED,
    CLAIM,
    HAS,
    LOCK,
    INSERT,
    SUPERSEDE,
    RETIRE,
    DESTROY,
    EXPIRED,
    ANNOUNCED,
    SAMPLE,
    FOREIGN,
    OLD,
    MINTED_SINCE,
];

/// The place in the stream of an announced key that stands nowhere in it: beyond every cursor.
pub(crate) const UNSEEN: u64 = i64::MAX.unsigned_abs();

#[derive(sqlx::FromRow)]
struct LineRow {
    domain_id: Uuid,
    announced_kid: String,
    announced_seq: i64,
    kid: String,
    version: i32,
    public_key: Vec<u8>,
    state: String,
    transition_expires: Option<OffsetDateTime>,
}

/// A key to be stored.
pub(crate) struct NewKey {
    pub(crate) domain: DomainId,
    pub(crate) version: i32,
    pub(crate) kid: String,
    pub(crate) public_key: [u8; 32],
    pub(crate) wrapped_seed: Vec<u8>,
    pub(crate) wrap_key_version: i32,
    pub(crate) created_by: Uuid,
}

/// The key lines of these Domains, by id; Domains without keys are left out.
pub(crate) async fn lines<'e>(executor: impl PgExecutor<'e>, domains: &[Uuid]) -> Result<Vec<KeyLine>, Fault> {
    let rows: Vec<LineRow> = sqlx::query_as(LINES).bind(domains).fetch_all(executor).await?;
    let mut lines: Vec<KeyLine> = Vec::new();
    for row in rows {
        let domain = DomainId::from_uuid(row.domain_id);
        let key = PublicHalf {
            version: row.version,
            public_key: row.public_key.try_into().map_err(|_| MALFORMED)?,
            state: KeyState::parse(&row.state).ok_or(MALFORMED)?,
            transition_expires: row.transition_expires.map(Timestamp::new),
            kid: row.kid,
        };
        match lines.last_mut().filter(|line| line.domain == domain) {
            Some(line) => line.keys.push(key),
            None => lines.push(KeyLine {
                domain,
                announced_kid: row.announced_kid,
                announced_seq: u64::try_from(row.announced_seq).map_err(|_| MALFORMED)?,
                keys: vec![key],
            }),
        }
    }
    Ok(lines)
}

const MALFORMED: Fault = Fault::Invariant("a stored signing key is well formed");

pub(crate) async fn line<'e>(executor: impl PgExecutor<'e>, domain: DomainId) -> Result<Option<KeyLine>, Fault> {
    Ok(lines(executor, &[domain.uuid()]).await?.pop())
}

pub(crate) async fn page(db: &Database, after: Option<DomainId>, limit: i64) -> Result<Vec<Uuid>, Fault> {
    let after = after.map_or(Uuid::nil(), |domain| domain.uuid());
    Ok(sqlx::query_scalar(PAGE).bind(after).bind(limit).fetch_all(db.pool()).await?)
}

/// The wrapped seed and its wrap key's version; `None` for an unknown or destroyed key.
pub(crate) async fn seed(db: &Database, domain: DomainId, kid: &str) -> Result<Option<(Vec<u8>, i32)>, Fault> {
    let row: Option<(Option<Vec<u8>>, Option<i32>)> =
        sqlx::query_as(SEED).bind(domain.uuid()).bind(kid).fetch_optional(db.pool()).await?;
    Ok(row.and_then(|(seed, version)| seed.zip(version)))
}

pub(crate) async fn has_line(tx: &mut Tx, domain: DomainId) -> Result<bool, Fault> {
    Ok(sqlx::query_scalar(HAS).bind(domain.uuid()).fetch_one(&mut **tx).await?)
}

/// Makes the Domain's row; `false` when it is there already, waiting for another transaction that makes it.
pub(crate) async fn claim(tx: &mut Tx, domain: DomainId, kid: &str) -> Result<bool, Fault> {
    let made = sqlx::query(CLAIM).bind(domain.uuid()).bind(kid).execute(&mut **tx).await?.rows_affected();
    Ok(made == 1)
}

/// Locks the Domain's row; `false` when there is none.
pub(crate) async fn lock(tx: &mut Tx, domain: DomainId) -> Result<bool, Fault> {
    let row: Option<String> = sqlx::query_scalar(LOCK).bind(domain.uuid()).fetch_optional(&mut **tx).await?;
    Ok(row.is_some())
}

pub(crate) async fn insert(tx: &mut Tx, key: NewKey, now: Timestamp) -> Result<(), Fault> {
    sqlx::query(INSERT)
        .bind(plexsphere_wire::EnvelopeId::mint(now).uuid())
        .bind(key.domain.uuid())
        .bind(key.version)
        .bind(key.kid)
        .bind(key.public_key.as_slice())
        .bind(key.wrapped_seed)
        .bind(key.wrap_key_version)
        .bind(now.inner())
        .bind(key.created_by)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(crate) async fn supersede(tx: &mut Tx, domain: DomainId, kid: &str, expires: Timestamp) -> Result<(), Fault> {
    one(sqlx::query(SUPERSEDE).bind(domain.uuid()).bind(kid).bind(expires.inner()).execute(&mut **tx).await?)
}

pub(crate) async fn retire(tx: &mut Tx, domain: DomainId, kid: &str, now: Timestamp) -> Result<(), Fault> {
    one(sqlx::query(RETIRE).bind(domain.uuid()).bind(kid).bind(now.inner()).execute(&mut **tx).await?)
}

/// Ends a key of whatever state; its private half is gone.
pub(crate) async fn destroy(tx: &mut Tx, domain: DomainId, kid: &str, now: Timestamp) -> Result<(), Fault> {
    one(sqlx::query(DESTROY).bind(domain.uuid()).bind(kid).bind(now.inner()).execute(&mut **tx).await?)
}

pub(crate) async fn announce(tx: &mut Tx, domain: DomainId, kid: &str, sequence: u64) -> Result<(), Fault> {
    let sequence = i64::try_from(sequence).map_err(|_| MALFORMED)?;
    one(sqlx::query(ANNOUNCED).bind(domain.uuid()).bind(kid).bind(sequence).execute(&mut **tx).await?)
}

pub(crate) async fn expired(tx: &mut Tx, now: Timestamp, limit: i64) -> Result<Vec<(Uuid, String)>, Fault> {
    Ok(sqlx::query_as(EXPIRED).bind(now.inner()).bind(limit).fetch_all(&mut **tx).await?)
}

pub(crate) async fn sample(db: &Database, limit: i64) -> Result<Vec<(Uuid, String)>, Fault> {
    Ok(sqlx::query_as(SAMPLE).bind(limit).fetch_all(db.pool()).await?)
}

/// The wrap key's version of some key that is none of these.
pub(crate) async fn foreign_version(db: &Database, held: &[i32]) -> Result<Option<i32>, Fault> {
    Ok(sqlx::query_scalar(FOREIGN).bind(held).fetch_optional(db.pool()).await?)
}

/// Domains whose current key has been active since `activated` or longer and whose last transition is over, the oldest
/// keys first.
pub(crate) async fn old(
    db: &Database,
    activated: Timestamp,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<DomainId>, Fault> {
    let domains: Vec<Uuid> =
        sqlx::query_scalar(OLD).bind(activated.inner()).bind(now.inner()).bind(limit).fetch_all(db.pool()).await?;
    Ok(domains.into_iter().map(DomainId::from_uuid).collect())
}

/// How many successors `creator` has made since then.
pub(crate) async fn minted_since(db: &Database, creator: Uuid, since: Timestamp) -> Result<i64, Fault> {
    Ok(sqlx::query_scalar(MINTED_SINCE).bind(creator).bind(since.inner()).fetch_one(db.pool()).await?)
}

fn one(result: sqlx::postgres::PgQueryResult) -> Result<(), Fault> {
    if result.rows_affected() == 1 { Ok(()) } else { Err(Fault::Invariant("a locked signing key is there")) }
}
