//! SQL of the mirror.

use plexsphere_kernel::Fault;
use sqlx::{PgPool, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::chain::{Hash, fixed};

pub(super) const STATEMENTS: &[&str] = &[BEHIND, PLANNED, PLAN, CONFIRM, LINES, HASH];

/// Chains with rows that no confirmed segment covers, by anchor.
const BEHIND: &str = "SELECT h.chain FROM audit.chain_heads h \
     LEFT JOIN LATERAL (SELECT last_seq, etag FROM audit.segments g WHERE g.chain = h.chain \
       ORDER BY first_seq DESC LIMIT 1) s ON true \
     WHERE (h.last_seq > coalesce(s.last_seq, 0) OR (s.last_seq IS NOT NULL AND s.etag IS NULL)) \
       AND ($1::uuid IS NULL OR h.chain > $1) ORDER BY h.chain LIMIT $2";
const PLANNED: &str = "SELECT first_seq, last_seq FROM audit.segments WHERE chain = $1 AND etag IS NULL \
     ORDER BY first_seq LIMIT 1";
const PLAN: &str = "INSERT INTO audit.segments (chain, first_seq, last_seq) \
     SELECT $1, p.first, least(p.first + $2 - 1, h.last_seq) FROM audit.chain_heads h, \
       (SELECT coalesce(max(last_seq), 0) + 1 AS first FROM audit.segments WHERE chain = $1) p \
     WHERE h.chain = $1 AND h.last_seq >= p.first RETURNING first_seq, last_seq";
const CONFIRM: &str = "UPDATE audit.segments SET etag = $3, archived_at = $4 WHERE chain = $1 AND first_seq = $2";
const LINES: &str = "SELECT seq, prev_hash, entry_hash, canonical FROM audit.entries \
     WHERE chain = $1 AND seq BETWEEN $2 AND $3 ORDER BY seq";

const HASH: &str = "SELECT entry_hash FROM audit.entries WHERE chain = $1 AND seq = $2";

/// Consecutive rows of a chain that go into one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Span {
    pub(crate) first_seq: i64,
    pub(crate) last_seq: i64,
}

/// What a line of a segment is made of.
pub(crate) struct LineRow {
    pub(crate) seq: i64,
    pub(crate) prev_hash: Hash,
    pub(crate) entry_hash: Hash,
    pub(crate) canonical: Vec<u8>,
}

pub(crate) async fn behind(pool: &PgPool, after: Option<Uuid>, limit: i64) -> Result<Vec<Uuid>, Fault> {
    Ok(sqlx::query_scalar(BEHIND).bind(after).bind(limit).fetch_all(pool).await?)
}

/// The segment that is to be uploaded next: one that was begun, else a new one; `None` when all rows are covered.
pub(crate) async fn next(pool: &PgPool, chain: Uuid, rows: i64) -> Result<Option<Span>, Fault> {
    if let Some(begun) = sqlx::query_as(PLANNED).bind(chain).fetch_optional(pool).await? {
        return Ok(Some(begun));
    }
    Ok(sqlx::query_as(PLAN).bind(chain).bind(rows).fetch_optional(pool).await?)
}

pub(crate) async fn lines(pool: &PgPool, chain: Uuid, span: Span) -> Result<Vec<LineRow>, Fault> {
    let rows = sqlx::query(LINES).bind(chain).bind(span.first_seq).bind(span.last_seq).fetch_all(pool).await?;
    let read = |row: &sqlx::postgres::PgRow| -> Result<LineRow, sqlx::Error> {
        Ok(LineRow {
            seq: row.try_get(0)?,
            prev_hash: fixed(row.try_get(1)?),
            entry_hash: fixed(row.try_get(2)?),
            canonical: row.try_get(3)?,
        })
    };
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// The hash of one row.
pub(crate) async fn hash(pool: &PgPool, chain: Uuid, seq: i64) -> Result<Option<Hash>, Fault> {
    let hash: Option<Vec<u8>> = sqlx::query_scalar(HASH).bind(chain).bind(seq).fetch_optional(pool).await?;
    Ok(hash.as_deref().map(fixed))
}

pub(crate) async fn confirm(
    pool: &PgPool,
    chain: Uuid,
    span: Span,
    (etag, at): (&str, OffsetDateTime),
) -> Result<(), Fault> {
    sqlx::query(CONFIRM).bind(chain).bind(span.first_seq).bind(etag).bind(at).execute(pool).await?;
    Ok(())
}
