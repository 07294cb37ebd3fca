//! The guarded outbound client: the only way in which this crate reaches another machine.
//!
//! A Domain's administrator chooses these addresses, so each fetch is a request of a stranger from inside our network.
//! The name is resolved by us, every address it has is judged, and the connection goes to the judged addresses: there is
//! no second look-up that could answer otherwise. Proxies of the environment are not used, because they would resolve again.

mod resolve;

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Certificate, Client, Method, RequestBuilder, Response};
use tokio::sync::Semaphore;
use url::{Host, Url};

use crate::address::{AddressKind, Reach, judge};
use crate::kept::Kept;
use crate::secret::Secret;

pub use resolve::{Resolver, SystemResolver};

/// How long a fetch may take, from the look-up of the name to the last byte.
pub const FETCH_WITHIN: Duration = Duration::from_secs(10);
/// The largest answer, in bytes.
pub const MAX_ANSWER_BYTES: usize = 1 << 20;
/// The longest address, in bytes.
pub const MAX_URL_BYTES: usize = 2_048;
/// How many fetches may be under way at once.
pub const MAX_FETCHES: usize = 512;
/// How many of them to one host, so that one provider that hangs leaves room for the others.
pub const MAX_FETCHES_PER_HOST: usize = 32;
/// How many hosts are counted; beyond, the one that was not used for longest is counted anew.
const MAX_HOSTS: usize = 1_024;
/// How many redirects, all on one origin, a GET follows.
const MAX_REDIRECTS: usize = 3;

/// What the client may do.
#[derive(Debug, Clone)]
pub struct FetchSettings {
    /// Whether `http` is allowed besides `https`.
    pub plain_http: bool,
    /// How far inside it may reach.
    pub reach: Reach,
    /// The time for one fetch; [`FETCH_WITHIN`] unless a test is in a hurry.
    pub within: Duration,
    /// Certificates (DER) trusted besides the system's, for an identity provider with a private authority.
    pub extra_roots: Vec<Vec<u8>>,
}

impl Default for FetchSettings {
    fn default() -> Self {
        Self { plain_http: false, reach: Reach::Public, within: FETCH_WITHIN, extra_roots: Vec::new() }
    }
}

/// Why a fetch gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The address is no absolute http or https URL, too long, or carries a user name or a fragment.
    #[error("not an address that can be fetched")]
    Url,
    /// The address is plain http, which is not allowed here.
    #[error("plain http is not allowed")]
    PlainHttp,
    /// The name leads inside.
    #[error("{host} leads to a {kind} address")]
    Inside {
        /// The host of the address.
        host: String,
        /// Where it leads.
        kind: AddressKind,
    },
    /// The answer sends us to another scheme, host or port.
    #[error("redirected to another origin")]
    OtherOrigin,
    /// A redirect that is not followed: too many, without an address, or of a request that carries credentials.
    #[error("redirected in a way that is not followed")]
    Redirected,
    /// The answer is larger than [`MAX_ANSWER_BYTES`].
    #[error("the answer is larger than {MAX_ANSWER_BYTES} bytes")]
    TooLarge,
    /// It took too long.
    #[error("no complete answer in time")]
    Late,
    /// The name does not resolve, nobody listens, the certificate is not trusted, the connection broke.
    #[error("cannot be reached: {reason}")]
    Unreachable {
        /// What the system or the TLS library said.
        reason: String,
    },
    /// The client could not be made.
    #[error("the client cannot be made: {reason}")]
    Client {
        /// What was wrong with the settings.
        reason: String,
    },
}

impl FetchError {
    /// Whether it may be gone in a minute, as opposed to a fault of the configuration.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Late | Self::Unreachable { .. } => true,
            Self::Url
            | Self::PlainHttp
            | Self::Inside { .. }
            | Self::OtherOrigin
            | Self::Redirected
            | Self::TooLarge
            | Self::Client { .. } => false,
        }
    }
}

