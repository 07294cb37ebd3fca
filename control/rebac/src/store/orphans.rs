//! Tuples that name something that is gone.

use plexsphere_kernel::{Fault, Tx};
use sqlx::PgPool;
use uuid::Uuid;

/// A page of tuples, each with whether both of its ends stand: the only one of its kind, or something with a place.
pub(crate) const PAGE: &str = "SELECT t.id,
        (t.object_id = $3 OR EXISTS (SELECT FROM rebac.tuples h WHERE h.object_id = t.object_id
            AND h.object_kind = t.object_kind AND h.relation IN ('parent', 'scope', 'fleet')))
        AND (t.subject_id = $3 OR EXISTS (SELECT FROM rebac.tuples h WHERE h.object_id = t.subject_id
            AND h.object_kind = t.subject_kind AND h.relation IN ('parent', 'scope', 'fleet')))
    FROM rebac.tuples t WHERE t.id > $1 ORDER BY t.id LIMIT $2";

pub(crate) const HOLD: &str = "SELECT scope FROM rebac.generations
    WHERE scope IN (SELECT scope FROM rebac.tuples WHERE id = ANY($1)) ORDER BY scope FOR NO KEY UPDATE";

/// Those that are orphans still.
pub(crate) const REMOVE: &str = "DELETE FROM rebac.tuples t WHERE t.id = ANY($1) AND NOT (
        (t.object_id = $2 OR EXISTS (SELECT FROM rebac.tuples h WHERE h.object_id = t.object_id
            AND h.object_kind = t.object_kind AND h.relation IN ('parent', 'scope', 'fleet')))
        AND (t.subject_id = $2 OR EXISTS (SELECT FROM rebac.tuples h WHERE h.object_id = t.subject_id
            AND h.object_kind = t.subject_kind AND h.relation IN ('parent', 'scope', 'fleet'))))";

/// What a page of tuples tells.
pub(crate) struct Page {
    /// Its last tuple; `None` behind the end.
    pub(crate) last: Option<Uuid>,
    /// Those with an end that is gone.
    pub(crate) orphans: Vec<Uuid>,
}

/// The tuples behind `after`, in the order of their ids.
pub(crate) async fn page(pool: &PgPool, after: Uuid, limit: i64) -> Result<Page, Fault> {
    let query = sqlx::query_as(PAGE).bind(after).bind(limit).bind(Uuid::nil());
    let rows: Vec<(Uuid, bool)> = query.fetch_all(pool).await?;
    let last = rows.last().map(|(id, _)| *id);
    Ok(Page { last, orphans: rows.into_iter().filter_map(|(id, stands)| (!stands).then_some(id)).collect() })
}

/// Removes those that are orphans still, with nobody writing in their scopes meanwhile. How many.
pub(crate) async fn remove(tx: &mut Tx, ids: &[Uuid]) -> Result<u64, Fault> {
    sqlx::query(HOLD).bind(ids).execute(&mut **tx).await?;
    Ok(sqlx::query(REMOVE).bind(ids).bind(Uuid::nil()).execute(&mut **tx).await?.rows_affected())
}
