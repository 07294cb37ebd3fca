//! The frame around the records, their count, and the order of problems.

use super::{check, valid};
use crate::telemetry::{Limits, LogLine, Records, Refusal, Rule, Shape, Signal, validate};

#[track_caller]
fn malformed(signal: Signal, body: impl AsRef<[u8]>, record: usize, rule: Rule) {
    let body = body.as_ref();
    assert_eq!(check(signal, body), Err(Refusal::Malformed { record, rule }), "{}", String::from_utf8_lossy(body));
}

#[track_caller]
fn holds(signal: Signal, body: impl AsRef<[u8]>, records: usize) {
    let body = body.as_ref();
    assert_eq!(check(signal, body).map(|summary| summary.records), Ok(records), "{}", String::from_utf8_lossy(body));
}

#[test]
fn an_array_is_surrounded_by_nothing_but_white_space() {
    let r = valid(Signal::Metrics);
    holds(Signal::Metrics, format!("[{r}]"), 1);
    holds(Signal::Metrics, format!(" \r\n\t[ {r} ,\n{r}\t] \r\n"), 2);
    for after in ["x", "[]", ",", "null", "\u{0}", "]", "\u{feff}"] {
        malformed(Signal::Metrics, format!("[{r}]{after}"), 1, Rule::TrailingData);
    }
    for body in ["{}", "null", "1", "\"x\"", "true", &r] {
        malformed(Signal::Metrics, body, 0, Rule::NotAnArray);
    }
    for (body, record) in [
        (format!("[{r}"), 1),
        (format!("[{r},"), 1),
        (format!("[{r},]"), 1),
        (format!("[{r} {r}]"), 1),
        (format!("[{r};{r}]"), 1),
        (format!("[{r},{r}}}"), 2),
        ("[".to_owned(), 0),
    ] {
        malformed(Signal::Metrics, body, record, Rule::Syntax);
    }
    malformed(Signal::Metrics, format!("[,{r}]"), 0, Rule::NotAnObject);
    malformed(Signal::Metrics, format!("[{r},,{r}]"), 1, Rule::NotAnObject);
    for element in ["null", "1", "[]", "\"x\"", "x"] {
        malformed(Signal::Metrics, format!("[{r},{element}]"), 1, Rule::NotAnObject);
    }
}

#[test]
fn blank_lines_are_not_records() {
    for signal in [Signal::Logs, Signal::Audit] {
        let r = valid(signal);
        for body in [
            format!("{r}\n{r}\n"),
            format!("{r}\n{r}"),
            format!("{r}\r\n{r}\r\n"),
            format!("\n\n{r}\n \t\r\n\n  {r}  \n\n \t"),
        ] {
            holds(signal, body, 2);
        }
    }
}

#[test]
fn a_line_holds_exactly_one_object() {
    let r = valid(Signal::Logs);
    for after in ["x", "{}", ",", "]", &r] {
        malformed(Signal::Logs, format!("{r}\n{r} {after}\n{r}"), 1, Rule::TrailingData);
    }
    for line in ["null", "[]", "1", "\"x\"", "x", ",", &format!("[{r}]")] {
        malformed(Signal::Logs, format!("{r}\n\n{line}\n"), 1, Rule::NotAnObject);
    }
    for feed in ["{\n", "\":\n", ",\n"] {
        let broken = r.replacen(&feed[..feed.len() - 1], feed, 1);
        malformed(Signal::Logs, broken, 0, Rule::Syntax);
    }
    malformed(Signal::Logs, r.replace("up", "u\np"), 0, Rule::Syntax);
    holds(Signal::Logs, r.replace(',', ",\r"), 1);
    malformed(Signal::Logs, r.replace(TIME_END, "Z\"\n}"), 0, Rule::Syntax);
}

const TIME_END: &str = "Z\"}";

#[test]
fn a_batch_without_records_is_malformed() {
    for body in ["", " ", "\n", "\r\n\t "] {
        for signal in Signal::ALL {
            malformed(signal, body, 0, Rule::NoRecords);
        }
    }
    malformed(Signal::Metrics, "[]", 0, Rule::NoRecords);
    malformed(Signal::Metrics, " [ \n ] ", 0, Rule::NoRecords);
    malformed(Signal::Logs, "[]", 0, Rule::NotAnObject);
}

#[test]
fn a_byte_order_mark_is_malformed() {
    for signal in Signal::ALL {
        let body = format!("\u{feff}{}", valid(signal));
        malformed(signal, body, 0, Rule::ByteOrderMark);
        malformed(signal, "\u{feff}", 0, Rule::ByteOrderMark);
    }
    malformed(Signal::Logs, format!("{0}\n\u{feff}{0}", valid(Signal::Logs)), 1, Rule::NotAnObject);
    malformed(Signal::Logs, [0xff, 0xfe, b'{', 0], 0, Rule::Utf8);
}

