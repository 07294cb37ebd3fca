//! The SQL of the signing context.

pub(crate) mod upkeep;

use plexsphere_kernel::{Database, Fault, Tx};
use plexsphere_wire::{DomainId, Timestamp};
use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::model::{Custody, DestroyReason, KeyLine, KeyState, PrivateHalf, PublicHalf};

const LINES: &str = "SELECT k.domain_id, d.announced_kid, d.announced_seq, k.kid, k.version, k.public_key, k.custody, k.state, \
     k.transition_expires FROM signing.domains d JOIN signing.keys k ON k.domain_id = d.domain_id \
     WHERE d.domain_id = ANY($1) ORDER BY k.domain_id, k.version";
const PAGE: &str = "SELECT domain_id FROM signing.domains WHERE domain_id > $1 ORDER BY domain_id LIMIT $2";
const PRIVATE: &str = "SELECT wrapped_seed, wrap_key_version, transit_version FROM signing.keys \
     WHERE domain_id = $1 AND kid = $2 AND state <> 'destroyed'";
const CLAIM: &str =
    "INSERT INTO signing.domains (domain_id, announced_kid) VALUES ($1, $2) ON CONFLICT (domain_id) DO NOTHING";
const HAS: &str = "SELECT EXISTS (SELECT 1 FROM signing.domains WHERE domain_id = $1)";
const LOCK: &str = "SELECT announced_kid FROM signing.domains WHERE domain_id = $1 FOR UPDATE";
const INSERT: &str = "INSERT INTO signing.keys (id, domain_id, version, kid, public_key, custody, wrapped_seed, \
     wrap_key_version, transit_version, state, created_at, activated_at, created_by) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'current', $10, $10, $11)";
const SUPERSEDE: &str = "UPDATE signing.keys SET state = 'previous', transition_expires = $3 \
     WHERE domain_id = $1 AND kid = $2 AND state = 'current'";
const RETIRE: &str = "UPDATE signing.keys SET state = 'retired', retired_at = $3 \
     WHERE domain_id = $1 AND kid = $2 AND state = 'previous'";
const DESTROY: &str = "UPDATE signing.keys SET state = 'destroyed', wrapped_seed = NULL, wrap_key_version = NULL, \
     destroyed_at = $3, destroy_reason = $4 WHERE domain_id = $1 AND kid = $2 AND state <> 'destroyed'";
const FORGET: &str = "DELETE FROM signing.domains WHERE domain_id = $1";
const ANNOUNCED: &str = "UPDATE signing.domains SET announced_kid = $2, announced_seq = $3 WHERE domain_id = $1";
const OWN: [&str; 12] = [LINES, PAGE, PRIVATE, CLAIM, HAS, LOCK, INSERT, SUPERSEDE, RETIRE, DESTROY, FORGET, ANNOUNCED];

/// Every statement of the context, for the test that prepares them.
pub fn statements() -> impl Iterator<Item = &'static str> {
    OWN.into_iter().chain(upkeep::OWN)
}

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
    custody: String,
    state: String,
    transition_expires: Option<OffsetDateTime>,
}

/// A key to be stored.
pub(crate) struct NewKey {
    pub(crate) domain: DomainId,
    pub(crate) version: i32,
    pub(crate) kid: String,
    pub(crate) public_key: [u8; 32],
    pub(crate) private: PrivateHalf,
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
            custody: Custody::parse(&row.custody).ok_or(MALFORMED)?,
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

/// Sealed seed, version of its wrap key, version in OpenBao.
type Columns = (Option<Vec<u8>>, Option<i32>, Option<i32>);

/// Where the private half of a key rests; `None` for an unknown or destroyed key.
pub(crate) async fn private_half(db: &Database, domain: DomainId, kid: &str) -> Result<Option<PrivateHalf>, Fault> {
    let row: Option<Columns> = sqlx::query_as(PRIVATE).bind(domain.uuid()).bind(kid).fetch_optional(db.pool()).await?;
    match row {
        None => Ok(None),
        Some((Some(seed), Some(wrap_key), None)) => Ok(Some(PrivateHalf::Wrapped { seed, wrap_key })),
        Some((None, None, Some(version))) => Ok(Some(PrivateHalf::Transit { version })),
        Some(_) => Err(MALFORMED),
    }
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
    let custody = key.private.custody();
    let (seed, wrap_key, transit) = match key.private {
        PrivateHalf::Wrapped { seed, wrap_key } => (Some(seed), Some(wrap_key), None),
        PrivateHalf::Transit { version } => (None, None, Some(version)),
    };
    sqlx::query(INSERT)
        .bind(plexsphere_wire::EnvelopeId::mint(now).uuid())
        .bind(key.domain.uuid())
        .bind(key.version)
        .bind(key.kid)
        .bind(key.public_key.as_slice())
        .bind(custody.as_str())
        .bind(seed)
        .bind(wrap_key)
        .bind(transit)
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
pub(crate) async fn destroy(
    tx: &mut Tx,
    domain: DomainId,
    kid: &str,
    reason: DestroyReason,
    now: Timestamp,
) -> Result<(), Fault> {
    let query = sqlx::query(DESTROY).bind(domain.uuid()).bind(kid).bind(now.inner()).bind(reason.as_str());
    one(query.execute(&mut **tx).await?)
}

/// Takes the Domain's row away; its keys stay for the audit.
pub(crate) async fn forget(tx: &mut Tx, domain: DomainId) -> Result<(), Fault> {
    one(sqlx::query(FORGET).bind(domain.uuid()).execute(&mut **tx).await?)
}

pub(crate) async fn announce(tx: &mut Tx, domain: DomainId, kid: &str, sequence: u64) -> Result<(), Fault> {
    let sequence = i64::try_from(sequence).map_err(|_| MALFORMED)?;
    one(sqlx::query(ANNOUNCED).bind(domain.uuid()).bind(kid).bind(sequence).execute(&mut **tx).await?)
}

fn one(result: sqlx::postgres::PgQueryResult) -> Result<(), Fault> {
    if result.rows_affected() == 1 { Ok(()) } else { Err(Fault::Invariant("a locked signing key is there")) }
}
