//! OpenBao: the one client of its HTTP API.

mod transit;

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::StatusCode;
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroizing;

pub use transit::{Transit, TransitKey};

/// How long one call may take.
const WITHIN: Duration = Duration::from_secs(5);

/// Why OpenBao did not do what it was asked. No word of an answer is in here: it may hold what must not be logged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaoFault {
    /// No answer, or one that says that it is sealed, standing by or overloaded.
    #[error("openbao cannot be reached")]
    Unreachable,
    /// The token's file cannot be read.
    #[error("the token of openbao cannot be read")]
    NoToken,
    /// It has nothing in that place.
    #[error("openbao has nothing there")]
    Missing,
    /// It refuses, by this status.
    #[error("openbao refuses: status {0}")]
    Refused(u16),
    /// Its answer is not what was asked for.
    #[error("openbao answered something else: {0}")]
    Unexpected(&'static str),
}

/// A server and the token it is spoken to with, which is read again at each call.
pub struct OpenBao {
    client: reqwest::Client,
    base: String,
    token_file: PathBuf,
}

impl OpenBao {
    /// A client of the server at `url`.
    ///
    /// # Errors
    /// A sentence when no TLS client can be made.
    pub fn new(url: &str, token_file: &Path) -> Result<Self, String> {
        let client = reqwest::Client::builder().timeout(WITHIN).redirect(reqwest::redirect::Policy::none()).build();
        Ok(Self {
            client: client.map_err(|error| format!("openbao cannot be spoken to: {error}"))?,
            base: url.trim_end_matches('/').to_owned(),
            token_file: token_file.to_owned(),
        })
    }

    /// Reads what lies at a path of the API, such as `secret/data/a/b`.
    ///
    /// # Errors
    /// [`BaoFault`].
    pub async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, BaoFault> {
        let body = self.call(Method::GET, path, None).await?;
        serde_json::from_slice(&body).map_err(|_| BaoFault::Unexpected("a document of another form"))
    }

    /// Writes to a path of the API; the answer's bytes, wiped when dropped.
    ///
    /// # Errors
    /// [`BaoFault`].
    pub async fn write(&self, path: &str, body: &Value) -> Result<Zeroizing<Vec<u8>>, BaoFault> {
        self.call(Method::POST, path, Some(body)).await
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Zeroizing<Vec<u8>>, BaoFault> {
        let token = tokio::fs::read_to_string(&self.token_file).await.map_err(|_| BaoFault::NoToken)?;
        let token = Zeroizing::new(token);
        let mut request =
            self.client.request(method, format!("{}/v1/{path}", self.base)).header("x-vault-token", token.trim());
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|_| BaoFault::Unreachable)?;
        match answer.status() {
            status if status.is_success() => {}
            StatusCode::NOT_FOUND => return Err(BaoFault::Missing),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(BaoFault::Unreachable);
            }
            status => return Err(BaoFault::Refused(status.as_u16())),
        }
        Ok(Zeroizing::new(answer.bytes().await.map_err(|_| BaoFault::Unreachable)?.to_vec()))
    }
}
