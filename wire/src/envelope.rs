//! The signed event envelope and its canonical bytes.
//!
//! The agent parses an envelope and re-serialises it to verify, so our bytes are a fixed point of its encoder: fixed
//! member order, no white space, `<`, `>`, `&`, U+2028 and U+2029 escaped in every string, times in whole seconds.

mod canonical;
#[cfg(test)]
mod tests;

pub use canonical::canonical_json;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
pub use ed25519_dalek::{SigningKey, VerifyingKey};

use ed25519_dalek::Signature;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{DomainId, EnvelopeId, Timestamp};

/// The largest envelope that is published, in bytes.
pub const MAX_ENVELOPE_BYTES: usize = 512 * 1024;
/// The longest single string inside an envelope, in bytes as encoded.
pub const MAX_STRING_BYTES: usize = 30 * 1024;

/// The closed wire taxonomy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// Platform-written state of one Node changed.
    NodeStateUpdated,
    /// The compiled policy of one Node changed.
    PolicyUpdated,
    /// The bridge configuration of one Node changed.
    BridgeConfigUpdated,
    /// An action waits for the Node.
    ActionRequest,
    /// An access session begins.
    SessionSetup,
    /// An access session ends.
    SessionRevoked,
    /// Nodes joined the mesh.
    PeerRegistered,
    /// Pre-shared keys of peers changed.
    PeerPskAssigned,
    /// Nodes left the mesh.
    PeerDeregistered,
    /// Endpoints of peers changed.
    PeerEndpointChanged,
    /// Public keys of peers changed.
    PeerKeyRotated,
    /// The Node shall rotate its mesh key.
    RotateKeys,
    /// The Domain signs with another key from now on.
    SigningKeyRotated,
    /// Secrets that the Node may read changed.
    NodeSecretsUpdated,
}

impl EventType {
    /// All fourteen.
    pub const ALL: [Self; 14] = [
        Self::NodeStateUpdated,
        Self::PolicyUpdated,
        Self::BridgeConfigUpdated,
        Self::ActionRequest,
        Self::SessionSetup,
        Self::SessionRevoked,
        Self::PeerRegistered,
        Self::PeerPskAssigned,
        Self::PeerDeregistered,
        Self::PeerEndpointChanged,
        Self::PeerKeyRotated,
        Self::RotateKeys,
        Self::SigningKeyRotated,
        Self::NodeSecretsUpdated,
    ];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NodeStateUpdated => "node_state_updated",
            Self::PolicyUpdated => "policy_updated",
            Self::BridgeConfigUpdated => "bridge_config_updated",
            Self::ActionRequest => "action_request",
            Self::SessionSetup => "session_setup",
            Self::SessionRevoked => "session_revoked",
            Self::PeerRegistered => "peer_registered",
            Self::PeerPskAssigned => "peer_psk_assigned",
            Self::PeerDeregistered => "peer_deregistered",
            Self::PeerEndpointChanged => "peer_endpoint_changed",
            Self::PeerKeyRotated => "peer_key_rotated",
            Self::RotateKeys => "rotate_keys",
            Self::SigningKeyRotated => "signing_key_rotated",
            Self::NodeSecretsUpdated => "node_secrets_updated",
        }
    }

    /// Reads a word of the wire; `None` outside the taxonomy.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == word)
    }

    /// Whether payloads are `{"peers":[…]}` and may be merged by the relay.
    #[must_use]
    pub const fn carries_peers(self) -> bool {
        matches!(
            self,
            Self::PeerRegistered
                | Self::PeerPskAssigned
                | Self::PeerDeregistered
                | Self::PeerEndpointChanged
                | Self::PeerKeyRotated
        )
    }
}

/// Why bytes are no believable envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not the exact canonical form: member set, order, white space, escapes or times differ.
    #[error("not in canonical form")]
    NotCanonical,
    /// A type outside the taxonomy.
    #[error("type outside the taxonomy")]
    UnknownType,
    /// A scope that is not `domain:<id>`.
    #[error("scope is not a domain")]
    Scope,
    /// The payload is not a JSON object.
    #[error("payload is not a json object")]
    Payload,
    /// Larger than [`MAX_ENVELOPE_BYTES`], or a string larger than [`MAX_STRING_BYTES`].
    #[error("too large")]
    TooLarge,
    /// A kid with a byte that would be escaped, or longer than 200 bytes.
    #[error("key id has a forbidden byte or length")]
    KeyId,
    /// The signature is not 64 bytes of canonical standard base64.
    #[error("signature is malformed")]
    SignatureForm,
    /// The signature does not fit the bytes and the key.
    #[error("signature does not verify")]
    Signature,
}

/// An envelope that is not signed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsigned {
    /// Id; also the message's dedupe key.
    pub id: EnvelopeId,
    /// What happened.
    pub event: EventType,
    /// For whom the key speaks.
    pub domain: DomainId,
    /// The key that will sign: printable ASCII without `< > & " \` and space, at most 200 bytes.
    pub key_id: String,
    /// When it is signed; written in whole seconds.
    pub issued_at: Timestamp,
    /// A JSON object in canonical form (see [`canonical_json`]).
    pub payload: String,
}

