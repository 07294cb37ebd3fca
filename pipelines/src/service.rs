//! The tier as a whole: set up, running, drained.

use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use prometheus_client::registry::Registry;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::PipelinesConfig;
use crate::consumer::{self, CONCURRENCY, RouteContext};
use crate::health::{ProbeStatus, RoutingHealth, Vitals};
use crate::lag;
use crate::metrics::Metrics;
use crate::route::Route;
use crate::sink::{Sinks, SinksError};
use crate::streams;

const ENSURE_INTERVAL: Duration = Duration::from_secs(30);
/// Pause between two attempts while the topology is not in order, and the least time between two nudged ones.
const ENSURE_PAUSE: Duration = Duration::from_secs(1);
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// A fetch under way ends by itself within this time; what it brought is given back.
const STOP_MARGIN: Duration = Duration::from_secs(5);
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

/// The pipelines tier.
#[derive(Debug)]
pub struct Pipelines;

/// The tier at work. Dropping it does not stop it; call [`Running::shutdown`].
#[derive(Debug)]
pub struct Running {
    client: async_nats::Client,
    vitals: Arc<Vitals>,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// How long the tasks may take to end once they are told to.
    patience: Duration,
}

/// Every long-lived task of the tier. All are cancelled by shutdown; one that panics is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    /// One consumer loop; gates the probe `obs-routing`.
    Consumer(Route),
    /// Keeps streams and consumers in order; the probe waits for its first success.
    Ensure,
    /// Samples the backlog; gates nothing.
    Lag,
}

/// What the tasks share.
struct Parts {
    config: PipelinesConfig,
    jetstream: jetstream::Context,
    sinks: Arc<Sinks>,
    clock: Clock,
    metrics: Metrics,
    vitals: Arc<Vitals>,
    ensure: Arc<Notify>,
    /// One permit per core: opening batches is work for the processor.
    decoding: Arc<Semaphore>,
    stop: CancellationToken,
}

// === impl Pipelines ===

impl Pipelines {
    /// Sets the sinks up and starts every loop. The bus may be away: the loops wait for it.
    ///
    /// # Errors
    /// [`SinksError`] when a sink cannot be set up as configured; nothing runs then.
    pub async fn start(
        config: PipelinesConfig,
        client: async_nats::Client,
        registry: &mut Registry,
    ) -> Result<Running, SinksError> {
        Self::start_with_clock(config, client, registry, Clock::system()).await
    }

    /// [`Pipelines::start`] with a clock of the caller's choice.
    ///
    /// # Errors
    /// See [`Pipelines::start`].
    pub async fn start_with_clock(
        config: PipelinesConfig,
        client: async_nats::Client,
        registry: &mut Registry,
        clock: Clock,
    ) -> Result<Running, SinksError> {
        let routing = config.routing_enabled;
        let patience = Duration::from_secs(config.drain_seconds) + STOP_MARGIN;
        // A replica that does not route must not take the folder's lock from one that does.
        let sinks = if routing { Some(Sinks::open(&config).await?) } else { None };
        let parts = Arc::new(Parts {
            jetstream: jetstream::new(client.clone()),
            sinks: Arc::new(sinks.unwrap_or_else(Sinks::off)),
            clock,
            metrics: Metrics::register(registry),
            vitals: Arc::new(Vitals::new(routing)),
            ensure: Arc::new(Notify::new()),
            decoding: Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, NonZero::get))),
            stop: CancellationToken::new(),
            config,
        });
        let tasks = TaskTracker::new();
        let loops = Route::ALL.map(Task::Consumer).into_iter().filter(|_| routing);
        for task in [Task::Ensure, Task::Lag].into_iter().chain(loops) {
            tasks.spawn(supervise(Arc::clone(&parts), task));
        }
        tasks.close();
        Ok(Running { client, vitals: Arc::clone(&parts.vitals), stop: parts.stop.clone(), tasks, patience })
    }
}

// === impl Running ===

impl Running {
    /// The answer of the health check `observability-routing`.
    #[must_use]
    pub fn health(&self) -> RoutingHealth {
        self.vitals.health()
    }

    /// The tier's readiness probes: `obs-routing`.
    #[must_use]
    pub fn probes(&self) -> Vec<ProbeStatus> {
        vec![self.vitals.probe()]
    }

    /// A handle that answers health and probes for as long as anybody asks, also while the tier shuts down.
    #[must_use]
    pub fn observer(&self) -> Observer {
        Observer(Arc::clone(&self.vitals))
    }

