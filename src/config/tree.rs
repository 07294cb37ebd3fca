//! The tree of values. Every default is a number or a place that a first deployment can live with.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use plexsphere_edge::EdgeConfig;
use plexsphere_mesh::FallbackFill;
use plexsphere_pipelines::PipelinesConfig;
use plexsphere_signing::Custody;
use serde::{Deserialize, Serialize};

/// Everything that a process can be told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// PostgreSQL; control only.
    pub database: DatabaseConfig,
    /// NATS; all roles.
    pub nats: NatsConfig,
    /// What the process says of itself; all roles.
    pub log: LogConfig,
    /// The operations listener of control and pipelines.
    pub admin: AdminConfig,
    /// The control role.
    pub control: ControlConfig,
    /// The mesh; control only.
    pub mesh: MeshConfig,
    /// Sign-in; control only.
    pub auth: AuthConfig,
    /// Where secrets are kept; control only.
    pub openbao: OpenBaoConfig,
    /// Keys that encrypt keys; control only.
    pub custody: CustodyConfig,
    /// What edges show to clients over TLS.
    pub tls: TlsConfig,
    /// The edge role.
    pub edge: EdgeConfig,
    /// The pipelines role.
    pub pipelines: PipelinesConfig,
}

/// PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `postgres://user:password@host:port/database`.
    pub url: String,
    /// The most connections of this process, 2 to 500.
    pub max_connections: u32,
}

/// NATS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NatsConfig {
    /// `nats://user:password@host:port`; several are separated by commas.
    pub url: String,
    /// Replicas of the streams that control keeps: 3 in production, 1 on a single server.
    pub replicas: usize,
}

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

/// What the process says of itself, on stderr.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// How lines are written.
    pub format: LogFormat,
    /// Which lines: `info`, or directives such as `info,plexsphere_edge=debug`.
    pub filter: String,
}

/// The operations listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// `/livez`, `/readyz` and `/metrics`, without authentication: never expose it.
    pub listen: SocketAddr,
}

/// The control role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ControlConfig {
    /// The internal listener, reached by edges only.
    pub listen: SocketAddr,
    /// The most requests at a time on one connection; an edge sends all of its own over one, and what is more waits there.
    pub max_streams_per_connection: u32,
    /// Where Nodes and operators reach the edges, for links and key names.
    pub public_base_url: String,
    /// The word in tokens that says which installation they are of: `dev`, `stage` or `prod`.
    pub environment: String,
    /// Where the first administrator's token is written (created, mode 0600); absent: printed once on stderr.
    pub bootstrap_token_file: Option<PathBuf>,
    /// How long the first administrator's token is good, in seconds.
    pub bootstrap_token_ttl_seconds: u32,
    /// Where audit chains are copied to: `s3://…` or `file:///…` with `{chain}` in it; absent: nowhere.
    pub audit_mirror: Option<String>,
    /// How long a signing key is believed after its successor took over, in hours, 1 to 168.
    pub signing_transition_hours: u32,
    /// The age at which a signing key is rotated, in days; 0 never, for fleets whose Nodes never enrol again.
    pub signing_max_age_days: u32,
    /// Where new signing keys rest: `wrapped` (in the database, under the signing ring) or `transit` (in OpenBao).
    pub signing_custody: Custody,
    /// Whether retired signing keys are kept while Nodes pin them. Without, a rotation silences every Node that restarts.
    pub signing_keep_retired: bool,
    /// How long reads are decided from memory while the database is gone, in seconds, at most 300; 0 not at all.
    pub authz_stale_seconds: u32,
    /// Whether questions about others are answered within the Domains that the caller can read only.
    pub authz_clamp: bool,
}

/// The mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MeshConfig {
    /// What agents program for Peers that no bridge relays: `observed`, where they were seen, or `bridge_only`, nothing.
    pub fallback_fill: FallbackFill,
}

/// Where secrets are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpenBaoConfig {
    /// The server; absent: secrets of Domains cannot be read, and no key rests there.
    pub url: Option<url::Url>,
    /// A file with the token that reads them; read again at each use.
    pub token_file: Option<PathBuf>,
    /// Where the KV-v2 engine is mounted.
    pub mount: String,
    /// Where the transit engine is mounted.
    pub transit_mount: String,
}

/// Sign-in of people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// Pages that may change things by cookie, such as `https://console.example.org`; empty: none may.
    pub csrf_allowed_origins: Vec<String>,
    /// Sites besides this one that a sign-in may return to.
    pub return_to_origins: Vec<String>,
    /// Whether identity providers may lie on private networks.
    pub allow_private_idp: bool,
    /// Whether identity providers may lie on this machine, and on private networks. For trials only.
    pub allow_loopback_idp: bool,
    /// Whether identity providers may be spoken to without TLS. For trials only.
    pub allow_insecure_idp: bool,
    /// Whether workloads may present SPIFFE documents (JWT-SVID); 501 `not_provisioned` where they may not.
    pub spiffe_svid: bool,
    /// Whether people may sign devices in through the platform's own bindings.
    pub platform_device_login: bool,
    /// People who become platform administrators when they sign in through a platform binding: `<issuer>|<subject>`.
    pub platform_admins: Vec<String>,
}