#[test]
fn bytes_that_are_not_utf8_are_malformed_wherever_they_stand() {
    for signal in Signal::ALL {
        let frame = |records: &[Vec<u8>]| match signal.received_shape() {
            Shape::Array => [b"[".to_vec(), records.join(&b','), b"]".to_vec()].concat(),
            Shape::Ndjson => records.join(&b'\n'),
        };
        let good = valid(signal).into_bytes();
        for at in 1..good.len() {
            for bad in [&b"\xff"[..], b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"] {
                let mut broken = good.clone();
                broken.splice(at..at, bad.iter().copied());
                let verdict = check(signal, frame(&[good.clone(), broken, good.clone()]));
                let at_fault = matches!(verdict, Err(Refusal::Malformed { record: 1, .. }));
                assert!(at_fault, "{verdict:?} for {bad:?} at {at}");
            }
        }
        let tail = [frame(std::slice::from_ref(&good)), b"\xff".to_vec()].concat();
        assert!(matches!(check(signal, tail), Err(Refusal::Malformed { rule: Rule::Utf8, .. })));
    }
    malformed(Signal::Logs, b"\xff", 0, Rule::Utf8);
    malformed(Signal::Logs, [valid(Signal::Logs).as_bytes(), b"\n \xff"].concat(), 1, Rule::Utf8);
}

#[test]
fn the_first_problem_in_record_order_is_reported() {
    let r = valid(Signal::Logs);
    let bad = r.replace("info", "loud");
    let not_allowed = Rule::NotAllowed(crate::telemetry::Field::Severity);
    malformed(Signal::Logs, format!("{r}\n{bad}\n{{\n"), 1, not_allowed);
    malformed(Signal::Logs, [bad.as_bytes(), b"\n\xff"].concat(), 0, not_allowed);
    malformed(Signal::Logs, format!("{bad}\n{}", format!("{r}\n").repeat(5_000)), 0, not_allowed);
}

#[test]
fn the_record_beyond_the_cap_is_too_many_whatever_it_is() {
    let limits = Limits { records: 3, ..Limits::default() };
    let too_many = Err(Refusal::TooManyRecords { cap: 3 });
    let (m, l) = (valid(Signal::Metrics), valid(Signal::Logs));
    let metrics = |body: &str| validate(Signal::Metrics, Shape::Array, body.as_bytes(), &limits);
    let logs = |body: &[u8]| validate(Signal::Logs, Shape::Ndjson, body, &limits);
    assert!(metrics(&format!("[{m},{m},{m}]")).is_ok());
    assert!(logs(format!("{l}\n\n{l}\n{l}\n\n").as_bytes()).is_ok());
    for fourth in [m.as_str(), "null", "x", "{", "[["] {
        assert_eq!(metrics(&format!("[{m},{m},{m}, {fourth}")), too_many);
    }
    for fourth in [l.as_bytes(), b"null", b"x", b"{", b"\xff"] {
        let body = [l.as_bytes(), b"\n", l.as_bytes(), b"\n", l.as_bytes(), b"\n\n", fourth].concat();
        assert_eq!(logs(&body), too_many);
    }
    assert_eq!(
        metrics(&format!("[{m},{m},{m},]")),
        Err(Refusal::Malformed { record: 3, rule: Rule::Syntax }),
        "a trailing comma is no record"
    );
    let body = format!("{l}\n").repeat(5_000);
    assert!(check(Signal::Logs, &body).is_ok());
    assert_eq!(check(Signal::Logs, body + &l), Err(Refusal::TooManyRecords { cap: 5_000 }));
}

#[test]
fn a_batch_cut_short_at_any_byte_is_refused() {
    let r = valid(Signal::Metrics);
    let array = format!(" [{r},{}] ", r.replace("\"value\":1", r#""labels":{"a":"\u00e9\n"},"value":-1.5e3"#));
    let closing = array.rfind(']').unwrap();
    for end in 0..=closing {
        assert!(check(Signal::Metrics, &array[..end]).is_err(), "{}", &array[..end]);
    }
    for signal in [Signal::Logs, Signal::Audit] {
        let r = valid(signal);
        for end in 1..r.len() {
            let verdict = check(signal, format!("{r}\n{}", &r[..end]));
            assert!(matches!(verdict, Err(Refusal::Malformed { record: 1, .. })), "{verdict:?} at {end}");
        }
    }
}

#[test]
fn nothing_follows_a_refusal() {
    let r = valid(Signal::Logs);
    let body = format!("{r}\n{{}}\n{r}");
    let mut records = Records::<LogLine<'_>>::new(Shape::Ndjson, body.as_bytes(), &Limits::default());
    assert!(records.next().is_some_and(|record| record.is_ok()));
    assert!(records.next().is_some_and(|record| record.is_err()));
    assert!(records.next().is_none());
    assert!(records.next().is_none());
}
