//! Sockets that cost little: no buffer of their own, one scratch buffer per thread.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::Url;

use crate::transport::{Dialer, Trust};

const SCRATCH_BYTES: usize = 64 * 1024;
/// What a reader that can be stalled leaves to the kernel.
const SMALL_BUFFER_BYTES: u32 = 4 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// Where connections go, and how.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) address: SocketAddr,
    /// `host[:port]`, as requests name it.
    pub(super) authority: String,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    source: Option<IpAddr>,
}

impl Route {
    /// The route to a URL. Workers on loopback have an address of their own each, for one has 28,000 ports only.
    pub(super) async fn to(url: &str, ca_cert: Option<PathBuf>, http2: bool, number: usize) -> io::Result<Self> {
        let url: Url = url.parse().map_err(io::Error::other)?;
        let host = url.host_str().ok_or_else(|| io::Error::other("the url names no host"))?;
        let port = url.port_or_known_default().ok_or_else(|| io::Error::other("the url names no port"))?;
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
        let address = found.iter().find(|address| address.is_ipv4()).or(found.first()).copied();
        let address = address.ok_or_else(|| io::Error::other("the host has no address"))?;
        let tls = match url.scheme() {
            "http" => None,
            _ => Some(config(ca_cert, if http2 { b"h2" } else { b"http/1.1" }, host)?),
        };
        Ok(Self { address, authority, tls, source: source(address, number) })
    }

    /// A route for bare connections.
    pub(super) fn bare(address: SocketAddr, ca_cert: Option<PathBuf>, number: usize) -> io::Result<Self> {
        let tls = ca_cert.map(|file| config(Some(file), b"http/1.1", "localhost")).transpose()?;
        Ok(Self { address, authority: String::new(), tls, source: source(address, number) })
    }

    pub(super) const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Connects, with a full TLS handshake where the route is encrypted.
    pub(super) async fn connect(&self, small_buffer: bool) -> io::Result<Link> {
        let socket = if self.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if small_buffer {
            socket.set_recv_buffer_size(SMALL_BUFFER_BYTES)?;
        }
        if let Some(source) = self.source {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        let Some((config, name)) = &self.tls else { return Ok(Link::Plain(stream)) };
        let stream = TlsConnector::from(Arc::clone(config)).connect(name.clone(), stream).await?;
        Ok(Link::Tls(Box::new(stream)))
    }
}

fn config(ca_cert: Option<PathBuf>, alpn: &[u8], host: &str) -> io::Result<(Arc<ClientConfig>, ServerName<'static>)> {
    let mut config = Dialer::new(Trust::from_option(ca_cert)).config(alpn).map_err(io::Error::other)?;
    // Nodes that come back to an edge that was started anew have no session with it.
    config.resumption = Resumption::disabled();
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok((Arc::new(config), ServerName::try_from(name).map_err(io::Error::other)?))
}

fn source(address: SocketAddr, number: usize) -> Option<IpAddr> {
    let last = u8::try_from(number % 200).unwrap_or(0) + 10;
    (address.is_ipv4() && address.ip().is_loopback()).then(|| Ipv4Addr::new(127, 0, 0, last).into())
}

/// An open connection.
pub(super) enum Link {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Link {
    /// Waits for bytes and hands them to `take`; an empty slice is the end.
    pub(super) async fn read<T>(&mut self, mut take: impl FnMut(&[u8]) -> T) -> io::Result<T> {
        std::future::poll_fn(|cx| {
            SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                ready!(match self {
                    Self::Plain(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
                    Self::Tls(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
                })?;
                Poll::Ready(Ok(take(buffer.filled())))
            })
        })
        .await
    }

    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }
}
