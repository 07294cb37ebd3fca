//! One table per schema: what each rule lets through and what it stops.

use super::{TIME, accepts, check_one, refuses, valid};
use crate::telemetry::limits::{FIELD_BYTES, LABEL_KEY_BYTES, LABEL_VALUE_BYTES, LABELS, NAME_BYTES};
use crate::telemetry::{AuditSource, Field, MetricGroup, Refusal, Rule, Severity, Signal};

/// A sample with one member replaced, or added when the sample does not have it.
fn sample(member: &str, json: &str) -> String {
    let base = [("group", r#""agent_stats""#), ("name", r#""up""#), ("value", "1")];
    record(&base, member, json)
}

fn line(member: &str, json: &str) -> String {
    record(&[("severity", r#""info""#), ("message", r#""up""#)], member, json)
}

fn event(member: &str, json: &str) -> String {
    record(&[("source", r#""k8s""#), ("action", r#""get""#), ("outcome", r#""allow""#)], member, json)
}

fn record(base: &[(&str, &str)], member: &str, json: &str) -> String {
    let time = format!(r#""{TIME}""#);
    let mut members: Vec<(&str, &str)> = base.to_vec();
    members.push(("timestamp", &time));
    match members.iter_mut().find(|(name, _)| *name == member) {
        Some(found) => found.1 = json,
        None => members.push((member, json)),
    }
    let members: Vec<String> = members.iter().map(|(name, json)| format!(r#""{name}":{json}"#)).collect();
    format!("{{{}}}", members.join(","))
}

fn without(signal: Signal, member: &str) -> String {
    let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&valid(signal)).unwrap();
    object.remove(member).expect("a member of the valid record");
    serde_json::to_string(&object).unwrap()
}

#[test]
fn a_minimal_record_of_each_signal_is_accepted() {
    for signal in Signal::ALL {
        accepts(signal, &valid(signal));
    }
}

#[test]
fn every_required_member_is_required() {
    for (signal, members) in [
        (Signal::Metrics, &[Field::Group, Field::Name, Field::Value, Field::Timestamp][..]),
        (Signal::Logs, &[Field::Severity, Field::Message, Field::Timestamp]),
        (Signal::Audit, &[Field::Source, Field::Action, Field::Outcome, Field::Timestamp]),
    ] {
        for member in members {
            refuses(signal, &without(signal, member.as_str()), Rule::Missing(*member));
        }
        refuses(signal, "{}", Rule::Missing(members[0]));
    }
}

#[test]
fn an_unknown_member_is_refused_whatever_it_holds() {
    for json in ["1", "null", r#""x""#, "[]", "{}", "[[[[", "\u{1}"] {
        refuses(Signal::Metrics, &sample("email", json), Rule::UnknownMember);
        refuses(Signal::Logs, &line("email", json), Rule::UnknownMember);
        refuses(Signal::Audit, &event("email", json), Rule::UnknownMember);
    }
    refuses(Signal::Logs, &line("", "1"), Rule::UnknownMember);
    refuses(Signal::Logs, &line("labels", "{}"), Rule::UnknownMember);
    refuses(Signal::Audit, &event("hostname", r#""h""#), Rule::UnknownMember);
    refuses(Signal::Metrics, &sample("unit", r#""%""#), Rule::UnknownMember);
}

#[test]
fn member_names_are_compared_case_sensitively() {
    refuses(Signal::Logs, &valid(Signal::Logs).replace("message", "Message"), Rule::UnknownMember);
    refuses(Signal::Metrics, &valid(Signal::Metrics).replace("value", "VALUE"), Rule::UnknownMember);
    refuses(Signal::Audit, &valid(Signal::Audit).replace("action", "actioN"), Rule::UnknownMember);
}

#[test]
fn member_names_are_compared_after_unescaping() {
    accepts(Signal::Logs, &valid(Signal::Logs).replace("message", r"mess\u0061ge"));
    accepts(Signal::Audit, &valid(Signal::Audit).replace("source", r"\u0073\u006f\u0075\u0072\u0063\u0065"));
    refuses(Signal::Logs, &valid(Signal::Logs).replace("message", r"message\u0000"), Rule::UnknownMember);
}

#[test]
fn a_repeated_member_is_refused() {
    let twice = |json: &str, member: &str| json.replacen('{', &format!("{{{member},"), 1);
    let time = format!(r#""timestamp":"{TIME}""#);
    for (signal, member, field) in [
        (Signal::Metrics, r#""group":"agent_stats""#, Field::Group),
        (Signal::Metrics, r#""name":"up""#, Field::Name),
        (Signal::Metrics, r#""n\u0061me":"up""#, Field::Name),
        (Signal::Metrics, r#""value":1"#, Field::Value),
        (Signal::Metrics, r#""labels":{},"labels":{}"#, Field::Labels),
        (Signal::Logs, r#""severity":"info""#, Field::Severity),
        (Signal::Logs, r#""unit":"u","unit":"u""#, Field::Unit),
        (Signal::Logs, r#""hostname":"h","hostname":"h""#, Field::Hostname),
        (Signal::Logs, r#""message":"up""#, Field::Message),
        (Signal::Logs, &time, Field::Timestamp),
        (Signal::Audit, r#""source":"auditd""#, Field::Source),
        (Signal::Audit, r#""action":"login""#, Field::Action),
        (Signal::Audit, r#""outcome":"success""#, Field::Outcome),
    ] {
        refuses(signal, &twice(&valid(signal), member), Rule::DuplicateMember(field));
    }
}

#[test]
fn closed_sets_take_their_tokens_and_nothing_else() {
    for group in MetricGroup::ALL {
        accepts(Signal::Metrics, &sample("group", &format!(r#""{group}""#)));
    }
    for severity in Severity::ALL {
        accepts(Signal::Logs, &line("severity", &format!(r#""{severity}""#)));
    }
    for source in AuditSource::ALL {
        accepts(Signal::Audit, &event("source", &format!(r#""{source}""#)));
    }
    accepts(Signal::Audit, &event("source", r#""k\u0038s""#));
    for token in ["", "AGENT_STATS", "agent_stats ", "node"] {
        refuses(Signal::Metrics, &sample("group", &format!(r#""{token}""#)), Rule::NotAllowed(Field::Group));
    }
    for token in ["", "error", "warn", "INFO", "emergency"] {
        refuses(Signal::Logs, &line("severity", &format!(r#""{token}""#)), Rule::NotAllowed(Field::Severity));
    }
    for token in ["", "plexd", "k8s-audit", "K8s"] {
        refuses(Signal::Audit, &event("source", &format!(r#""{token}""#)), Rule::NotAllowed(Field::Source));
    }
}

#[test]
fn a_value_of_another_type_is_refused() {
    for json in ["null", "1", "true", "[]", "{}", r#"["x"]"#] {
        for field in [Field::Group, Field::Name, Field::Timestamp] {
            refuses(Signal::Metrics, &sample(field.as_str(), json), Rule::WrongType(field));
        }
        for field in [Field::Severity, Field::Unit, Field::Hostname, Field::Message] {
            refuses(Signal::Logs, &line(field.as_str(), json), Rule::WrongType(field));
        }
        for field in [Field::Source, Field::Action, Field::Outcome] {
            refuses(Signal::Audit, &event(field.as_str(), json), Rule::WrongType(field));
        }
    }
    for json in ["null", r#""1""#, "true", "[1]", "{}"] {
        refuses(Signal::Metrics, &sample("value", json), Rule::WrongType(Field::Value));
    }
    for json in ["null", r#""x""#, "1", "[]", r#"[["a","b"]]"#] {
        refuses(Signal::Metrics, &sample("labels", json), Rule::WrongType(Field::Labels));
    }
}

#[test]
fn a_value_is_any_finite_json_number() {
    let max = format!("{:.0}", f64::MAX);
    for number in [
        "0",
        "-0",
        "-0.0",
        "1",
        "-1",
        "0.5",
        "1e3",
        "1E+3",
        "1e-3",
        "1.5e300",
        "1e308",
        "-1e308",
        "1e-400",
        "0e999",
        "18446744073709551616",
        "123456789012345678901234567890",
        "4.9e-324",
        "1.7976931348623157e308",
        &max,
    ] {
        accepts(Signal::Metrics, &sample("value", number));
    }
    for number in ["1e999", "-1e999", "1e309", "1.8e308", &"9".repeat(310), &format!("-{}", "9".repeat(400))] {
        refuses(Signal::Metrics, &sample("value", number), Rule::NotFinite);
    }
    for number in [
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "0x10",
        "NaN",
        "Infinity",
        "-Infinity",
        "1_000",
        "1 2",
        "--1",
        "1.e3",
        "00",
        "-01",
        "",
    ] {
        refuses(Signal::Metrics, &sample("value", number), Rule::Syntax);
    }
}

#[test]
fn names_actions_and_outcomes_must_show_something() {
    for blank in ["", " ", r"\t", r"\u0020\u00a0", "\u{2003}", r"\r\n"] {
        let json = format!(r#""{blank}""#);
        refuses(Signal::Metrics, &sample("name", &json), Rule::Empty(Field::Name));
        refuses(Signal::Audit, &event("action", &json), Rule::Empty(Field::Action));
        refuses(Signal::Audit, &event("outcome", &json), Rule::Empty(Field::Outcome));
    }
    for text in [" x", r"\u0078", "é", "cpu.load", r"\\", r#"\""#] {
        let json = format!(r#""{text}""#);
        accepts(Signal::Metrics, &sample("name", &json));
        accepts(Signal::Audit, &event("action", &json));
        accepts(Signal::Audit, &event("outcome", &json));
    }
}

#[test]
fn a_message_may_be_blank_but_not_empty() {
    accepts(Signal::Logs, &line("message", r#"" ""#));
    accepts(Signal::Logs, &line("message", r#""\n""#));
    refuses(Signal::Logs, &line("message", r#""""#), Rule::Empty(Field::Message));
    accepts(Signal::Logs, &line("unit", r#""""#));
    accepts(Signal::Logs, &line("hostname", r#""""#));
}

#[test]
fn texts_are_capped_in_bytes_after_unescaping() {
    type Build = fn(&str, &str) -> String;
    let cases: [(Signal, Build, Field, usize); 5] = [
        (Signal::Metrics, sample, Field::Name, NAME_BYTES),
        (Signal::Logs, line, Field::Unit, FIELD_BYTES),
        (Signal::Logs, line, Field::Hostname, FIELD_BYTES),
        (Signal::Audit, event, Field::Action, FIELD_BYTES),
        (Signal::Audit, event, Field::Outcome, FIELD_BYTES),
    ];
    for (signal, build, field, cap) in cases {
        for (unit, bytes) in [("a", 1), ("é", 2), (r"\u0061", 1), (r"\ud83d\ude00", 4)] {
            let fits = format!(r#""{}""#, unit.repeat(cap / bytes));
            let over = format!(r#""{}""#, unit.repeat(cap / bytes + 1));
            accepts(signal, &build(field.as_str(), &fits));
            refuses(signal, &build(field.as_str(), &over), Rule::TooLong(field));
        }
    }
}

#[test]
fn labels_are_a_flat_map_of_strings() {
    for labels in ["{}", "{ }", r#"{"a":"b"}"#, r#"{"a":"","":"b"}"#, r#" { "a" : "b" , "A" : "c" } "#] {
        accepts(Signal::Metrics, &sample("labels", labels));
    }
    for value in ["1", "null", "true", "{}", r#"["b"]"#] {
        refuses(Signal::Metrics, &sample("labels", &format!(r#"{{"a":{value}}}"#)), Rule::LabelValueType);
    }
    for labels in
        ["{,}", r#"{"a"}"#, r#"{"a":}"#, r#"{"a":"b",}"#, r#"{a:"b"}"#, r#"{"a":"b" "c":"d"}"#, r#"{"a":"b"]"#]
    {
        refuses(Signal::Metrics, &sample("labels", labels), Rule::Syntax);
    }
}

#[test]
fn a_repeated_label_key_is_refused() {
    refuses(Signal::Metrics, &sample("labels", r#"{"a":"1","a":"1"}"#), Rule::DuplicateLabel);
    refuses(Signal::Metrics, &sample("labels", r#"{"a":"1","b":"2","\u0061":"1"}"#), Rule::DuplicateLabel);
    accepts(Signal::Metrics, &sample("labels", r#"{"a":"1","A":"1"}"#));
}

#[test]
fn labels_are_capped_in_number_and_length() {
    let labels = |count: usize| {
        let labels: Vec<String> = (0..count).map(|label| format!(r#""k{label}":"v""#)).collect();
        sample("labels", &format!("{{{}}}", labels.join(",")))
    };
    accepts(Signal::Metrics, &labels(LABELS));
    refuses(Signal::Metrics, &labels(LABELS + 1), Rule::TooManyLabels);
    let key = |bytes: usize| sample("labels", &format!(r#"{{"{}":"v"}}"#, "k".repeat(bytes)));
    accepts(Signal::Metrics, &key(LABEL_KEY_BYTES));
    refuses(Signal::Metrics, &key(LABEL_KEY_BYTES + 1), Rule::LabelKeyTooLong);
    let value = |bytes: usize| sample("labels", &format!(r#"{{"k":"{}"}}"#, "v".repeat(bytes)));
    accepts(Signal::Metrics, &value(LABEL_VALUE_BYTES));
    refuses(Signal::Metrics, &value(LABEL_VALUE_BYTES + 1), Rule::LabelValueTooLong);
}

#[test]
fn strings_follow_json_to_the_letter() {
    for text in [r#"\"\\\/\b\f\n\r\t"#, r"\u00e9", r"\uD83D\uDE00", r"\u0000", "\u{7f}", "日本語", r"\uffff", "//"] {
        accepts(Signal::Logs, &line("message", &format!(r#""{text}""#)));
    }
    for text in [
        r"\x41",
        r"\U0041",
        r"\u12",
        r"\u12g4",
        r"\'",
        r"\",
        r"\ud800",
        r"\ud800x",
        r"\ud800\n",
        r"\ud800\u0041",
        r"\ud800\ud800",
        r"\udc00",
        "a\u{0}b",
        "a\u{1f}b",
        "a\tb",
    ] {
        refuses(Signal::Logs, &line("message", &format!(r#""{text}""#)), Rule::Syntax);
    }
}

#[test]
fn a_special_byte_is_found_at_every_offset() {
    for offset in 0..40 {
        let before = "é".repeat(offset / 2) + &"a".repeat(offset % 2);
        accepts(Signal::Logs, &line("message", &format!(r#""{before}x""#)));
        accepts(Signal::Logs, &line("message", &format!(r#""{before}\"{before}""#)));
        for control in ['\u{0}', '\u{8}', '\t', '\r', '\u{1f}'] {
            refuses(Signal::Logs, &line("message", &format!(r#""{before}{control}{before}""#)), Rule::Syntax);
        }
    }
}

#[test]
fn broken_syntax_is_refused() {
    for record in [
        "{",
        r#"{"severity""#,
        r#"{"severity":"#,
        r#"{"severity":"info""#,
        r#"{"severity":"info","#,
        r#"{"severity" "info"}"#,
        r#"{severity:"info"}"#,
        r#"{'severity':'info'}"#,
        r#"{"severity":"info";}"#,
        r#"{"severity":info}"#,
        "{,}",
        r#"{"severity":"info",}"#,
        r#"{"severity":"info"/**/}"#,
        r#"{"severity"::"info"}"#,
        r#"{1:2}"#,
    ] {
        refuses(Signal::Logs, record, Rule::Syntax);
    }
}

#[test]
fn nesting_costs_nothing() {
    for opening in ["[", "{\"a\":", "[{\"labels\":"] {
        let bomb = opening.repeat(1_000_000);
        assert!(matches!(check_one(Signal::Metrics, &bomb), Err(Refusal::Malformed { record: 0, .. })));
        assert!(matches!(check_one(Signal::Logs, &bomb), Err(Refusal::Malformed { record: 0, .. })));
    }
    refuses(Signal::Metrics, &sample("labels", &"{\"a\":".repeat(100_000)), Rule::LabelValueType);
}

#[test]
fn a_refusal_names_the_record_and_the_rule_and_no_value() {
    let secret = "hunter2";
    for record in [
        sample("name", &format!(r#""{}""#, secret.repeat(100))),
        sample("group", &format!(r#""{secret}""#)),
        sample(secret, "1"),
        sample("timestamp", &format!(r#""{secret}""#)),
        sample("labels", &format!(r#"{{"{secret}":"1","{secret}":"2"}}"#)),
    ] {
        let refusal = check_one(Signal::Metrics, &record).unwrap_err();
        assert!(refusal.to_string().starts_with("record 0: "), "{refusal}");
        assert!(!format!("{refusal} {refusal:?}").contains(secret), "{refusal}");
    }
    let refusal = Refusal::Malformed { record: 7, rule: Rule::NotAllowed(Field::Group) };
    assert_eq!(refusal.to_string(), "record 7: member group is not one of its allowed values");
}
