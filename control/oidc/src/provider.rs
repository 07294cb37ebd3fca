//! What an identity provider says of itself (OpenID Connect Discovery 1.0), and its keys, cached per trust.

use std::sync::Arc;
use std::time::Duration;

use plexsphere_wire::{Code, Timestamp};
use serde_json::Value;

use crate::cached::Cached;
use crate::fetch::{Fetch, FetchError};
use crate::json::{self, JsonFault, Object};
use crate::jws::Header;
use crate::kept::Kept;
use crate::keys::cache::{KeyCache, NoKey, Source, Wanted};
use crate::keys::{PublicKey, Purpose};
use crate::token::TokenRefusal;

/// How long a discovery document is used without asking again.
pub const DISCOVERY_KEPT: Duration = Duration::from_secs(3_600);
/// How many trusts are kept; the one that was not used for longest makes room.
pub const MAX_TRUSTS: usize = 1_024;

/// Whom a binding trusts. Two bindings that name the same issuer and find it at different places share nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Trust {
    /// The issuer, byte for byte as in its tokens.
    pub issuer: String,
    /// Where its discovery document lies.
    pub discovery_url: String,
}

/// Why a provider, or a part of it, cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// Nothing came back.
    #[error("the provider gave no answer")]
    Fetch {
        /// Why.
        #[source]
        source: FetchError,
    },
    /// It answered with a status that is no success.
    #[error("the provider answered with status {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// Its discovery document is not what the specification says.
    #[error("the discovery document is not valid: {reason}")]
    Discovery {
        /// Which rule it breaks.
        reason: DiscoveryFault,
    },
    /// Its document speaks of another issuer.
    #[error("the discovery document names another issuer")]
    Issuer,
    /// Its key set cannot be read.
    #[error("the key set is not valid")]
    Keys {
        /// Why.
        #[source]
        fault: JsonFault,
    },
}

/// Which rule a discovery document breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryFault {
    /// No JSON object.
    #[error("{0}")]
    Json(JsonFault),
    /// A member is missing or of the wrong kind.
    #[error("no {0}")]
    Missing(&'static str),
    /// An endpoint is nothing that we may speak to.
    #[error("{member}: {source}")]
    Endpoint {
        /// The member.
        member: &'static str,
        /// Why not.
        source: FetchError,
    },
}

impl From<FetchError> for ProviderError {
    fn from(source: FetchError) -> Self {
        Self::Fetch { source }
    }
}

impl ProviderError {
    /// Whether it may be gone in a minute (degraded), as opposed to a fault of the configuration (inactive).
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Fetch { source } => source.is_transient(),
            // A deployment that is being rolled answers 404 as easily as 503.
            Self::Status { .. } => true,
            Self::Discovery { .. } | Self::Issuer | Self::Keys { .. } => false,
        }
    }

    /// The problem code for a caller.
    #[must_use]
    pub fn code(&self) -> Code {
        Code::IdpUnreachable
    }

    pub(crate) fn of_status(status: u16) -> Result<(), Self> {
        if (200..300).contains(&status) { Ok(()) } else { Err(Self::Status { status }) }
    }
}

/// How a client proves itself at the token endpoint (RFC 6749, section 2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// HTTP Basic.
    Basic,
    /// In the form.
    Post,
}

/// The part of a discovery document that we use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// The issuer; equal to that of the trust.
    pub issuer: String,
    /// Where a browser is sent.
    pub authorization_endpoint: String,
    /// Where codes and credentials are redeemed.
    pub token_endpoint: String,
    /// Where the keys lie.
    pub jwks_uri: String,
    /// How we prove ourselves; `None` when it supports no way that we do.
    pub client_auth: Option<ClientAuth>,
    /// Whether its callbacks name their issuer (RFC 9207), so that one without does not come from it.
    pub names_issuer_in_callback: bool,
}

impl Discovery {
    /// Reads a document and holds it to the trust.
    fn parse(document: &[u8], trust: &Trust, fetch: &Fetch) -> Result<Self, ProviderError> {
        let invalid = |reason| ProviderError::Discovery { reason };
        let document = json::object(document).map_err(|fault| invalid(DiscoveryFault::Json(fault)))?;
        let issuer = json::text(&document, "issuer").ok_or(invalid(DiscoveryFault::Missing("issuer")))?;
        if issuer != trust.issuer {
            return Err(ProviderError::Issuer);
        }
        let endpoint = |member: &'static str| {
            let url = json::text(&document, member).ok_or(invalid(DiscoveryFault::Missing(member)))?;
            let admitted = fetch.admit(url).map_err(|source| invalid(DiscoveryFault::Endpoint { member, source }))?;
            Ok::<_, ProviderError>(admitted.to_string())
        };
        Ok(Self {
            issuer: issuer.to_owned(),
            authorization_endpoint: endpoint("authorization_endpoint")?,
            token_endpoint: endpoint("token_endpoint")?,
            jwks_uri: endpoint("jwks_uri")?,
            client_auth: client_auth(&document),
            names_issuer_in_callback: document.get("authorization_response_iss_parameter_supported")
                == Some(&Value::Bool(true)),
        })
    }
}

