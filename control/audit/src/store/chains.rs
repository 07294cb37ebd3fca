//! SQL of heads, entries and what is erasable.

use std::collections::HashMap;

use plexsphere_kernel::{Fault, Tx};
use sqlx::{PgPool, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::chain::{Hash, Head, fixed};
use crate::store::copying::{Rows, Value};
use crate::store::pending::Taken;

pub(super) const STATEMENTS: &[&str] = &[
    FOUND,
    LOCK,
    LOCK_OR_SKIP,
    HEAD,
    HEADS,
    MOVE,
    MAP,
    TOMBSTONES,
    BURY,
    COUNT_ERASURE,
    DROP_CONTEXTS,
    NAMING,
    MAPPING,
];

const FOUND: &str = "INSERT INTO audit.chain_heads (chain) VALUES ($1) ON CONFLICT DO NOTHING";
const LOCK_OR_SKIP: &str =
    "SELECT last_seq, last_hash, erasures FROM audit.chain_heads WHERE chain = $1 FOR UPDATE SKIP LOCKED";
const LOCK: &str = "SELECT last_seq, last_hash, erasures FROM audit.chain_heads WHERE chain = $1 FOR UPDATE";
const HEAD: &str = "SELECT last_seq, last_hash FROM audit.chain_heads WHERE chain = $1";
const HEADS: &str = "SELECT chain, last_seq FROM audit.chain_heads WHERE $1::uuid IS NULL OR chain > $1 \
     ORDER BY chain LIMIT $2";
const APPEND: &str = "COPY audit.entries (chain, seq, entry, subject, relation, object_type, object_id, reason, \
     caveat_names, correlation_id, ctx, occurred_at, repeated, prev_hash, entry_hash, canonical) \
     FROM STDIN (FORMAT binary)";
const MOVE: &str = "UPDATE audit.chain_heads SET last_seq = $2, last_hash = $3 WHERE chain = $1";
/// A tombstone is a row as well, so nothing that was erased comes back.
const MAP: &str = "INSERT INTO audit.subject_pii (chain, pseudonym, subject_id) \
     SELECT $1, * FROM unnest($2::bytea[], $3::uuid[]) ON CONFLICT DO NOTHING";
const KEEP_CONTEXTS: &str = "COPY audit.request_contexts (entry, salt, ip, user_agent) FROM STDIN (FORMAT binary)";
const TOMBSTONES: &str = "SELECT pseudonym, erased_at FROM audit.subject_pii \
     WHERE chain = $1 AND pseudonym = ANY($2) AND erased_at IS NOT NULL";
const BURY: &str = "INSERT INTO audit.subject_pii (chain, pseudonym, subject_id, erased_at) VALUES ($1, $2, NULL, $3) \
     ON CONFLICT (chain, pseudonym) DO UPDATE SET subject_id = NULL, erased_at = $3";
const COUNT_ERASURE: &str = "UPDATE audit.chain_heads SET erasures = erasures + 1 WHERE chain = $1";
/// One stretch of a subject's rows; the answer is the place of its last one.
const DROP_CONTEXTS: &str = "WITH stretch AS (SELECT seq, entry FROM audit.entries \
       WHERE chain = $1 AND subject = $2 AND seq > $3 AND seq <= $4 ORDER BY seq LIMIT $5), \
     gone AS (DELETE FROM audit.request_contexts WHERE entry IN (SELECT entry FROM stretch)) \
     SELECT max(seq) FROM stretch";
/// Chains on which a subject, under its pseudonym there, has a mapping or a tombstone.
const MAPPING: &str = "SELECT s.chain FROM unnest($1::uuid[], $2::bytea[]) AS w (chain, pseudonym) \
     JOIN audit.subject_pii s USING (chain, pseudonym)";
/// Walks both tables: only erasing a person everywhere asks.
const NAMING: &str = "SELECT chain FROM audit.subject_pii WHERE subject_id = $1 \
     UNION SELECT chain FROM audit.pending WHERE subject_id = $1";

/// A head whose lock we hold.
pub(crate) struct LockedHead {
    pub(crate) head: Head,
    /// Whether an identity was ever erased on this chain.
    pub(crate) has_tombstones: bool,
}

/// A row with its place and hashes.
pub(crate) struct Linked {
    pub(crate) seq: i64,
    pub(crate) taken: Taken,
    pub(crate) prev_hash: Hash,
    pub(crate) entry_hash: Hash,
    pub(crate) canonical: Vec<u8>,
}

fn locked(row: &sqlx::postgres::PgRow) -> Result<LockedHead, sqlx::Error> {
    let head = Head { seq: row.try_get(0)?, hash: fixed(row.try_get(1)?) };
    Ok(LockedHead { head, has_tombstones: row.try_get::<i64, _>(2)? > 0 })
}

/// Locks a chain's head, making it when the chain is new; `None` when somebody else holds it.
pub(crate) async fn lock_or_skip(tx: &mut Tx, chain: Uuid) -> Result<Option<LockedHead>, Fault> {
    for _ in 0..2 {
        if let Some(row) = sqlx::query(LOCK_OR_SKIP).bind(chain).fetch_optional(&mut **tx).await? {
            return Ok(Some(locked(&row)?));
        }
        if !found(tx, chain).await? {
            return Ok(None);
        }
    }
    Ok(None)
}

/// Locks a chain's head, making it when the chain is new.
pub(crate) async fn lock(tx: &mut Tx, chain: Uuid) -> Result<LockedHead, Fault> {
    found(tx, chain).await?;
    Ok(locked(&sqlx::query(LOCK).bind(chain).fetch_one(&mut **tx).await?)?)
}

async fn found(tx: &mut Tx, chain: Uuid) -> Result<bool, Fault> {
    Ok(sqlx::query(FOUND).bind(chain).execute(&mut **tx).await?.rows_affected() == 1)
}

/// Where a chain ends, if it has begun.
pub(crate) async fn head<'e>(db: impl sqlx::PgExecutor<'e>, chain: Uuid) -> Result<Option<Head>, Fault> {
    let row = sqlx::query(HEAD).bind(chain).fetch_optional(db).await?;
    let read = |row: sqlx::postgres::PgRow| -> Result<Head, sqlx::Error> {
        Ok(Head { seq: row.try_get(0)?, hash: fixed(row.try_get(1)?) })
    };
    Ok(row.map(read).transpose()?)
}

