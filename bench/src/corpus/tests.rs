use plexsphere_wire::telemetry::{Encoding, Inflater, Limits, Signal, validate};

use super::{EVENTS, LINES, POINTS, audit, gzip, logs, metrics, uuid, zstd};

#[test]
fn every_corpus_is_a_valid_batch_that_travels_unchanged() {
    for node in [0, 1, 9_999] {
        for tick in [0, 1, 100_000] {
            for (signal, body, records) in [
                (Signal::Metrics, metrics(node, tick, POINTS), POINTS),
                (Signal::Logs, logs(node, tick, LINES), LINES),
                (Signal::Audit, audit(node, tick, EVENTS), EVENTS),
            ] {
                let summary = validate(signal, signal.received_shape(), &body, &Limits::default()).expect("valid");
                assert_eq!((summary.records, summary.must_rewrite()), (records, false), "{signal} {node} {tick}");
            }
        }
    }
}

#[test]
fn the_same_arguments_yield_the_same_bytes_and_others_yield_others() {
    assert_eq!(logs(7, 3, 50), logs(7, 3, 50));
    assert_ne!(logs(7, 3, 50), logs(7, 4, 50));
    assert_ne!(metrics(7, 3, 50), metrics(8, 3, 50));
    assert_eq!(uuid(12).len(), 36);
    assert_ne!(uuid(12), uuid(13));
}

#[test]
fn compressed_corpora_inflate_to_themselves() {
    let plain = logs(1, 1, LINES);
    let mut inflater = Inflater::new();
    assert_eq!(inflater.inflate(Encoding::Gzip, &gzip(&plain), 1 << 20), Ok(&plain[..]));
    assert_eq!(inflater.inflate(Encoding::Zstd, &zstd(&plain), 1 << 20), Ok(&plain[..]));
}
