//! What a script may know once everything is ready.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

/// The object in `--ready-file`.
#[derive(Debug, Serialize)]
pub(crate) struct Ready {
    /// Plain HTTP on loopback, of the first edge.
    pub(crate) http_url: String,
    /// HTTPS and HTTP/3, of the first edge.
    pub(crate) https_url: String,
    /// Every edge: its two addresses.
    pub(crate) edges: Vec<EdgeUrls>,
    /// The file with the CA's certificate.
    pub(crate) ca_cert: String,
    /// The first administrator's token, if it is still known.
    pub(crate) admin_token: Option<String>,
    /// The operations listener.
    pub(crate) admin_url: String,
    /// NATS, with user and password.
    pub(crate) nats_url: String,
    /// PostgreSQL, with user and password.
    pub(crate) postgres_url: String,
    /// OpenBao.
    pub(crate) openbao_url: String,
    /// Where telemetry goes when no sink is named.
    pub(crate) telemetry_folder: String,
    /// Process ids by name.
    pub(crate) pids: BTreeMap<String, u32>,
}

/// The addresses of one edge.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct EdgeUrls {
    /// Plain HTTP on loopback.
    pub(crate) http_url: String,
    /// HTTPS and HTTP/3.
    pub(crate) https_url: String,
}

impl Ready {
    /// Writes the file whole or not at all, readable by its owner only: it holds secrets.
    ///
    /// # Errors
    /// One sentence.
    pub(crate) fn write(&self, path: &Path) -> Result<(), String> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let text = serde_json::to_vec_pretty(self).map_err(|error| error.to_string())?;
        let part = path.with_extension("part");
        let attempt = || {
            let mut file =
                std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&part, path)
        };
        attempt().map_err(|error| format!("the ready file {} cannot be written: {error}", path.display()))
    }
}
