//! The three roles: how each is put together, run by itself, and run inside `dev`.

mod bus;

pub(crate) mod control;
pub(crate) mod edge;
pub(crate) mod pipelines;

use std::sync::Arc;
use std::time::Duration;

use plexsphere_kernel::Probes;
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::config::Config;
use crate::shutdown;

pub(crate) use bus::connect as connect_bus;

/// How long a balancer gets to notice that `/readyz` fails before the listeners close.
const LEAVE_BALANCER: Duration = Duration::from_secs(1);

/// A role at work.
pub(crate) struct Started {
    /// What messages call it.
    pub(crate) name: &'static str,
    /// Its named probes.
    pub(crate) probes: Probes,
    /// Cancel it to have the role drain and end.
    pub(crate) cancel: CancellationToken,
    /// Ends when the role has ended, with a sentence when that was not asked for.
    pub(crate) ended: JoinHandle<Result<(), String>>,
}

/// Runs a started role by itself: operations listener, signals, drain.
async fn run_alone(config: &Config, started: Started, registry: Registry) -> Result<(), String> {
    let admin = Admin::bind(config.admin.listen)
        .map_err(|error| format!("the operations listener cannot bind {}: {error}", config.admin.listen))?;
    let draining = CancellationToken::new();
    admin
        .serve(started.probes.clone(), Arc::new(registry), draining.clone())
        .map_err(|error| format!("the operations listener cannot be served: {error}"))?;
    let stop = CancellationToken::new();
    shutdown::on_signal(stop.clone()).map_err(|error| format!("signals cannot be listened to: {error}"))?;
    wait(started, stop, draining).await
}

/// Waits for the end of a role, asked for or not.
async fn wait(mut started: Started, stop: CancellationToken, draining: CancellationToken) -> Result<(), String> {
    let unasked = tokio::select! {
        ended = &mut started.ended => Some(ended),
        () = stop.cancelled() => None,
    };
    let ended = match unasked {
        Some(ended) => ended,
        None => {
            draining.cancel();
            tokio::time::sleep(LEAVE_BALANCER).await;
            started.cancel.cancel();
            started.ended.await
        }
    };
    ended.map_err(|error| format!("{} panicked: {error}", started.name))?
}
