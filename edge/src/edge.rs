//! Puts an edge together: sockets first, then everything else, then run and drain.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::{ConfigError, EdgeConfig, seconds};
use crate::directory::{self, Directory, Lookup};
use crate::fanout::{EventBus, EventBusDeps, Fanout, Hub};
use crate::heartbeat::Heartbeats;
use crate::ingest::{Ingest, IngestDeps, JetStreamBuffer, Surface, SurfaceDeps, SurfaceState, watch_surface};
use crate::intake::Intake;
use crate::listen::{self, Limits, ListenError, TlsMaterial, serve_quic, serve_tcp};
use crate::metrics::Metrics;
use crate::probe::Probe;
use crate::proxy::Proxy;
use crate::quota::Quotas;
use crate::service::EdgeService;

/// What an edge is handed.
pub struct EdgeDeps {
    /// The bus; may be reconnecting.
    pub nats: async_nats::Client,
    /// Certificate and key, needed for `https`.
    pub tls: Option<TlsMaterial>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
}

/// Why an edge cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The configuration is refused.
    #[error("edge configuration")]
    Config(#[source] ConfigError),
    /// A socket or the certificate cannot be used.
    #[error("edge listeners")]
    Listen(#[source] ListenError),
}

/// Where an edge listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Plain HTTP.
    pub http: Option<SocketAddr>,
    /// TLS.
    pub https: Option<SocketAddr>,
    /// QUIC.
    pub http3: Option<SocketAddr>,
}

/// The edge tier.
pub struct Edge;

/// An edge with bound sockets that does not work yet.
pub struct BuiltEdge {
    config: Arc<EdgeConfig>,
    deps: EdgeDeps,
    metrics: Metrics,
    http: Option<TcpListener>,
    https: Option<TcpListener>,
    quic: Option<UdpSocket>,
    addresses: Addresses,
    proxy: Arc<Proxy>,
    directory_probe: Arc<Probe>,
    ingest_probe: Option<Arc<Probe>>,
    events_probe: Arc<Probe>,
    quotas: Arc<Quotas>,
}

impl Edge {
    /// Checks the configuration, enters the metrics and binds every socket. Connects to nothing.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(config: EdgeConfig, deps: EdgeDeps, registry: &mut Registry) -> Result<BuiltEdge, BuildError> {
        config.check().map_err(BuildError::Config)?;
        if config.listen.https.is_some() && deps.tls.is_none() {
            return Err(BuildError::Config(ConfigError::NoCertificate));
        }
        let http = config.listen.http.map(listen::bind_tcp).transpose().map_err(BuildError::Listen)?;
        let pair = config.listen.https.map(|address| listen::bind_pair(address, config.listen.http3));
        let (https, quic) = match pair.transpose().map_err(BuildError::Listen)? {
            Some((tcp, udp)) => (Some(tcp), udp),
            None => (None, None),
        };
        let local = |listener: &TcpListener| listener.local_addr().ok();
        let addresses = Addresses {
            http: http.as_ref().and_then(local),
            https: https.as_ref().and_then(local),
            http3: quic.as_ref().and_then(|socket| socket.local_addr().ok()),
        };
        if let Some(socket) = &quic {
            let failed = |source| BuildError::Listen(ListenError::Quic(source));
            socket.set_nonblocking(true).map_err(failed)?;
        }
        let proxy = Arc::new(Proxy::new(&config.proxy).map_err(BuildError::Config)?);
        Ok(BuiltEdge {
            metrics: Metrics::register(registry),
            quotas: Arc::new(Quotas::new(&config.quota)),
            directory_probe: Probe::new("edge-directory"),
            ingest_probe: config.ingest.enabled.then(|| Probe::new("obs-ingest-buffer")),
            events_probe: Probe::new("event-stream"),
            config: Arc::new(config),
            deps,
            http,
            https,
            quic,
            addresses,
            proxy,
        })
    }
}

impl BuiltEdge {
    /// Where it listens.
    #[must_use]
    pub const fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Its probes, for the operations listener: `edge-directory`, `obs-ingest-buffer`, `event-stream`.
    #[must_use]
    pub fn probes(&self) -> Vec<Arc<Probe>> {
        let mut probes = vec![Arc::clone(&self.directory_probe), Arc::clone(&self.events_probe)];
        probes.extend(self.ingest_probe.clone());
        probes
    }

