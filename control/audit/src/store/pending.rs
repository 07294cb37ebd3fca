//! SQL of pending rows.

use std::time::Duration;

use plexsphere_kernel::{Fault, Tx};
use sqlx::PgPool;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::chain::{Hash, fixed};
use crate::model::Enlistment;

pub(super) const STATEMENTS: &[&str] =
    &[ENLIST, ENLIST_MANY, WAKE, CHAINS, TAKE, TAKE_FIRST, NEWEST, LEFT, OLDEST, CLEAR];

/// By INSERT alone: other contexts may write here and not read.
const ENLIST: &str = "INSERT INTO audit.pending (id, chain, subject, subject_id, salt, ip, user_agent, relation, \
     object_type, object_id, reason, caveat_names, correlation_id, ctx, occurred_at, repeated) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
const ENLIST_MANY: &str = "INSERT INTO audit.pending (id, chain, subject, subject_id, salt, ip, user_agent, relation, \
     object_type, object_id, reason, caveat_names, correlation_id, ctx, occurred_at, repeated) \
     SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::uuid[], $5::bytea[], $6::text[], $7::text[], \
     $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::bytea[], $15::timestamptz[], \
     $16::integer[])";
/// For processes without a sequencer of their own. A commit that notifies waits for every other one that does, so no
/// process with a sequencer sends it.
const WAKE: &str = "SELECT pg_notify('plexsphere_audit', '')";
/// The chains with pending rows: one probe of the index for each.
const CHAINS: &str = "WITH RECURSIVE chains AS (\
       (SELECT chain FROM audit.pending ORDER BY chain LIMIT 1) \
       UNION ALL \
       SELECT (SELECT p.chain FROM audit.pending p WHERE p.chain > c.chain ORDER BY p.chain LIMIT 1) \
       FROM chains c WHERE c.chain IS NOT NULL) \
     SELECT chain FROM chains WHERE chain IS NOT NULL";
const TAKE: &str = "DELETE FROM audit.pending WHERE ctid = ANY (ARRAY \
     (SELECT ctid FROM audit.pending WHERE chain = $1 AND n > $3 ORDER BY n LIMIT $2)) \
     RETURNING n, id, subject, subject_id, salt, ip, user_agent, relation, object_type, object_id, reason, caveat_names, \
     correlation_id, ctx, occurred_at, repeated";
/// As [`TAKE`], for a chain without rows: what begins a chain comes first. It looks at all of its pending rows, once.
const TAKE_FIRST: &str = "DELETE FROM audit.pending WHERE ctid = ANY (ARRAY \
     (SELECT ctid FROM audit.pending WHERE chain = $1 ORDER BY relation = ANY($3) DESC, n LIMIT $2)) \
     RETURNING n, id, subject, subject_id, salt, ip, user_agent, relation, object_type, object_id, reason, caveat_names, \
     correlation_id, ctx, occurred_at, repeated";
const NEWEST: &str = "SELECT max(n) FROM audit.pending WHERE chain = $1";
const LEFT: &str = "SELECT EXISTS (SELECT FROM audit.pending WHERE chain = $1 AND n <= $2)";
const OLDEST: &str = "SELECT greatest(extract(epoch FROM clock_timestamp() - min(enlisted_at))::float8, 0) \
     FROM audit.pending";
/// Takes what is personal out of an erased subject's rows that still wait.
const CLEAR: &str = "UPDATE audit.pending SET subject_id = NULL, salt = NULL, ip = NULL, user_agent = NULL \
     WHERE chain = $1 AND subject = $2";

/// What is secret about an enlistment.
pub(crate) struct Veil {
    pub(crate) pseudonym: Hash,
    pub(crate) salt: Hash,
    pub(crate) commitment: Hash,
}

/// A pending row that was taken out.
pub(crate) struct Taken {
    pub(crate) n: i64,
    pub(crate) id: Uuid,
    pub(crate) subject: Hash,
    pub(crate) subject_id: Option<Uuid>,
    pub(crate) salt: Option<Vec<u8>>,
    pub(crate) ip: Option<String>,
    pub(crate) user_agent: Option<String>,
    pub(crate) relation: String,
    pub(crate) object_type: String,
    pub(crate) object_id: String,
    pub(crate) reason: String,
    pub(crate) caveat_names: String,
    pub(crate) correlation_id: String,
    pub(crate) ctx: Hash,
    pub(crate) occurred_at: OffsetDateTime,
    pub(crate) repeated: i32,
}

