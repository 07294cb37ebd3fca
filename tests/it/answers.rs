//! How tests call the API: every answer is compared with the document that the installation serves.

use std::sync::Arc;

use http::header::CONTENT_ENCODING;
use plexsphere_testkit::{Answers, Exchange};
use serde_json::Value;
use tokio::sync::OnceCell;

/// The document, which is the same in every installation of a build.
static DOCUMENT: OnceCell<Arc<Answers>> = OnceCell::const_new();

/// An answer that was read to its end.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The body, `null` when it is no JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    }
}

/// Sends a request whose answer ends, and compares that with the document.
///
/// # Errors
/// What broke the connection, or what the document does not describe.
pub(crate) async fn try_send(request: reqwest::RequestBuilder) -> Result<Answer, String> {
    let (client, request) = request.build_split();
    let request = request.unwrap();
    let (method, url) = (request.method().clone(), request.url().clone());
    let plain = !request.headers().contains_key(CONTENT_ENCODING);
    let sent = request.body().and_then(reqwest::Body::as_bytes).filter(|_| plain).map(<[u8]>::to_vec);
    let answer = client.execute(request).await.map_err(|error| error.to_string())?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = answer.bytes().await.map_err(|error| error.to_string())?;
    let document = DOCUMENT.get_or_init(|| fetch(&client, url.origin().ascii_serialization())).await;
    document.compare(&Exchange {
        method: &method,
        path: url.path(),
        request: sent.as_deref(),
        status,
        headers: &headers,
        body: &body,
    })?;
    Ok(Answer { status: status.as_u16(), headers, text: String::from_utf8_lossy(&body).into_owned() })
}

/// As [`try_send`], where neither may be.
pub(crate) async fn send(request: reqwest::RequestBuilder) -> Answer {
    try_send(request).await.unwrap()
}

async fn fetch(client: &reqwest::Client, origin: String) -> Arc<Answers> {
    Answers::of(client.get(format!("{origin}/v1/openapi.json")).send().await.unwrap().json().await.unwrap())
}
