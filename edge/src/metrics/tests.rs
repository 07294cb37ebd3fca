use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// Gives every family a member, without which the encoder leaves it out. A field that is not named here does not
/// compile.
fn touch(metrics: &Metrics) {
    let Metrics {
        responses,
        panics: _,
        connections: _,
        ingest_requests,
        ingest_wire_bytes,
        ingest_inflated_bytes,
        ingest_records,
        ingest_lag,
        ingest_publish,
        labels_dropped: _,
        messages_truncated: _,
        intake_lost,
        heartbeats: _,
        heartbeat_batches: _,
        heartbeat_batches_unsettled,
        streams: _,
        streams_parked: _,
        stream_writes: _,
        streams_closed,
        frames_queued: _,
        envelopes_rejected,
        directory_nodes: _,
        directory_lookups,
    } = metrics;
    drop(responses.get_or_create(&OfResponse { route: "x", status: 200 }));
    drop(ingest_requests.get_or_create(&IngestOutcome { signal: "x", code: "x" }));
    for family in [ingest_wire_bytes, ingest_inflated_bytes, ingest_records] {
        drop(family.get_or_create(&OfSignal { signal: "x" }));
    }
    for family in [ingest_lag, ingest_publish] {
        family.get_or_create(&OfSignal { signal: "x" }).observe(1.0);
    }
    for family in [intake_lost, heartbeat_batches_unsettled, streams_closed, envelopes_rejected, directory_lookups] {
        drop(family.get_or_create(&OfReason { reason: "x" }));
    }
}

/// Name, type and labels of every metric, from what a scraper reads.
fn served() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut registry = Registry::default();
    touch(&Metrics::register(&mut registry));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let (mut found, mut name, mut kind) = (BTreeMap::new(), String::new(), String::new());
    for line in text.lines() {
        if let Some((named, typed)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            (name, kind) = (named.to_owned(), typed.to_owned());
            if kind == "counter" {
                name.push_str("_total");
            }
        } else if !line.starts_with('#') {
            let labels = line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(l, _)| l);
            let names = labels.split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name.to_owned());
            let entry = found.entry(name.clone()).or_insert((kind.clone(), BTreeSet::new()));
            entry.1.extend(names.filter(|name| name != "le"));
        }
    }
    found
}

#[test]
fn the_reference_page_names_every_metric_with_its_type_and_labels_and_no_other() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/metrics.md");
    let page = std::fs::read_to_string(page).unwrap();
    let section = page.split("\n## ").find(|section| section.starts_with("Edge\n")).unwrap();
    let mut described = BTreeMap::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, unit, meaning] = cells[..] else { panic!("five cells: {row}") };
        assert!(!unit.is_empty() && !meaning.is_empty(), "{row}");
        let labels = labels.split(", ").filter(|label| !label.is_empty()).map(|label| label.trim_matches('`'));
        let labels: BTreeSet<String> = labels.map(str::to_owned).collect();
        assert!(described.insert(name.trim_matches('`').to_owned(), (kind.to_owned(), labels)).is_none(), "{row}");
    }
    assert_eq!(described, served());
    assert_eq!(described.len(), 23);
}
