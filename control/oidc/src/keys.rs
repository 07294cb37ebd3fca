//! Public keys of an issuer: a JSON Web Key Set (RFC 7517), read leniently and used strictly.
//!
//! A set may hold keys that we cannot use (symmetric ones, encryption keys, curves we do not know); they are left out,
//! because an issuer may serve others too.

pub(crate) mod cache;

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::DecodingKey;
use serde_json::Value;

use crate::json::{self, JsonFault, Object};

/// How many keys of one set are looked at; a set with more is refused.
const MAX_KEYS: usize = 64;
/// The longest key id, in bytes.
pub(crate) const MAX_KID_BYTES: usize = 256;
/// RSA moduli between 2,048 and 8,192 bits, in bytes.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1_024;

/// A signature algorithm (RFC 7518, RFC 8037). Neither `none` nor a symmetric one is among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alg {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Alg {
    /// What an id token, or the token of a machine, may be signed with.
    pub(crate) const OIDC: &'static [Self] = &[Self::Rs256, Self::Ps256, Self::Es256, Self::EdDsa];
    /// What a JWT-SVID may be signed with. ES512 is in its specification and not in ours.
    pub(crate) const SVID: &'static [Self] =
        &[Self::Rs256, Self::Rs384, Self::Rs512, Self::Ps256, Self::Ps384, Self::Ps512, Self::Es256, Self::Es384];

    /// Reads the `alg` of a header, exactly as registered.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "EdDSA" => Self::EdDsa,
            _ => return None,
        })
    }

    fn library(self) -> jsonwebtoken::Algorithm {
        use jsonwebtoken::Algorithm;
        match self {
            Self::Rs256 => Algorithm::RS256,
            Self::Rs384 => Algorithm::RS384,
            Self::Rs512 => Algorithm::RS512,
            Self::Ps256 => Algorithm::PS256,
            Self::Ps384 => Algorithm::PS384,
            Self::Ps512 => Algorithm::PS512,
            Self::Es256 => Algorithm::ES256,
            Self::Es384 => Algorithm::ES384,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }

    fn kind(self) -> KeyKind {
        match self {
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => KeyKind::Rsa,
            Self::Es256 => KeyKind::P256,
            Self::Es384 => KeyKind::P384,
            Self::EdDsa => KeyKind::Ed25519,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyKind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// What a key set is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Tokens of an OpenID provider: `use` is absent or `sig`.
    Oidc,
    /// JWT-SVIDs: `use` is `jwt-svid`, and each key has an id (SPIFFE bundle format).
    Svid,
}

/// One public key.
#[derive(Clone)]
pub(crate) struct PublicKey {
    kid: Option<String>,
    alg: Option<Alg>,
    kind: KeyKind,
    key: DecodingKey,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("kid", &self.kid).field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl PublicKey {
    fn fits(&self, alg: Alg) -> bool {
        self.kind == alg.kind() && self.alg.is_none_or(|own| own == alg)
    }

    /// Whether `signature` (base64url) is this key's over `message`.
    pub(crate) fn verifies(&self, alg: Alg, message: &str, signature: &str) -> bool {
        self.fits(alg)
            && jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.key, alg.library()).unwrap_or(false)
    }
}

/// What a set says to a token's header.
#[derive(Debug)]
pub(crate) enum Choice<'s> {
    /// This key.
    Key(&'s PublicKey),
    /// There is a key of that id for another algorithm, or no id and several keys: asking again would not help.
    Unfit,
    /// No such key: the issuer may have a new one.
    Unknown,
}

/// The usable keys of one document.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeySet {
    keys: Vec<PublicKey>,
}

impl KeySet {
    /// Reads a document.
    pub(crate) fn parse(document: &[u8], purpose: Purpose) -> Result<Self, JsonFault> {
        let document = json::object(document)?;
        let keys = document.get("keys").and_then(Value::as_array).ok_or(JsonFault::Malformed)?;
        if keys.len() > MAX_KEYS {
            return Err(JsonFault::Malformed);
        }
        let keys = keys.iter().filter_map(Value::as_object).filter_map(|jwk| read_key(jwk, purpose)).collect();
        Ok(Self { keys })
    }

    /// The key for a token's header.
    pub(crate) fn choose(&self, kid: Option<&str>, alg: Alg) -> Choice<'_> {
        let named = |key: &&PublicKey| kid.is_none() || key.kid.as_deref() == kid;
        let mut fitting = self.keys.iter().filter(named).filter(|key| key.fits(alg));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Choice::Key(key),
            (Some(_), Some(_)) => Choice::Unfit,
            (None, _) if kid.is_some() && self.keys.iter().any(|key| named(&key)) => Choice::Unfit,
            (None, _) => Choice::Unknown,
        }
    }
}

fn read_key(jwk: &Object, purpose: Purpose) -> Option<PublicKey> {
    let text = |name: &str| json::text(jwk, name);
    let fits = match (purpose, jwk.get("use")) {
        (Purpose::Oidc, None) => true,
        (Purpose::Oidc, Some(usage)) => usage == "sig",
        (Purpose::Svid, usage) => usage.is_some_and(|usage| usage == "jwt-svid"),
    };
    let verifies =
        jwk.get("key_ops").is_none_or(|ops| ops.as_array().is_some_and(|ops| ops.iter().any(|op| op == "verify")));
    let kid = text("kid").filter(|kid| !kid.is_empty() && kid.len() <= MAX_KID_BYTES);
    if !fits || !verifies || jwk.contains_key("kid") != kid.is_some() || (purpose == Purpose::Svid && kid.is_none()) {
        return None;
    }
    let alg = match jwk.get("alg") {
        None => None,
        Some(name) => Some(Alg::parse(name.as_str()?)?),
    };
    let (kind, key) = match (text("kty")?, text("crv")) {
        ("RSA", _) => (KeyKind::Rsa, rsa(text("n")?, text("e")?)?),
        ("EC", Some("P-256")) => (KeyKind::P256, point(text("x")?, text("y")?, 32)?),
        ("EC", Some("P-384")) => (KeyKind::P384, point(text("x")?, text("y")?, 48)?),
        ("OKP", Some("Ed25519")) => (KeyKind::Ed25519, DecodingKey::from_ed_der(&bytes(text("x")?, 32)?)),
        _ => return None,
    };
    Some(PublicKey { kid: kid.map(str::to_owned), alg, kind, key })
}

fn rsa(n: &str, e: &str) -> Option<DecodingKey> {
    let number = |text: &str| {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
        Some(bytes.get(zeros..)?.to_vec())
    };
    let (n, e) = (number(n)?, number(e)?);
    // Exponents beyond 33 bits only cost time.
    let sane = RSA_MODULUS_BYTES.contains(&n.len()) && (1..=4).contains(&e.len());
    sane.then(|| DecodingKey::from_rsa_raw_components(&n, &e))
}

/// An uncompressed point (SEC 1).
fn point(x: &str, y: &str, length: usize) -> Option<DecodingKey> {
    let mut point = vec![4];
    point.extend(bytes(x, length)?);
    point.extend(bytes(y, length)?);
    Some(DecodingKey::from_ec_der(&point))
}

fn bytes(text: &str, length: usize) -> Option<Vec<u8>> {
    BASE64URL_NOPAD.decode(text.as_bytes()).ok().filter(|bytes| bytes.len() == length)
}

#[cfg(test)]
mod tests;