    /// Stops fetching, lets requests under way finish within the configured time, gives back what did not start, and
    /// flushes the acknowledgements. Never acknowledges what was not delivered.
    pub async fn shutdown(self) {
        self.stop.cancel();
        // A bus that is away can hold a loop up at a full send buffer; it must not hold the process up.
        if tokio::time::timeout(self.patience, self.tasks.wait()).await.is_err() {
            tracing::info!("loops did not end in time and are left behind");
        }
        if tokio::time::timeout(FLUSH_PATIENCE, self.client.flush()).await.is_err() {
            tracing::info!("acknowledgements were not flushed in time");
        }
    }
}

/// Health and probes of a running tier, for an admin listener.
#[derive(Clone, Debug)]
pub struct Observer(Arc<Vitals>);

// === impl Observer ===

impl Observer {
    /// See [`Running::health`].
    #[must_use]
    pub fn health(&self) -> RoutingHealth {
        self.0.health()
    }

    /// See [`Running::probes`].
    #[must_use]
    pub fn probes(&self) -> Vec<ProbeStatus> {
        vec![self.0.probe()]
    }
}

/// Runs a task until it ends by itself; a panic is logged and the task started again.
async fn supervise(parts: Arc<Parts>, task: Task) {
    while let Err(error) = tokio::spawn(run(Arc::clone(&parts), task)).await {
        if parts.stop.is_cancelled() || error.is_cancelled() {
            return;
        }
        tracing::error!(?task, "task panicked and is started again");
        tokio::time::sleep(RESTART_PAUSE).await;
    }
}

async fn run(parts: Arc<Parts>, task: Task) {
    match task {
        Task::Consumer(route) => {
            let drain = Duration::from_secs(parts.config.drain_seconds);
            consumer::run(Arc::new(parts.route(route)), drain).await;
        }
        Task::Ensure => keep_topology(&parts).await,
        Task::Lag => {
            let mut interval = tokio::time::interval(lag::INTERVAL);
            while tick(&parts.stop, &mut interval).await {
                lag::sample(&parts.jetstream, &parts.clock, &parts.metrics, &parts.vitals).await;
            }
        }
    }
}

/// Waits for the next tick; `false` when the tier stops.
async fn tick(stop: &CancellationToken, interval: &mut tokio::time::Interval) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        _ = interval.tick() => true,
    }
}

async fn keep_topology(parts: &Parts) {
    loop {
        let pause = match streams::ensure(&parts.jetstream, &parts.config.topology).await {
            Ok(ensured) => {
                for route in &ensured.recreated {
                    tracing::warn!(consumer = %route, "durable had vanished and was recreated");
                    parts.metrics.route(*route).recreated();
                }
                if !ensured.created_streams.is_empty() {
                    tracing::info!(streams = ?ensured.created_streams, halvings = ensured.halvings, "streams created");
                }
                parts.vitals.topology_ready();
                ENSURE_INTERVAL
            }
            // The bus being away is told by its own client; what needs an operator is told here.
            Err(error @ streams::TopologyError::Unavailable { .. }) => {
                tracing::info!(%error, "topology not ensured");
                ENSURE_PAUSE
            }
            Err(error) => {
                tracing::error!(%error, "topology is not in order");
                ENSURE_INTERVAL
            }
        };
        tokio::select! {
            () = parts.stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            () = parts.ensure.notified() => {
                tokio::select! {
                    () = parts.stop.cancelled() => return,
                    () = tokio::time::sleep(ENSURE_PAUSE) => {}
                }
            }
        }
    }
}

// === impl Parts ===

impl Parts {
    fn route(&self, route: Route) -> RouteContext {
        let topology = &self.config.topology;
        let ack_wait = Duration::from_secs(topology.ack_wait_seconds);
        RouteContext {
            route,
            jetstream: self.jetstream.clone(),
            sink: self.sinks.of(route),
            sinks: Arc::clone(&self.sinks),
            limits: self.config.limits(),
            backoff_base: Duration::from_millis(self.config.backoff_base_ms.max(1)),
            progress: (ack_wait / 3).max(Duration::from_millis(100)),
            horizon: topology.retry_horizon(route.signal()),
            clock: self.clock.clone(),
            metrics: self.metrics.route(route),
            vitals: Arc::clone(&self.vitals),
            requests: Semaphore::new(CONCURRENCY),
            decoding: Arc::clone(&self.decoding),
            ensure: Arc::clone(&self.ensure),
            stop: self.stop.clone(),
        }
    }
}
