//! Claims that every kind of token has.

use std::time::Duration;

use plexsphere_wire::Timestamp;
use serde_json::Value;

use crate::json::{self, Object};

use super::{CLOCK_SKEW, TokenRefusal};

/// The longest subject, in bytes (OpenID Connect Core 1.0, section 2).
pub(crate) const MAX_SUBJECT_BYTES: usize = 255;
/// The most audiences one token may have.
const MAX_AUDIENCES: usize = 64;

/// A NumericDate (RFC 7519): seconds, possibly with a fraction.
pub(crate) fn date(claims: &Object, name: &'static str) -> Result<Option<Timestamp>, TokenRefusal> {
    // Up to the year 9999; beyond, a timestamp cannot hold it, and no honest token lives.
    const LAST: f64 = 253_402_300_799.0;
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| (0.0..=LAST).contains(seconds));
    let seconds = seconds.ok_or(TokenRefusal::Claim(name))?;
    let since = Duration::try_from_secs_f64(seconds).map_err(|_| TokenRefusal::Claim(name))?;
    Ok(Some(Timestamp::UNIX_EPOCH.plus(since)))
}

/// `exp`, `iat` and `nbf` against the clock. `exp` is always needed.
///
/// # Returns
/// The end of the token's life.
pub(crate) fn lifetime(claims: &Object, needs_iat: bool, now: Timestamp) -> Result<Timestamp, TokenRefusal> {
    let end = date(claims, "exp")?.ok_or(TokenRefusal::Claim("exp"))?;
    let issued = date(claims, "iat")?;
    if needs_iat && issued.is_none() {
        return Err(TokenRefusal::Claim("iat"));
    }
    let latest = now.plus(CLOCK_SKEW);
    for begin in [issued, date(claims, "nbf")?].into_iter().flatten() {
        if begin > latest {
            return Err(TokenRefusal::FromTheFuture);
        }
    }
    if end.plus(CLOCK_SKEW) <= now { Err(TokenRefusal::Expired) } else { Ok(end) }
}

/// `iss`, exactly.
pub(crate) fn issuer(claims: &Object, expected: &str) -> Result<(), TokenRefusal> {
    if json::text(claims, "iss") == Some(expected) { Ok(()) } else { Err(TokenRefusal::Issuer) }
}

/// The members of `aud`, which is a string or an array of strings.
pub(crate) fn audiences(claims: &Object) -> Result<Vec<&str>, TokenRefusal> {
    match claims.get("aud") {
        Some(Value::String(one)) => Ok(vec![one.as_str()]),
        Some(Value::Array(many)) if many.len() <= MAX_AUDIENCES => {
            many.iter().map(|one| one.as_str().ok_or(TokenRefusal::Claim("aud"))).collect()
        }
        Some(_) => Err(TokenRefusal::Claim("aud")),
        None => Err(TokenRefusal::Audience),
    }
}

/// `sub`, verbatim.
pub(crate) fn subject(claims: &Object, most_bytes: usize) -> Result<&str, TokenRefusal> {
    json::text(claims, "sub")
        .filter(|sub| !sub.is_empty() && sub.len() <= most_bytes && !sub.chars().any(char::is_control))
        .ok_or(TokenRefusal::Subject)
}
