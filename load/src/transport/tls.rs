//! What connections of many Nodes share: trust, TLS configuration, the UDP socket.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::{Protocol, TransportError};

/// Where a distribution keeps its certificate authorities.
const SYSTEM_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Silence after which a QUIC connection is given up.
const QUIC_IDLE: Duration = Duration::from_secs(10);

/// Whose certificates are believed.
#[derive(Clone, Debug)]
pub enum Trust {
    /// The machine's own authorities.
    System,
    /// The authorities of one PEM file and no other.
    File(PathBuf),
}

impl Trust {
    /// A given file, else the system's authorities.
    #[must_use]
    pub fn from_option(ca_cert: Option<PathBuf>) -> Self {
        ca_cert.map_or(Self::System, Self::File)
    }

    fn roots(&self) -> Result<RootCertStore, TransportError> {
        match self {
            Self::File(path) => read_bundle(path),
            Self::System => SYSTEM_BUNDLES
                .iter()
                .map(Path::new)
                .find(|path| path.exists())
                .ok_or_else(|| TransportError::Tls("no certificate authorities found; give --ca-cert".to_owned()))
                .and_then(read_bundle),
        }
    }
}

fn read_bundle(path: &Path) -> Result<RootCertStore, TransportError> {
    let problem = |error: &dyn fmt::Display| TransportError::Tls(format!("{}: {error}", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| problem(&error))? {
        let certificate = certificate.map_err(|error| problem(&error))?;
        // A system bundle may hold one that this library cannot read; it then simply is not believed.
        let _ = roots.add(certificate);
    }
    if roots.is_empty() {
        return Err(problem(&"holds no certificate"));
    }
    Ok(roots)
}

/// The shared part of many clients. One UDP socket serves every HTTP/3 client of a process.
pub struct Dialer {
    trust: Trust,
    h1: OnceLock<Arc<ClientConfig>>,
    h2: OnceLock<Arc<ClientConfig>>,
    quic: OnceLock<quinn::Endpoint>,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("trust", &self.trust).finish_non_exhaustive()
    }
}

impl Dialer {
    /// A dialer with this trust; files are read when the first TLS connection needs them.
    #[must_use]
    pub fn new(trust: Trust) -> Arc<Self> {
        Arc::new(Self { trust, h1: OnceLock::new(), h2: OnceLock::new(), quic: OnceLock::new() })
    }

    /// The TLS configuration for a protocol over TCP; sessions are resumed across connections.
    pub(super) fn tls(&self, protocol: Protocol) -> Result<Arc<ClientConfig>, TransportError> {
        let (slot, alpn): (_, &[u8]) = match protocol {
            Protocol::H1 => (&self.h1, b"http/1.1"),
            Protocol::H2 | Protocol::H3 => (&self.h2, b"h2"),
        };
        if let Some(config) = slot.get() {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.config(alpn)?);
        Ok(Arc::clone(slot.get_or_init(|| config)))
    }

    /// The QUIC endpoint; must be called inside a tokio runtime.
    pub(super) fn quic(&self) -> Result<quinn::Endpoint, TransportError> {
        if let Some(endpoint) = self.quic.get() {
            return Ok(endpoint.clone());
        }
        let endpoint = self.bind()?;
        Ok(self.quic.get_or_init(|| endpoint).clone())
    }

    /// A TLS configuration of its own, which offers one protocol.
    pub(crate) fn config(&self, alpn: &[u8]) -> Result<ClientConfig, TransportError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TransportError::Tls(error.to_string()))?
            .with_root_certificates(self.trust.roots()?)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(config)
    }

    fn bind(&self) -> Result<quinn::Endpoint, TransportError> {
        let crypto =
            QuicClientConfig::try_from(self.config(b"h3")?).map_err(|error| TransportError::Tls(error.to_string()))?;
        let mut transport = quinn::TransportConfig::default();
        // A server that was killed says nothing over UDP: without answers for ten seconds it counts as gone.
        transport.keep_alive_interval(Some(Duration::from_secs(3)));
        transport.max_idle_timeout(quinn::IdleTimeout::try_from(QUIC_IDLE).ok());
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport));
        let mut endpoint = quinn::Endpoint::new(quinn::EndpointConfig::default(), None, socket()?, runtime()?)
            .map_err(|error| TransportError::Connect(error.to_string()))?;
        endpoint.set_default_client_config(config);
        Ok(endpoint)
    }
}

/// A socket for both address families where the kernel has them, else for IPv4.
fn socket() -> Result<UdpSocket, TransportError> {
    UdpSocket::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)))
        .or_else(|_| UdpSocket::bind("0.0.0.0:0"))
        .map_err(|error| TransportError::Connect(error.to_string()))
}

fn runtime() -> Result<Arc<dyn quinn::Runtime>, TransportError> {
    quinn::default_runtime().ok_or_else(|| TransportError::Connect("no async runtime".to_owned()))
}
