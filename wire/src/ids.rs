//! Identifiers: UUIDv7 newtypes, minted by the server, printed lower case with hyphens.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::Timestamp;

/// Why a text is no identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not an RFC 9562 UUID in its hyphenated form.
    #[error("not a UUID")]
    Malformed,
    /// The nil UUID, which names nothing.
    #[error("the nil UUID names nothing")]
    Nil,
}

fn parse(text: &str) -> Result<Uuid, IdError> {
    // `Uuid::parse_str` also takes braces, URNs and bare hex; on the wire only 8-4-4-4-12 is an id.
    if text.len() != 36 {
        return Err(IdError::Malformed);
    }
    let uuid = Uuid::try_parse(text).map_err(|_| IdError::Malformed)?;
    if uuid.is_nil() { Err(IdError::Nil) } else { Ok(uuid) }
}

/// A UUIDv7 whose time part is `now` and whose other bits come from the system's random source.
fn mint(now: Timestamp) -> Uuid {
    let nanos = now.unix_nanos().max(0);
    let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(0);
    let subsec = u32::try_from(nanos % 1_000_000_000).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, subsec))
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Mints a fresh id whose time part is `now`.
            #[must_use]
            pub fn mint(now: Timestamp) -> Self { Self(mint(now)) }

            /// Takes a UUID from a trusted place such as a database column.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self { Self(uuid) }

            /// Takes 16 raw bytes, big endian; `None` for the nil UUID.
            #[must_use]
            pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
                let uuid = Uuid::from_bytes(bytes);
                (!uuid.is_nil()).then_some(Self(uuid))
            }

            /// The UUID inside.
            #[must_use]
            pub const fn uuid(&self) -> Uuid { self.0 }

            /// The 16 raw bytes, big endian.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] { self.0.as_bytes() }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.hyphenated().fmt(f) }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0.hyphenated())
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> { parse(text).map(Self) }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut buffer = Uuid::encode_buffer();
                serializer.serialize_str(self.0.hyphenated().encode_lower(&mut buffer))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                parse(&text).map(Self).map_err(serde::de::Error::custom)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                crate::schema::string("uuid")
            }
        }

        impl utoipa::ToSchema for $name {
            fn name() -> std::borrow::Cow<'static, str> { std::borrow::Cow::Borrowed(crate::schema::UUID) }
        }
    )*};
}

ids! {
    /// A Domain, the top tenancy boundary.
    DomainId;
    /// A Project of one Domain.
    ProjectId;
    /// A Resource of one Project.
    ResourceId;
    /// An enrolled Node of one Resource.
    NodeId;
    /// The mesh face of a Node.
    PeerId;
    /// One request to replace a Node's mesh key.
    RotationId;
    /// A principal: a User or a ServiceIdentity.
    PrincipalId;
    /// A Group of one Domain.
    GroupId;
    /// A trust in one identity provider, of one Domain or of the platform.
    IdpBindingId;
    /// An invitation into one Domain.
    InvitationId;
    /// A bootstrap token or an API token.
    TokenId;
    /// A signed event envelope; also its `Nats-Msg-Id`.
    EnvelopeId;
}

/// One id per request: on the response, in logs, in the audit row and in the outbox row.
///
/// Matches `^[A-Za-z0-9._:-]{1,128}$`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CorrelationId(String);

impl CorrelationId {
    /// The most bytes a caller's id may have.
    pub const MAX_LEN: usize = 128;

    /// Takes a caller's id when it has the right form; anything else is refused, never cleaned.
    #[must_use]
    pub fn accept(text: &str) -> Option<Self> {
        let fits = (1..=Self::MAX_LEN).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-'));
        fits.then(|| Self(text.to_owned()))
    }

    /// A fresh id: 26 characters of Crockford base32, sortable by time (the ULID layout).
    #[must_use]
    pub fn mint(now: Timestamp) -> Self {
        const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let mut value = mint(now).as_u128();
        let mut text = [0u8; 26];
        for slot in text.iter_mut().rev() {
            let index = usize::try_from(value & 31).unwrap_or(0);
            *slot = ALPHABET.get(index).copied().unwrap_or(b'0');
            value >>= 5;
        }
        Self(String::from_utf8_lossy(&text).into_owned())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hyphenated_form_is_an_id() {
        let id = NodeId::mint(Timestamp::from_unix_seconds(1_700_000_000));
        assert_eq!(id.to_string().parse::<NodeId>(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse::<NodeId>(), Ok(id));
        assert_eq!(id.uuid().simple().to_string().parse::<NodeId>(), Err(IdError::Malformed));
        assert_eq!(format!("{{{id}}}").parse::<NodeId>(), Err(IdError::Malformed));
        assert_eq!("00000000-0000-0000-0000-000000000000".parse::<NodeId>(), Err(IdError::Nil));
    }

    #[test]
    fn a_correlation_id_with_a_line_break_or_too_long_is_not_accepted() {
        assert!(CorrelationId::accept("abc:1.2_3-4").is_some());
        assert!(CorrelationId::accept("a\r\nSet-Cookie: x").is_none());
        assert!(CorrelationId::accept("").is_none());
        assert!(CorrelationId::accept(&"a".repeat(129)).is_none());
        let minted = CorrelationId::mint(Timestamp::from_unix_seconds(1_700_000_000));
        assert_eq!(minted.as_str().len(), 26);
        assert!(CorrelationId::accept(minted.as_str()).is_some());
    }
}