/// Chains behind `after` with the place of their last row, by anchor.
pub(crate) async fn heads(pool: &PgPool, after: Option<Uuid>, limit: i64) -> Result<Vec<(Uuid, i64)>, Fault> {
    Ok(sqlx::query_as(HEADS).bind(after).bind(limit).fetch_all(pool).await?)
}

/// Appends rows and moves the head behind them.
pub(crate) async fn append(tx: Tx, chain: Uuid, rows: &[Linked]) -> Result<Tx, Fault> {
    let Some(last) = rows.last() else { return Ok(tx) };
    let mut copied = Rows::<16>::with_capacity(rows.len(), 768);
    for Linked { seq, taken, prev_hash, entry_hash, canonical } in rows {
        copied.push([
            Value::Uuid(chain),
            Value::Int8(*seq),
            Value::Uuid(taken.id),
            Value::Bytes(&taken.subject),
            Value::Text(&taken.relation),
            Value::Text(&taken.object_type),
            Value::Text(&taken.object_id),
            Value::Text(&taken.reason),
            Value::Text(&taken.caveat_names),
            Value::Text(&taken.correlation_id),
            Value::Bytes(&taken.ctx),
            Value::Instant(taken.occurred_at),
            Value::Int4(taken.repeated),
            Value::Bytes(prev_hash),
            Value::Bytes(entry_hash),
            Value::Bytes(canonical),
        ]);
    }
    let mut tx = copied.into_table(tx, APPEND).await?;
    sqlx::query(MOVE).bind(chain).bind(last.seq).bind(last.entry_hash.as_slice()).execute(&mut *tx).await?;
    Ok(tx)
}

