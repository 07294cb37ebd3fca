//! The operations listener: `/livez`, `/readyz`, `/metrics`, on a thread of its own, so that probes answer when the data
//! plane is saturated. Knows nothing of the edge: probes and a registry are handed in.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

/// A named condition of readiness. Its owner publishes the state; asking costs nothing. Fails until it first passes.
#[derive(Debug)]
pub struct Probe {
    name: &'static str,
    state: Mutex<(bool, String)>,
}

impl Probe {
    /// A probe that has not passed yet; the name matches `^[a-z][a-z0-9-]{1,62}$`.
    #[must_use]
    pub fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self { name, state: Mutex::new((false, "pending".into())) })
    }

    /// The condition holds.
    pub fn pass(&self, detail: &str) {
        *self.state.lock() = (true, detail.to_owned());
    }

    /// The condition does not hold.
    pub fn fail(&self, detail: &str) {
        *self.state.lock() = (false, detail.to_owned());
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the condition holds, and one phrase about it.
    #[must_use]
    pub fn reading(&self) -> (bool, String) {
        self.state.lock().clone()
    }

    /// Whether the condition holds.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.state.lock().0
    }
}

/// The probes of a process; the list is fixed before the listener starts.
#[derive(Clone, Debug, Default)]
pub struct Probes {
    list: Vec<Arc<Probe>>,
    draining: Arc<AtomicBool>,
}

#[derive(Serialize)]
struct ProbeReport {
    name: &'static str,
    ready: bool,
    detail: String,
}

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    probes: Vec<ProbeReport>,
}

impl Probes {
    /// These probes.
    #[must_use]
    pub fn new(list: Vec<Arc<Probe>>) -> Self {
        Self { list, draining: Arc::default() }
    }

    /// Fails readiness for good, because the process ends.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether every probe passes.
    #[must_use]
    pub fn ready(&self) -> bool {
        !self.draining.load(Ordering::Acquire) && self.list.iter().all(|probe| probe.ready())
    }

    fn report(&self) -> Readiness {
        let mut probes: Vec<ProbeReport> = Vec::with_capacity(self.list.len() + 1);
        for probe in &self.list {
            let (ready, detail) = probe.state.lock().clone();
            probes.push(ProbeReport { name: probe.name, ready, detail });
        }
        if self.draining.load(Ordering::Acquire) {
            probes.push(ProbeReport { name: "shutdown", ready: false, detail: "draining".into() });
        }
        let status = if probes.iter().all(|probe| probe.ready) { "ready" } else { "not_ready" };
        Readiness { status, probes }
    }
}

/// A bound operations listener that does not serve yet.
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
}

impl Admin {
    /// Binds the socket.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it is bound.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves on a thread of its own until `cancel`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn(
        self,
        registry: Arc<Registry>,
        probes: Probes,
        cancel: CancellationToken,
    ) -> std::io::Result<std::thread::JoinHandle<()>> {
        std::thread::Builder::new().name("admin".into()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return tracing::error!(%error, "operations listener has no runtime"),
            };
            runtime.block_on(serve(self.listener, registry, probes, cancel));
        })
    }
}

async fn serve(listener: TcpListener, registry: Arc<Registry>, probes: Probes, cancel: CancellationToken) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "operations listener cannot serve"),
    };
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (registry, probes) = (Arc::clone(&registry), probes.clone());
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let response = answer(&request, &registry, &probes);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(request: &Request<Incoming>, registry: &Registry, probes: &Probes) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "method not allowed\n".into());
    }
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, "text/plain", "ok\n".into()),
        "/readyz" => {
            let report = probes.report();
            let ready = report.status == "ready";
            let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            text(status, "application/json", serde_json::to_string(&report).unwrap_or_default())
        }
        "/metrics" => {
            let mut body = String::new();
            match prometheus_client::encoding::text::encode(&mut body, registry) {
                Ok(()) => text(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", body),
                Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", String::new()),
            }
        }
        _ => text(StatusCode::NOT_FOUND, "text/plain", "not found\n".into()),
    }
}

fn text(status: StatusCode, media_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
