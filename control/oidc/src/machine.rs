//! How a machine proves itself: a client-credentials grant at its Domain's provider, or a JWT-SVID.

use plexsphere_wire::{Code, Timestamp};

use crate::endpoint::{Client, ExchangeFailure, redeem};
use crate::fetch::Fetch;
use crate::json;
use crate::jws::Jws;
use crate::kept::Kept;
use crate::keys::Purpose;
use crate::keys::cache::{KeyCache, NoKey, Source, Wanted};
use crate::provider::{KeyFailure, ProviderError, Providers, Trust};
use crate::token::{ExpectedMachine, MACHINE, MachineToken, SVID, Svid, TokenRefusal, judge_machine, judge_svid};

/// How many SPIFFE bundles are kept.
pub const MAX_BUNDLES: usize = 1_024;

/// Why a client-credentials grant failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantFailure {
    /// The provider gave no token.
    #[error("the credentials were not redeemed")]
    Exchange(#[source] ExchangeFailure),
    /// The provider's keys cannot be had.
    #[error("the provider cannot be used")]
    Provider(#[source] ProviderError),
    /// The token it gave is not that of this machine.
    #[error("the access token is refused")]
    Token(#[source] TokenRefusal),
}

impl GrantFailure {
    /// The problem code for a caller.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Exchange(ExchangeFailure::Provider { source }) | Self::Provider(source) => source.code(),
            Self::Exchange(
                ExchangeFailure::Refused { .. } | ExchangeFailure::NoClientAuth | ExchangeFailure::Answer { .. },
            )
            | Self::Token(_) => Code::InvalidClientBadGateway,
        }
    }
}

/// Redeems a machine's own credentials and checks that the token is for `audience` and about the client.
///
/// # Errors
/// [`GrantFailure`].
pub async fn client_credentials(
    providers: &Providers,
    trust: &Trust,
    client: &Client,
    audience: &str,
    now: Timestamp,
) -> Result<MachineToken, GrantFailure> {
    // Providers that know `audience` need it to choose the token's; others ignore it.
    let grant = [("grant_type", "client_credentials"), ("audience", audience)];
    let answer = redeem(providers, trust, client, &grant, now).await.map_err(GrantFailure::Exchange)?;
    let token = json::text(&answer, "access_token").ok_or(GrantFailure::Token(TokenRefusal::Missing))?;
    let jws = Jws::parse(token, MACHINE).map_err(GrantFailure::Token)?;
    let key = providers.key(trust, &jws.header, now).await.map_err(|failure| match failure {
        KeyFailure::Provider(error) => GrantFailure::Provider(error),
        KeyFailure::Token(refusal) => GrantFailure::Token(refusal),
    })?;
    let claims = jws.verify(&key).map_err(GrantFailure::Token)?;
    let expected = ExpectedMachine { issuer: &trust.issuer, audience, subject: &client.id };
    judge_machine(&claims, expected, now).map_err(GrantFailure::Token)
}

/// Why an assertion was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SvidFailure {
    /// The binding names no bundle.
    #[error("the binding names no spiffe bundle")]
    Unconfigured,
    /// The bundle cannot be had and none is cached.
    #[error("the spiffe bundle cannot be had")]
    Unreachable(#[source] ProviderError),
    /// The assertion is refused.
    #[error("the assertion is refused")]
    Refused(#[source] TokenRefusal),
    /// It is good, and somebody else's.
    #[error("the assertion is about another subject")]
    OtherSubject,
}

impl SvidFailure {
    /// The problem code for a caller.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Unconfigured => Code::SpiffeBundleUnconfigured,
            Self::Unreachable(_) => Code::SpiffeBundleUnreachable,
            Self::Refused(_) => Code::SpiffeVerificationFailed,
            Self::OtherSubject => Code::FederationKindMismatch,
        }
    }
}

/// What an assertion is held to.
#[derive(Debug, Clone, Copy)]
pub struct ExpectedSvid<'e> {
    /// Where the binding's bundle lies, when it names one.
    pub bundle_url: Option<&'e str>,
    /// The binding's issuer; an `iss` must be it.
    pub issuer: &'e str,
    /// The machine's audience.
    pub audience: &'e str,
    /// The machine's subject, a SPIFFE id.
    pub subject: &'e str,
}

/// The SPIFFE bundles this process knows. Share one. An old bundle is used for a day when it cannot be fetched any more,
/// as workloads outlive their authority's outage.
#[derive(Debug)]
pub struct SpiffeBundles {
    fetch: Fetch,
    known: Kept<String, KeyCache>,
}

impl SpiffeBundles {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(fetch: Fetch) -> Self {
        Self { fetch, known: Kept::new(MAX_BUNDLES) }
    }

    /// Verifies a JWT-SVID. Single use of its `jti` until its end is the caller's business, who has a table.
    ///
    /// # Errors
    /// [`SvidFailure`].
    pub async fn verify(
        &self,
        assertion: &str,
        expected: &ExpectedSvid<'_>,
        now: Timestamp,
    ) -> Result<Svid, SvidFailure> {
        let url = expected.bundle_url.ok_or(SvidFailure::Unconfigured)?;
        let jws = Jws::parse(assertion, SVID).map_err(SvidFailure::Refused)?;
        let source = Source { fetch: &self.fetch, url, purpose: Purpose::Svid, stale_is_better_than_none: true };
        let wanted = Wanted { kid: jws.header.kid.as_deref(), alg: jws.header.alg };
        let bundle = self.known.of(&url.to_owned());
        let key = bundle.find(source, wanted, now).await.map_err(|none| match none {
            NoKey::Fetch(error) => SvidFailure::Unreachable(error),
            NoKey::Unknown => SvidFailure::Refused(TokenRefusal::UnknownKey),
            NoKey::Unfit => SvidFailure::Refused(TokenRefusal::UnfitKey),
        })?;
        let claims = jws.verify(&key).map_err(SvidFailure::Refused)?;
        let svid = judge_svid(&claims, (expected.issuer, expected.audience), now).map_err(SvidFailure::Refused)?;
        if svid.subject == expected.subject { Ok(svid) } else { Err(SvidFailure::OtherSubject) }
    }
}
