//! The browser sign-in: authorization code with PKCE (OpenID Connect Core 1.0; RFC 7636; RFC 9207).
//!
//! [`FlowSecrets`] are made, [`authorization_url`] sends the browser away; the caller keeps the flow under the digest of
//! its state with nonce and verifier sealed; the browser comes back with a [`Callback`], and [`finish`] does the rest.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use plexsphere_wire::{Code, Timestamp};
use rand::RngCore;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use url::Url;

use crate::assurance::{AssuranceUnmet, RequiredAssurance};
use crate::endpoint::{Client, ExchangeFailure, OAuthError, redeem};
use crate::json;
use crate::provider::{Discovery, ProviderError, Providers, Trust};
use crate::secret::Secret;
use crate::token::{ClaimMappings, Expected, IdToken, TokenRefusal, verify_id_token};

/// How long a sign-in may take at the provider.
pub const FLOW_LIFE: std::time::Duration = std::time::Duration::from_secs(600);
/// The longest query of a callback, in bytes.
pub const MAX_CALLBACK_BYTES: usize = 8_192;

/// The four random values of one sign-in, 32 bytes each, base64url.
#[derive(Debug, Clone)]
pub struct FlowSecrets {
    /// Ties the callback to the flow and to the browser.
    pub state: Secret,
    /// Ties the id token to the flow.
    pub nonce: Secret,
    /// Ties the code to us; never leaves the server before the exchange.
    pub verifier: Secret,
    /// What the caller is told in the verifier's place.
    pub handle: Secret,
}

impl FlowSecrets {
    /// Fresh ones.
    #[must_use]
    pub fn random() -> Self {
        Self { state: random(), nonce: random(), verifier: random(), handle: random() }
    }

    /// The PKCE challenge, method S256.
    #[must_use]
    pub fn challenge(&self) -> String {
        BASE64URL_NOPAD.encode(&Sha256::digest(self.verifier.expose()))
    }
}

fn random() -> Secret {
    let mut bytes = zeroize::Zeroizing::new([0_u8; 32]);
    rand::rng().fill_bytes(&mut *bytes);
    Secret::new(BASE64URL_NOPAD.encode(&*bytes))
}

/// The key under which a flow is kept: SHA-256 of its state.
#[must_use]
pub fn state_digest(state: &str) -> [u8; 32] {
    Sha256::digest(state).into()
}

/// Whether the browser that comes back is the one that left: state and cookie are equal, in constant time.
#[must_use]
pub fn same_browser(state: &str, cookie: Option<&str>) -> bool {
    cookie.is_some_and(|cookie| !state.is_empty() && bool::from(state.as_bytes().ct_eq(cookie.as_bytes())))
}

/// What the provider is asked to do with the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prompt {
    /// Sign in anew; we also ask for no earlier sign-in (`max_age=0`).
    Login,
    /// Ask for consent anew.
    Consent,
    /// Choose among accounts.
    SelectAccount,
    /// Show nothing.
    None,
}

impl Prompt {
    /// Reads the value of a request; others are not forwarded.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Login, Self::Consent, Self::SelectAccount, Self::None].into_iter().find(|prompt| prompt.as_str() == text)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Consent => "consent",
            Self::SelectAccount => "select_account",
            Self::None => "none",
        }
    }
}

/// One sign-in to begin.
#[derive(Debug, Clone, Copy)]
pub struct SignIn<'s> {
    /// Our client id.
    pub client_id: &'s str,
    /// Where the browser comes back to.
    pub redirect_uri: &'s str,
    /// What is demanded; the classes are asked for, the methods cannot be.
    pub required: &'s RequiredAssurance,
    /// What to do with the person.
    pub prompt: Option<Prompt>,
}

/// The address to send the browser to.
///
/// # Errors
/// [`ProviderError`] when the endpoint is no address, which discovery has ruled out.
pub fn authorization_url(
    discovery: &Discovery,
    sign_in: &SignIn<'_>,
    secrets: &FlowSecrets,
) -> Result<String, ProviderError> {
    let mut url = Url::parse(&discovery.authorization_endpoint)
        .map_err(|_| ProviderError::from(crate::fetch::FetchError::Url))?;
    let mut query = url.query_pairs_mut();
    query
        .append_pair("response_type", "code")
        .append_pair("client_id", sign_in.client_id)
        .append_pair("redirect_uri", sign_in.redirect_uri)
        .append_pair("scope", "openid profile email")
        .append_pair("state", secrets.state.expose())
        .append_pair("nonce", secrets.nonce.expose())
        .append_pair("code_challenge", &secrets.challenge())
        .append_pair("code_challenge_method", "S256");
    if !sign_in.required.acr.is_empty() {
        query.append_pair("acr_values", &sign_in.required.acr.join(" "));
    }
    if let Some(prompt) = sign_in.prompt {
        query.append_pair("prompt", prompt.as_str());
        if prompt == Prompt::Login {
            query.append_pair("max_age", "0");
        }
    }
    drop(query);
    Ok(url.into())
}

/// Why a callback cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallbackFault {
    /// Too long, a parameter twice, or no state: it belongs to no flow of ours.
    #[error("the callback belongs to no sign-in")]
    NoState,
}

impl CallbackFault {
    /// The problem code for a caller.
    #[must_use]
    pub fn code(self) -> Code {
        Code::StateMismatch
    }
}

/// What the browser brings back.
#[derive(Debug, Clone)]
pub struct Callback {
    /// Names the flow.
    pub state: Secret,
    outcome: Result<Secret, OAuthError>,
    issuer: Option<String>,
}

