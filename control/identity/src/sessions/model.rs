//! What a session and an access token are, and how long each lives.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use plexsphere_kernel::{Assurance, Fault};
use plexsphere_wire::{DomainId, PrincipalId, Timestamp, TokenId};
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::principals::ApiTokenText;

/// How long the credentials of this module live.
pub(crate) struct Lifetimes;

impl Lifetimes {
    /// The longest life of a session.
    pub(crate) const SESSION: Duration = Duration::from_secs(12 * 3_600);
    /// A session that nobody used for so long is over.
    pub(crate) const IDLE: Duration = Duration::from_secs(3_600);
    /// A use is recorded at most once in so long.
    pub(crate) const TOUCH: Duration = Duration::from_secs(60);
    /// An access token of the service flow.
    pub(crate) const SERVICE: Duration = Duration::from_secs(3_600);
    /// An access token of the device flow.
    pub(crate) const DEVICE: Duration = Duration::from_secs(28_800);
}

/// The most live sessions of a User; the oldest make room.
pub(super) const MAX_SESSIONS: i64 = 20;

/// The random part of a cookie: 32 bytes, base64url without padding. Wiped when dropped, never printed.
pub(crate) struct SessionSecret(Zeroizing<[u8; 32]>);

impl SessionSecret {
    /// A fresh one from the operating system.
    ///
    /// # Errors
    /// [`Fault`] when the operating system gives no randomness.
    pub(crate) fn mint() -> Result<Self, Fault> {
        let mut bytes = Zeroizing::new([0u8; 32]);
        OsRng
            .try_fill_bytes(bytes.as_mut_slice())
            .map_err(|_| Fault::Invariant("the system's random source answers"))?;
        Ok(Self(bytes))
    }

    /// Reads a cookie's value; `None` for anything that was never one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() != 43 {
            return None;
        }
        let bytes = Zeroizing::new(BASE64URL_NOPAD.decode(text.as_bytes()).ok()?);
        Some(Self(Zeroizing::new(bytes.as_slice().try_into().ok()?)))
    }

    /// The cookie's value.
    pub(crate) fn render(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64URL_NOPAD.encode(self.0.as_slice()))
    }

    /// What is stored: the bytes are uniformly random, so a fast digest is right.
    pub(crate) fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_slice()).into()
    }
}

/// The text of an access token: `pat_<env>_<id>_<secret>`, laid out as an API token's.
pub(crate) struct AccessTokenText(ApiTokenText);

impl AccessTokenText {
    const PREFIX: &'static str = "pat_";

    /// A token of this id with a fresh secret from the operating system.
    ///
    /// # Errors
    /// [`Fault`] when the operating system gives no randomness.
    pub(crate) fn mint(id: TokenId) -> Result<Self, Fault> {
        ApiTokenText::mint(id).map(Self)
    }

    /// Reads the text behind `Bearer `; `None` for any other form.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        ApiTokenText::parse_behind(Self::PREFIX, text).map(Self)
    }

    /// Whether a bearer means to be an access token.
    pub(crate) fn is_meant(text: &str) -> bool {
        text.starts_with(Self::PREFIX)
    }

    /// Which token it claims to be.
    pub(crate) const fn id(&self) -> TokenId {
        self.0.id
    }

    /// The 32 secret bytes.
    pub(crate) fn secret(&self) -> &[u8; 32] {
        self.0.secret()
    }

    /// The text, to be shown once.
    pub(crate) fn render(&self, env: &str) -> Zeroizing<String> {
        self.0.render_behind(Self::PREFIX, env)
    }
}

/// A session as stored.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) digest: [u8; 32],
    pub(super) user: PrincipalId,
    pub(super) domain: Option<DomainId>,
    pub(super) assurance: Assurance,
    pub(super) last_seen_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) revoked: bool,
}

impl Session {
    /// Whether it is one at `now`.
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        !self.revoked && now < self.expires_at && now.since(self.last_seen_at) < Lifetimes::IDLE
    }
}

/// Whose an access token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bearer {
    /// A person, by the device flow.
    User(PrincipalId),
    /// A service identity.
    Service(PrincipalId),
}

/// An access token as stored.
#[derive(Clone, Debug)]
pub(super) struct AccessToken {
    pub(super) digest: Vec<u8>,
    pub(super) bearer: Bearer,
    pub(super) domain: Option<DomainId>,
    pub(super) assurance: Assurance,
    pub(super) expires_at: Timestamp,
    pub(super) revoked: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(last_seen: i64) -> Session {
        Session {
            digest: [1; 32],
            user: PrincipalId::mint(Timestamp::UNIX_EPOCH),
            domain: None,
            assurance: Assurance::default(),
            last_seen_at: Timestamp::from_unix_seconds(last_seen),
            expires_at: Timestamp::from_unix_seconds(43_200),
            revoked: false,
        }
    }

    #[test]
    fn a_session_ends_when_it_is_idle_for_an_hour_old_for_twelve_or_revoked() {
        let at = Timestamp::from_unix_seconds;
        assert!(session(0).is_live(at(3_599)));
        assert!(!session(0).is_live(at(3_600)));
        assert!(session(43_000).is_live(at(43_199)));
        assert!(!session(43_000).is_live(at(43_200)));
        assert!(!Session { revoked: true, ..session(0) }.is_live(at(1)));
    }

    #[test]
    fn a_cookie_reads_back_as_the_secret_it_was_and_nothing_else_reads() {
        let secret = SessionSecret::mint().unwrap();
        let read = SessionSecret::parse(&secret.render()).unwrap();
        assert_eq!(read.digest(), secret.digest());
        for text in ["", "x", &"A".repeat(42), &"A".repeat(44), &"=".repeat(43), "psk_dev_x"] {
            assert!(SessionSecret::parse(text).is_none(), "{text}");
        }
    }
}
