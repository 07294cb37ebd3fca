//! Enrolment: one token, one nonce, one key, and the agent's rules for trying again.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::VerifyingKey;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method};
use plexsphere_wire::envelope::parse_public_key;
use plexsphere_wire::nsk::NSK_BYTES;
use plexsphere_wire::{NodeId, ProjectId};
use rand::RngCore as _;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{ApiError, decode};
use crate::transport::{Backoff, BackoffPolicy, Client, Request};

/// How long an agent keeps trying to register.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a registration sends. The nonce and the key are made once and used for every attempt.
#[derive(Clone, Serialize)]
pub struct Registration {
    project_id: ProjectId,
    resource_handle: String,
    bootstrap_token: String,
    nonce: String,
    public_key: String,
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registration").field("project_id", &self.project_id).finish_non_exhaustive()
    }
}

impl Registration {
    /// A registration with a fresh UUIDv4 nonce and a fresh 32-byte mesh key. No tunnel is ever built, so nothing
    /// keeps a private half.
    #[must_use]
    pub fn new(project: ProjectId, resource_handle: &str, token: &str) -> Self {
        let mut nonce = [0u8; 16];
        rand::rng().fill_bytes(&mut nonce);
        Self {
            project_id: project,
            resource_handle: resource_handle.to_owned(),
            bootstrap_token: token.to_owned(),
            nonce: uuid::Builder::from_random_bytes(nonce).into_uuid().to_string(),
            public_key: fresh_public_key(),
        }
    }

    /// The mesh key that this registration offers, as standard base64.
    #[must_use]
    pub fn public_key(&self) -> &str {
        &self.public_key
    }
}

/// A fresh mesh key: standard base64 of 32 random bytes, never all zero.
#[must_use]
pub fn fresh_public_key() -> String {
    let mut key = [0u8; 32];
    while key == [0u8; 32] {
        rand::rng().fill_bytes(&mut key);
    }
    STANDARD.encode(key)
}

#[derive(Deserialize)]
struct Body {
    node_id: NodeId,
    mesh_ip: String,
    signing_public_key: String,
    signing_key_id: String,
    nsk: String,
    peer_snapshot: Vec<serde::de::IgnoredAny>,
    domain_mesh_cidr: String,
}

/// What a Node holds after it has joined.
#[derive(Clone)]
pub struct Registered {
    /// The Node.
    pub node: NodeId,
    /// Its mesh address.
    pub mesh_ip: String,
    /// The Domain's address range.
    pub domain_mesh_cidr: String,
    /// The key that signs events, pinned for the Node's life.
    pub signing_key: VerifyingKey,
    /// Its id.
    pub signing_key_id: String,
    /// The Node Secret Key; wiped when dropped.
    pub nsk: Zeroizing<[u8; NSK_BYTES]>,
    /// How many peers were there already.
    pub peers: usize,
}

impl std::fmt::Debug for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registered").field("node", &self.node).field("mesh_ip", &self.mesh_ip).finish_non_exhaustive()
    }
}

impl TryFrom<Body> for Registered {
    type Error = ApiError;

    fn try_from(body: Body) -> Result<Self, ApiError> {
        let unreadable = |what: &str| ApiError::Unreadable(format!("{what} is not 32 bytes of base64"));
        let signing_key = parse_public_key(&body.signing_public_key).ok_or_else(|| unreadable("signing_public_key"))?;
        let text = Zeroizing::new(body.nsk);
        let mut nsk = Zeroizing::new([0u8; NSK_BYTES]);
        // One byte of room more than the key, so that a longer one is seen as such.
        let mut buffer = Zeroizing::new([0u8; NSK_BYTES + 1]);
        let written = STANDARD.decode_slice(text.as_bytes(), buffer.as_mut_slice());
        let key = buffer.first_chunk::<NSK_BYTES>().filter(|_| written == Ok(NSK_BYTES));
        nsk.copy_from_slice(key.ok_or_else(|| unreadable("nsk"))?);
        Ok(Self {
            node: body.node_id,
            mesh_ip: body.mesh_ip,
            domain_mesh_cidr: body.domain_mesh_cidr,
            signing_key,
            signing_key_id: body.signing_key_id,
            nsk,
            peers: body.peer_snapshot.len(),
        })
    }
}

/// `PostRegister` as an agent does it: again after 5xx, transport errors and 429 (whose `Retry-After` is honoured) for
/// five minutes; never after another refusal.
///
/// # Errors
/// The last [`ApiError`].
pub async fn register(
    client: &Client,
    registration: &Registration,
    policy: BackoffPolicy,
) -> Result<Registered, ApiError> {
    let body = serde_json::to_vec(registration).map_err(|error| ApiError::Request(error.to_string()))?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let request = Request { method: Method::POST, path: "/v1/register".to_owned(), headers, body: body.into() };
    let mut backoff = Backoff::new(policy);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let outcome = match client.send(request.clone()).await {
            Ok(response) => decode::<Body>(&response).and_then(Registered::try_from),
            Err(error) => Err(error.into()),
        };
        let error = match outcome {
            Ok(registered) => return Ok(registered),
            Err(error) => error,
        };
        let Some(wait) = retry_after(&error, &mut backoff) else { return Err(error) };
        if tokio::time::Instant::now() + wait >= deadline {
            return Err(error);
        }
        tokio::time::sleep(wait).await;
    }
}

/// How long to wait before another attempt; `None` when there must be none.
fn retry_after(error: &ApiError, backoff: &mut Backoff) -> Option<Duration> {
    match error {
        ApiError::Transport(_) => Some(backoff.wait()),
        ApiError::Refused(refused) if refused.status == 429 => {
            let wait = backoff.wait();
            Some(refused.retry_after_seconds.map_or(wait, Duration::from_secs))
        }
        ApiError::Refused(refused) if refused.status >= 500 => Some(backoff.wait()),
        ApiError::Refused(_) | ApiError::Unreadable(_) | ApiError::Request(_) => None,
    }
}
