//! What a binding's `client_secret_ref` names: a variable, a file, or a secret of a Domain in OpenBao.

use std::path::Path;

use async_trait::async_trait;
use data_encoding::BASE64;
use plexsphere_identity::{ClientSecrets, Secret, SecretFault};
use plexsphere_kernel::custody::openbao::{BaoFault, OpenBao};
use plexsphere_wire::DomainId;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::config::OpenBaoConfig;

/// The longest secret, in bytes.
const MAX_BYTES: usize = 16 << 10;

/// Reads references. A Domain's secret lies at `domains/<domain id>/<path>` of the KV-v2 engine, its bytes in the member
/// `payload`, standard base64.
pub(crate) struct SecretReader {
    openbao: Option<OpenBao>,
    mount: String,
}

impl SecretReader {
    /// # Errors
    /// A sentence when no TLS client can be made.
    pub(crate) fn new(openbao: &OpenBaoConfig) -> Result<Self, String> {
        Ok(Self { openbao: crate::openbao::client(openbao)?, mount: openbao.mount.clone() })
    }

    async fn of_domain(&self, domain: DomainId, path: &str) -> Result<Secret, SecretFault> {
        let openbao = self.openbao.as_ref().ok_or(SecretFault::Missing)?;
        let plain = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if !path.split('/').all(plain) {
            return Err(SecretFault::Missing);
        }
        let document = openbao.read::<Document>(&format!("{}/data/domains/{domain}/{path}", self.mount)).await;
        let document = document.map_err(|fault| match fault {
            BaoFault::Missing | BaoFault::NoToken | BaoFault::Unexpected(_) => SecretFault::Missing,
            BaoFault::Unreachable | BaoFault::Refused(_) => SecretFault::Unreachable,
        })?;
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
