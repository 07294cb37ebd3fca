//! The id token of a browser sign-in (OpenID Connect Core 1.0, section 3.1.3.7).

use plexsphere_wire::Timestamp;
use serde_json::Value;
use subtle::ConstantTimeEq;

use crate::flow::SignInFailure;
use crate::json::{self, Object};
use crate::jws::{Jws, Shape};
use crate::keys::Alg;
use crate::provider::{KeyFailure, Providers, Trust};

use super::claims::{self, MAX_SUBJECT_BYTES};
use super::mapping::{self, ClaimMappings, Groups};
use super::{CLOCK_SKEW, TokenRefusal};

/// An access token (`at+jwt`) or a logout token (`logout+jwt`) of the same issuer is none.
const SHAPE: Shape = Shape { algs: Alg::OIDC, types: &["jwt"], needs_kid: false };
/// The most authentication methods that are read.
const MAX_AMR: usize = 64;

/// What an id token must say.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'e> {
    /// Our client id.
    pub client_id: &'e str,
    /// The nonce of the sign-in that asked for it.
    pub nonce: &'e str,
    /// When set, the person must have signed in after this.
    pub authenticated_since: Option<Timestamp>,
}

/// What a verified id token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdToken {
    /// `iss`.
    pub issuer: String,
    /// `sub`, verbatim and case-sensitive.
    pub subject: String,
    /// The mapped email.
    pub email: Option<String>,
    /// Whether the provider vouches for it.
    pub email_verified: bool,
    /// The mapped name, cut to 256 characters.
    pub display_name: Option<String>,
    /// The mapped groups.
    pub groups: Groups,
    /// Authentication context class.
    pub acr: Option<String>,
    /// Authentication methods.
    pub amr: Vec<String>,
    /// When the person signed in at the provider.
    pub auth_time: Option<Timestamp>,
    /// `exp`.
    pub expires: Timestamp,
}

/// Verifies an id token against the keys of its issuer.
///
/// # Errors
/// [`SignInFailure::Token`] for a fault of the token, [`SignInFailure::Provider`] when keys cannot be had.
pub async fn verify_id_token(
    providers: &Providers,
    trust: &Trust,
    token: &str,
    reading: (&Expected<'_>, &ClaimMappings),
    now: Timestamp,
) -> Result<IdToken, SignInFailure> {
    let jws = Jws::parse(token, SHAPE).map_err(SignInFailure::Token)?;
    let key = providers.key(trust, &jws.header, now).await.map_err(|failure| match failure {
        KeyFailure::Provider(error) => SignInFailure::Provider(error),
        KeyFailure::Token(refusal) => SignInFailure::Token(refusal),
    })?;
    let claims = jws.verify(&key).map_err(SignInFailure::Token)?;
    judge(&claims, &trust.issuer, reading, now).map_err(SignInFailure::Token)
}

/// The rules for the claims, in the order of the specification; the nonce last, so that a token for somebody else is not
/// mistaken for a replay.
fn judge(
    claims: &Object,
    issuer: &str,
    (expected, mappings): (&Expected<'_>, &ClaimMappings),
    now: Timestamp,
) -> Result<IdToken, TokenRefusal> {
    claims::issuer(claims, issuer)?;
    let audiences = claims::audiences(claims)?;
    if !audiences.contains(&expected.client_id) {
        return Err(TokenRefusal::Audience);
    }
    match claims.get("azp") {
        Some(party) if party != expected.client_id => return Err(TokenRefusal::AuthorizedParty),
        None if audiences.len() > 1 => return Err(TokenRefusal::AuthorizedParty),
        Some(_) | None => {}
    }
    let expires = claims::lifetime(claims, true, now)?;
    let subject = claims::subject(claims, MAX_SUBJECT_BYTES)?.to_owned();
    let nonce = json::text(claims, "nonce").ok_or(TokenRefusal::Nonce)?;
    if !bool::from(nonce.as_bytes().ct_eq(expected.nonce.as_bytes())) {
        return Err(TokenRefusal::Nonce);
    }
    let auth_time = claims::date(claims, "auth_time")?;
    if let Some(since) = expected.authenticated_since
        && auth_time.is_none_or(|at| at.plus(CLOCK_SKEW) < since)
    {
        return Err(TokenRefusal::NotRecent);
    }
    let (email, email_verified) = mapping::email(claims, mappings);
    Ok(IdToken {
        issuer: issuer.to_owned(),
        subject,
        email,
        email_verified,
        display_name: mapping::display_name(claims, mappings),
        groups: mapping::groups(claims, mappings),
        acr: json::text(claims, "acr").map(str::to_owned),
        amr: amr(claims)?,
        auth_time,
        expires,
    })
}

/// An array of strings by the specification; some providers send one string.
fn amr(claims: &Object) -> Result<Vec<String>, TokenRefusal> {
    match claims.get("amr") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one.clone()]),
        Some(Value::Array(many)) if many.len() <= MAX_AMR => {
            many.iter().map(|one| one.as_str().map(str::to_owned).ok_or(TokenRefusal::Claim("amr"))).collect()
        }
        Some(_) => Err(TokenRefusal::Claim("amr")),
    }
}
