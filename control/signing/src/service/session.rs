//! Session tokens: their signatures, and whether one is believed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, VerifyingKey};
use plexsphere_kernel::SignerFault;
use plexsphere_wire::envelope::{Envelope, EventType};
use plexsphere_wire::{DomainId, Timestamp};
use serde::Deserialize;

use super::Signing;
use crate::metrics::Purpose;
use crate::model::{KeyLine, KeyState};

/// The longest signing input, in bytes.
const MAX_INPUT: usize = 8_192;

/// Why a signature is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disbelief {
    /// The Domain has no such key, or not one that is believed for this at that time.
    #[error("the key is not believed")]
    Key,
    /// The signature is not the key's over these bytes.
    #[error("the signature does not verify")]
    Signature,
    /// It cannot be told now.
    #[error(transparent)]
    Fault(#[from] SignerFault),
}

/// The header of a session token, exactly.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
}

impl Signing {
    /// Signs the first two segments of a session token with the Domain's current key.
    ///
    /// # Errors
    /// [`SignerFault`]; `Refused` where the header is not `{"alg":"EdDSA","kid":…,"typ":"at+jwt"}` with the current key,
    /// or the claims name another issuer than `plexsphere://domain/<domain>`.
    pub async fn sign_session(&self, domain: DomainId, signing_input: &str) -> Result<[u8; 64], SignerFault> {
        let signed = self.try_sign_session(domain, signing_input).await;
        if let Err(SignerFault::Refused(why)) = &signed {
            self.refused(domain, "of a session", why).await;
        }
        signed
    }

    async fn try_sign_session(&self, domain: DomainId, signing_input: &str) -> Result<[u8; 64], SignerFault> {
        self.at_home()?;
        let header = inspect(domain, signing_input)?;
        let mut line = self.line(domain).await?;
        if line.in_state(KeyState::Current).is_none_or(|key| key.kid != header.kid) {
            line = self.fresh_line(domain).await?;
        }
        if line.in_state(KeyState::Current).is_none_or(|key| key.kid != header.kid) {
            return Err(SignerFault::Refused("a session under another key than the current one"));
        }
        let signature = self.hand(domain, &header.kid).await?.sign(signing_input.as_bytes()).await?;
        self.metrics().signed(Purpose::Session);
        Ok(signature)
    }

    /// Whether `kid` signed these bytes and is believed at `at`: the current key is, the previous one until its
    /// transition is over, a retired one for an announcement only.
    ///
    /// # Errors
    /// [`Disbelief`].
    pub async fn verify(
        &self,
        domain: DomainId,
        kid: &str,
        bytes: &[u8],
        signature: &[u8; 64],
        at: Timestamp,
    ) -> Result<(), Disbelief> {
        let mut line = match self.line(domain).await {
            Err(SignerFault::NoKey) => return Err(Disbelief::Key),
            line => line?,
        };
        if line.key(kid).is_none() {
            line = self.fresh_line(domain).await?;
        }
        let key = believed(&line, kid, bytes, at).ok_or(Disbelief::Key)?;
        key.verify_strict(bytes, &Signature::from_bytes(signature)).map_err(|_| Disbelief::Signature)
    }
}

/// The public half of `kid`, if what it signs is believed.
fn believed(line: &KeyLine, kid: &str, bytes: &[u8], at: Timestamp) -> Option<VerifyingKey> {
    let key = line.key(kid)?;
    let is_believed = match key.state {
        KeyState::Current => true,
        KeyState::Previous => key.transition_expires.is_some_and(|expires| at < expires),
        KeyState::Retired => false,
        KeyState::Destroyed => return None,
    };
    if !is_believed && !is_announcement(bytes) {
        return None;
    }
    VerifyingKey::from_bytes(&key.public_key).ok()
}

fn is_announcement(canonical: &[u8]) -> bool {
    let envelope = Envelope::parse(&plexsphere_wire::envelope::attach_signature(canonical, &[0; 64]));
    envelope.is_ok_and(|envelope| envelope.unsigned.event == EventType::SigningKeyRotated)
}

/// Reads the header of a signing input and refuses what is no session token of this Domain.
fn inspect(domain: DomainId, signing_input: &str) -> Result<Header, SignerFault> {
    const MALFORMED: SignerFault = SignerFault::Refused("no session token");
    if signing_input.len() > MAX_INPUT {
        return Err(MALFORMED);
    }
    let (header, claims) = signing_input.split_once('.').ok_or(MALFORMED)?;
    let decode = |segment: &str| URL_SAFE_NO_PAD.decode(segment).map_err(|_| MALFORMED);
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| MALFORMED)?;
    let claims: Claims = serde_json::from_slice(&decode(claims)?).map_err(|_| MALFORMED)?;
    if header.alg != "EdDSA" || header.typ != "at+jwt" {
        return Err(SignerFault::Refused("a session token of another algorithm or type"));
    }
    if claims.iss != format!("plexsphere://domain/{domain}") {
        return Err(SignerFault::Refused("a session of another domain"));
    }
    Ok(header)
}
