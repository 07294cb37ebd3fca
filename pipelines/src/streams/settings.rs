//! What the streams and consumers should look like, and how far an existing one is from it. Pure.

use std::time::Duration;

use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy};
use plexsphere_wire::subjects;
use plexsphere_wire::telemetry::Signal;
use serde_json::{Map, Value, json};

use super::api::TopologyError;
use super::{MAX_ACK_PENDING, MAX_MESSAGE_BYTES, MIN_STREAM_BYTES};
use crate::config::TopologyConfig;
use crate::route::Route;

const DUPLICATE_WINDOW: Duration = Duration::from_secs(600);
const DEAD_MAX_AGE: Duration = Duration::from_secs(30 * 86_400);
/// A dead letter is the message and a few more headers.
const DEAD_MAX_MESSAGE_BYTES: i64 = MAX_MESSAGE_BYTES + (16 << 10);
/// Metadata key under which the configured size is kept, so that a scaled stream is recognised as ours.
const CONFIGURED_BYTES: &str = "plexsphere_max_bytes";

/// Settings that cannot change on an existing stream without losing what it promises.
const FIXED: [&str; 3] = ["retention", "storage", "discard"];
/// Settings that are brought in line. `max_bytes` has rules of its own.
const ADJUSTABLE: [&str; 6] =
    ["subjects", "num_replicas", "max_age", "max_msg_size", "duplicate_window", "allow_atomic"];

/// One stream as it should be.
#[derive(Clone, Debug)]
pub(super) struct StreamSettings {
    pub(super) name: &'static str,
    pub(super) body: Map<String, Value>,
    max_bytes: i64,
}

/// How far an existing stream is from [`StreamSettings`].
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Difference {
    None,
    /// The existing settings with ours laid over them.
    Adjustable(Map<String, Value>),
    Fixed {
        setting: &'static str,
        wanted: String,
        found: String,
    },
}

/// The three buffer streams and the dead-letter stream, their sizes halved so often.
pub(super) fn all(config: &TopologyConfig, halvings: u32) -> Vec<StreamSettings> {
    let mut streams: Vec<_> = Signal::ALL.into_iter().map(|signal| buffer(config, signal, halvings)).collect();
    streams.push(dead(config, halvings));
    streams
}

fn buffer(config: &TopologyConfig, signal: Signal, halvings: u32) -> StreamSettings {
    let body = json!({
        "subjects": [subjects::telemetry_all(signal)],
        "retention": "interest",
        // A full stream must refuse: evicting the oldest batch would break a promise already given.
        "discard": "new",
        "max_age": nanos(config.max_age(signal)),
        "max_msg_size": MAX_MESSAGE_BYTES,
        // Batches are published one by one. This is set so that they can be committed in groups without touching a stream
        // that is already there.
        "allow_atomic": true,
    });
    complete(subjects::telemetry_stream(signal), body, config, (config.max_bytes(signal), halvings))
}

fn dead(config: &TopologyConfig, halvings: u32) -> StreamSettings {
    let body = json!({
        "subjects": [subjects::DEAD_ALL],
        "retention": "limits",
        "discard": "old",
        "max_age": nanos(DEAD_MAX_AGE),
        "max_msg_size": DEAD_MAX_MESSAGE_BYTES,
    });
    complete(subjects::DEAD_STREAM, body, config, (config.dead_max_bytes, halvings))
}

fn complete(name: &'static str, body: Value, config: &TopologyConfig, size: (i64, u32)) -> StreamSettings {
    let (configured, halvings) = size;
    let max_bytes = configured.checked_shr(halvings).unwrap_or(0).max(MIN_STREAM_BYTES.min(configured));
    let mut body = match body {
        Value::Object(body) => body,
        _ => Map::new(),
    };
    let common = [
        ("name", json!(name)),
        ("storage", json!("file")),
        ("num_replicas", json!(config.replicas)),
        ("max_bytes", json!(max_bytes)),
        ("max_msgs", json!(-1)),
        ("max_msgs_per_subject", json!(-1)),
        ("max_consumers", json!(-1)),
        ("duplicate_window", json!(nanos(DUPLICATE_WINDOW))),
        ("metadata", json!({ CONFIGURED_BYTES: configured.to_string() })),
    ];
    body.extend(common.map(|(key, value)| (key.to_owned(), value)));
    StreamSettings { name, body, max_bytes }
}

