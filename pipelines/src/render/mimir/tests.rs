use std::sync::Arc;

use plexsphere_wire::telemetry::Signal;

use super::*;
use crate::batch::tests::{batch, origin};

fn slice(body: &str) -> Slice {
    Slice::whole(Arc::new(batch(Signal::Metrics, &origin(1), body)))
}

fn decode(rendered: &Rendered) -> WriteRequest {
    let raw = snap::raw::Decoder::new().decompress_vec(&rendered.body).unwrap();
    WriteRequest::decode(raw.as_slice()).unwrap()
}

fn label<'a>(series: &'a TimeSeries, name: &str) -> Option<&'a str> {
    series.labels.iter().find(|label| label.name == name).map(|label| label.value.as_str())
}

#[test]
fn a_sample_becomes_a_series_with_the_server_labels_sorted_by_name() {
    let body = r#"[{"group":"node_resources","name":"cpu.load","value":0.5,"labels":{"zone":"a"},"timestamp":"2026-11-24T08:00:00.1239Z"}]"#;
    let rendered = render_mimir(&[slice(body)]);
    let request = decode(&rendered);
    let names: Vec<&str> = request.timeseries[0].labels.iter().map(|label| label.name.as_str()).collect();
    assert_eq!(names, ["__name__", "domain_id", "group", "node_id", "project_id", "zone"]);
    assert_eq!(label(&request.timeseries[0], "__name__"), Some("node_cpu_load"));
    assert_eq!(label(&request.timeseries[0], "node_id"), Some(origin(1).node.to_string().as_str()));
    assert_eq!(request.timeseries[0].samples, [Sample { value: 0.5, timestamp: 1_795_507_200_123 }]);
    assert_eq!((rendered.content_type, rendered.content_encoding), ("application/x-protobuf", Some("snappy")));
}

#[test]
fn of_two_keys_that_sanitise_alike_the_first_in_byte_order_stays_and_the_drop_is_counted() {
    let body = r#"[{"group":"agent_stats","name":"x","value":1,"labels":{"a.b":"dot","a-b":"dash"},"timestamp":"2026-11-24T08:00:00Z"}]"#;
    let rendered = render_mimir(&[slice(body)]);
    assert_eq!(label(&decode(&rendered).timeseries[0], "a_b"), Some("dash"));
    assert_eq!(rendered.labels_dropped, 1);
}

#[test]
fn label_names_that_shadow_or_are_illegal_are_dropped_and_digits_get_an_underscore() {
    let body = r#"[{"group":"agent_stats","name":"x","value":1,"labels":{"":"e","..a":"reserved","node.id":"shadow","empty":"","9p":"nine"},"timestamp":"2026-11-24T08:00:00Z"}]"#;
    let rendered = render_mimir(&[slice(body)]);
    let request = decode(&rendered);
    assert_eq!(label(&request.timeseries[0], "_9p"), Some("nine"));
    assert_eq!(label(&request.timeseries[0], "node_id"), Some(origin(1).node.to_string().as_str()));
    assert_eq!(request.timeseries[0].labels.len(), 6);
    assert_eq!(rendered.labels_dropped, 4);
}

#[test]
fn samples_of_one_label_set_are_one_series_sorted_by_time_and_the_last_of_a_time_wins() {
    let body = r#"[
        {"group":"peer_latency","name":"rtt_seconds","value":-1,"labels":{"peer_id":"p"},"timestamp":"2026-11-24T08:00:02Z"},
        {"group":"peer_latency","name":"rtt_seconds","value":2,"labels":{"peer_id":"p"},"timestamp":"2026-11-24T08:00:01Z"},
        {"group":"peer_latency","name":"rtt_seconds","value":3,"labels":{"peer_id":"p"},"timestamp":"2026-11-24T08:00:01Z"}]"#;
    let request = decode(&render_mimir(&[slice(body)]));
    assert_eq!(request.timeseries.len(), 1);
    assert_eq!(label(&request.timeseries[0], "__name__"), Some("peer_rtt_seconds"));
    let values: Vec<f64> = request.timeseries[0].samples.iter().map(|sample| sample.value).collect();
    assert_eq!(values, [3.0, -1.0]);
}

#[test]
fn a_name_that_has_its_prefix_is_not_prefixed_twice() {
    assert_eq!(metric_name(MetricGroup::TunnelHealth, "tunnel_rx"), "tunnel_rx");
    assert_eq!(metric_name(MetricGroup::AgentStats, "gc/ns:ü"), "agent_gc_ns:_");
    assert_eq!(metric_name(MetricGroup::NodeResources, "9"), "node_9");
}

#[test]
fn the_same_slices_give_the_same_bytes() {
    let body = r#"[{"group":"agent_stats","name":"x","value":1,"labels":{"b":"1","a":"2"},"timestamp":"2026-11-24T08:00:00Z"}]"#;
    assert_eq!(render_mimir(&[slice(body), slice(body)]), render_mimir(&[slice(body), slice(body)]));
}
