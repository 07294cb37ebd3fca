//! Cutting a page: one row more than asked is read, so that the end is known without a second query.

use plexsphere_kernel::ObjectRef;
use plexsphere_kernel::http::Call;
use plexsphere_kernel::paging::CursorCodec;
use plexsphere_wire::{Problem, Timestamp};
use serde::Serialize;
use uuid::Uuid;

/// Before every row that is ordered by time and id. A first page is a page behind it, so that one statement serves every
/// page and a deep one is a range of its index.
pub(crate) const BEGINNING: (Timestamp, Uuid) = (Timestamp::UNIX_EPOCH, Uuid::nil());

/// Behind every row that is ordered by time and id, for lists that begin with the newest.
pub(crate) fn end() -> (Timestamp, Uuid) {
    const LAST_SECOND: i64 = 253_402_300_799;
    (Timestamp::from_unix_seconds(LAST_SECOND), Uuid::max())
}

/// Those of a page's rows that the caller has `relation` on, asked for all at once.
pub(crate) async fn readable<T>(
    call: &Call,
    relation: &str,
    rows: Vec<T>,
    object: impl Fn(&T) -> ObjectRef,
) -> Result<Vec<T>, Problem> {
    let objects: Vec<ObjectRef> = rows.iter().map(object).collect();
    let allowed = call.may_each(relation, &objects).await?;
    Ok(rows.into_iter().zip(allowed).filter_map(|(row, allowed)| allowed.then_some(row)).collect())
}

/// Cuts `rows` (at most `limit + 1` of them) to `limit` and makes the cursor behind the last one read, if more follow.
pub(crate) fn cut<T, K: Serialize>(
    rows: &mut Vec<T>,
    limit: i64,
    (cursors, call, filters): (&CursorCodec, &Call, &str),
    key: impl Fn(&T) -> K,
) -> Result<Option<String>, Problem> {
    let limit = usize::try_from(limit).unwrap_or(0);
    if rows.len() <= limit {
        return Ok(None);
    }
    rows.truncate(limit);
    rows.last().map(|last| cursors.next(call, filters, &key(last))).transpose()
}
