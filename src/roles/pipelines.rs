//! The pipelines role.

use std::time::Duration;

use plexsphere_kernel::Probes;
use plexsphere_pipelines::{Observer, Pipelines};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::{Started, bus, run_alone};
use crate::config::Config;

/// How often the tier's own probes are copied into the register.
const COPY_PROBES: Duration = Duration::from_millis(500);

/// Runs the role by itself until it is asked to end.
pub(crate) async fn run(config: Config) -> Result<(), String> {
    let mut registry = Registry::default();
    let started = start(&config, &Probes::default(), &mut registry).await?;
    run_alone(&config, started, registry).await
}

/// Starts the role.
///
/// # Errors
/// One sentence.
pub(crate) async fn start(config: &Config, probes: &Probes, registry: &mut Registry) -> Result<Started, String> {
    let client = bus::connect(&config.nats.url, "pipelines").await?;
    let running = Pipelines::start(config.pipelines.clone(), client, registry)
        .await
        .map_err(|error| crate::commands::sentence(&error))?;
    let probes = probes.clone();
    let cancel = CancellationToken::new();
    let (stop, observer) = (cancel.clone(), running.observer());
    let copy = tokio::spawn(copy_probes(observer, probes.clone(), cancel.clone()));
    let ended = tokio::spawn(async move {
        stop.cancelled().await;
        running.shutdown().await;
        copy.abort();
        Ok(())
    });
    Ok(Started { name: "pipelines", probes, cancel, ended })
}

async fn copy_probes(observer: Observer, probes: Probes, cancel: CancellationToken) {
    while !cancel.is_cancelled() {
        for status in observer.probes() {
            let probe = probes.register(status.name);
            if status.ready { probe.pass(status.detail) } else { probe.fail(status.detail) }
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(COPY_PROBES) => {}
        }
    }
}