pub(crate) async fn enlist(tx: &mut Tx, id: Uuid, row: &Enlistment, veil: &Veil) -> Result<(), Fault> {
    sqlx::query(ENLIST)
        .bind(id)
        .bind(row.chain)
        .bind(veil.pseudonym.as_slice())
        .bind(row.subject)
        .bind(veil.salt.as_slice())
        .bind(row.context.ip.as_deref())
        .bind(row.context.user_agent.as_deref())
        .bind(&row.relation)
        .bind(&row.object_type)
        .bind(&row.object_id)
        .bind(row.reason)
        .bind(row.caveat_names())
        .bind(row.correlation_id.as_str())
        .bind(veil.commitment.as_slice())
        .bind(row.occurred_at.inner())
        .bind(i32::try_from(row.repeated).unwrap_or(i32::MAX))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// All rows in one statement.
pub(crate) async fn enlist_many(tx: &mut Tx, rows: &[(Uuid, Enlistment, Veil)]) -> Result<(), Fault> {
    let each = || rows.iter();
    sqlx::query(ENLIST_MANY)
        .bind(each().map(|(id, ..)| *id).collect::<Vec<_>>())
        .bind(each().map(|(_, row, _)| row.chain).collect::<Vec<_>>())
        .bind(each().map(|(.., veil)| veil.pseudonym.as_slice()).collect::<Vec<_>>())
        .bind(each().map(|(_, row, _)| row.subject).collect::<Vec<_>>())
        .bind(each().map(|(.., veil)| veil.salt.as_slice()).collect::<Vec<_>>())
        .bind(each().map(|(_, row, _)| row.context.ip.as_deref()).collect::<Vec<_>>())
        .bind(each().map(|(_, row, _)| row.context.user_agent.as_deref()).collect::<Vec<_>>())
        .bind(each().map(|(_, row, _)| row.relation.as_str()).collect::<Vec<_>>())
        .bind(each().map(|(_, row, _)| row.object_type.as_str()).collect::<Vec<_>>())
        .bind(each().map(|(_, row, _)| row.object_id.as_str()).collect::<Vec<_>>())
        .bind(each().map(|(_, row, _)| row.reason).collect::<Vec<_>>())
        .bind(each().map(|(_, row, _)| row.caveat_names()).collect::<Vec<_>>())
        .bind(each().map(|(_, row, _)| row.correlation_id.as_str()).collect::<Vec<_>>())
        .bind(each().map(|(.., veil)| veil.commitment.as_slice()).collect::<Vec<_>>())
        .bind(each().map(|(_, row, _)| row.occurred_at.inner()).collect::<Vec<_>>())
        .bind(each().map(|(_, row, _)| i32::try_from(row.repeated).unwrap_or(i32::MAX)).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Nudges the sequencers of all processes at the commit.
pub(crate) async fn wake(tx: &mut Tx) -> Result<(), Fault> {
    sqlx::query(WAKE).execute(&mut **tx).await?;
    Ok(())
}

pub(crate) async fn chains(pool: &PgPool) -> Result<Vec<Uuid>, Fault> {
    Ok(sqlx::query_scalar(CHAINS).fetch_all(pool).await?)
}

/// Takes rows behind `floor` out of the queue, in their order. Only the holder of the chain's head calls this.
pub(crate) async fn take(tx: &mut Tx, chain: Uuid, limit: i64, floor: i64) -> Result<Vec<Taken>, Fault> {
    let rows = sqlx::query(TAKE).bind(chain).bind(limit).bind(floor).fetch_all(&mut **tx).await?;
    let mut taken = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    taken.sort_unstable_by_key(|row| row.n);
    Ok(taken)
}

/// As [`take`], with rows of the actions `first` before all others.
pub(crate) async fn take_first(tx: &mut Tx, chain: Uuid, limit: i64, first: &[&str]) -> Result<Vec<Taken>, Fault> {
    let rows = sqlx::query(TAKE_FIRST).bind(chain).bind(limit).bind(first).fetch_all(&mut **tx).await?;
    let mut taken = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    taken.sort_unstable_by_key(|row| (!first.contains(&row.relation.as_str()), row.n));
    Ok(taken)
}

fn read(row: &PgRow) -> Result<Taken, sqlx::Error> {
    Ok(Taken {
        n: row.try_get(0)?,
        id: row.try_get(1)?,
        subject: fixed(row.try_get(2)?),
        subject_id: row.try_get(3)?,
        salt: row.try_get(4)?,
        ip: row.try_get(5)?,
        user_agent: row.try_get(6)?,
        relation: row.try_get(7)?,
        object_type: row.try_get(8)?,
        object_id: row.try_get(9)?,
        reason: row.try_get(10)?,
        caveat_names: row.try_get(11)?,
        correlation_id: row.try_get(12)?,
        ctx: fixed(row.try_get(13)?),
        occurred_at: row.try_get(14)?,
        repeated: row.try_get(15)?,
    })
}

/// The newest pending row of a chain.
pub(crate) async fn newest(pool: &PgPool, chain: Uuid) -> Result<Option<i64>, Fault> {
    Ok(sqlx::query_scalar(NEWEST).bind(chain).fetch_one(pool).await?)
}

/// Whether a row up to `n` is still pending.
pub(crate) async fn left(pool: &PgPool, chain: Uuid, n: i64) -> Result<bool, Fault> {
    Ok(sqlx::query_scalar(LEFT).bind(chain).bind(n).fetch_one(pool).await?)
}

/// How long the oldest pending row has waited; zero when none does.
pub(crate) async fn oldest(pool: &PgPool) -> Result<Duration, Fault> {
    let seconds: Option<f64> = sqlx::query_scalar(OLDEST).fetch_one(pool).await?;
    Ok(seconds.map_or(Duration::ZERO, |seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
}

/// Takes what is personal out of a subject's rows that still wait.
pub(crate) async fn clear(tx: &mut Tx, chain: Uuid, subject: &Hash) -> Result<(), Fault> {
    sqlx::query(CLEAR).bind(chain).bind(subject.as_slice()).execute(&mut **tx).await?;
    Ok(())
}
