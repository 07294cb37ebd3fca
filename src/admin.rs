//! The operations listener, on a thread of its own, so that probes answer when the data plane is saturated.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use plexsphere_kernel::Probes;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// An operations listener that is bound and not served yet.
pub(crate) struct Admin {
    listener: TcpListener,
    address: SocketAddr,
}

impl Admin {
    /// Binds the socket.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub(crate) fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the end of the process. While `draining` is cancelled, `/readyz` fails.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn serve(
        self,
        probes: Probes,
        registry: Arc<Registry>,
        draining: CancellationToken,
    ) -> std::io::Result<()> {
        let router = router(probes, registry, draining);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
            runtime.block_on(async move {
                match tokio::net::TcpListener::from_std(self.listener) {
                    Ok(listener) => {
                        if let Err(error) = axum::serve(listener, router).await {
                            tracing::error!(%error, "the operations listener ended");
                        }
                    }
                    Err(error) => tracing::error!(%error, "the operations listener cannot be served"),
                }
            });
        })?;
        Ok(())
    }
}

fn router(probes: Probes, registry: Arc<Registry>, draining: CancellationToken) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(move || async move { readyz(&probes, draining.is_cancelled()) }))
        .route("/metrics", get(move || async move { metrics(&registry) }))
}

fn readyz(probes: &Probes, draining: bool) -> impl IntoResponse + use<> {
    let mut list: Vec<_> = probes
        .readings()
        .into_iter()
        .map(|reading| json!({ "name": reading.name, "ready": reading.ready, "detail": reading.detail }))
        .collect();
    let ready = probes.ready() && !draining;
    if draining {
        list.push(json!({ "name": "shutdown", "ready": false, "detail": "draining" }));
    }
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = if ready { "ready" } else { "not_ready" };
    let mut headers = HeaderMap::new();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    (status, headers, axum::Json(json!({ "status": word, "probes": list })))
}

fn metrics(registry: &Registry) -> impl IntoResponse + use<> {
    let mut text = String::new();
    let status = match prometheus_client::encoding::text::encode(&mut text, registry) {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}
