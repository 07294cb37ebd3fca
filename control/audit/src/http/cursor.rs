//! Cursors of the log: bound to operation, chain and filters, and to no caller, good for 24 hours.
//!
//! `base64url(payload) "." base64url(mac)` as everywhere; the payload is the version byte `0x01` and compact JSON.

use std::time::Duration;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use hmac::{Hmac, Mac as _};
use plexsphere_kernel::http::Query;
use plexsphere_kernel::paging::{DEFAULT_LIMIT, MAX_AGE, MAX_CURSOR_BYTES, MAX_LIMIT};
use plexsphere_wire::{Code, Problem, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

const VERSION: u8 = 0x01;
/// How far the clocks of two replicas may lie apart.
const SKEW: Duration = Duration::from_secs(300);

/// The key that signs cursors.
pub type CursorKey = Zeroizing<[u8; 32]>;

/// Makes and reads cursors.
pub(crate) struct ChainCursors(CursorKey);

/// The list that a cursor is good for.
pub(crate) struct Place<'a> {
    pub(crate) operation: &'a str,
    pub(crate) chain: Uuid,
    /// The list's filters as text.
    pub(crate) filters: &'a str,
    pub(crate) now: Timestamp,
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) limit: i64,
    /// The last place that was read; 0 at the start.
    pub(crate) after: i64,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    op: String,
    k: i64,
    f: String,
    b: String,
    t: i64,
}

impl ChainCursors {
    pub(crate) const fn new(key: CursorKey) -> Self {
        Self(key)
    }

    /// Reads `limit` and `cursor`.
    pub(crate) fn page(&self, query: &Query, place: &Place<'_>) -> Result<Page, Problem> {
        let limit = match query.one("limit", Code::InvalidLimit)? {
            None => DEFAULT_LIMIT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=MAX_LIMIT).contains(limit))
                .ok_or_else(|| Problem::new(Code::InvalidLimit, "`limit` must be an integer from 1 to 200."))?,
        };
        let after = match query.one("cursor", Code::InvalidCursor)? {
            None | Some("") => 0,
            Some(cursor) => self.read(cursor, place).ok_or_else(|| {
                Problem::new(Code::InvalidCursor, "The cursor is not one that this list gave out, or is too old.")
            })?,
        };
        Ok(Page { limit, after })
    }

    /// The cursor behind `seq`.
    pub(crate) fn next(&self, seq: i64, place: &Place<'_>) -> Result<String, Problem> {
        let payload = Payload {
            op: place.operation.to_owned(),
            k: seq,
            f: digest(place.filters),
            b: place.chain.to_string(),
            t: place.now.unix_seconds(),
        };
        let mut bytes = vec![VERSION];
        serde_json::to_writer(&mut bytes, &payload).map_err(|_| Problem::internal())?;
        let mac = self.mac(&bytes).ok_or_else(Problem::internal)?.finalize().into_bytes();
        Ok(format!("{}.{}", BASE64URL_NOPAD.encode(&bytes), BASE64URL_NOPAD.encode(&mac)))
    }

    fn read(&self, cursor: &str, place: &Place<'_>) -> Option<i64> {
        if cursor.len() > MAX_CURSOR_BYTES {
            return None;
        }
        let (payload, tag) = cursor.split_once('.')?;
        let payload = BASE64URL_NOPAD.decode(payload.as_bytes()).ok()?;
        let tag = BASE64URL_NOPAD.decode(tag.as_bytes()).ok()?;
        self.mac(&payload)?.verify_slice(&tag).ok()?;
        let payload: Payload = serde_json::from_slice(payload.strip_prefix(&[VERSION])?).ok()?;
        let minted = Timestamp::from_unix_seconds(payload.t);
        let fits = payload.op == place.operation
            && payload.f == digest(place.filters)
            && payload.b == place.chain.to_string()
            && place.now.since(minted) <= MAX_AGE
            && minted.since(place.now) <= SKEW;
        fits.then_some(payload.k)
    }

    fn mac(&self, bytes: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_slice()).ok()?;
        mac.update(b"plexsphere/audit-cursor/v1\0");
        mac.update(bytes);
        Some(mac)
    }
}

fn digest(filters: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(filters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_good_for_its_list_its_chain_its_filters_and_a_day() {
        let codec = ChainCursors::new(Zeroizing::new([7; 32]));
        let now = Timestamp::from_unix_seconds(1_790_000_000);
        let place = || Place { operation: "ListAuditEntries", chain: Uuid::from_u128(5), filters: "a", now };
        let cursor = codec.next(41, &place()).unwrap();
        assert_eq!(codec.read(&cursor, &place()), Some(41));
        for other in [
            Place { operation: "ListPlatformAuditEntries", ..place() },
            Place { chain: Uuid::from_u128(6), ..place() },
            Place { filters: "b", ..place() },
            Place { now: now.plus(MAX_AGE + Duration::from_secs(1)), ..place() },
        ] {
            assert_eq!(codec.read(&cursor, &other), None);
        }
        assert_eq!(ChainCursors::new(Zeroizing::new([8; 32])).read(&cursor, &place()), None);
        for index in 0..cursor.len() {
            let mut flipped = cursor.clone().into_bytes();
            flipped[index] ^= 1;
            assert_eq!(codec.read(&String::from_utf8_lossy(&flipped), &place()), None, "{index}");
        }
    }
}