    /// Its budgets, from which the usage of Domains is read.
    #[must_use]
    pub fn quotas(&self) -> Arc<Quotas> {
        Arc::clone(&self.quotas)
    }

    /// Works until `cancel`, then drains: stops accepting, closes streams evenly, lets requests finish.
    ///
    /// # Errors
    /// [`ListenError`] when a socket or certificate turns out unusable.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), ListenError> {
        let tls = self.deps.tls.as_ref();
        let acceptor = match (&self.https, tls) {
            (Some(_), Some(tls)) => Some(tls.acceptor()?),
            _ => None,
        };
        let limits = Limits::new(Arc::new(self.config.listen.clone()), self.metrics.connections.clone());
        let stop = CancellationToken::new();
        let background = TaskTracker::new();
        let service = self.assemble(&background, &stop);
        let fanout = Arc::clone(&service.fanout);
        let into_tokio = |listener: TcpListener| tokio::net::TcpListener::from_std(listener).map_err(ListenError::Quic);
        let accepting = TaskTracker::new();
        if let Some(listener) = self.http {
            accepting.spawn(serve_tcp(into_tokio(listener)?, None, Arc::clone(&service), limits.clone()));
        }
        if let Some(listener) = self.https {
            accepting.spawn(serve_tcp(into_tokio(listener)?, acceptor, Arc::clone(&service), limits.clone()));
        }
        let mut quic = None;
        if let (Some(socket), Some(tls)) = (self.quic, tls) {
            let endpoint = listen::quic_endpoint(socket, tls, &self.config.listen)?;
            accepting.spawn(serve_quic(endpoint.clone(), service, limits.clone()));
            quic = Some(endpoint);
        }
        tracing::info!(http = ?self.addresses.http, https = ?self.addresses.https, "edge listens");
        cancel.cancelled().await;
        limits.drain.cancel();
        limits.tasks.close();
        let patience = seconds(self.config.listen.drain_seconds.max(self.config.events.drain_seconds));
        let finished = async {
            tokio::join!(fanout.drain(), limits.tasks.wait());
        };
        if tokio::time::timeout(patience + Duration::from_secs(2), finished).await.is_err() {
            tracing::info!("requests were cut off at the end");
        }
        limits.kill.cancel();
        stop.cancel();
        for tracker in [limits.tasks, accepting, background] {
            tracker.close();
            let _ = tokio::time::timeout(Duration::from_secs(5), tracker.wait()).await;
        }
        if let Some(endpoint) = quic {
            let _ = tokio::time::timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
        }
        Ok(())
    }

    /// Makes every part and starts what runs in the background.
    fn assemble(&self, background: &TaskTracker, stop: &CancellationToken) -> Arc<EdgeService<JetStreamBuffer>> {
        let (config, clock, nats) = (&self.config, &self.deps.clock, &self.deps.nats);
        let metrics = self.metrics.clone();
        let directory = Arc::new(Directory::new());
        let hub = Arc::new(Hub::new(config.events.clone(), Arc::clone(clock), metrics.clone()));
        let lookup = Arc::new(Lookup::new(
            Arc::clone(&directory),
            nats.clone(),
            Arc::clone(clock),
            metrics.clone(),
            &config.directory,
        ));
        let body_timeout = seconds(config.listen.body_timeout_seconds);
        let (heartbeats, shards) = Heartbeats::new(
            Arc::clone(&lookup),
            nats,
            (Arc::clone(clock), metrics.clone()),
            (&config.heartbeat, body_timeout),
            stop,
        );
        shards.into_iter().for_each(|shard| drop(background.spawn(shard)));
        let (intake, carrier) = Intake::new(nats.clone(), Arc::clone(clock), metrics.clone(), stop.clone());
        background.spawn(carrier);
        let fanout = self.assemble_fanout((&hub, &directory, &lookup), &intake, background, stop);
        let ingest = self.assemble_ingest(&lookup, background, stop);
        self.follow_directory(&directory, &hub, background, stop);
        let alt_svc = self
            .addresses
            .http3
            .and_then(|address| HeaderValue::from_str(&format!(r#"h3=":{}"; ma=86400"#, address.port())).ok());
        Arc::new(EdgeService {
            ingest,
            heartbeats,
            fanout,
            proxy: Arc::clone(&self.proxy),
            intake,
            clock: Arc::clone(clock),
            metrics,
            alt_svc,
        })
    }

    fn assemble_fanout(
        &self,
        (hub, directory, lookup): (&Arc<Hub>, &Arc<Directory>, &Arc<Lookup>),
        intake: &Intake,
        background: &TaskTracker,
        stop: &CancellationToken,
    ) -> Arc<Fanout> {
        let deps = EventBusDeps {
            client: self.deps.nats.clone(),
            hub: Arc::clone(hub),
            directory: Arc::clone(directory),
            intake: intake.clone(),
            clock: Arc::clone(&self.deps.clock),
            metrics: self.metrics.clone(),
            probe: Arc::clone(&self.events_probe),
        };
        let bus = Arc::new(EventBus::new(deps, self.config.events.clone()));
        let fanout = Arc::new(Fanout::new(
            (Arc::clone(hub), Arc::clone(&bus)),
            (Arc::clone(lookup), Arc::clone(&self.proxy)),
            self.deps.nats.clone(),
            Arc::clone(&self.deps.clock),
            self.config.events.clone(),
        ));
        let (cancel, directory) = (stop.clone(), Arc::clone(directory));
        background.spawn(async move {
            // Keys first: without them every envelope of the ring would be rejected.
            while !directory.believed(Duration::ZERO, Duration::MAX) {
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = tokio::time::sleep(Duration::from_millis(20)) => {}
                }
            }
            bus.follow(cancel).await;
        });
        background.spawn(Arc::clone(&fanout).run_timers(stop.clone()));
        fanout
    }

    fn assemble_ingest(
        &self,
        lookup: &Arc<Lookup>,
        background: &TaskTracker,
        stop: &CancellationToken,
    ) -> Ingest<JetStreamBuffer> {
        let config = &self.config.ingest;
        let state = if config.enabled { SurfaceState::Starting } else { SurfaceState::Disabled };
        let surface = Arc::new(Surface::new(state));
        if let Some(probe) = &self.ingest_probe {
            let deps = SurfaceDeps {
                client: self.deps.nats.clone(),
                surface: Arc::clone(&surface),
                probe: Arc::clone(probe),
                clock: Arc::clone(&self.deps.clock),
            };
            background.spawn(watch_surface(deps, config.clone(), stop.clone()));
        }
        let (quotas, clock, cancel) = (Arc::clone(&self.quotas), Arc::clone(&self.deps.clock), stop.clone());
        background.spawn(async move {
            while cancel.run_until_cancelled(tokio::time::sleep(Duration::from_secs(60))).await.is_some() {
                quotas.evict(clock.monotonic());
            }
        });
        let deps = IngestDeps {
            surface,
            lookup: Arc::clone(lookup),
            budget: self.quotas.clone(),
            clock: Arc::clone(&self.deps.clock),
            metrics: self.metrics.clone(),
        };
        let body_timeout = seconds(self.config.listen.body_timeout_seconds);
        Ingest::new(deps, JetStreamBuffer::new(self.deps.nats.clone()), config, body_timeout)
    }

    fn follow_directory(
        &self,
        directory: &Arc<Directory>,
        hub: &Arc<Hub>,
        background: &TaskTracker,
        stop: &CancellationToken,
    ) {
        let changed: Arc<dyn Fn(plexsphere_wire::NodeId) + Send + Sync> = {
            let (directory, hub) = (Arc::clone(directory), Arc::clone(hub));
            Arc::new(move |node| Fanout::changed(&hub, &directory, node))
        };
        let jetstream = async_nats::jetstream::new(self.deps.nats.clone());
        let clock = Arc::clone(&self.deps.clock);
        background.spawn(directory::follow(jetstream, Arc::clone(directory), clock, changed, stop.clone()));
        let (probe, clock, metrics) =
            (Arc::clone(&self.directory_probe), Arc::clone(&self.deps.clock), self.metrics.clone());
        let (directory, cancel) = (Arc::clone(directory), stop.clone());
        let grace = seconds(self.config.directory.grace_seconds);
        background.spawn(async move {
            let pause = Duration::from_millis(250);
            loop {
                if directory.believed(clock.monotonic(), grace) {
                    probe.pass("in step, or within the grace time");
                } else {
                    probe.fail("not in step with the bucket");
                }
                metrics.directory_nodes.set(i64::try_from(directory.len()).unwrap_or(i64::MAX));
                if cancel.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                    return;
                }
            }
        });
    }
}
