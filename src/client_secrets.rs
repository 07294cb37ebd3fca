//! What a binding's `client_secret_ref` names: a variable, a file, or a secret of a Domain in OpenBao.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use data_encoding::BASE64;
use plexsphere_identity::{ClientSecrets, Secret, SecretFault};
use plexsphere_wire::DomainId;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::config::OpenBaoConfig;

/// The longest secret, in bytes.
const MAX_BYTES: usize = 16 << 10;
const WITHIN: Duration = Duration::from_secs(5);

/// Reads references. A Domain's secret lies at `domains/<domain id>/<path>` of the KV-v2 engine, its bytes in the member
/// `payload`, standard base64.
pub(crate) struct SecretReader {
    openbao: OpenBaoConfig,
    client: reqwest::Client,
}

impl SecretReader {
    /// # Errors
    /// A sentence when no TLS client can be made.
    pub(crate) fn new(openbao: OpenBaoConfig) -> Result<Self, String> {
        let client = reqwest::Client::builder().timeout(WITHIN).redirect(reqwest::redirect::Policy::none()).build();
        Ok(Self { openbao, client: client.map_err(|error| format!("openbao cannot be spoken to: {error}"))? })
    }

    async fn of_domain(&self, domain: DomainId, path: &str) -> Result<Secret, SecretFault> {
        let (Some(url), Some(token_file)) = (&self.openbao.url, &self.openbao.token_file) else {
            return Err(SecretFault::Missing);
        };
        let plain = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if !path.split('/').all(plain) {
            return Err(SecretFault::Missing);
        }
        let token = read_file(token_file).await?;
        let base = url.as_str().trim_end_matches('/');
        let address = format!("{base}/v1/{}/data/domains/{domain}/{path}", self.openbao.mount);
        let request = self.client.get(address).header("x-vault-token", token.as_str());
        let answer = request.send().await.map_err(|_| SecretFault::Unreachable)?;
        match answer.status().as_u16() {
            200 => {}
            404 => return Err(SecretFault::Missing),
            _ => return Err(SecretFault::Unreachable),
        }
        let body = Zeroizing::new(answer.bytes().await.map_err(|_| SecretFault::Unreachable)?.to_vec());
        let document: Document = serde_json::from_slice(&body).map_err(|_| SecretFault::Missing)?;
        let payload = Zeroizing::new(document.data.data.payload);
        let bytes = Zeroizing::new(BASE64.decode(payload.as_bytes()).map_err(|_| SecretFault::Missing)?);
        text(&bytes)
    }
}

#[derive(Deserialize)]
struct Document {
    data: Versioned,
}

#[derive(Deserialize)]
struct Versioned {
    data: Payload,
}

#[derive(Deserialize)]
struct Payload {
    payload: String,
}

#[async_trait]
impl ClientSecrets for SecretReader {
    async fn resolve(&self, reference: &str) -> Result<Secret, SecretFault> {
        match reference.split_once(':') {
            Some(("env", name)) => {
                let value = Zeroizing::new(std::env::var(name).map_err(|_| SecretFault::Missing)?);
                text(value.as_bytes())
            }
            Some(("file", path)) => text(read_file(Path::new(path)).await?.as_bytes()),
            Some(("secret", rest)) => {
                let (domain, path) = rest.split_once('/').ok_or(SecretFault::Missing)?;
                self.of_domain(domain.parse().map_err(|_| SecretFault::Missing)?, path).await
            }
            _ => Err(SecretFault::Missing),
        }
    }
}

async fn read_file(path: &Path) -> Result<Zeroizing<String>, SecretFault> {
    let content = tokio::fs::read_to_string(path).await.map_err(|_| SecretFault::Missing)?;
    let content = Zeroizing::new(content);
    Ok(Zeroizing::new(content.trim().to_owned()))
}

fn text(bytes: &[u8]) -> Result<Secret, SecretFault> {
    let text = std::str::from_utf8(bytes).map_err(|_| SecretFault::Missing)?.trim();
    if text.is_empty() || text.len() > MAX_BYTES { Err(SecretFault::Missing) } else { Ok(Secret::new(text)) }
}
