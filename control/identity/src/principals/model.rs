//! API tokens as values: their text, their lifetimes, and what can be wrong with a request for one.

use std::time::Duration;

use data_encoding::BASE32_NOPAD;
use plexsphere_kernel::{Principal, PrincipalScope, Subject};
use plexsphere_wire::{Code, Problem, Timestamp, TokenId};
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// The shortest lifetime, in seconds.
pub(crate) const MIN_TTL_SECONDS: i64 = 1;
/// The longest lifetime, in seconds: 365 days.
pub(crate) const MAX_TTL_SECONDS: i64 = 31_536_000;
/// The lifetime when none is asked for, in seconds: 90 days.
pub(crate) const DEFAULT_TTL_SECONDS: i64 = 7_776_000;
/// The most live tokens of one identity.
pub(crate) const MAX_LIVE: i64 = 100;
/// How long the old secret of a rotated token is good at most.
pub(crate) const ROTATION_OVERLAP: Duration = Duration::from_secs(24 * 3_600);
/// The env segments that a caller may ask for.
pub(crate) const ENVS: [&str; 3] = ["dev", "stage", "prod"];

const ID_CHARS: usize = 26;
const SECRET_CHARS: usize = 52;

/// The text of a token: `psk_<env>_<id>_<secret>`, the last two in lower-case unpadded base32 (26 and 52 characters).
///
/// The secret is wiped when the value is dropped and never printed.
pub struct ApiTokenText {
    /// Which token it claims to be.
    pub id: TokenId,
    secret: Zeroizing<[u8; 32]>,
}

impl ApiTokenText {
    /// A token of this id with a fresh secret from the operating system.
    ///
    /// # Errors
    /// [`plexsphere_kernel::Fault`] when the operating system gives no randomness.
    pub fn mint(id: TokenId) -> Result<Self, plexsphere_kernel::Fault> {
        let mut secret = Zeroizing::new([0u8; 32]);
        OsRng
            .try_fill_bytes(secret.as_mut_slice())
            .map_err(|_| plexsphere_kernel::Fault::Invariant("the system's random source answers"))?;
        Ok(Self { id, secret })
    }

    /// Reads the text behind `Bearer `; `None` for any other form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::parse_behind("psk_", text)
    }

    /// Reads a text that is laid out alike behind another prefix.
    pub(crate) fn parse_behind(prefix: &str, text: &str) -> Option<Self> {
        let (env, rest) = text.strip_prefix(prefix)?.split_once('_')?;
        let (id, secret) = rest.split_once('_')?;
        let env_fits = (1..=32).contains(&env.len()) && env.bytes().all(|b| b.is_ascii_lowercase());
        if !env_fits || id.len() != ID_CHARS || secret.len() != SECRET_CHARS {
            return None;
        }
        let id: [u8; 16] = decode(id)?.as_slice().try_into().ok()?;
        let secret: [u8; 32] = decode(secret)?.as_slice().try_into().ok()?;
        Some(Self { id: TokenId::from_bytes(id)?, secret: Zeroizing::new(secret) })
    }

    /// The text, to be shown once.
    #[must_use]
    pub fn render(&self, env: &str) -> Zeroizing<String> {
        self.render_behind("psk_", env)
    }

    /// The text behind another prefix.
    pub(crate) fn render_behind(&self, prefix: &str, env: &str) -> Zeroizing<String> {
        let id = lower(self.id.as_bytes());
        let secret = Zeroizing::new(lower(self.secret.as_slice()));
        Zeroizing::new(format!("{prefix}{env}_{id}_{}", secret.as_str()))
    }

    /// The 32 secret bytes.
    #[must_use]
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }
}

impl std::fmt::Debug for ApiTokenText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiTokenText").field("id", &self.id).finish_non_exhaustive()
    }
}

