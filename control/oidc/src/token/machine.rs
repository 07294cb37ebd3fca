//! Tokens of machines: the access token of a client-credentials grant, and the JWT-SVID.

use plexsphere_wire::Timestamp;

use crate::json::{self, Object};
use crate::jws::Shape;
use crate::keys::Alg;

use super::TokenRefusal;
use super::claims;

/// An access token, with or without the type of RFC 9068.
pub(crate) const MACHINE: Shape =
    Shape { algs: Alg::OIDC, types: &["jwt", "at+jwt", "application/at+jwt"], needs_kid: false };
/// The JWT-SVID specification allows two types.
pub(crate) const SVID: Shape = Shape { algs: Alg::SVID, types: &["jwt", "jose"], needs_kid: true };

/// The longest subject of a machine, in bytes.
const MAX_SUBJECT_BYTES: usize = 2_048;
/// The longest `jti`, in bytes.
const MAX_JTI_BYTES: usize = 256;

/// What a machine's token must say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExpectedMachine<'e> {
    pub(crate) issuer: &'e str,
    pub(crate) audience: &'e str,
    pub(crate) subject: &'e str,
}

/// A verified access token of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineToken {
    /// `sub`.
    pub subject: String,
    /// `exp`.
    pub expires: Timestamp,
}

/// A verified JWT-SVID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Svid {
    /// `sub`, a SPIFFE id.
    pub subject: String,
    /// `exp`; a `jti` is remembered until then.
    pub expires: Timestamp,
    /// `jti`, when it has one: it may be used once.
    pub jti: Option<String>,
}

/// The rules for an access token.
pub(crate) fn judge_machine(
    claims: &Object,
    expected: ExpectedMachine<'_>,
    now: Timestamp,
) -> Result<MachineToken, TokenRefusal> {
    claims::issuer(claims, expected.issuer)?;
    if !claims::audiences(claims)?.contains(&expected.audience) {
        return Err(TokenRefusal::Audience);
    }
    let expires = claims::lifetime(claims, false, now)?;
    let subject = claims::subject(claims, MAX_SUBJECT_BYTES)?;
    if subject != expected.subject {
        return Err(TokenRefusal::Subject);
    }
    Ok(MachineToken { subject: subject.to_owned(), expires })
}

/// The rules for a JWT-SVID; whose it is, the caller compares. `iss` may be missing: the bundle says whose keys they are.
pub(crate) fn judge_svid(
    claims: &Object,
    (issuer, audience): (&str, &str),
    now: Timestamp,
) -> Result<Svid, TokenRefusal> {
    if claims.contains_key("iss") {
        claims::issuer(claims, issuer)?;
    }
    if !claims::audiences(claims)?.contains(&audience) {
        return Err(TokenRefusal::Audience);
    }
    let expires = claims::lifetime(claims, false, now)?;
    let subject = claims::subject(claims, MAX_SUBJECT_BYTES)?;
    if !subject.starts_with("spiffe://") {
        return Err(TokenRefusal::Subject);
    }
    let jti = match claims.get("jti") {
        None => None,
        Some(_) => {
            let jti = json::text(claims, "jti").filter(|jti| !jti.is_empty() && jti.len() <= MAX_JTI_BYTES);
            Some(jti.ok_or(TokenRefusal::Claim("jti"))?.to_owned())
        }
    };
    Ok(Svid { subject: subject.to_owned(), expires, jti })
}
