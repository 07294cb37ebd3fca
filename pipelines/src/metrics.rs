//! What the tier counts about itself. Labels come from closed sets only, never ids.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::dead::Reason;
use crate::outcome::Outcome;
use crate::route::Route;

/// One durable consumer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConsumerLabel {
    consumer: &'static str,
}

/// One durable consumer and what a delivery came to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    consumer: &'static str,
    outcome: &'static str,
}

/// One durable consumer and why it gave a message up.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    consumer: &'static str,
    reason: &'static str,
}

/// Every metric of the tier.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    batches: Family<OutcomeLabel, Counter>,
    records: Family<OutcomeLabel, Counter>,
    partial_records: Family<ConsumerLabel, Counter>,
    request_seconds: Family<ConsumerLabel, Histogram>,
    request_bytes: Family<ConsumerLabel, Histogram>,
    redeliveries: Family<ConsumerLabel, Counter>,
    dead_letters: Family<ReasonLabel, Counter>,
    lag_seconds: Family<ConsumerLabel, Histogram>,
    pending: Family<ConsumerLabel, Gauge>,
    ack_pending: Family<ConsumerLabel, Gauge>,
    oldest_seconds: Family<ConsumerLabel, Gauge>,
    breaker_state: Family<ConsumerLabel, Gauge>,
    skipped: Family<ConsumerLabel, Counter>,
    recreated: Family<ConsumerLabel, Counter>,
    labels_dropped: Family<ConsumerLabel, Counter>,
    duplicates: Family<ConsumerLabel, Counter>,
}

/// The tier's metrics as one route sees them.
#[derive(Clone, Debug)]
pub(crate) struct RouteMetrics {
    all: Metrics,
    consumer: &'static str,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 14))
}

fn bytes() -> Histogram {
    Histogram::new(exponential_buckets(256.0, 4.0, 9))
}

fn lag() -> Histogram {
    Histogram::new(exponential_buckets(0.05, 2.5, 14))
}

// === impl Metrics ===

impl Metrics {
    /// Registers everything as `plexsphere_obs_route_…`.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            batches: Family::default(),
            records: Family::default(),
            partial_records: Family::default(),
            request_seconds: Family::new_with_constructor(seconds),
            request_bytes: Family::new_with_constructor(bytes),
            redeliveries: Family::default(),
            dead_letters: Family::default(),
            lag_seconds: Family::new_with_constructor(lag),
            pending: Family::default(),
            ack_pending: Family::default(),
            oldest_seconds: Family::default(),
            breaker_state: Family::default(),
            skipped: Family::default(),
            recreated: Family::default(),
            labels_dropped: Family::default(),
            duplicates: Family::default(),
        };
        let r = registry.sub_registry_with_prefix("plexsphere_obs_route");
        r.register("batches", "Batches by the outcome that settled or postponed them", metrics.batches.clone());
        r.register("records", "Records of batches by outcome", metrics.records.clone());
        r.register(
            "partial_records",
            "Records of requests of which the sink kept a part",
            metrics.partial_records.clone(),
        );
        r.register_with_unit("request", "Time of sink requests", Unit::Seconds, metrics.request_seconds.clone());
        r.register_with_unit("request", "Body size of sink requests", Unit::Bytes, metrics.request_bytes.clone());
        r.register("redeliveries", "Deliveries after the first", metrics.redeliveries.clone());
        r.register("dead_letters", "Dead letters stored by reason", metrics.dead_letters.clone());
        r.register_with_unit("lag", "Time from acceptance to delivery", Unit::Seconds, metrics.lag_seconds.clone());
        r.register("pending", "Messages not yet handed out", metrics.pending.clone());
        r.register("ack_pending", "Messages handed out and not acknowledged", metrics.ack_pending.clone());
        r.register_with_unit(
            "oldest",
            "Age of the oldest unacknowledged message",
            Unit::Seconds,
            metrics.oldest_seconds.clone(),
        );
        r.register("breaker_state", "0 closed, 1 open, 2 half open", metrics.breaker_state.clone());
        r.register("skipped", "Messages acknowledged because their sink is off", metrics.skipped.clone());
        r.register("consumer_recreated", "Durables that had vanished", metrics.recreated.clone());
        r.register("labels_dropped", "Caller labels that a sink does not take", metrics.labels_dropped.clone());
        r.register("duplicates", "Batches that the file sink had already", metrics.duplicates.clone());
        metrics
    }

    pub(crate) fn route(&self, route: Route) -> RouteMetrics {
        RouteMetrics { all: self.clone(), consumer: route.durable() }
    }
}

// === impl RouteMetrics ===

impl RouteMetrics {
    const fn label(&self) -> ConsumerLabel {
        ConsumerLabel { consumer: self.consumer }
    }

    pub(crate) fn settled(&self, outcome: Outcome, records: usize) {
        let label = OutcomeLabel { consumer: self.consumer, outcome: outcome.as_str() };
        self.all.batches.get_or_create(&label).inc();
        self.all.records.get_or_create(&label).inc_by(count(records));
    }

    pub(crate) fn partial(&self, records: usize) {
        self.all.partial_records.get_or_create(&self.label()).inc_by(count(records));
    }

    pub(crate) fn request(&self, seconds: f64, bytes: usize) {
        self.all.request_seconds.get_or_create(&self.label()).observe(seconds);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.all.request_bytes.get_or_create(&self.label()).observe(f64::from(bytes));
    }

