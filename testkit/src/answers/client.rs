//! The comparison as a client makes it, over a connection.

use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use serde_json::Value;

use super::{Answers, Exchange};

/// An answer that was read to its end.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

impl Answer {
    /// The body, `null` when it is no JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// A header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    }
}

impl Answers {
    /// Sends a request whose answer ends, and compares that with the document.
    ///
    /// # Errors
    /// What broke the connection, or what the document does not describe.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer, String> {
        let (client, request) = request.build_split();
        let request = request.expect("a request");
        let (method, url) = (request.method().clone(), request.url().clone());
        let plain = !request.headers().contains_key(CONTENT_ENCODING);
        let sent = request.body().and_then(reqwest::Body::as_bytes).filter(|_| plain).map(<[u8]>::to_vec);
        let answer = client.execute(request).await.map_err(|error| error.to_string())?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await.map_err(|error| error.to_string())?;
        let path = url.path();
        self.compare(&Exchange {
            method: &method,
            path,
            request: sent.as_deref(),
            status,
            headers: &headers,
            body: &body,
        })?;
        Ok(Answer { status: status.as_u16(), headers, text: String::from_utf8_lossy(&body).into_owned() })
    }
}