fn lower(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    let upper = Zeroizing::new(text.to_ascii_uppercase());
    BASE32_NOPAD.decode(upper.as_bytes()).ok().map(Zeroizing::new)
}

/// A stored token together with its owner's place.
#[derive(Clone, Debug)]
pub(crate) struct StoredToken {
    pub(crate) id: TokenId,
    pub(crate) owner: Subject,
    pub(crate) domain: Option<plexsphere_wire::DomainId>,
    pub(crate) env_prefix: String,
    pub(crate) digest: Vec<u8>,
    pub(crate) previous: Option<(Vec<u8>, Timestamp)>,
    pub(crate) ttl_seconds: i64,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) rotated_at: Option<Timestamp>,
    pub(crate) last_used_at: Option<Timestamp>,
    pub(crate) revoked: bool,
}

impl StoredToken {
    /// Whose token it is, and where that one belongs.
    pub(crate) fn principal(&self) -> Principal {
        let scope = self.domain.map_or(PrincipalScope::Platform, PrincipalScope::Domain);
        Principal { subject: self.owner, scope }
    }

    /// Whether the token still is one at `now`.
    pub(crate) fn is_live(&self, now: Timestamp) -> bool {
        !self.revoked && now < self.expires_at
    }

    /// Until when the secret with this digest opens the token; `None` when it does not at `now`. Both digests are compared,
    /// in constant time each.
    pub(crate) fn admits(&self, digest: &[u8; 32], now: Timestamp) -> Option<Timestamp> {
        let same = |kept: &[u8]| bool::from(kept.ct_eq(digest));
        let current = same(&self.digest);
        let previous = self.previous.as_ref().filter(|(previous, _)| same(previous)).map(|(_, until)| *until);
        let ends = if current { Some(self.expires_at) } else { previous.map(|until| until.min(self.expires_at)) };
        ends.filter(|ends| !self.revoked && now < *ends)
    }
}

/// What is wrong with a request about an API token.
#[derive(Debug, thiserror::Error)]
pub enum TokenRefusal {
    /// A member of the request breaks its rule.
    #[error("`{0}` is not acceptable")]
    Invalid(&'static str),
    /// The identity already has as many live tokens as it may have.
    #[error("the identity has {MAX_LIVE} live tokens, which is the most")]
    TooMany,
    /// Not a reference to a principal.
    #[error("`identity_ref` is `user:<uuid>` or `service:<uuid>`")]
    Reference,
    /// The token is asked for somebody else.
    #[error("`identity_ref` is not the caller")]
    NotSelf,
    /// The token that the caller came by ended meanwhile.
    #[error("the token has ended")]
    Ended,
    /// There is no such live token of the caller's.
    #[error("there is no such token")]
    NotFound,
    /// Something broke.
    #[error(transparent)]
    Fault(#[from] plexsphere_kernel::Fault),
}

impl TokenRefusal {
    /// The code on the wire.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Invalid(_) | Self::TooMany => Code::InvalidApiToken,
            Self::Reference => Code::InvalidIdentityRef,
            Self::NotSelf => Code::IdentityRefNotSelf,
            Self::Ended => Code::Unauthenticated,
            Self::NotFound => Code::ApiTokenNotFound,
            Self::Fault(_) => Code::Internal,
        }
    }
}

impl From<TokenRefusal> for Problem {
    fn from(refusal: TokenRefusal) -> Self {
        match refusal {
            TokenRefusal::Fault(fault) => fault.into(),
            other => Self::new(other.code(), crate::text::sentence(&other)),
        }
    }
}

/// When a token ends that is asked for `ttl_seconds`, by a caller whose own token ends at `own_end`.
pub(crate) fn expiry(now: Timestamp, ttl_seconds: i64, own_end: Option<Timestamp>) -> Timestamp {
    let end = now.plus(Duration::from_secs(u64::try_from(ttl_seconds).unwrap_or(0)));
    own_end.map_or(end, |own| end.min(own))
}
