//! The baselines: a program that does nothing but hold connections and write bytes, and one that reads them.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::link::Route;
use super::message::Written;
use super::process;

/// Connections that are accepted and held.
#[derive(Default)]
pub(super) struct Server {
    plain: Arc<Mutex<Vec<std::net::TcpStream>>>,
    tls: Arc<Mutex<Vec<TlsStream<TcpStream>>>>,
    tasks: JoinSet<()>,
}

impl Server {
    /// Begins to accept on a free port of loopback; must be called inside a tokio runtime.
    pub(super) fn serve(&mut self, tls: Option<(PathBuf, PathBuf)>) -> io::Result<SocketAddr> {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let listener = socket.listen(4_096)?;
        let address = listener.local_addr()?;
        let held = Arc::clone(&self.plain);
        match tls {
            None => drop(self.tasks.spawn(hold_plain(listener, held))),
            Some((certificate, key)) => {
                let acceptor = acceptor(&certificate, &key)?;
                drop(self.tasks.spawn(hold_tls(listener, acceptor, Arc::clone(&self.tls))));
            }
        }
        Ok(address)
    }

    /// Writes `bytes` to every plain connection, round by round, and says what that took of this process's time.
    pub(super) async fn write(&self, bytes: Vec<u8>, rounds: u32, pause: Duration) -> io::Result<Written> {
        let held = Arc::clone(&self.plain);
        let work = tokio::task::spawn_blocking(move || {
            let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
            let mut written = Written::default();
            let before = process::cpu(std::process::id())?;
            for _ in 0..rounds {
                for stream in held.iter_mut() {
                    written.writes += 1;
                    written.short += u64::from(stream.write(&bytes).ok() != Some(bytes.len()));
                }
                std::thread::sleep(pause);
            }
            let cpu = process::cpu(std::process::id())?.saturating_sub(before);
            written.cpu_nanos = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
            Ok(written)
        });
        work.await.map_err(io::Error::other)?
    }
}

fn acceptor(certificate: &Path, key: &Path) -> io::Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn hold_plain(listener: TcpListener, held: Arc<Mutex<Vec<std::net::TcpStream>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        if let Ok(stream) = stream.into_std() {
            held.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        }
    }
}

async fn hold_tls(listener: TcpListener, acceptor: TlsAcceptor, held: Arc<Mutex<Vec<TlsStream<TcpStream>>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, held) = (acceptor.clone(), Arc::clone(&held));
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            if let Ok(stream) = acceptor.accept(stream).await {
                held.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
            }
        });
    }
}

/// Opens `count` connections, `at_once` at the same time, and reads each in a task of `readers`. Returns when all are
/// open, TLS handshakes included.
pub(super) async fn connect(
    route: Route,
    (count, at_once): (usize, usize),
    readers: &mut JoinSet<()>,
) -> io::Result<()> {
    let (route, permits) = (Arc::new(route), Arc::new(Semaphore::new(at_once.max(1))));
    let mut connects = JoinSet::new();
    for _ in 0..count {
        let (route, permits) = (Arc::clone(&route), Arc::clone(&permits));
        connects.spawn(async move {
            let _permit = permits.acquire().await;
            route.connect(false).await
        });
    }
    while let Some(connected) = connects.join_next().await {
        let mut link = connected.map_err(io::Error::other)??;
        readers.spawn(async move { while let Ok(false) = link.read(<[u8]>::is_empty).await {} });
    }
    Ok(())
}
