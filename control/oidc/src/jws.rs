//! Signed tokens in their compact form (RFC 7515): taken apart, and verified before anything inside is believed.
//!
//! The algorithm comes from a list of the caller's, never from the token alone, and the key from the issuer's set, never
//! from the header: `jwk`, `jku`, `x5c` and `x5u` are not looked at.

use data_encoding::BASE64URL_NOPAD;

use crate::json::{self, JsonFault, Object};
use crate::keys::{Alg, MAX_KID_BYTES, PublicKey};
use crate::token::TokenRefusal;

/// The longest token, in bytes. 512 group names fit.
pub const MAX_TOKEN_BYTES: usize = 64 << 10;

/// What a token says of its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) alg: Alg,
    pub(crate) kid: Option<String>,
}

/// What a kind of token may look like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// The algorithms it may be signed with.
    pub(crate) algs: &'static [Alg],
    /// Values of `typ`, in lower case, besides none at all. Another type is another kind of token (RFC 8725, 3.11).
    pub(crate) types: &'static [&'static str],
    /// Whether its header must name a key.
    pub(crate) needs_kid: bool,
}

/// A token taken apart; nothing of it is verified yet.
#[derive(Debug)]
pub(crate) struct Jws<'t> {
    pub(crate) header: Header,
    signed: &'t str,
    payload: &'t str,
    signature: &'t str,
}

impl<'t> Jws<'t> {
    /// Takes a token apart and judges its header.
    pub(crate) fn parse(token: &'t str, shape: Shape) -> Result<Self, TokenRefusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenRefusal::Oversized);
        }
        let dots = token.bytes().filter(|&byte| byte == b'.').count();
        if dots == 4 {
            return Err(TokenRefusal::Encrypted);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenRefusal::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenRefusal::Malformed)?;
        if dots != 2 || header.is_empty() || payload.is_empty() {
            return Err(TokenRefusal::Malformed);
        }
        let header = read_header(&decode(header)?, shape)?;
        // An empty one is what `none` would have; its refusal should say so.
        if signature.is_empty() {
            return Err(TokenRefusal::Signature);
        }
        Ok(Self { header, signed, payload, signature })
    }

    /// The claims, once the key has vouched for them.
    pub(crate) fn verify(&self, key: &PublicKey) -> Result<Object, TokenRefusal> {
        if !key.verifies(self.header.alg, self.signed, self.signature) {
            return Err(TokenRefusal::Signature);
        }
        json::object(&decode(self.payload)?).map_err(TokenRefusal::from)
    }
}

fn read_header(bytes: &[u8], shape: Shape) -> Result<Header, TokenRefusal> {
    let header = json::object(bytes)?;
    if header.contains_key("enc") {
        return Err(TokenRefusal::Encrypted);
    }
    // A token within a token would have to be judged again by other rules; no provider we know of sends one.
    if header.get("cty").is_some_and(|cty| !cty.as_str().is_some_and(|cty| cty.eq_ignore_ascii_case("json"))) {
        return Err(TokenRefusal::Encrypted);
    }
    if header.contains_key("crit") || header.get("b64").is_some_and(|b64| b64 != true) {
        return Err(TokenRefusal::Critical);
    }
    if let Some(typ) = header.get("typ") {
        let typ = typ.as_str().unwrap_or_default().to_ascii_lowercase();
        if !shape.types.contains(&typ.as_str()) {
            return Err(TokenRefusal::Type);
        }
    }
    let alg = json::text(&header, "alg").and_then(Alg::parse).filter(|alg| shape.algs.contains(alg));
    let alg = alg.ok_or(TokenRefusal::Algorithm)?;
    let kid = match header.get("kid") {
        None if shape.needs_kid => return Err(TokenRefusal::UnknownKey),
        None => None,
        Some(kid) => {
            let kid = kid.as_str().filter(|kid| !kid.is_empty() && kid.len() <= MAX_KID_BYTES);
            Some(kid.ok_or(TokenRefusal::Malformed)?.to_owned())
        }
    };
    Ok(Header { alg, kid })
}

fn decode(part: &str) -> Result<Vec<u8>, TokenRefusal> {
    BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| TokenRefusal::Malformed)
}

impl From<JsonFault> for TokenRefusal {
    fn from(fault: JsonFault) -> Self {
        match fault {
            JsonFault::Malformed => Self::Malformed,
            JsonFault::DuplicateMember => Self::DuplicateMember,
        }
    }
}
