//! How the routes are doing: what the loops report, and what an operator or a load balancer is told.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::route::Route;

/// Name of the health check.
pub const HEALTH_CHECK: &str = "observability-routing";
/// Name of the readiness probe.
pub const PROBE: &str = "obs-routing";

/// A loop that did not tick for so long is stuck.
const TICK_LIMIT: Duration = Duration::from_secs(60);
/// A message unacknowledged for so long degrades the health.
const LAG_ALARM: Duration = Duration::from_secs(300);
/// So long does a dead letter degrade the health.
const DEAD_LETTER_MEMORY: Duration = Duration::from_secs(3_600);

/// The answer of the health check [`HEALTH_CHECK`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoutingHealth {
    /// Whether any route is degraded.
    pub degraded: bool,
    /// Every route, in the order of the topology.
    pub routes: Vec<RouteHealth>,
}

/// One route's part of [`RoutingHealth`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteHealth {
    /// The durable's name.
    pub consumer: &'static str,
    /// Whether the breaker is not closed.
    pub breaker_open: bool,
    /// Age of the oldest unacknowledged message at the last sample, in seconds.
    pub oldest_seconds: u64,
    /// Whether a dead letter was stored within the last hour.
    pub recent_dead_letter: bool,
}

/// The answer of a readiness probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProbeStatus {
    /// The probe's name.
    pub name: &'static str,
    /// Whether this replica is ready as far as the probe knows.
    pub ready: bool,
    /// Why not, in words for an operator; empty when ready.
    pub detail: String,
}

/// What the loops report, read without locks.
#[derive(Debug)]
pub(crate) struct Vitals {
    start: Instant,
    routing: bool,
    topology_ready: AtomicBool,
    routes: [RouteVitals; 5],
}

/// Times are milliseconds since the start, zero meaning never.
#[derive(Debug, Default)]
struct RouteVitals {
    ticked_at: AtomicU64,
    breaker: AtomicU8,
    oldest_seconds: AtomicU64,
    dead_letter_at: AtomicU64,
}

// === impl Vitals ===

impl Vitals {
    pub(crate) fn new(routing: bool) -> Self {
        Self { start: Instant::now(), routing, topology_ready: AtomicBool::new(false), routes: Default::default() }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    fn of(&self, route: Route) -> Option<&RouteVitals> {
        self.routes.get(route.index())
    }

    pub(crate) fn topology_ready(&self) {
        self.topology_ready.store(true, Ordering::Relaxed);
    }

    pub(crate) fn tick(&self, route: Route) {
        if let Some(vitals) = self.of(route) {
            vitals.ticked_at.store(self.elapsed_ms(), Ordering::Relaxed);
        }
    }

    pub(crate) fn breaker(&self, route: Route, state: u8) {
        if let Some(vitals) = self.of(route) {
            vitals.breaker.store(state, Ordering::Relaxed);
        }
    }

    pub(crate) fn oldest(&self, route: Route, seconds: u64) {
        if let Some(vitals) = self.of(route) {
            vitals.oldest_seconds.store(seconds, Ordering::Relaxed);
        }
    }

    /// Age of the oldest unacknowledged message at the last sample.
    pub(crate) fn oldest_age(&self, route: Route) -> Duration {
        Duration::from_secs(self.of(route).map_or(0, |vitals| vitals.oldest_seconds.load(Ordering::Relaxed)))
    }

    pub(crate) fn dead_letter(&self, route: Route) {
        if let Some(vitals) = self.of(route) {
            vitals.dead_letter_at.store(self.elapsed_ms(), Ordering::Relaxed);
        }
    }

    pub(crate) fn health(&self) -> RoutingHealth {
        let now = self.elapsed_ms();
        let routes: Vec<_> = Route::ALL
            .into_iter()
            .zip(&self.routes)
            .map(|(route, vitals)| RouteHealth {
                consumer: route.durable(),
                breaker_open: vitals.breaker.load(Ordering::Relaxed) != 0,
                oldest_seconds: vitals.oldest_seconds.load(Ordering::Relaxed),
                recent_dead_letter: within(now, vitals.dead_letter_at.load(Ordering::Relaxed), DEAD_LETTER_MEMORY),
            })
            .collect();
        let degraded = routes
            .iter()
            .any(|route| route.breaker_open || route.recent_dead_letter || route.oldest_seconds > LAG_ALARM.as_secs());
        RoutingHealth { degraded, routes }
    }

    /// A sink outage does not make the probe fail: another replica would have the same sink.
    pub(crate) fn probe(&self) -> ProbeStatus {
        let detail = if !self.topology_ready.load(Ordering::Relaxed) {
            "streams and consumers are not ensured yet".to_owned()
        } else if self.routing {
            let now = self.elapsed_ms();
            let stuck = |vitals: &RouteVitals| !within(now, vitals.ticked_at.load(Ordering::Relaxed), TICK_LIMIT);
            let stuck: Vec<_> = Route::ALL
                .into_iter()
                .zip(&self.routes)
                .filter(|(_, vitals)| stuck(vitals))
                .map(|(route, _)| route.durable())
                .collect();
            if stuck.is_empty() { String::new() } else { format!("loops without a tick: {}", stuck.join(", ")) }
        } else {
            String::new()
        };
        ProbeStatus { name: PROBE, ready: detail.is_empty(), detail }
    }
}

/// Whether `at` was set and lies at most `limit` before `now`.
fn within(now_ms: u64, at_ms: u64, limit: Duration) -> bool {
    at_ms != 0 && u128::from(now_ms.saturating_sub(at_ms)) <= limit.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_is_ready_only_after_the_topology_and_a_tick_of_every_loop() {
        let vitals = Vitals::new(true);
        assert!(!vitals.probe().ready);
        vitals.topology_ready();
        assert!(vitals.probe().detail.contains("mimir-metrics"));
        Route::ALL.into_iter().for_each(|route| vitals.tick(route));
        assert!(vitals.probe().ready);
    }

    #[test]
    fn an_open_breaker_a_dead_letter_or_an_old_message_degrades_the_health_but_not_the_probe() {
        let vitals = Vitals::new(true);
        assert!(!vitals.health().degraded);
        vitals.breaker(Route::SiemAudit, 1);
        assert!(vitals.health().degraded);
        vitals.breaker(Route::SiemAudit, 0);
        vitals.oldest(Route::LokiLogs, 300);
        assert!(!vitals.health().degraded);
        vitals.oldest(Route::LokiLogs, 301);
        assert!(vitals.health().degraded);
        vitals.oldest(Route::LokiLogs, 0);
        vitals.dead_letter(Route::LokiAudit);
        assert!(vitals.health().degraded);
    }
}
