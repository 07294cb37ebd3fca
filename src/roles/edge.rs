//! The edge role.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use plexsphere_edge::{Edge, EdgeDeps, SystemClock, TlsMaterial};
use plexsphere_kernel::Probes;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::{Started, bus, run_alone};
use crate::commands::sentence;
use crate::config::{Config, TlsConfig};

/// How often the edge's own probes are copied into the register.
const COPY_PROBES: Duration = Duration::from_millis(200);

/// The edge role at work, and where it listens.
pub(crate) struct EdgeStarted {
    pub(crate) started: Started,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) https: Option<SocketAddr>,
}

/// Runs the role by itself until it is asked to end.
pub(crate) async fn run(config: Config) -> Result<(), String> {
    let mut registry = Registry::default();
    let edge = start(&config, &Probes::default(), &mut registry).await?;
    run_alone(&config, edge.started, registry).await
}

/// Starts the role: binds its sockets, then serves.
///
/// # Errors
/// One sentence.
pub(crate) async fn start(config: &Config, probes: &Probes, registry: &mut Registry) -> Result<EdgeStarted, String> {
    let deps = EdgeDeps {
        nats: bus::connect(&config.nats.url, "edge").await?,
        tls: material(&config.tls)?,
        clock: Arc::new(SystemClock::new()),
    };
    let built = Edge::build(config.edge.clone(), deps, registry).map_err(|error| sentence(&error))?;
    let addresses = built.addresses();
    let cancel = CancellationToken::new();
    let own = built.probes();
    let register = probes.clone();
    let registered: Vec<_> = own.iter().map(|probe| (Arc::clone(probe), register.register(probe.name()))).collect();
    let (stop, until) = (cancel.clone(), cancel.clone());
    tokio::spawn(async move {
        while !until.is_cancelled() {
            for (own, registered) in &registered {
                let (ready, detail) = own.reading();
                if ready { registered.pass(detail) } else { registered.fail(detail) }
            }
            tokio::time::sleep(COPY_PROBES).await;
        }
    });
    let ended = tokio::spawn(async move { built.run(stop).await.map_err(|error| sentence(&error)) });
    let started = Started { name: "edge", probes: probes.clone(), cancel, ended };
    Ok(EdgeStarted { started, http: addresses.http, https: addresses.https })
}

fn material(config: &TlsConfig) -> Result<Option<TlsMaterial>, String> {
    let read = |key: &str, path: &std::path::Path| {
        std::fs::read(path).map_err(|error| format!("`{key}` cannot be read: {error}"))
    };
    match (&config.cert_file, &config.key_file) {
        (Some(cert), Some(key)) => {
            Ok(Some(TlsMaterial { certificate_pem: read("tls.cert_file", cert)?, key_pem: read("tls.key_file", key)? }))
        }
        (None, None) => Ok(None),
        (Some(_), None) | (None, Some(_)) => Err("`tls.cert_file` and `tls.key_file` go together".to_owned()),
    }
}
