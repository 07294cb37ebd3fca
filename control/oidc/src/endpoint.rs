//! The token endpoint (RFC 6749, sections 3.2 and 5).

use std::fmt;

use data_encoding::BASE64;
use plexsphere_wire::Timestamp;
use url::form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

use crate::json::{self, JsonFault, Object};
use crate::provider::{ClientAuth, ProviderError, Providers, Trust};
use crate::secret::Secret;

/// The longest error code that is kept, in bytes.
const MAX_ERROR_BYTES: usize = 64;

/// A client and its secret.
#[derive(Debug, Clone)]
pub struct Client {
    /// Client id.
    pub id: String,
    /// Client secret.
    pub secret: Secret,
}

/// An `error` of OAuth: fit for a log, never for a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuthError(String);

impl OAuthError {
    /// Keeps what looks like an error code, and nothing of anything else: it is a stranger's text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let fits = !text.is_empty()
            && text.len() <= MAX_ERROR_BYTES
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
        Self(if fits { text.to_owned() } else { "unreadable".to_owned() })
    }
}

impl fmt::Display for OAuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why the endpoint gave no tokens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeFailure {
    /// The provider says no: wrong code, wrong secret, not allowed.
    #[error("the provider refused with status {status}: {error}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its error code.
        error: OAuthError,
    },
    /// The provider cannot be asked.
    #[error("the provider could not be asked")]
    Provider {
        /// Why.
        #[source]
        source: ProviderError,
    },
    /// It supports no way to prove ourselves that we have.
    #[error("the provider supports neither client_secret_basic nor client_secret_post")]
    NoClientAuth,
    /// It answered with success and something that is no answer.
    #[error("the answer of the provider is not valid")]
    Answer {
        /// Why not.
        #[source]
        fault: JsonFault,
    },
}

impl From<ProviderError> for ExchangeFailure {
    fn from(source: ProviderError) -> Self {
        Self::Provider { source }
    }
}

/// Redeems a grant, proving ourselves as `client`.
pub(crate) async fn redeem(
    providers: &Providers,
    trust: &Trust,
    client: &Client,
    grant: &[(&str, &str)],
    now: Timestamp,
) -> Result<Object, ExchangeFailure> {
    let discovery = providers.discover(trust, now).await?;
    let mut form = grant.to_vec();
    let authorization = match discovery.client_auth.ok_or(ExchangeFailure::NoClientAuth)? {
        ClientAuth::Basic => Some(basic(client)),
        ClientAuth::Post => {
            form.extend([("client_id", client.id.as_str()), ("client_secret", client.secret.expose())]);
            None
        }
    };
    let answer = providers.fetch().post_form(&discovery.token_endpoint, &form, authorization.as_ref()).await;
    let answer = answer.map_err(ProviderError::from)?;
    match answer.status {
        200..=299 => json::object(&answer.body).map_err(|fault| ExchangeFailure::Answer { fault }),
        // Not a judgement on the grant: too slow, too many.
        status @ (408 | 429 | 500..) => Err(ProviderError::Status { status }.into()),
        status => {
            let body = json::object(&answer.body).unwrap_or_default();
            let error = OAuthError::new(json::text(&body, "error").unwrap_or_default());
            Err(ExchangeFailure::Refused { status, error })
        }
    }
}

/// Both parts are encoded as in a form first (RFC 6749, section 2.3.1).
fn basic(client: &Client) -> Secret {
    let encode = |text: &str| Zeroizing::new(byte_serialize(text.as_bytes()).collect::<String>());
    let pair = Zeroizing::new(format!("{}:{}", *encode(&client.id), *encode(client.secret.expose())));
    Secret::new(format!("Basic {}", BASE64.encode(pair.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_with_colons_and_umlauts_survive_basic() {
        let client = Client { id: "a:b".to_owned(), secret: Secret::new("p ä%") };
        let value = basic(&client);
        let pair = BASE64.decode(value.expose().strip_prefix("Basic ").unwrap().as_bytes()).unwrap();
        assert_eq!(String::from_utf8(pair).unwrap(), "a%3Ab:p+%C3%A4%25");
        assert_eq!(format!("{client:?}"), "Client { id: \"a:b\", secret: Secret(…) }");
    }

    #[test]
    fn of_a_strangers_error_only_a_code_is_kept() {
        assert_eq!(OAuthError::new("invalid_grant").to_string(), "invalid_grant");
        for text in ["", "see https://evil.example", "a\nb", &"x".repeat(65)] {
            assert_eq!(OAuthError::new(text).to_string(), "unreadable");
        }
    }
}
