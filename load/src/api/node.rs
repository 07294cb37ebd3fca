//! What an enrolled Node calls, with its own key as the credential.

use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use plexsphere_wire::nsk::{NSK_BYTES, render_bearer};
use plexsphere_wire::telemetry::{Encoding, Shape};
use plexsphere_wire::{NodeId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{ApiError, Batch, Refused, accepted, decode};
use crate::transport::{Client, Request, Response, Streaming};

/// The most bytes that an agent inflates of a compressed response.
const INFLATED_RESPONSE_BYTES: u64 = 10 * 1024 * 1024;

const SENT_AT: HeaderName = HeaderName::from_static("x-plexsphere-sent-at");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The body of a heartbeat.
#[derive(Clone, Debug, Serialize)]
pub struct HeartbeatBody {
    /// The Node's clock.
    pub client_now: Timestamp,
    /// SHA-256 of the agent's binary: 64 lower-case hex digits.
    pub binary_checksum: String,
    /// The agent's version.
    pub binary_version: String,
    /// What the agent knows of its NAT; an object, maybe empty.
    pub nat_summary: serde_json::Map<String, serde_json::Value>,
}

/// The answer to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct HeartbeatAnswer {
    /// When it was committed.
    pub accepted_at: Timestamp,
    /// Whether the Node should pull its state.
    pub reconcile: bool,
    /// Whether a key rotation waits.
    pub rotate_keys: bool,
}

/// The answer to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Receipt {
    /// When the batch was durable.
    pub accepted_at: Timestamp,
    /// How many records the platform counted.
    pub records: u64,
}

/// The answer to a key rotation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RotationReceipt {
    /// The rotation that this key completed.
    pub rotation_id: String,
    /// The id of the new pre-shared key.
    pub kid: String,
    /// The version of the key that wraps it.
    pub wrap_key_version: u64,
}

/// The operations of one Node.
#[derive(Clone, Debug)]
pub struct NodeApi {
    client: Arc<Client>,
    node: NodeId,
    authorization: HeaderValue,
}

impl NodeApi {
    /// The operations of `node` over `client`, proven by its key.
    ///
    /// # Errors
    /// [`ApiError::Request`] never in practice: a bearer is printable ASCII.
    pub fn new(client: Arc<Client>, node: NodeId, nsk: &[u8; NSK_BYTES]) -> Result<Self, ApiError> {
        let bearer = render_bearer("plexd", node, nsk);
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", bearer.as_str()))
            .map_err(|error| ApiError::Request(error.to_string()))?;
        authorization.set_sensitive(true);
        Ok(Self { client, node, authorization })
    }

    /// The Node.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// The connections underneath.
    #[must_use]
    pub const fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// `PostNodeHeartbeat`.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub async fn heartbeat(&self, body: &HeartbeatBody) -> Result<HeartbeatAnswer, ApiError> {
        let body = serde_json::to_vec(body).map_err(|error| ApiError::Request(error.to_string()))?;
        let mut request = self.request(Method::POST, "heartbeat", body.into());
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        decode(&self.client.send(request).await?)
    }

    /// `GetNodeState`: the JSON text of the snapshot, inflated.
    ///
    /// # Errors
    /// Any [`ApiError`]; a compressed response of more than 10 MiB inflated is unreadable.
    pub async fn state(&self) -> Result<Bytes, ApiError> {
        let mut request = self.request(Method::GET, "state", Bytes::new());
        request.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        let response = self.client.send(request).await?;
        accepted(&response)?;
        inflate(response)
    }

    /// `PostNodeMetrics`, `PostNodeLogs` or `PostNodeAudit`. A 202 that is no JSON counts as success and has no receipt.
    ///
    /// # Errors
    /// Any [`ApiError`]; [`ApiError::reaction`] says what an agent does next.
    pub async fn post(&self, batch: &Batch, sent_at: Timestamp) -> Result<Option<Receipt>, ApiError> {
        let mut request = self.request(Method::POST, batch.signal.as_str(), batch.body.clone());
        let content_type = match batch.signal.received_shape() {
            Shape::Array => "application/json",
            Shape::Ndjson => "application/x-ndjson",
        };
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if batch.encoding != Encoding::Identity {
            request.headers.insert(CONTENT_ENCODING, HeaderValue::from_static(batch.encoding.as_str()));
        }
        let sent_at =
            HeaderValue::try_from(sent_at.to_string()).map_err(|error| ApiError::Request(error.to_string()))?;
        request.headers.insert(SENT_AT, sent_at);
        let response = self.client.send(request).await?;
        accepted(&response)?;
        Ok(serde_json::from_slice(&response.body).ok())
    }

    /// `PostKeysRotate`: offers a new mesh key, standard base64 of 32 bytes.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub async fn rotate_key(&self, new_public_key: &str) -> Result<RotationReceipt, ApiError> {
        let body = serde_json::json!({ "new_public_key": new_public_key }).to_string();
        let mut request = self.request(Method::POST, "", body.into());
        // The credential alone names the Node here.
        "/v1/keys/rotate".clone_into(&mut request.path);
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        decode(&self.client.send(request).await?)
    }

    /// `GetNodeEvents`: returns on the 200, with the stream still open.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub async fn events(&self, last_event_id: Option<u64>) -> Result<Streaming, ApiError> {
        let mut request = self.request(Method::GET, "events", Bytes::new());
        request.headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(cursor) = last_event_id {
            request.headers.insert(LAST_EVENT_ID, HeaderValue::from(cursor));
        }
        let mut stream = self.client.open(request).await?;
        if stream.status.is_success() {
            return Ok(stream);
        }
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = stream.body.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() >= super::PROBLEM_BYTES {
                break;
            }
        }
        let response = Response { status: stream.status, headers: stream.headers, body: body.into() };
        Err(ApiError::Refused(Refused::read(&response)))
    }

    fn request(&self, method: Method, leaf: &str, body: Bytes) -> Request {
        let mut headers = HeaderMap::with_capacity(6);
        headers.insert(AUTHORIZATION, self.authorization.clone());
        Request { method, path: format!("/v1/nodes/{}/{leaf}", self.node), headers, body }
    }
}

fn inflate(response: Response) -> Result<Bytes, ApiError> {
    let gzip = response.headers.get(CONTENT_ENCODING).is_some_and(|value| value.as_bytes() == b"gzip");
    if !gzip {
        return Ok(response.body);
    }
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(response.body.as_ref())
        .take(INFLATED_RESPONSE_BYTES + 1)
        .read_to_end(&mut out)
        .map_err(|error| ApiError::Unreadable(error.to_string()))?;
    if u64::try_from(out.len()).is_ok_and(|length| length <= INFLATED_RESPONSE_BYTES) {
        Ok(out.into())
    } else {
        Err(ApiError::Unreadable("more than 10 MiB inflated".to_owned()))
    }
}
