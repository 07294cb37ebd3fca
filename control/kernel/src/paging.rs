//! Pages: `cursor` and `limit`, and cursors bound to operation, filters and caller.
//!
//! A cursor is `base64url(payload) "." base64url(mac)`; the payload is the version byte `0x01` and compact JSON. Two keys
//! verify, so that a key is rotated silently.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use plexsphere_wire::{Code, Problem, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::time::Duration;

use crate::Subject;
use crate::http::Call;

/// The most items of a page.
pub const MAX_LIMIT: i64 = 200;
/// The items of a page when the caller does not say.
pub const DEFAULT_LIMIT: i64 = 50;
/// How long a cursor is good.
pub const MAX_AGE: Duration = Duration::from_secs(24 * 3_600);
/// The longest cursor that is read.
pub const MAX_CURSOR_BYTES: usize = 4_096;

const VERSION: u8 = 0x01;

/// What a list is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<K> {
    /// 1 to 200.
    pub limit: i64,
    /// The sort key of the last row that the caller has read.
    pub after: Option<K>,
}

#[derive(Serialize, Deserialize)]
struct Payload<K> {
    op: String,
    k: K,
    f: String,
    b: String,
    t: i64,
}

/// Makes and reads cursors.
#[derive(Clone)]
pub struct CursorCodec {
    current: [u8; 32],
    previous: Option<[u8; 32]>,
}

/// Reads `limit` of a call: 1 to 200, 50 when it is absent; never clamped.
///
/// # Errors
/// 400 `invalid_limit`.
pub fn limit(call: &Call) -> Result<i64, Problem> {
    match call.query.one("limit", Code::InvalidLimit)? {
        None => Ok(DEFAULT_LIMIT),
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=MAX_LIMIT).contains(limit))
            .ok_or_else(|| Problem::new(Code::InvalidLimit, "`limit` must be an integer from 1 to 200.")),
    }
}

impl CursorCodec {
    /// A codec that signs under `current` and also reads what `previous` signed.
    #[must_use]
    pub const fn new(current: [u8; 32], previous: Option<[u8; 32]>) -> Self {
        Self { current, previous }
    }

    /// Reads `limit` and `cursor` of a call. `filters` is the text of the list's filters; another text makes the cursor
    /// invalid.
    ///
    /// # Errors
    /// 400 `invalid_limit`, 400 `invalid_cursor`, 403 `cursor_binding_mismatch`.
    pub fn page<K: DeserializeOwned>(&self, call: &Call, filters: &str) -> Result<Page<K>, Problem> {
        let limit = limit(call)?;
        let after = match call.query.one("cursor", Code::InvalidCursor)? {
            None | Some("") => None,
            Some(cursor) => {
                let caller = call.principal()?.subject;
                let read = self.read(cursor, call.operation(), filters, (&caller, call.now));
                Some(read.map_err(|refusal| match refusal.code() {
                    Code::CursorBindingMismatch => Problem::new(call.foreign_cursor(), refusal.detail()),
                    _ => refusal,
                })?)
            }
        };
        Ok(Page { limit, after })
    }

    /// The cursor behind the row with sort key `key`, for the caller of `call`.
    ///
    /// # Errors
    /// 500 when the key has no JSON form.
    pub fn next<K: Serialize>(&self, call: &Call, filters: &str, key: &K) -> Result<String, Problem> {
        let caller = call.principal()?.subject;
        self.write(key, call.operation(), filters, (&caller, call.now))
    }

    fn write<K: Serialize>(
        &self,
        key: &K,
        operation: &str,
        filters: &str,
        (caller, now): (&Subject, Timestamp),
    ) -> Result<String, Problem> {
        let payload = Payload {
            op: operation.to_owned(),
            k: key,
            f: digest(filters),
            b: pseudonym(caller),
            t: now.unix_seconds(),
        };
        let mut bytes = vec![VERSION];
        serde_json::to_writer(&mut bytes, &payload).map_err(|_| Problem::internal())?;
        let mac = mac(&self.current, &bytes);
        Ok(format!("{}.{}", URL_SAFE_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(mac)))
    }

