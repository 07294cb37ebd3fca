//! What the relay counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

const SECONDS: [f64; 10] = [0.002, 0.005, 0.01, 0.02, 0.05, 0.2, 1.0, 5.0, 30.0, 300.0];

/// Where a message went.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Route {
    /// `nodes` or `internal`.
    pub(super) route: &'static str,
}

#[derive(Clone, Debug)]
pub(super) struct RelayMetrics {
    pub(super) published: Family<Route, Counter>,
    pub(super) retries: Counter,
    pub(super) parked: Counter,
    pub(super) lag: Gauge<f64, AtomicU64>,
    pub(super) seconds: Histogram,
}

impl RelayMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            published: Family::default(),
            retries: Counter::default(),
            parked: Counter::default(),
            lag: Gauge::default(),
            seconds: Histogram::new(SECONDS),
        };
        registry.register(
            "plexsphere_control_outbox_published",
            "Messages published from the outbox",
            metrics.published.clone(),
        );
        registry.register(
            "plexsphere_control_outbox_retries",
            "Times that a Domain could not publish and paused",
            metrics.retries.clone(),
        );
        registry.register(
            "plexsphere_control_outbox_parked",
            "Messages that cannot be published and were set aside",
            metrics.parked.clone(),
        );
        registry.register(
            "plexsphere_control_outbox_lag_seconds",
            "Age of the oldest outbox row that waits for publication",
            metrics.lag.clone(),
        );
        registry.register(
            "plexsphere_control_outbox_publish_seconds",
            "From the writing of an outbox row to its acknowledged publication",
            metrics.seconds.clone(),
        );
        metrics
    }
}