/// An answer, whatever its status.
#[derive(Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body, at most [`MAX_ANSWER_BYTES`]. It may hold tokens.
    pub body: Bytes,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).field("bytes", &self.body.len()).finish()
    }
}

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct Fetch {
    client: Client,
    settings: Arc<FetchSettings>,
    all: Arc<Semaphore>,
    hosts: Arc<Kept<String, HostTurns>>,
}

/// The fetches to one host.
#[derive(Debug)]
struct HostTurns(Semaphore);

impl Default for HostTurns {
    fn default() -> Self {
        Self(Semaphore::new(MAX_FETCHES_PER_HOST))
    }
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetch").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Fetch {
    /// A client that resolves names as the system does.
    ///
    /// # Errors
    /// [`FetchError::Client`] for a certificate that is none. A system without certificate authorities is no error: only
    /// [`FetchSettings::extra_roots`] are trusted then, and a warning says so.
    pub fn new(settings: FetchSettings) -> Result<Self, FetchError> {
        Self::with_resolver(settings, Arc::new(SystemResolver))
    }

    /// A client with another way to resolve names; what it answers is judged all the same.
    ///
    /// # Errors
    /// As [`Fetch::new`].
    pub fn with_resolver(settings: FetchSettings, resolver: Arc<dyn Resolver>) -> Result<Self, FetchError> {
        let broken = |error: reqwest::Error| FetchError::Client { reason: innermost(&error) };
        let roots = settings.extra_roots.iter().map(|der| Certificate::from_der(der)).collect::<Result<Vec<_>, _>>();
        let roots = roots.map_err(broken)?;
        let builder = || {
            Client::builder()
                .user_agent("plexsphere")
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .no_proxy()
                .https_only(!settings.plain_http)
                .pool_max_idle_per_host(2)
                .pool_idle_timeout(Duration::from_secs(30))
                .dns_resolver(resolve::Guarded::new(Arc::clone(&resolver), settings.reach))
        };
        if !roots.is_empty() {
            // What is no certificate is our operator's mistake, not the system's.
            builder().tls_certs_only(roots.clone()).build().map_err(broken)?;
        }
        let client = builder().tls_certs_merge(roots.clone()).build().or_else(|error| {
            // A bare container has no authorities. It starts, and finds no provider it could trust.
            tracing::warn!(reason = innermost(&error), "the system's certificate authorities cannot be read");
            builder().tls_certs_only(roots).build()
        });
        Ok(Self {
            client: client.map_err(broken)?,
            settings: Arc::new(settings),
            all: Arc::new(Semaphore::new(MAX_FETCHES)),
            hosts: Arc::new(Kept::new(MAX_HOSTS)),
        })
    }

    /// Reads one address; redirects within its origin are followed.
    ///
    /// # Errors
    /// [`FetchError`]. A status that is no success is an answer, not an error.
    pub async fn get(&self, url: &str) -> Result<Answer, FetchError> {
        let first = self.admit(url)?;
        self.in_turn(&first, async {
            let mut url = first.clone();
            for _ in 0..=MAX_REDIRECTS {
                let answer = self.send(self.client.request(Method::GET, url.clone())).await?;
                if !is_redirect(answer.status().as_u16()) {
                    return read(answer).await;
                }
                url = next(&first, &url, &answer)?;
            }
            Err(FetchError::Redirected)
        })
        .await
    }

