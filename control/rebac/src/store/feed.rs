//! Reading what happened: generations, changes, and everything at once.

use plexsphere_kernel::{Database, Fault, Tx};
use plexsphere_wire::Timestamp;
use sqlx::PgPool;
use uuid::Uuid;

use super::rows::TupleRow;
use crate::model::graph::{Change, Generations, Scope, Tuple};
use crate::model::schema::Schema;

/// Scopes that moved since a horizon, and the next horizon. A transaction that this statement does not see has an id at
/// or above the snapshot's xmin, so that the next reading finds it.
pub(crate) const HEADS: &str = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text, g.scope, g.generation
    FROM (SELECT 1) AS always LEFT JOIN rebac.generations g ON g.moved_by >= $1::text::xid8";

pub(crate) const CHANGES: &str = "SELECT c.scope, c.generation, c.present, c.object_kind, c.object_id, c.relation,
        c.subject_kind, c.subject_id, c.subject_name, c.caveat, c.caveat_context
    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS wanted (scope, known, head)
    JOIN rebac.changes c ON c.scope = wanted.scope AND c.generation > wanted.known AND c.generation <= wanted.head
    ORDER BY c.scope, c.generation";

pub(crate) const GENERATIONS: &str = "SELECT scope, generation FROM rebac.generations";

/// What the caller's transaction has moved.
pub(crate) const MOVED_HERE: &str =
    "SELECT scope, generation FROM rebac.generations WHERE moved_by = pg_current_xact_id_if_assigned()";

pub(crate) const TUPLES: &str =
    "SELECT object_kind, object_id, relation, subject_kind, subject_id, subject_name, caveat,
    caveat_context FROM rebac.tuples";

pub(crate) const FORMS: &str = "SELECT object_kind, relation, subject_kind, subject_name, class FROM rebac.relations";

pub(crate) const TRIM: &str = "DELETE FROM rebac.changes WHERE (scope, generation) IN
    (SELECT scope, generation FROM rebac.changes WHERE changed_at < $1 ORDER BY changed_at LIMIT $2)";

/// What scopes stand at.
pub(crate) struct Heads {
    /// Where the next reading begins.
    pub(crate) horizon: String,
    /// Scopes that may have moved.
    pub(crate) moved: Vec<(Scope, u64)>,
}

/// A scope with the generation that is known of it and the one to read up to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gap {
    pub(crate) scope: Scope,
    pub(crate) known: u64,
    pub(crate) head: u64,
}

/// Everything at one moment.
pub(crate) struct Everything {
    pub(crate) horizon: String,
    pub(crate) generations: Generations,
    pub(crate) tuples: Vec<Tuple>,
}

#[derive(sqlx::FromRow)]
struct ChangeRow {
    present: bool,
    #[sqlx(flatten)]
    tuple: TupleRow,
}

pub(crate) async fn heads(pool: &PgPool, horizon: &str) -> Result<Heads, Fault> {
    let rows: Vec<(String, Option<Uuid>, Option<i64>)> = sqlx::query_as(HEADS).bind(horizon).fetch_all(pool).await?;
    let mut heads = Heads { horizon: horizon.to_owned(), moved: Vec::new() };
    for (next, scope, generation) in rows {
        heads.horizon = next;
        if let (Some(scope), Some(generation)) = (scope, generation) {
            heads.moved.push((Scope::from_uuid(scope), count(generation)));
        }
    }
    Ok(heads)
}

/// The scopes that this transaction has moved so far.
pub(crate) async fn moved_here(tx: &mut Tx) -> Result<Vec<(Scope, u64)>, Fault> {
    let rows: Vec<(Uuid, i64)> = sqlx::query_as(MOVED_HERE).fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(|(scope, generation)| (Scope::from_uuid(scope), count(generation))).collect())
}

/// What is done with a tuple that this build's schema does not know, as a newer build writes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// It is an error.
    Refused,
    /// It is left out: as rules are unions only, without it less is allowed and nothing more.
    PassedOver,
}

fn pass_over(row: &TupleRow) {
    tracing::warn!(
        kind = row.object_kind,
        relation = row.relation,
        "a tuple that this build does not know is passed over"
    );
}

/// What happened in some gaps.
pub(crate) struct Happenings {
    /// How many changes there were.
    pub(crate) seen: u64,
    /// Those that this build's schema knows, each scope's in its order.
    pub(crate) known: Vec<Change>,
}

/// The changes in the gaps; fewer than the gaps are wide when some were trimmed. Foreign ones are passed over.
pub(crate) async fn changes(pool: &PgPool, schema: &Schema, gaps: &[Gap]) -> Result<Happenings, Fault> {
    let scopes: Vec<Uuid> = gaps.iter().map(|gap| gap.scope.uuid()).collect();
    let known: Vec<i64> = gaps.iter().map(|gap| number(gap.known)).collect();
    let heads: Vec<i64> = gaps.iter().map(|gap| number(gap.head)).collect();
    let rows: Vec<ChangeRow> = sqlx::query_as(CHANGES).bind(scopes).bind(known).bind(heads).fetch_all(pool).await?;
    let mut happenings = Happenings { seen: 0, known: Vec::with_capacity(rows.len()) };
    for row in rows {
        happenings.seen += 1;
        match row.tuple.tuple(schema) {
            Ok(tuple) => happenings.known.push(if row.present { Change::Put(tuple) } else { Change::Remove(tuple) }),
            Err(_) => pass_over(&row.tuple),
        }
    }
    Ok(happenings)
}

pub(crate) async fn everything(db: &Database, schema: &Schema, foreign: Foreign) -> Result<Everything, Fault> {
    use futures_util::TryStreamExt as _;
    let mut tx = db.snapshot().await?;
    // Everything may take longer than a statement of a request may.
    sqlx::query("SET LOCAL statement_timeout = '110s'").execute(&mut *tx).await?;
    let horizon: String =
        sqlx::query_scalar("SELECT pg_snapshot_xmin(pg_current_snapshot())::text").fetch_one(&mut *tx).await?;
    let generations: Vec<(Uuid, i64)> = sqlx::query_as(GENERATIONS).fetch_all(&mut *tx).await?;
    let generations =
        generations.into_iter().map(|(scope, generation)| (Scope::from_uuid(scope), count(generation))).collect();
    let mut tuples = Vec::new();
    {
        let mut rows = sqlx::query_as::<_, TupleRow>(TUPLES).fetch(&mut *tx);
        while let Some(row) = rows.try_next().await? {
            match row.tuple(schema) {
                Ok(tuple) => tuples.push(tuple),
                Err(_) if foreign == Foreign::PassedOver => pass_over(&row),
                Err(fault) => return Err(fault),
            }
        }
    }
    tx.rollback().await?;
    Ok(Everything { horizon, generations, tuples })
}

/// The forms that the table allows: (kind, relation, subject kind, subject name, class).
pub(crate) async fn forms(pool: &PgPool) -> Result<Vec<(String, String, String, String, String)>, Fault> {
    Ok(sqlx::query_as(FORMS).fetch_all(pool).await?)
}

/// Deletes at most `limit` changes from before `before`, and says how many.
pub(crate) async fn trim(tx: &mut Tx, before: Timestamp, limit: i64) -> Result<u64, Fault> {
    let done = sqlx::query(TRIM).bind(before.inner()).bind(limit).execute(&mut **tx).await?;
    Ok(done.rows_affected())
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
