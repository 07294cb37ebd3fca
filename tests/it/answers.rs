//! How tests call the API: every answer is compared with the document that the installation serves.

use std::sync::Arc;

use plexsphere_testkit::{Answer, Answers};
use tokio::sync::OnceCell;

/// The document, which is the same in every installation of a build.
static DOCUMENT: OnceCell<Arc<Answers>> = OnceCell::const_new();

/// Sends a request whose answer ends, and compares that with the document.
///
/// # Errors
/// What broke the connection, or what the document does not describe.
pub(crate) async fn try_send(request: reqwest::RequestBuilder) -> Result<Answer, String> {
    let (client, url) = {
        let (client, request) = request.try_clone().unwrap().build_split();
        (client, request.unwrap().url().clone())
    };
    let document = DOCUMENT.get_or_init(|| fetch(&client, url.origin().ascii_serialization())).await;
    document.send(request).await
}

/// As [`try_send`], where neither may be.
pub(crate) async fn send(request: reqwest::RequestBuilder) -> Answer {
    try_send(request).await.unwrap()
}

async fn fetch(client: &reqwest::Client, origin: String) -> Arc<Answers> {
    Answers::of(client.get(format!("{origin}/v1/openapi.json")).send().await.unwrap().json().await.unwrap())
}