    /// Posts a form, with the `Authorization` header when there is one. Redirects are not followed: the form carries
    /// credentials.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn post_form(
        &self,
        url: &str,
        form: &[(&str, &str)],
        authorization: Option<&Secret>,
    ) -> Result<Answer, FetchError> {
        let url = self.admit(url)?;
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let mut request = self
            .client
            .request(Method::POST, url.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body);
        if let Some(value) = authorization {
            let mut value = HeaderValue::from_str(value.expose()).map_err(|_| FetchError::Url)?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        self.in_turn(&url, async {
            let answer = self.send(request).await?;
            if is_redirect(answer.status().as_u16()) {
                return Err(FetchError::Redirected);
            }
            read(answer).await
        })
        .await
    }

    /// Checks an address without fetching it, as far as that goes without resolving its name.
    ///
    /// # Errors
    /// [`FetchError::Url`], [`FetchError::PlainHttp`], [`FetchError::Inside`].
    pub fn admit(&self, url: &str) -> Result<Url, FetchError> {
        if url.len() > MAX_URL_BYTES {
            return Err(FetchError::Url);
        }
        let url = Url::parse(url).map_err(|_| FetchError::Url)?;
        self.admit_parsed(&url)?;
        Ok(url)
    }

    fn admit_parsed(&self, url: &Url) -> Result<(), FetchError> {
        match url.scheme() {
            "https" => {}
            "http" if self.settings.plain_http => {}
            "http" => return Err(FetchError::PlainHttp),
            _ => return Err(FetchError::Url),
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(FetchError::Url);
        }
        // An address in the place of a name never reaches the resolver.
        let literal = match url.host() {
            Some(Host::Domain(_)) => return Ok(()),
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            None => return Err(FetchError::Url),
        };
        judge(literal, self.settings.reach).map_err(|kind| FetchError::Inside { host: literal.to_string(), kind })
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, FetchError> {
        request.header(ACCEPT, "application/json").send().await.map_err(|error| failure(&error))
    }

    /// Does the work when its turn comes, and all of that in time. A turn that does not come is late like an answer.
    async fn in_turn(
        &self,
        url: &Url,
        work: impl Future<Output = Result<Answer, FetchError>>,
    ) -> Result<Answer, FetchError> {
        let host = self.hosts.of(&url.host_str().unwrap_or_default().to_owned());
        let whole = async {
            // The host first: whoever waits for a slow one takes nobody else's place.
            let _of_host = host.0.acquire().await.map_err(|_| FetchError::Late)?;
            let _of_all = self.all.acquire().await.map_err(|_| FetchError::Late)?;
            work.await
        };
        tokio::time::timeout(self.settings.within, whole).await.unwrap_or(Err(FetchError::Late))
    }
}

fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// Where a redirect leads, when it stays on the origin of the first address.
fn next(first: &Url, at: &Url, answer: &Response) -> Result<Url, FetchError> {
    let place = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok()).ok_or(FetchError::Redirected)?;
    let url = at.join(place).map_err(|_| FetchError::Redirected)?;
    if url.origin() != first.origin() || !url.username().is_empty() || url.password().is_some() {
        return Err(FetchError::OtherOrigin);
    }
    Ok(url)
}

/// Reads the body while counting, because a length that is announced need not be true.
async fn read(answer: Response) -> Result<Answer, FetchError> {
    let status = answer.status().as_u16();
    let most = u64::try_from(MAX_ANSWER_BYTES).unwrap_or(u64::MAX);
    if answer.content_length().is_some_and(|length| length > most) {
        return Err(FetchError::TooLarge);
    }
    let mut body = BytesMut::new();
    let mut stream = answer.bytes_stream();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|error| failure(&error))?;
        if body.len() + piece.len() > MAX_ANSWER_BYTES {
            return Err(FetchError::TooLarge);
        }
        body.extend_from_slice(&piece);
    }
    Ok(Answer { status, body: body.freeze() })
}

/// Finds our own refusal under the layers of the client's errors.
fn failure(error: &reqwest::Error) -> FetchError {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(refused) = inner.downcast_ref::<FetchError>() {
            return refused.clone();
        }
        source = inner.source();
    }
    FetchError::Unreachable { reason: innermost(error) }
}

/// The last cause; the outer texts repeat the address, whose query is nobody's business.
fn innermost(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut source = error.source();
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    if text.is_empty() { "no cause was given".to_owned() } else { text }
}