    pub(crate) fn redelivery(&self) {
        self.all.redeliveries.get_or_create(&self.label()).inc();
    }

    pub(crate) fn dead_letter(&self, reason: Reason) {
        let label = ReasonLabel { consumer: self.consumer, reason: reason.as_str() };
        self.all.dead_letters.get_or_create(&label).inc();
    }

    pub(crate) fn lag(&self, lag: std::time::Duration) {
        self.all.lag_seconds.get_or_create(&self.label()).observe(lag.as_secs_f64());
    }

    pub(crate) fn backlog(&self, pending: u64, ack_pending: usize, oldest_seconds: u64) {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.all.pending.get_or_create(&self.label()).set(gauge(pending));
        self.all.ack_pending.get_or_create(&self.label()).set(gauge(count(ack_pending)));
        self.all.oldest_seconds.get_or_create(&self.label()).set(gauge(oldest_seconds));
    }

    pub(crate) fn breaker(&self, state: u8) {
        self.all.breaker_state.get_or_create(&self.label()).set(i64::from(state));
    }

    pub(crate) fn skipped(&self, messages: usize) {
        self.all.skipped.get_or_create(&self.label()).inc_by(count(messages));
    }

    pub(crate) fn recreated(&self) {
        self.all.recreated.get_or_create(&self.label()).inc();
    }

    pub(crate) fn labels_dropped(&self, labels: u64) {
        if labels > 0 {
            self.all.labels_dropped.get_or_create(&self.label()).inc_by(labels);
        }
    }

    pub(crate) fn duplicates(&self, batches: usize) {
        if batches > 0 {
            self.all.duplicates.get_or_create(&self.label()).inc_by(count(batches));
        }
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// Type and labels of each metric.
    type Described = BTreeMap<String, (String, BTreeSet<String>)>;

    fn served(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn the_reference_page_names_every_metric_with_its_type_and_labels_and_no_other() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry).route(Route::LokiLogs);
        metrics.settled(Outcome::Partial, 1);
        metrics.partial(1);
        metrics.request(0.1, 10);
        metrics.redelivery();
        metrics.dead_letter(Reason::Partial);
        metrics.lag(std::time::Duration::from_secs(1));
        metrics.backlog(1, 2, 3);
        metrics.breaker(2);
        metrics.skipped(1);
        metrics.recreated();
        metrics.labels_dropped(1);
        metrics.duplicates(1);
        let (mut found, mut name, mut kind) = (Described::new(), String::new(), String::new());
        for line in served(&registry).lines() {
            if let Some((named, typed)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
                (name, kind) = (format!("{named}{}", if typed == "counter" { "_total" } else { "" }), typed.to_owned());
            } else if let Some((labels, _)) = line.split_once('{').and_then(|(_, rest)| rest.split_once('}')) {
                let names =
                    labels.split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name.to_owned());
                let entry = found.entry(name.clone()).or_insert((kind.clone(), BTreeSet::new()));
                entry.1.extend(names.filter(|name| name != "le"));
            }
        }
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/metrics.md");
        let page = std::fs::read_to_string(page).unwrap();
        let section = page.split("\n## ").find(|section| section.starts_with("Pipelines\n")).unwrap();
        let mut described = Described::new();
        for row in section.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let [name, kind, labels, unit, meaning] = cells[..] else { panic!("five cells: {row}") };
            assert!(!unit.is_empty() && !meaning.is_empty(), "{row}");
            let labels = labels.split(", ").map(|label| label.trim_matches('`').to_owned()).collect();
            described.insert(name.trim_matches('`').to_owned(), (kind.to_owned(), labels));
        }
        assert_eq!(described, found);
        assert_eq!(found.len(), 16);
    }

    #[test]
    fn every_metric_of_the_design_is_there_under_its_name() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry).route(Route::SiemAudit);
        metrics.settled(Outcome::Delivered, 3);
        metrics.partial(1);
        metrics.request(0.1, 10);
        metrics.redelivery();
        metrics.dead_letter(Reason::Partial);
        metrics.lag(std::time::Duration::from_secs(1));
        metrics.backlog(1, 2, 3);
        metrics.breaker(2);
        metrics.skipped(1);
        metrics.recreated();
        let text = served(&registry);
        for wanted in [
            r#"batches_total{consumer="siem-audit",outcome="delivered"} 1"#,
            r#"records_total{consumer="siem-audit",outcome="delivered"} 3"#,
            r#"partial_records_total{consumer="siem-audit"} 1"#,
            r#"request_seconds_count{consumer="siem-audit"} 1"#,
            r#"request_bytes_sum{consumer="siem-audit"} 10.0"#,
            r#"redeliveries_total{consumer="siem-audit"} 1"#,
            r#"dead_letters_total{consumer="siem-audit",reason="partial"} 1"#,
            r#"lag_seconds_count{consumer="siem-audit"} 1"#,
            r#"pending{consumer="siem-audit"} 1"#,
            r#"ack_pending{consumer="siem-audit"} 2"#,
            r#"oldest_seconds{consumer="siem-audit"} 3"#,
            r#"breaker_state{consumer="siem-audit"} 2"#,
            r#"skipped_total{consumer="siem-audit"} 1"#,
            r#"consumer_recreated_total{consumer="siem-audit"} 1"#,
        ] {
            assert!(text.contains(&format!("\nplexsphere_obs_route_{wanted}\n")), "{wanted} is not in\n{text}");
        }
    }
}