/// Keys that encrypt keys. Each comes from a file or from a variable of the environment, whose name does not begin with
/// `PLEXSPHERE_`; a text that begins with `vault:v` is what OpenBao's transit engine made of it, and is decrypted there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CustodyConfig {
    /// 64 hex digits: the root from which peppers and cursor keys are derived. Never change it.
    pub root_key_file: Option<PathBuf>,
    /// The ring that seals Node Secret Keys: lines of `<version>:<64 hex digits>`, with `:standby` behind one that does
    /// not seal yet.
    pub nsk_ring_file: Option<PathBuf>,
    /// The ring that seals signing keys, in the same form. It shares no key with the other.
    pub signing_ring_file: Option<PathBuf>,
    /// The variable that holds the root, in place of its file.
    pub root_key_variable: Option<String>,
    /// The variable that holds the ring of Node Secret Keys, in place of its file.
    pub nsk_ring_variable: Option<String>,
    /// The variable that holds the ring of signing keys, in place of its file.
    pub signing_ring_variable: Option<String>,
    /// The key of OpenBao's transit engine that decrypts those texts that it made.
    pub transit_key: String,
}

/// What edges show to clients over TLS; needed when `edge.listen.https` is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate chain, PEM. ECDSA is much cheaper than RSA when streams reconnect.
    pub cert_file: Option<PathBuf>,
    /// The private key, PEM.
    pub key_file: Option<PathBuf>,
}

/// The largest payload of a batch in the buffer.
const MAX_PAYLOAD_BYTES: u64 = 2 << 20;

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            csrf_allowed_origins: Vec::new(),
            return_to_origins: Vec::new(),
            allow_private_idp: false,
            allow_loopback_idp: false,
            allow_insecure_idp: false,
            spiffe_svid: true,
            platform_device_login: false,
            platform_admins: Vec::new(),
        }
    }
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self { url: "postgres://plexsphere@127.0.0.1:5432/plexsphere".to_owned(), max_connections: 24 }
    }
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self { url: "nats://127.0.0.1:4222".to_owned(), replicas: 1 }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Pretty, filter: "info".to_owned() }
    }
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9091)) }
    }
}

impl Default for OpenBaoConfig {
    fn default() -> Self {
        Self { url: None, token_file: None, mount: "plexsphere".to_owned(), transit_mount: "transit".to_owned() }
    }
}

impl Default for CustodyConfig {
    fn default() -> Self {
        Self {
            root_key_file: None,
            nsk_ring_file: None,
            signing_ring_file: None,
            root_key_variable: None,
            nsk_ring_variable: None,
            signing_ring_variable: None,
            transit_key: "plexsphere-keks".to_owned(),
        }
    }
}

impl Default for ControlConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)),
            max_streams_per_connection: 4_096,
            public_base_url: "http://127.0.0.1:8080".to_owned(),
            environment: "prod".to_owned(),
            bootstrap_token_file: None,
            bootstrap_token_ttl_seconds: 3_600,
            audit_mirror: None,
            signing_transition_hours: 24,
            signing_max_age_days: 90,
            signing_custody: Custody::Wrapped,
            signing_keep_retired: true,
            authz_stale_seconds: 30,
            authz_clamp: true,
        }
    }
}

impl Config {
    /// Checks what one type cannot say.
    ///
    /// # Errors
    /// One phrase naming the key.
    pub fn check(&self) -> Result<(), String> {
        let base = url::Url::parse(&self.control.public_base_url)
            .map_err(|error| format!("`control.public_base_url` is no URL: {error}"))?;
        if base.host_str().is_none() {
            return Err("`control.public_base_url` has no host".to_owned());
        }
        if !(2..=500).contains(&self.database.max_connections) {
            return Err("`database.max_connections` must be from 2 to 500".to_owned());
        }
        if self.control.environment.is_empty() || !self.control.environment.bytes().all(|b| b.is_ascii_lowercase()) {
            return Err("`control.environment` must be lower-case letters".to_owned());
        }
        if !(1..=65_536).contains(&self.control.max_streams_per_connection) {
            return Err("`control.max_streams_per_connection` must be from 1 to 65536".to_owned());
        }
        if !(1..=168).contains(&self.control.signing_transition_hours) {
            return Err("`control.signing_transition_hours` must be from 1 to 168".to_owned());
        }
        let has_openbao = self.openbao.url.is_some() && self.openbao.token_file.is_some();
        if self.control.signing_custody == Custody::Transit && !has_openbao {
            return Err("`control.signing_custody` = `transit` needs `openbao.url` and `openbao.token_file`".to_owned());
        }
        if self.control.authz_stale_seconds > 300 {
            return Err("`control.authz_stale_seconds` must be at most 300".to_owned());
        }
        let cap = u64::try_from(self.edge.ingest.wire_bytes).unwrap_or(u64::MAX);
        if self.edge.quota.node_burst_bytes < cap || self.edge.quota.domain_burst_bytes < cap {
            return Err("a burst below `edge.ingest.wire_bytes` would refuse the largest batch for ever".to_owned());
        }
        if cap > MAX_PAYLOAD_BYTES {
            return Err(format!(
                "`edge.ingest.wire_bytes` must be at most {MAX_PAYLOAD_BYTES}: the buffer takes no more"
            ));
        }
        if self.pipelines.inflated_bytes < self.edge.ingest.inflated_bytes
            || self.pipelines.records < self.edge.ingest.records
        {
            return Err("the caps of `pipelines` must not be below those of `edge.ingest`".to_owned());
        }
        Ok(())
    }

    /// The host that names this installation in key ids.
    #[must_use]
    pub fn issuer_host(&self) -> String {
        url::Url::parse(&self.control.public_base_url)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned))
            .unwrap_or_else(|| "localhost".to_owned())
    }
}

/// Whether a key's value must not be shown.
#[must_use]
pub fn is_secret(key: &str) -> bool {
    matches!(key, "database.url" | "nats.url") || key.ends_with("password") || key.ends_with("token")
}
