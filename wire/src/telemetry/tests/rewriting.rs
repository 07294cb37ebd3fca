//! The canonical form, byte for byte, and what must not travel on.

use super::{TIME, check_one, valid};
use crate::telemetry::limits::MESSAGE_BYTES;
use crate::telemetry::{Limits, LogLine, Records, Shape, Signal, is_forbidden_label, rewrite};

fn canonical(signal: Signal, body: &str) -> String {
    String::from_utf8(rewrite(signal, signal.received_shape(), body.as_bytes(), &Limits::default()).unwrap()).unwrap()
}

#[test]
fn a_sample_is_written_in_schema_order_with_sorted_labels() {
    let body = r#" [ {"labels":{"z":"1","a":"\u00e9\/","m":"\u0001\u0008\n"},"timestamp":"2026-11-24T09:00:00+01:00",
        "value":1.50e+2,"name":"cpu.\u006coad","group":"node_resources"} ] "#;
    assert_eq!(
        canonical(Signal::Metrics, body),
        concat!(
            r#"{"group":"node_resources","name":"cpu.load","value":1.50e+2,"labels":{"a":"é/","m":"\u0001\b\n","z":"1"},"#,
            r#""timestamp":"2026-11-24T08:00:00.000000000Z"}"#,
            "\n"
        )
    );
}

#[test]
fn a_line_and_an_event_are_written_in_schema_order() {
    let line = r#"{"timestamp":"2026-11-24T08:00:00.5Z","message":"a\tb","hostname":"h","unit":"u","severity":"err"}"#;
    assert_eq!(
        canonical(Signal::Logs, line),
        concat!(
            r#"{"severity":"err","unit":"u","hostname":"h","message":"a\tb","timestamp":"2026-11-24T08:00:00.500000000Z"}"#,
            "\n"
        )
    );
    let event = r#"{"timestamp":"2026-11-24T08:00:00Z","outcome":"denied","action":"open","source":"auditd"}"#;
    assert_eq!(
        canonical(Signal::Audit, event),
        concat!(
            r#"{"source":"auditd","action":"open","outcome":"denied","timestamp":"2026-11-24T08:00:00.000000000Z"}"#,
            "\n"
        )
    );
}

#[test]
fn labels_that_name_a_person_or_shadow_the_platform_are_dropped_and_counted() {
    for key in [
        "email",
        "user_email",
        "sub",
        "subject",
        "identity",
        "identity_id",
        "principal",
        "principal_id",
        "user",
        "username",
        "domain_id",
        "project_id",
        "node_id",
        "group",
        "signal",
        "__name__",
        "__",
        "Email",
        "NODE_ID",
        r"s\u0075b",
        r"\u005f_x",
    ] {
        let record = valid(Signal::Metrics)
            .replace(r#""value""#, &format!(r#""labels":{{"workload":"w","{key}":"evil"}},"value""#));
        let summary = check_one(Signal::Metrics, &record).unwrap();
        assert_eq!((summary.labels_dropped, summary.must_rewrite()), (1, true), "{key}");
        let rewritten = canonical(Signal::Metrics, &format!("[{record}]"));
        assert!(!rewritten.contains("evil") && rewritten.contains(r#""labels":{"workload":"w"}"#), "{rewritten}");
    }
    for key in ["", "_", "_x", "workload", "peer_id", "users", "mail", "node", "id", "usér", "email "] {
        assert!(!is_forbidden_label(key), "{key}");
        let record = valid(Signal::Metrics).replace(r#""value""#, &format!(r#""labels":{{"{key}":"v"}},"value""#));
        assert!(!check_one(Signal::Metrics, &record).unwrap().must_rewrite(), "{key}");
    }
}

#[test]
fn a_sample_whose_labels_are_all_dropped_has_none() {
    let record = valid(Signal::Metrics).replace(r#""value""#, r#""labels":{"user":"u","SUB":"s"},"value""#);
    assert_eq!(check_one(Signal::Metrics, &record).unwrap().labels_dropped, 2);
    assert!(!canonical(Signal::Metrics, &format!("[{record}]")).contains("labels"));
}

#[test]
fn a_long_message_is_cut_at_a_character_and_marked() {
    for (unit, json) in [("a", "a"), ("é", "é"), ("日", "日"), ("😀", r"\ud83d\ude00"), ("\n", r"\n"), ("\"", "\\\"")]
    {
        for over in [0, 1, 5_000] {
            let count = MESSAGE_BYTES / unit.len() + over;
            let record = format!(r#"{{"severity":"info","message":"{}","timestamp":"{TIME}"}}"#, json.repeat(count));
            let long = count * unit.len() > MESSAGE_BYTES;
            let summary = check_one(Signal::Logs, &record).unwrap();
            assert_eq!((summary.messages_cut, summary.must_rewrite()), (usize::from(long), long), "{unit:?} {over}");
            let rewritten = canonical(Signal::Logs, &record);
            let line = Records::<LogLine<'_>>::new(Shape::Ndjson, rewritten.as_bytes(), &Limits::default()).next();
            let message = line.unwrap().unwrap().message.to_cow().into_owned();
            let kept = message.strip_suffix("[truncated]");
            assert_eq!(kept.is_some(), long);
            let kept = kept.unwrap_or(&message);
            assert_eq!(kept, unit.repeat(kept.len() / unit.len()));
            assert!(message.len() <= MESSAGE_BYTES && message.len() > MESSAGE_BYTES - unit.len(), "{}", message.len());
        }
    }
}

#[test]
fn a_batch_that_is_refused_is_not_rewritten() {
    for signal in Signal::ALL {
        let body = "{}".as_bytes();
        let shape = signal.received_shape();
        let limits = Limits::default();
        let refusal = rewrite(signal, shape, body, &limits).unwrap_err();
        assert_eq!(Err(refusal), super::validate(signal, shape, body, &limits));
    }
}