impl Unsigned {
    /// The bytes that are signed.
    ///
    /// # Errors
    /// [`EnvelopeError::KeyId`], [`EnvelopeError::Payload`] or [`EnvelopeError::TooLarge`].
    pub fn canonical_bytes(&self) -> Result<Vec<u8>, EnvelopeError> {
        if !valid_kid(&self.key_id) {
            return Err(EnvelopeError::KeyId);
        }
        let payload = canonical_json(&self.payload).map_err(|_| EnvelopeError::Payload)?;
        if !payload.starts_with('{') {
            return Err(EnvelopeError::Payload);
        }
        let text = format!(
            r#"{{"id":"{}","type":"{}","scope":"domain:{}","key_id":"{}","issued_at":"{}","payload":{payload}}}"#,
            self.id,
            self.event.as_str(),
            self.domain,
            self.key_id,
            self.issued_at.whole_second(),
        );
        if text.len() > MAX_ENVELOPE_BYTES || canonical::longest_string(&payload) > MAX_STRING_BYTES {
            return Err(EnvelopeError::TooLarge);
        }
        Ok(text.into_bytes())
    }
}

/// Whether a kid can stand inside canonical bytes without an escape.
#[must_use]
pub fn valid_kid(kid: &str) -> bool {
    (1..=200).contains(&kid.len())
        && kid.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'<' | b'>' | b'&' | b'"' | b'\\'))
}

/// Puts a signature into canonical bytes: `,"signature":"…"` before the last brace.
#[must_use]
pub fn attach_signature(canonical: &[u8], signature: &[u8; 64]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(canonical.len() + 106);
    wire.extend_from_slice(canonical.strip_suffix(b"}").unwrap_or(canonical));
    wire.extend_from_slice(br#","signature":""#);
    wire.extend_from_slice(STANDARD.encode(signature).as_bytes());
    wire.extend_from_slice(br#""}"#);
    wire
}

/// Signs canonical bytes (PureEd25519, RFC 8032) and returns the wire body.
#[must_use]
pub fn sign(canonical: &[u8], key: &SigningKey) -> Vec<u8> {
    use ed25519_dalek::Signer as _;
    attach_signature(canonical, &key.sign(canonical).to_bytes())
}

/// A wire body taken apart, its form checked and its signature not yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The signed part.
    pub unsigned: Unsigned,
    canonical: Vec<u8>,
    signature: [u8; 64],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members<'a> {
    id: EnvelopeId,
    r#type: String,
    scope: String,
    key_id: String,
    issued_at: String,
    #[serde(borrow)]
    payload: &'a RawValue,
    signature: String,
}

impl Envelope {
    /// Takes a wire body apart. The bytes must be exactly those that [`attach_signature`] would write.
    ///
    /// # Errors
    /// Every variant of [`EnvelopeError`] but `Signature`.
    pub fn parse(wire: &[u8]) -> Result<Self, EnvelopeError> {
        if wire.len() > MAX_ENVELOPE_BYTES + 128 {
            return Err(EnvelopeError::TooLarge);
        }
        let members: Members<'_> = serde_json::from_slice(wire).map_err(|_| EnvelopeError::NotCanonical)?;
        let event = EventType::parse(&members.r#type).ok_or(EnvelopeError::UnknownType)?;
        let domain = members
            .scope
            .strip_prefix("domain:")
            .and_then(|id| id.parse::<DomainId>().ok())
            .ok_or(EnvelopeError::Scope)?;
        let issued_at = Timestamp::parse(&members.issued_at).map_err(|_| EnvelopeError::NotCanonical)?;
        let signature = STANDARD
            .decode(members.signature.as_bytes())
            .ok()
            .and_then(|bytes| <[u8; 64]>::try_from(bytes).ok())
            .ok_or(EnvelopeError::SignatureForm)?;
        let unsigned = Unsigned {
            id: members.id,
            event,
            domain,
            key_id: members.key_id,
            issued_at,
            payload: members.payload.get().to_owned(),
        };
        let canonical = unsigned.canonical_bytes()?;
        if attach_signature(&canonical, &signature) != wire {
            return Err(EnvelopeError::NotCanonical);
        }
        Ok(Self { unsigned, canonical, signature })
    }

    /// Verifies the signature strictly (canonical S, no small-order key).
    ///
    /// # Errors
    /// [`EnvelopeError::Signature`].
    pub fn verify(&self, key: &VerifyingKey) -> Result<(), EnvelopeError> {
        key.verify_strict(&self.canonical, &Signature::from_bytes(&self.signature))
            .map_err(|_| EnvelopeError::Signature)
    }
}

/// Reads a public key as every wire writes it: standard-padded base64 of the raw 32 bytes.
#[must_use]
pub fn parse_public_key(text: &str) -> Option<VerifyingKey> {
    let bytes = <[u8; 32]>::try_from(STANDARD.decode(text.as_bytes()).ok()?).ok()?;
    VerifyingKey::from_bytes(&bytes).ok()
}
