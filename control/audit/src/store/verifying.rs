//! SQL of verification. Rows are streamed by COPY in binary form: a verified row is read once and kept nowhere.

use plexsphere_kernel::{Fault, Tx};
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::chain::{Hash, fixed};

pub(super) const STATEMENTS: &[&str] = &[NEWEST, REMEMBERED, HASH, PREV, MARK, MARKED, DIVERGENT];

const NEWEST: &str = "SELECT coalesce(max(seq), 0) FROM audit.entries WHERE chain = $1";
/// What was verified or is about to be copied has been there.
const REMEMBERED: &str = "SELECT greatest( \
     coalesce((SELECT verified_to FROM audit.verifications WHERE chain = $1), 0), \
     coalesce((SELECT max(last_seq) FROM audit.segments WHERE chain = $1), 0))";
const HASH: &str = "SELECT entry_hash FROM audit.entries WHERE chain = $1 AND seq = $2";
const PREV: &str = "SELECT prev_hash FROM audit.entries WHERE chain = $1 AND seq = $2";
const MARK: &str = "INSERT INTO audit.verifications (chain, whole_at, newest_at, verified_to, divergent_seq) \
     VALUES ($1, $2, $3, $4, $5) ON CONFLICT (chain) DO UPDATE SET \
     whole_at = coalesce($2, verifications.whole_at), newest_at = $3, verified_to = $4, divergent_seq = $5";
const MARKED: &str = "SELECT whole_at, verified_to, divergent_seq FROM audit.verifications WHERE chain = $1";
const DIVERGENT: &str = "SELECT count(*) FROM audit.verifications WHERE divergent_seq IS NOT NULL";

/// Begins the one state of the database that a verification sees.
pub(crate) const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";

/// The columns of [`copy`], in their order.
pub(crate) const COLUMNS: usize = 14;

/// COPY takes no parameters; an id and two integers cannot carry SQL.
pub(crate) fn copy(chain: Uuid, from: i64, to: i64) -> String {
    format!(
        "COPY (SELECT seq, subject, relation, object_type, object_id, reason, caveat_names, correlation_id, ctx, \
         occurred_at, repeated, prev_hash, entry_hash, canonical FROM audit.entries \
         WHERE chain = '{}' AND seq BETWEEN {from} AND {to} ORDER BY seq) TO STDOUT (FORMAT binary)",
        chain.hyphenated()
    )
}

/// What the last verifications of a chain left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Mark {
    /// When the whole chain was last walked.
    pub(crate) whole_at: Option<OffsetDateTime>,
    /// Up to where it held.
    pub(crate) verified_to: i64,
    /// Where it did not.
    pub(crate) divergent_seq: Option<i64>,
}

/// The place of a chain's newest row, whatever its head says; 0 without rows.
pub(crate) async fn newest(connection: &mut PgConnection, chain: Uuid) -> Result<i64, Fault> {
    Ok(sqlx::query_scalar(NEWEST).bind(chain).fetch_one(connection).await?)
}

/// The farthest place of a chain that anything else remembers.
pub(crate) async fn remembered(connection: &mut PgConnection, chain: Uuid) -> Result<i64, Fault> {
    Ok(sqlx::query_scalar(REMEMBERED).bind(chain).fetch_one(connection).await?)
}

/// The hash of one row.
pub(crate) async fn hash(connection: &mut PgConnection, chain: Uuid, seq: i64) -> Result<Option<Hash>, Fault> {
    read(connection, HASH, chain, seq).await
}

/// The hash that a row names as its predecessor's.
pub(crate) async fn prev_of(connection: &mut PgConnection, chain: Uuid, seq: i64) -> Result<Option<Hash>, Fault> {
    read(connection, PREV, chain, seq).await
}

async fn read(
    connection: &mut PgConnection,
    statement: &'static str,
    chain: Uuid,
    seq: i64,
) -> Result<Option<Hash>, Fault> {
    let hash: Option<Vec<u8>> = sqlx::query_scalar(statement).bind(chain).bind(seq).fetch_optional(connection).await?;
    Ok(hash.as_deref().map(fixed))
}

pub(crate) async fn marked(pool: &PgPool, chain: Uuid) -> Result<Mark, Fault> {
    Ok(sqlx::query_as(MARKED).bind(chain).fetch_optional(pool).await?.unwrap_or_default())
}

/// Writes down what a verification at `now` found; `mark.whole_at` stays when it is absent.
pub(crate) async fn mark(tx: &mut Tx, chain: Uuid, mark: &Mark, now: OffsetDateTime) -> Result<(), Fault> {
    sqlx::query(MARK)
        .bind(chain)
        .bind(mark.whole_at)
        .bind(now)
        .bind(mark.verified_to)
        .bind(mark.divergent_seq)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// How many chains do not hold.
pub(crate) async fn divergent(pool: &PgPool) -> Result<i64, Fault> {
    Ok(sqlx::query_scalar(DIVERGENT).fetch_one(pool).await?)
}