/// Compares a stream's settings with the wanted ones.
///
/// A stream that was scaled down before keeps its size as long as the configured size is the same, so that the server
/// is not asked every half minute for storage that it does not have.
pub(super) fn compare(wanted: &StreamSettings, existing: &Map<String, Value>) -> Difference {
    for setting in FIXED {
        let (ours, theirs) = (wanted.body.get(setting), existing.get(setting));
        if ours != theirs {
            let text = |value: Option<&Value>| value.map_or_else(|| "unset".to_owned(), ToString::to_string);
            return Difference::Fixed { setting, wanted: text(ours), found: text(theirs) };
        }
    }
    let differs = |setting: &&str| {
        let theirs = existing.get(*setting).filter(|value| **value != json!(false));
        wanted.body.get(*setting) != theirs
    };
    let mut adjusted: Vec<&str> = ADJUSTABLE.iter().copied().filter(|setting| differs(setting)).collect();
    if !size_fits(wanted, existing) {
        adjusted.extend(["max_bytes", "metadata"]);
    }
    if adjusted.is_empty() {
        return Difference::None;
    }
    let mut merged = existing.clone();
    for setting in adjusted {
        match (wanted.body.get(setting), merged.get_mut(setting)) {
            // The server keeps entries of its own beside ours.
            (Some(Value::Object(ours)), Some(Value::Object(theirs))) => theirs.extend(ours.clone()),
            (Some(value), _) => drop(merged.insert(setting.to_owned(), value.clone())),
            (None, _) => drop(merged.remove(setting)),
        }
    }
    Difference::Adjustable(merged)
}

fn size_fits(wanted: &StreamSettings, existing: &Map<String, Value>) -> bool {
    let configured =
        |body: &Map<String, Value>| body.get("metadata")?.get(CONFIGURED_BYTES)?.as_str().map(str::to_owned);
    let size = existing.get("max_bytes").and_then(Value::as_i64).unwrap_or(-1);
    configured(&wanted.body) == configured(existing) && (1..=wanted.max_bytes).contains(&size)
}

/// A route's consumer as it should be.
pub(super) fn consumer(config: &TopologyConfig, route: Route) -> consumer::pull::Config {
    consumer::pull::Config {
        durable_name: Some(route.durable().to_owned()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait: Duration::from_secs(config.ack_wait_seconds),
        max_ack_pending: MAX_ACK_PENDING,
        // The router decides when to give up, not the server.
        max_deliver: -1,
        ..consumer::pull::Config::default()
    }
}

/// What makes an existing consumer another one than ours.
pub(super) fn consumer_mismatch(
    wanted: &consumer::pull::Config,
    found: &consumer::Config,
    route: Route,
) -> Option<TopologyError> {
    let mismatch = |setting, wanted: String, found: String| {
        Some(TopologyError::Settings { what: route.durable().to_owned(), setting, wanted, found })
    };
    if found.ack_policy != wanted.ack_policy {
        return mismatch("ack_policy", format!("{:?}", wanted.ack_policy), format!("{:?}", found.ack_policy));
    }
    if found.deliver_policy != wanted.deliver_policy {
        return mismatch(
            "deliver_policy",
            format!("{:?}", wanted.deliver_policy),
            format!("{:?}", found.deliver_policy),
        );
    }
    if !found.filter_subject.is_empty() || !found.filter_subjects.is_empty() {
        return mismatch("filter_subject", String::new(), found.filter_subject.clone());
    }
    if found.max_deliver != wanted.max_deliver {
        return mismatch("max_deliver", wanted.max_deliver.to_string(), found.max_deliver.to_string());
    }
    None
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(halvings: u32) -> StreamSettings {
        buffer(&TopologyConfig::default(), Signal::Metrics, halvings)
    }

    #[test]
    fn a_stream_equals_its_own_settings_even_when_it_was_scaled_down_before() {
        assert_eq!(compare(&metrics(0), &metrics(0).body), Difference::None);
        assert_eq!(compare(&metrics(0), &metrics(4).body), Difference::None);
        assert!(matches!(compare(&metrics(4), &metrics(0).body), Difference::Adjustable(_)));
    }

    #[test]
    fn another_retention_is_refused_and_another_age_is_brought_in_line() {
        let mut existing = metrics(0).body;
        existing.insert("retention".to_owned(), json!("limits"));
        assert!(matches!(compare(&metrics(0), &existing), Difference::Fixed { setting: "retention", .. }));

        let mut existing = metrics(0).body;
        existing.insert("max_age".to_owned(), json!(5));
        existing.insert("description".to_owned(), json!("kept"));
        let Difference::Adjustable(merged) = compare(&metrics(0), &existing) else { panic!("not adjustable") };
        assert_eq!(merged.get("max_age"), metrics(0).body.get("max_age"));
        assert_eq!(merged.get("description"), Some(&json!("kept")));
    }

    #[test]
    fn another_configured_size_is_applied() {
        let config = TopologyConfig { metrics_max_bytes: 1 << 30, ..TopologyConfig::default() };
        let wanted = buffer(&config, Signal::Metrics, 0);
        let Difference::Adjustable(merged) = compare(&wanted, &metrics(0).body) else { panic!("not adjustable") };
        assert_eq!(merged.get("max_bytes"), Some(&json!(1 << 30)));
        assert_eq!(compare(&wanted, &merged), Difference::None);
    }

    #[test]
    fn halving_stops_at_the_floor_but_never_raises_a_smaller_size() {
        assert_eq!(metrics(60).max_bytes, MIN_STREAM_BYTES);
        let tiny = TopologyConfig { metrics_max_bytes: 1 << 20, ..TopologyConfig::default() };
        assert_eq!(buffer(&tiny, Signal::Metrics, 0).max_bytes, 1 << 20);
    }
}