impl Callback {
    /// Reads the query of a callback.
    ///
    /// # Errors
    /// [`CallbackFault::NoState`].
    pub fn parse(query: &str) -> Result<Self, CallbackFault> {
        if query.len() > MAX_CALLBACK_BYTES {
            return Err(CallbackFault::NoState);
        }
        let (mut state, mut code, mut error, mut issuer) = (None, None, None, None);
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let place = match &*name {
                "state" => &mut state,
                "code" => &mut code,
                "error" => &mut error,
                "iss" => &mut issuer,
                _ => continue,
            };
            if place.replace(value.into_owned()).is_some() {
                return Err(CallbackFault::NoState);
            }
        }
        let state = state.filter(|state| !state.is_empty()).ok_or(CallbackFault::NoState)?;
        let outcome = match (error, code.filter(|code| !code.is_empty())) {
            (None, Some(code)) => Ok(Secret::new(code)),
            (error, _) => Err(OAuthError::new(&error.unwrap_or_default())),
        };
        Ok(Self { state: Secret::new(state), outcome, issuer })
    }

    /// The provider's refusal, if it sent an error, or nothing, instead of a code.
    #[must_use]
    pub fn denied(&self) -> Option<SignInFailure> {
        self.outcome.as_ref().err().map(SignInFailure::denied)
    }
}

/// Why a sign-in failed after its flow was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignInFailure {
    /// The provider sent an error, or nothing, instead of a code.
    #[error("the provider denied the sign-in: {error}")]
    Denied {
        /// Its error code.
        error: OAuthError,
    },
    /// The callback names another issuer than the flow, or none although its provider always does: a mix-up attack.
    #[error("the callback comes from another issuer")]
    OtherIssuer,
    /// The code could not be redeemed.
    #[error("the code was not redeemed")]
    Exchange(#[source] ExchangeFailure),
    /// The provider's keys cannot be had.
    #[error("the provider cannot be used")]
    Provider(#[source] ProviderError),
    /// The id token is refused.
    #[error("the id token is refused")]
    Token(#[source] TokenRefusal),
    /// The person did not sign in as the binding demands.
    #[error("the sign-in is not strong enough")]
    Assurance(#[source] AssuranceUnmet),
}

impl SignInFailure {
    fn denied(error: &OAuthError) -> Self {
        Self::Denied { error: error.clone() }
    }

    /// The problem code for a caller.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Denied { .. } => Code::IdpDenied,
            Self::OtherIssuer => Code::StateMismatch,
            Self::Exchange(ExchangeFailure::Refused { .. } | ExchangeFailure::NoClientAuth) => {
                Code::TokenExchangeRejected
            }
            Self::Exchange(ExchangeFailure::Provider { source }) | Self::Provider(source) => source.code(),
            Self::Exchange(ExchangeFailure::Answer { .. }) => Code::IdTokenInvalid,
            Self::Token(refusal) => refusal.code(),
            Self::Assurance(unmet) => unmet.code(),
        }
    }
}

/// A flow that was begun, as the caller kept it.
#[derive(Clone, Copy)]
pub struct Pending<'p> {
    /// Whom its binding trusts.
    pub trust: &'p Trust,
    /// Ourselves at the provider.
    pub client: &'p Client,
    /// As in [`SignIn`].
    pub redirect_uri: &'p str,
    /// As in [`FlowSecrets`].
    pub nonce: &'p Secret,
    /// As in [`FlowSecrets`].
    pub verifier: &'p Secret,
    /// As in [`SignIn`].
    pub required: &'p RequiredAssurance,
    /// How its binding reads claims.
    pub mappings: &'p ClaimMappings,
    /// When the flow began, if it began with [`Prompt::Login`]: an older sign-in will not do.
    pub authenticated_since: Option<Timestamp>,
}

impl fmt::Debug for Pending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("trust", &self.trust).finish_non_exhaustive()
    }
}

/// Redeems the code and judges what comes of it: steps 2 and 4 to 6 of the callback.
///
/// # Errors
/// [`SignInFailure`]; its [`SignInFailure::code`] is what the caller is told.
pub async fn finish(
    providers: &Providers,
    pending: &Pending<'_>,
    callback: &Callback,
    now: Timestamp,
) -> Result<IdToken, SignInFailure> {
    let Pending { trust, .. } = pending;
    if callback.issuer.as_ref().is_some_and(|issuer| *issuer != trust.issuer) {
        return Err(SignInFailure::OtherIssuer);
    }
    let code = callback.outcome.as_ref().map_err(SignInFailure::denied)?;
    let discovery = providers.discover(trust, now).await.map_err(SignInFailure::Provider)?;
    if callback.issuer.is_none() && discovery.names_issuer_in_callback {
        return Err(SignInFailure::OtherIssuer);
    }
    let grant = [
        ("grant_type", "authorization_code"),
        ("code", code.expose()),
        ("redirect_uri", pending.redirect_uri),
        ("code_verifier", pending.verifier.expose()),
    ];
    let answer = redeem(providers, trust, pending.client, &grant, now).await.map_err(SignInFailure::Exchange)?;
    let token = json::text(&answer, "id_token").ok_or(SignInFailure::Token(TokenRefusal::Missing))?;
    let expected = Expected {
        client_id: &pending.client.id,
        nonce: pending.nonce.expose(),
        authenticated_since: pending.authenticated_since,
    };
    let token = verify_id_token(providers, trust, token, (&expected, pending.mappings), now).await?;
    pending.required.check(token.acr.as_deref(), &token.amr).map_err(SignInFailure::Assurance)?;
    Ok(token)
}

#[cfg(test)]
mod tests;