/// A provider that says nothing supports Basic.
fn client_auth(document: &Object) -> Option<ClientAuth> {
    let Some(methods) = document.get("token_endpoint_auth_methods_supported").and_then(Value::as_array) else {
        return Some(ClientAuth::Basic);
    };
    let supports = |name: &str| methods.iter().any(|method| method == name);
    if supports("client_secret_basic") {
        Some(ClientAuth::Basic)
    } else {
        supports("client_secret_post").then_some(ClientAuth::Post)
    }
}

/// The providers this process speaks to. Share one.
#[derive(Debug)]
pub struct Providers {
    fetch: Fetch,
    known: Kept<Trust, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    document: Cached<Discovery>,
    keys: KeyCache,
}

impl Providers {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(fetch: Fetch) -> Self {
        Self { fetch, known: Kept::new(MAX_TRUSTS) }
    }

    /// The client that all of this goes through.
    #[must_use]
    pub fn fetch(&self) -> &Fetch {
        &self.fetch
    }

    /// What the provider says of itself; fetched when it is not known or older than [`DISCOVERY_KEPT`].
    ///
    /// # Errors
    /// [`ProviderError`]. A failure is remembered for 15 s, so that a provider that hangs does not hold everybody up.
    pub async fn discover(&self, trust: &Trust, now: Timestamp) -> Result<Arc<Discovery>, ProviderError> {
        let entry = self.known.of(trust);
        if let Some(discovery) = entry.document.younger(DISCOVERY_KEPT, now) {
            return Ok(discovery);
        }
        let turn = entry.document.turn().await;
        match entry.document.younger(DISCOVERY_KEPT, now) {
            Some(discovery) => Ok(discovery),
            None => turn.fetch(now, self.read(trust)).await,
        }
    }

    /// Fetches document and keys now, whatever is cached. For health probes.
    ///
    /// # Errors
    /// [`ProviderError`]; [`ProviderError::is_transient`] tells degraded from inactive.
    pub async fn probe(&self, trust: &Trust, now: Timestamp) -> Result<(), ProviderError> {
        let entry = self.known.of(trust);
        let discovery = entry.document.turn().await.fetch_anyway(now, self.read(trust)).await?;
        entry.keys.probe(self.source(&discovery), now).await
    }

    /// Forgets what is cached of a trust: its binding was removed.
    pub fn forget(&self, trust: &Trust) {
        self.known.forget(trust);
    }

    /// The key that a token's header names.
    pub(crate) async fn key(&self, trust: &Trust, header: &Header, now: Timestamp) -> Result<PublicKey, KeyFailure> {
        let discovery = self.discover(trust, now).await.map_err(KeyFailure::Provider)?;
        let wanted = Wanted { kid: header.kid.as_deref(), alg: header.alg };
        let entry = self.known.of(trust);
        entry.keys.find(self.source(&discovery), wanted, now).await.map_err(KeyFailure::from)
    }

    fn source<'s>(&'s self, discovery: &'s Discovery) -> Source<'s> {
        Source {
            fetch: &self.fetch,
            url: &discovery.jwks_uri,
            purpose: Purpose::Oidc,
            stale_is_better_than_none: false,
        }
    }

    async fn read(&self, trust: &Trust) -> Result<Discovery, ProviderError> {
        let answer = self.fetch.get(&trust.discovery_url).await?;
        ProviderError::of_status(answer.status)?;
        Discovery::parse(&answer.body, trust, &self.fetch)
    }
}

/// Why there is no key for a token.
#[derive(Debug, Clone)]
pub(crate) enum KeyFailure {
    /// The provider cannot be asked.
    Provider(ProviderError),
    /// The token is to blame.
    Token(TokenRefusal),
}

impl From<NoKey> for KeyFailure {
    fn from(none: NoKey) -> Self {
        match none {
            NoKey::Fetch(error) => Self::Provider(error),
            NoKey::Unknown => Self::Token(TokenRefusal::UnknownKey),
            NoKey::Unfit => Self::Token(TokenRefusal::UnfitKey),
        }
    }
}