    fn read<K: DeserializeOwned>(
        &self,
        cursor: &str,
        operation: &str,
        filters: &str,
        (caller, now): (&Subject, Timestamp),
    ) -> Result<K, Problem> {
        let invalid =
            || Problem::new(Code::InvalidCursor, "The cursor is not one that this list gave out, or is too old.");
        if cursor.len() > MAX_CURSOR_BYTES {
            return Err(invalid());
        }
        let (payload, tag) = cursor.split_once('.').ok_or_else(invalid)?;
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| invalid())?;
        let tag = URL_SAFE_NO_PAD.decode(tag).map_err(|_| invalid())?;
        let known = std::iter::once(&self.current)
            .chain(self.previous.iter())
            .any(|key| subtle::ConstantTimeEq::ct_eq(mac(key, &payload).as_slice(), tag.as_slice()).into());
        if !known {
            return Err(invalid());
        }
        let json = payload.strip_prefix(&[VERSION]).ok_or_else(invalid)?;
        let payload: Payload<K> = serde_json::from_slice(json).map_err(|_| invalid())?;
        let age = now.since(Timestamp::from_unix_seconds(payload.t));
        if payload.op != operation || payload.f != digest(filters) || age > MAX_AGE {
            return Err(invalid());
        }
        if payload.b != pseudonym(caller) {
            return Err(Problem::new(Code::CursorBindingMismatch, "The cursor was given to another caller."));
        }
        Ok(payload.k)
    }
}

impl std::fmt::Debug for CursorCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CursorCodec")
    }
}

/// Ties a cursor to a caller. The caller's id is hashed under a fixed label only: the whole payload is under the MAC,
/// and the id is no secret to its owner.
fn pseudonym(caller: &Subject) -> String {
    let mut hasher = Sha256::new();
    hasher.update(b"plexsphere/cursor-caller/v1\0");
    hasher.update(caller.to_string().as_bytes());
    URL_SAFE_NO_PAD.encode(hasher.finalize())
}

fn digest(filters: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(filters.as_bytes()))
}

fn mac(key: &[u8; 32], bytes: &[u8]) -> [u8; 32] {
    // HMAC takes a key of any length, so this cannot fail; the empty tag would fit no cursor anyway.
    Hmac::<Sha256>::new_from_slice(key).map_or([0; 32], |mut mac| {
        mac.update(b"plexsphere/cursor/v1\0");
        mac.update(bytes);
        mac.finalize().into_bytes().into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use plexsphere_wire::PrincipalId;

    #[test]
    fn a_cursor_is_good_for_its_list_its_filters_its_caller_and_a_day() {
        let now = Timestamp::from_unix_seconds(1_700_000_000);
        let (alice, bob) = (Subject::User(PrincipalId::mint(now)), Subject::User(PrincipalId::mint(now)));
        let codec = CursorCodec::new([1; 32], None);
        let cursor = codec.write(&("a", 7), "ListDomains", "f=1", (&alice, now)).unwrap();
        let read = |codec: &CursorCodec, cursor: &str, op: &str, filters: &str, who: &Subject, at: Timestamp| {
            codec.read::<(String, i32)>(cursor, op, filters, (who, at)).map_err(|problem| problem.code())
        };
        assert_eq!(read(&codec, &cursor, "ListDomains", "f=1", &alice, now), Ok(("a".to_owned(), 7)));
        assert_eq!(read(&codec, &cursor, "ListDomains", "f=1", &bob, now), Err(Code::CursorBindingMismatch));
        assert_eq!(read(&codec, &cursor, "ListProjects", "f=1", &alice, now), Err(Code::InvalidCursor));
        assert_eq!(read(&codec, &cursor, "ListDomains", "", &alice, now), Err(Code::InvalidCursor));
        let late = now.plus(MAX_AGE + Duration::from_secs(1));
        assert_eq!(read(&codec, &cursor, "ListDomains", "f=1", &alice, late), Err(Code::InvalidCursor));
        let rotated = CursorCodec::new([2; 32], Some([1; 32]));
        assert_eq!(read(&rotated, &cursor, "ListDomains", "f=1", &alice, now), Ok(("a".to_owned(), 7)));
        let foreign = CursorCodec::new([3; 32], None);
        assert_eq!(read(&foreign, &cursor, "ListDomains", "f=1", &alice, now), Err(Code::InvalidCursor));
        for index in 0..cursor.len() {
            let mut flipped = cursor.clone().into_bytes();
            flipped[index] ^= 1;
            let flipped = String::from_utf8_lossy(&flipped).into_owned();
            assert_eq!(read(&codec, &flipped, "ListDomains", "f=1", &alice, now), Err(Code::InvalidCursor), "{index}");
        }
    }
}
