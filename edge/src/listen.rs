//! Sockets and connections: TCP plain and TLS, QUIC, and what keeps a connection from costing for ever.

mod guard;
mod quic;
mod tcp;

use std::future::Future;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::{Request, Response};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use socket2::SockRef;

pub use guard::Guarded;
pub use quic::{endpoint as quic_endpoint, serve_quic};
pub use tcp::{Limits, serve_tcp};

use crate::body::{Peer, RequestBody, ResponseBody};
use crate::fanout::Handover;

/// Answers requests of any version of HTTP.
pub trait Handler: Send + Sync + 'static {
    /// One request; never fails, and never panics through.
    fn handle(
        self: Arc<Self>,
        request: Request<RequestBody>,
        peer: Peer,
    ) -> impl Future<Output = Response<ResponseBody>> + Send;
}

/// How busy a connection is.
#[derive(Debug, Default)]
pub struct Activity {
    running: AtomicUsize,
    begun: AtomicUsize,
    unread: AtomicBool,
    /// Where a response asks to be taken out of the HTTP library's hands.
    pub handover: Handover,
}

impl Activity {
    /// How many requests have begun so far.
    #[must_use]
    pub fn begun(&self) -> usize {
        self.begun.load(Ordering::Acquire)
    }

    /// Notes that the body of the newest request was given up before its end.
    pub fn leave_unread(&self) {
        self.unread.store(true, Ordering::Release);
    }

    /// Whether the client may still be sending a body that nobody reads.
    #[must_use]
    pub fn unread(&self) -> bool {
        self.unread.load(Ordering::Acquire)
    }

    /// Whether no request is under way.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.running.load(Ordering::Acquire) == 0
    }
}

/// Counts one request of a connection until its response has left.
#[derive(Debug)]
pub struct InFlight(Arc<Activity>);

impl InFlight {
    /// Begins a request.
    #[must_use]
    pub fn begin(activity: &Arc<Activity>) -> Self {
        activity.running.fetch_add(1, Ordering::AcqRel);
        activity.begun.fetch_add(1, Ordering::AcqRel);
        activity.unread.store(false, Ordering::Release);
        Self(Arc::clone(activity))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Certificate chain and key, PEM.
#[derive(Clone)]
pub struct TlsMaterial {
    /// The chain, the server's own certificate first.
    pub certificate_pem: Vec<u8>,
    /// The key: PKCS#8, SEC1 or PKCS#1.
    pub key_pem: Vec<u8>,
}

/// Why sockets cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An address cannot be bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The PEM text holds no usable certificate or key.
    #[error("certificate or key cannot be read")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// Certificate and key do not make a server.
    #[error("certificate and key cannot be used")]
    Tls(#[source] rustls::Error),
    /// QUIC cannot be set up.
    #[error("quic cannot be set up")]
    Quic(#[source] std::io::Error),
}

impl TlsMaterial {
    /// A server configuration with these protocols, TLS 1.3 alone or with 1.2.
    fn server(&self, alpn: &[&[u8]], only_13: bool) -> Result<rustls::ServerConfig, ListenError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&self.certificate_pem)
            .collect::<Result<_, _>>()
            .map_err(ListenError::Pem)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key_pem).map_err(ListenError::Pem)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider);
        let versions = if only_13 { &[&rustls::version::TLS13][..] } else { rustls::ALL_VERSIONS };
        let mut config = builder
            .with_protocol_versions(versions)
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(ListenError::Tls)?;
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }

    /// For TCP: HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn acceptor(&self) -> Result<tokio_rustls::TlsAcceptor, ListenError> {
        let config = self.server(&[b"h2", b"http/1.1"], false)?;
        Ok(tokio_rustls::TlsAcceptor::from(Arc::new(config)))
    }

    /// For QUIC: HTTP/3.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn quic(&self) -> Result<rustls::ServerConfig, ListenError> {
        self.server(&[b"h3"], true)
    }
}

/// Connections that the system holds until they are accepted; it takes no more than `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// Binds a TCP socket.
///
/// # Errors
/// [`ListenError::Bind`].
pub fn bind_tcp(address: SocketAddr) -> Result<std::net::TcpListener, ListenError> {
    let failed = |source| ListenError::Bind { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    // The library asks for 128: a fleet that comes back at once would lose its first packets and try again a second later.
    SockRef::from(&listener).listen(BACKLOG).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Binds a TCP socket and, if asked, a UDP socket of the same port number.
///
/// # Errors
/// [`ListenError::Bind`].
pub fn bind_pair(address: SocketAddr, udp: bool) -> Result<(std::net::TcpListener, Option<UdpSocket>), ListenError> {
    let failed = |source| ListenError::Bind { address, source };
    let mut tries = 16;
    loop {
        let tcp = bind_tcp(address)?;
        if !udp {
            return Ok((tcp, None));
        }
        // With port 0 the number that TCP was given may be taken for UDP; then another is tried.
        match UdpSocket::bind(tcp.local_addr().map_err(failed)?) {
            Ok(socket) => return Ok((tcp, Some(socket))),
            Err(_) if address.port() == 0 && tries > 0 => tries -= 1,
            Err(source) => return Err(failed(source)),
        }
    }
}
