//! What a segment is: lines of JSON, one per entry, under a name that says which.

use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::chain::{ChainCheck, Divergence, Exported, GENESIS, Hash, Head};
use crate::store::mirror::{LineRow, Span};

/// One entry, as an outsider needs it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    pub(crate) seq: i64,
    pub(crate) prev_hash: String,
    pub(crate) entry_hash: String,
    pub(crate) canonical_bytes: String,
}

/// Whether a segment's rows are all there and hold behind `before`. A copy of what does not would vouch for it.
pub(super) fn check(chain: Uuid, span: Span, before: Hash, rows: &[LineRow]) -> Result<(), Divergence> {
    let mut check = ChainCheck::behind(Head { seq: span.first_seq - 1, hash: before });
    for row in rows {
        let LineRow { seq, prev_hash, entry_hash, canonical } = row;
        check.exported(chain, &Exported { seq: *seq, prev_hash, entry_hash, canonical })?;
    }
    let last = check.last().seq;
    if last == span.last_seq {
        return Ok(());
    }
    Err(Divergence { seq: last + 1, expected: GENESIS, observed: GENESIS })
}

/// The bytes of a segment: the same for the same entries, always.
pub(super) fn render(rows: &[LineRow]) -> Bytes {
    let mut body = Vec::with_capacity(rows.len() * 1_024);
    for row in rows {
        let line = Line {
            seq: row.seq,
            prev_hash: HEXLOWER.encode(&row.prev_hash),
            entry_hash: HEXLOWER.encode(&row.entry_hash),
            canonical_bytes: BASE64.encode(&row.canonical),
        };
        // A struct of strings and an integer has a JSON form.
        if serde_json::to_writer(&mut body, &line).is_ok() {
            body.push(b'\n');
        }
    }
    body.into()
}

/// `segments/<first place, 20 digits>-<last place>.ndjson`, so that names sort as places do.
pub(super) fn path(folder: &Path, span: Span) -> Path {
    folder.clone().join("segments").join(format!("{:020}-{}.ndjson", span.first_seq, span.last_seq))
}

/// What stands for the tag of a store that has none.
pub(super) fn digest(body: &[u8]) -> String {
    format!("sha256-{}", HEXLOWER.encode(&Sha256::digest(body)))
}
