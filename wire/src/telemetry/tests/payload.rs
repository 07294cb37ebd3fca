//! Names of signals, encodings and formats; the batch id.

use crate::telemetry::{Encoding, EncodingUnsupported, PayloadFormat, Shape, Signal, batch_id};

#[test]
fn absent_empty_and_known_encodings_pass() {
    let parse = |values: &[&str]| Encoding::parse(values.iter().map(|value| value.as_bytes()));
    for (values, encoding) in [
        (&[][..], Encoding::Identity),
        (&[""], Encoding::Identity),
        (&["  \t"], Encoding::Identity),
        (&["identity"], Encoding::Identity),
        (&["gzip"], Encoding::Gzip),
        (&[" GZip "], Encoding::Gzip),
        (&["zstd"], Encoding::Zstd),
        (&["ZSTD\t"], Encoding::Zstd),
    ] {
        assert_eq!(parse(values), Ok(encoding), "{values:?}");
    }
    for values in [
        &["br"][..],
        &["deflate"],
        &["x-gzip"],
        &["gzip, gzip"],
        &["gzip,"],
        &["identity, gzip"],
        &["gzip", "gzip"],
        &["gzip", ""],
        &["", ""],
        &["gzip;q=1"],
        &["gz ip"],
        &["gzip\u{a0}"],
        &["*"],
    ] {
        assert_eq!(parse(values), Err(EncodingUnsupported), "{values:?}");
    }
    assert_eq!(Encoding::parse([&b"\xff"[..]]), Err(EncodingUnsupported));
}

#[test]
fn a_payload_format_survives_its_header_value() {
    for format in PayloadFormat::ALL {
        assert_eq!(PayloadFormat::parse(format.as_str()), Ok(format));
        assert_eq!(format.to_string().parse(), Ok(format));
        let expected = format!("{}+{};v=1", format.shape.as_str(), format.encoding.as_str());
        assert_eq!(format.as_str(), expected);
    }
    for unknown in
        ["", "ndjson+zstd", "ndjson+zstd;v=2", "NDJSON+zstd;v=1", "ndjson+br;v=1", "json;v=1", "ndjson+zstd;v=1 "]
    {
        assert!(PayloadFormat::parse(unknown).is_err(), "{unknown}");
    }
}

#[test]
fn batches_travel_in_the_shape_of_their_signal_until_rewritten() {
    assert_eq!(PayloadFormat::as_received(Signal::Metrics, Encoding::Gzip).as_str(), "array+gzip;v=1");
    assert_eq!(PayloadFormat::as_received(Signal::Logs, Encoding::Identity).as_str(), "ndjson+identity;v=1");
    assert_eq!(PayloadFormat::as_received(Signal::Audit, Encoding::Zstd).shape, Shape::Ndjson);
    assert_eq!(PayloadFormat::rewritten(Encoding::Zstd).as_str(), "ndjson+zstd;v=1");
}

#[test]
fn signals_survive_their_token() {
    for signal in Signal::ALL {
        assert_eq!(Signal::parse(signal.as_str()), Some(signal));
    }
    assert_eq!(Signal::parse("Metrics"), None);
    assert_eq!(Signal::parse("traces"), None);
}

#[test]
fn the_batch_id_is_the_digest_of_signal_node_and_bytes() {
    // printf 'logs\0\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\0{}' | sha256sum
    let id = batch_id(Signal::Logs, &[1; 16], b"{}");
    assert_eq!(id, "7f8f3978fe732739e3dcc53adb5a90fe9b8f891c74fb511c42ba874b83fc880f");
    assert_ne!(id, batch_id(Signal::Audit, &[1; 16], b"{}"));
    assert_ne!(id, batch_id(Signal::Logs, &[2; 16], b"{}"));
    assert_ne!(id, batch_id(Signal::Logs, &[1; 16], b"{} "));
}
