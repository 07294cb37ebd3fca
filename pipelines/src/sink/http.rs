//! One rendered request to an HTTP endpoint.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use url::Url;

use super::authorization::{Authorization, AuthorizationError};
use super::{CONNECT_TIMEOUT, REQUEST_TIMEOUT};
use crate::config::HttpSinkConfig;
use crate::outcome::{Answer, Outcome, classify};
use crate::render::Rendered;
use crate::route::SinkKind;
use crate::tenant::TenantId;

const TENANT: HeaderName = HeaderName::from_static("x-scope-orgid");
const BATCH_ID: HeaderName = HeaderName::from_static("x-plexsphere-batch-id");
const REMOTE_WRITE_VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");
const USER_AGENT: &str = concat!("plexsphere/", env!("CARGO_PKG_VERSION"));

/// So much of an answer is read; more closes the connection.
const BODY_BYTES: usize = 64 << 10;
/// So much of an answer is kept for logs and dead letters.
const DETAIL_BYTES: usize = 512;

/// Why an endpoint cannot be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum SinkSetupError {
    /// The URL has no host or another scheme than http and https.
    #[error("url is not an http or https url")]
    Url,
    /// The bundle of certificate authorities cannot be read.
    #[error("cannot read the certificate authorities")]
    CertificateFile(#[source] std::io::Error),
    /// The client cannot be built.
    #[error("cannot set up tls")]
    Client(#[source] reqwest::Error),
    /// The credential file is of no use.
    #[error("authorization file")]
    Authorization(#[source] AuthorizationError),
}

/// An endpoint with its own connections.
#[derive(Debug)]
pub(crate) struct HttpSink {
    kind: SinkKind,
    client: reqwest::Client,
    url: Url,
    authorization: Option<Authorization>,
}

/// What a request came to.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) outcome: Outcome,
    /// The HTTP status, 0 when there was none.
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    /// The first bytes of the answer, or what failed: printable ASCII.
    pub(crate) detail: String,
}

// === impl Reply ===

impl Reply {
    /// A failure on our side that may pass.
    pub(crate) fn failed(detail: &str) -> Self {
        Self { outcome: Outcome::Retryable, status: 0, retry_after: None, detail: printable(detail.as_bytes()) }
    }
}

// === impl HttpSink ===

impl HttpSink {
    /// Sets an endpoint up; `path` is appended to the URL's own, `None` uses the URL verbatim.
    pub(crate) fn new(kind: SinkKind, config: &HttpSinkConfig, path: Option<&str>) -> Result<Self, SinkSetupError> {
        let mut url = config.url.clone().filter(|url| url.has_host()).ok_or(SinkSetupError::Url)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(SinkSetupError::Url);
        }
        if let Some(path) = path {
            url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
        }
        let mut client = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            // Telemetry goes to the configured host and nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT);
        if let Some(file) = &config.ca_file {
            let pem = std::fs::read(file).map_err(SinkSetupError::CertificateFile)?;
            let bundle = reqwest::Certificate::from_pem_bundle(&pem).map_err(SinkSetupError::Client)?;
            client = client.tls_certs_merge(bundle);
        }
        let client = client.build().map_err(SinkSetupError::Client)?;
        let authorization = config.authorization_file.as_deref().map(Authorization::new);
        if let Some(authorization) = &authorization {
            authorization.header().map_err(SinkSetupError::Authorization)?;
        }
        Ok(Self { kind, client, url, authorization })
    }

    /// Sends one request. Never fails: whatever happens has an outcome.
    pub(crate) async fn send(&self, tenant: TenantId, rendered: Rendered, request_id: &str) -> Reply {
        let mut request = self
            .client
            .post(self.url.clone())
            .header(TENANT, tenant.to_string())
            .header(CONTENT_TYPE, rendered.content_type)
            .body(rendered.body);
        if let Some(encoding) = rendered.content_encoding {
            request = request.header(CONTENT_ENCODING, encoding);
        }
        match self.kind {
            SinkKind::Mimir => request = request.header(REMOTE_WRITE_VERSION, "0.1.0"),
            SinkKind::Siem => request = request.header(BATCH_ID, request_id),
            SinkKind::Loki => {}
        }
        match self.authorization.as_ref().map(Authorization::header).transpose() {
            Ok(None) => {}
            Ok(Some(value)) => request = request.header(AUTHORIZATION, value),
            Err(error) => return self.unanswered(Answer::Credentials, &error),
        }
        match request.send().await {
            Ok(response) => self.answered(response).await,
            // The URL may hold user info.
            Err(error) => self.unanswered(Answer::Transport, &error.without_url()),
        }
    }

    async fn answered(&self, mut response: reqwest::Response) -> Reply {
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(retry_after);
        let (mut read, mut detail) = (0, Vec::new());
        // A broken answer body changes nothing about the status that came before it.
        while let Ok(Some(chunk)) = response.chunk().await {
            read += chunk.len();
            let room = DETAIL_BYTES.saturating_sub(detail.len()).min(chunk.len());
            detail.extend_from_slice(chunk.get(..room).unwrap_or_default());
            if read >= BODY_BYTES {
                break;
            }
        }
        let outcome = classify(self.kind, Answer::Status(status));
        Reply { outcome, status, retry_after, detail: printable(&detail) }
    }

    fn unanswered(&self, answer: Answer, error: &dyn std::error::Error) -> Reply {
        let mut detail = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            detail = format!("{detail}: {cause}");
            source = cause.source();
        }
        Reply {
            outcome: classify(self.kind, answer),
            status: 0,
            retry_after: None,
            detail: printable(detail.as_bytes()),
        }
    }
}

/// Whole seconds; the date form is not used by the sinks and is ignored.
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    value.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// At most [`DETAIL_BYTES`] bytes, everything but printable ASCII replaced.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let printable = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '?' };
    bytes.iter().take(DETAIL_BYTES).map(printable).collect::<String>().trim().to_owned()
}
