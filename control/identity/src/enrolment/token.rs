//! Bootstrap tokens as values: the grammar of their text, their lifetimes, their states.

use data_encoding::BASE32_NOPAD;
use plexsphere_kernel::Fault;
use plexsphere_wire::{PrincipalId, ProjectId, Timestamp, TokenId};
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use zeroize::Zeroizing;

/// The shortest and the longest lifetime, in seconds.
pub(crate) const TTL_SECONDS: std::ops::RangeInclusive<i64> = 300..=86_400;
/// The longest env prefix.
const MAX_ENV: usize = 32;
/// Characters of the Project segment.
const PROJECT_CHARS: usize = 26;
/// The fewest characters of the random segment.
const MIN_RANDOM_CHARS: usize = 20;
/// The most bytes of a token's text; an agent reads no more.
const MAX_TEXT: usize = 512;

/// What a token enrols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A Node of any Resource but a bridge.
    Node,
    /// A Node of a bridge.
    Bridge,
}

impl TokenKind {
    /// The word in the text, on the wire and in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Bridge => "bridge",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Node, Self::Bridge].into_iter().find(|kind| kind.as_str() == word)
    }

    /// Whether a Resource of this kind is enrolled by such a token.
    #[must_use]
    pub fn fits(self, resource_kind: &str) -> bool {
        (self == Self::Bridge) == (resource_kind == "bridge")
    }
}

/// Whether a text is an env prefix: `^[a-z]+$`, 1 to 32 characters.
#[must_use]
pub(super) fn is_env_prefix(text: &str) -> bool {
    (1..=MAX_ENV).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase())
}

/// The parts of a token's text, `psb_<env>_<projectId>_<kind>_<random>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapTokenText {
    /// The env segment.
    pub env_prefix: String,
    /// The Project it is good for, by its own word.
    pub project: ProjectId,
    /// What it enrols, by its own word.
    pub kind: TokenKind,
}

impl BootstrapTokenText {
    /// Reads the parts; `None` when the text does not follow the grammar.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_TEXT {
            return None;
        }
        let mut parts = text.split('_');
        let (prefix, env, project, kind, random) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_base32 = |text: &str| text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'));
        let fits = parts.next().is_none()
            && prefix == "psb"
            && is_env_prefix(env)
            && project.len() == PROJECT_CHARS
            && is_base32(project)
            && random.len() >= MIN_RANDOM_CHARS
            && is_base32(random);
        if !fits {
            return None;
        }
        let bytes = BASE32_NOPAD.decode(project.to_ascii_uppercase().as_bytes()).ok()?;
        let project = ProjectId::from_bytes(bytes.as_slice().try_into().ok()?)?;
        Some(Self { env_prefix: env.to_owned(), project, kind: TokenKind::parse(kind)? })
    }

    /// A fresh text with 16 random bytes from the operating system.
    ///
    /// # Errors
    /// [`Fault`] when the operating system gives no randomness.
    pub fn mint(&self) -> Result<Zeroizing<String>, Fault> {
        let mut random = Zeroizing::new([0u8; 16]);
        OsRng
            .try_fill_bytes(random.as_mut_slice())
            .map_err(|_| Fault::Invariant("the system's random source answers"))?;
        let project = BASE32_NOPAD.encode(self.project.as_bytes()).to_ascii_lowercase();
        let secret = Zeroizing::new(BASE32_NOPAD.encode(random.as_slice()).to_ascii_lowercase());
        Ok(Zeroizing::new(format!("psb_{}_{project}_{}_{}", self.env_prefix, self.kind.as_str(), secret.as_str())))
    }
}

/// How far a token's life is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// Good.
    Live,
    /// Redeemed then.
    Consumed(Timestamp),
    /// Past its end, neither redeemed nor revoked.
    Expired,
    /// Revoked then.
    Revoked(Timestamp),
}

/// A stored token.
#[derive(Clone, Debug)]
pub struct StoredToken {
    pub(crate) id: TokenId,
    pub(crate) project: ProjectId,
    pub(crate) domain: plexsphere_wire::DomainId,
    pub(crate) kind: TokenKind,
    pub(crate) env_prefix: String,
    pub(crate) hash: String,
    pub(crate) issued_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) issued_by: PrincipalId,
    pub(crate) consumed_at: Option<Timestamp>,
    pub(crate) revoked_at: Option<Timestamp>,
}

impl StoredToken {
    /// Its state at `now`: consumed before expired before revoked.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> TokenState {
        match (self.consumed_at, self.revoked_at) {
            (Some(at), _) => TokenState::Consumed(at),
            (None, _) if now >= self.expires_at => TokenState::Expired,
            (None, Some(at)) => TokenState::Revoked(at),
            (None, None) => TokenState::Live,
        }
    }

    /// Whether the stored facts are those of the presented text.
    #[must_use]
    pub fn agrees(&self, text: &BootstrapTokenText) -> bool {
        self.project == text.project && self.kind == text.kind && self.env_prefix == text.env_prefix
    }
}
