use plexsphere_wire::telemetry::{Encoding, batch_id};
use plexsphere_wire::{DomainId, NodeId, ProjectId};

use super::*;

pub(crate) fn origin(domain: u8) -> Origin {
    let id = |tail: u8| {
        let mut bytes = [0; 16];
        bytes[0] = domain;
        bytes[6] = 0x70;
        bytes[8] = 0x80;
        bytes[15] = tail;
        bytes
    };
    Origin {
        domain: DomainId::from_bytes(id(1)).unwrap(),
        project: ProjectId::from_bytes(id(2)).unwrap(),
        node: NodeId::from_bytes(id(3)).unwrap(),
    }
}

pub(crate) fn headers(signal: Signal, origin: &Origin, body: &[u8], format: PayloadFormat) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(subjects::HEADER_ORIGIN, origin.header());
    headers.insert(subjects::HEADER_SIGNAL, signal.as_str());
    headers.insert(subjects::HEADER_BATCH_ID, batch_id(signal, origin.node.as_bytes(), body));
    headers.insert(subjects::HEADER_ACCEPTED_AT, "2026-11-24T08:00:00Z");
    headers.insert(subjects::HEADER_PAYLOAD, format.as_str());
    headers
}

/// A batch of a body as a Node sends it.
pub(crate) fn batch(signal: Signal, origin: &Origin, body: &str) -> Batch {
    let format = PayloadFormat::as_received(signal, Encoding::Identity);
    let headers = headers(signal, origin, body.as_bytes(), format);
    let subject = subjects::telemetry(signal, origin);
    open(&subject, Some(&headers), body.as_bytes(), &Limits::default(), &mut Inflater::new()).unwrap()
}

const LOGS: &str = r#"{"severity":"info","message":"one","timestamp":"2026-11-24T08:00:00Z"}
{"timestamp":"2026-11-24T08:00:01+01:00","severity":"err","message":"two"}

{"severity":"debug","message":"three","timestamp":"2026-11-24T08:00:02Z"}"#;

fn open_logs(subject: &str, headers: &HeaderMap, body: &[u8]) -> Result<Batch, Poison> {
    open(subject, Some(headers), body, &Limits::default(), &mut Inflater::new())
}

#[test]
fn records_are_laid_out_one_per_line_in_canonical_form() {
    let slice = Slice::whole(Arc::new(batch(Signal::Logs, &origin(1), LOGS)));
    let lines: Vec<_> = slice.lines().map(|(at, line)| (at, std::str::from_utf8(line).unwrap())).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[1], (1, r#"{"severity":"err","message":"two","timestamp":"2026-11-24T07:00:01.000000000Z"}"#));
    assert_eq!(slice.typed::<telemetry::LogLine<'_>>().count(), 3);
}

#[test]
fn halving_ends_at_single_records_and_loses_none() {
    let whole = Slice::whole(Arc::new(batch(Signal::Logs, &origin(1), LOGS)));
    let (one, rest) = whole.halve().unwrap();
    let (two, three) = rest.halve().unwrap();
    assert!([&one, &two, &three].iter().all(|part| part.halve().is_none()));
    let joined = [one.ndjson(), two.ndjson(), three.ndjson()].concat();
    assert_eq!(joined, whole.ndjson());
    assert_eq!(three.lines().next().unwrap().0, 2);
}

#[test]
fn a_header_that_names_another_origin_or_signal_than_the_subject_is_an_identity_mismatch() {
    let format = PayloadFormat::as_received(Signal::Logs, Encoding::Identity);
    let subject = subjects::telemetry(Signal::Logs, &origin(1));
    let foreign = headers(Signal::Logs, &origin(2), LOGS.as_bytes(), format);
    assert_eq!(open_logs(&subject, &foreign, LOGS.as_bytes()).unwrap_err(), Poison::IdentityMismatch);
    let mut signal = headers(Signal::Logs, &origin(1), LOGS.as_bytes(), format);
    signal.insert(subjects::HEADER_SIGNAL, "audit");
    assert_eq!(open_logs(&subject, &signal, LOGS.as_bytes()).unwrap_err(), Poison::IdentityMismatch);
    assert_eq!(open_logs("plexsphere.obs.logs.x.y.z", &foreign, b"").unwrap_err(), Poison::IdentityMismatch);
}

#[test]
fn a_payload_that_inflates_past_its_cap_or_breaks_a_rule_is_invalid() {
    let zeros = zstd::encode_all(std::io::repeat(b' ').take(64 << 20), 1).unwrap();
    let subject = subjects::telemetry(Signal::Logs, &origin(1));
    let zipped = headers(Signal::Logs, &origin(1), b"", PayloadFormat::rewritten(Encoding::Zstd));
    assert!(matches!(open_logs(&subject, &zipped, &zeros), Err(Poison::PayloadInvalid(_))));
    assert!(matches!(open_logs(&subject, &zipped, b"not zstd"), Err(Poison::PayloadInvalid(_))));
    let plain = headers(Signal::Logs, &origin(1), b"", PayloadFormat::rewritten(Encoding::Identity));
    assert!(matches!(open_logs(&subject, &plain, br#"{"severity":"info"}"#), Err(Poison::PayloadInvalid(_))));
    let mut unknown = plain;
    unknown.insert(subjects::HEADER_PAYLOAD, "ndjson+zstd;v=2");
    assert!(matches!(open_logs(&subject, &unknown, LOGS.as_bytes()), Err(Poison::PayloadInvalid(_))));
}

use std::io::Read as _;