/// Writes mappings from pseudonyms to subjects, unless they are there or erased.
pub(crate) async fn map(tx: &mut Tx, chain: Uuid, subjects: &[(Hash, Uuid)]) -> Result<(), Fault> {
    let (pseudonyms, ids): (Vec<&[u8]>, Vec<Uuid>) = subjects.iter().map(|(hash, id)| (hash.as_slice(), *id)).unzip();
    sqlx::query(MAP).bind(chain).bind(pseudonyms).bind(ids).execute(&mut **tx).await?;
    Ok(())
}

/// Keeps where the requests of rows came from.
pub(crate) async fn keep_contexts(tx: Tx, rows: &[&Taken]) -> Result<Tx, Fault> {
    let mut copied = Rows::<4>::with_capacity(rows.len(), 160);
    for row in rows {
        copied.push([
            Value::Uuid(row.id),
            row.salt.as_deref().map_or(Value::Null, Value::Bytes),
            row.ip.as_deref().map_or(Value::Null, Value::Text),
            row.user_agent.as_deref().map_or(Value::Null, Value::Text),
        ]);
    }
    copied.into_table(tx, KEEP_CONTEXTS).await
}

/// When the erased ones among `subjects` were erased.
pub(crate) async fn tombstones(
    tx: &mut Tx,
    chain: Uuid,
    subjects: &[&[u8]],
) -> Result<HashMap<Hash, OffsetDateTime>, Fault> {
    let rows = sqlx::query(TOMBSTONES).bind(chain).bind(subjects).fetch_all(&mut **tx).await?;
    let read =
        |row: &sqlx::postgres::PgRow| -> Result<_, sqlx::Error> { Ok((fixed(row.try_get(0)?), row.try_get(1)?)) };
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// Chains whose rows, chained or waiting, are mapped to a subject.
pub(crate) async fn naming(pool: &PgPool, subject: Uuid) -> Result<Vec<Uuid>, Fault> {
    Ok(sqlx::query_scalar(NAMING).bind(subject).fetch_all(pool).await?)
}

/// Those of some chains on which a subject, by its pseudonyms there, has a mapping or a tombstone.
pub(crate) async fn mapping(pool: &PgPool, chains: &[Uuid], pseudonyms: &[Hash]) -> Result<Vec<Uuid>, Fault> {
    let pseudonyms: Vec<&[u8]> = pseudonyms.iter().map(<[u8; 32]>::as_slice).collect();
    Ok(sqlx::query_scalar(MAPPING).bind(chains).bind(pseudonyms).fetch_all(pool).await?)
}

/// Puts a tombstone in place of a subject's mapping.
pub(crate) async fn bury(tx: &mut Tx, chain: Uuid, subject: &Hash, at: OffsetDateTime) -> Result<(), Fault> {
    sqlx::query(BURY).bind(chain).bind(subject.as_slice()).bind(at).execute(&mut **tx).await?;
    sqlx::query(COUNT_ERASURE).bind(chain).execute(&mut **tx).await?;
    Ok(())
}

/// Drops where a subject's requests came from, of at most `rows` entries behind `after` and up to `through`; the place of
/// the last of them, `None` when there are no more.
pub(crate) async fn drop_contexts(
    tx: &mut Tx,
    (chain, subject): (Uuid, &Hash),
    (after, through): (i64, i64),
    rows: i64,
) -> Result<Option<i64>, Fault> {
    let dropped = sqlx::query_scalar(DROP_CONTEXTS).bind(chain).bind(subject.as_slice()).bind(after).bind(through);
    Ok(dropped.bind(rows).fetch_one(&mut **tx).await?)
}
