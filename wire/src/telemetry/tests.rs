//! The decoder against tables of cases, against a reference that is naive enough to be believed, and against noise.

mod frame;
mod generator;
mod inflation;
mod payload;
mod properties;
mod reference;
mod rewriting;
mod rules;
mod times;

use super::{Limits, Refusal, Rule, Shape, Signal, Summary, validate};

const TIME: &str = "2026-11-24T08:00:00.123456789Z";

fn check(signal: Signal, body: impl AsRef<[u8]>) -> Result<Summary, Refusal> {
    validate(signal, signal.received_shape(), body.as_ref(), &Limits::default())
}

/// Validates one record of a signal in the shape in which Nodes send it.
fn check_one(signal: Signal, record: &str) -> Result<Summary, Refusal> {
    match signal.received_shape() {
        Shape::Array => check(signal, format!("[{record}]")),
        Shape::Ndjson => check(signal, record),
    }
}

#[track_caller]
fn accepts(signal: Signal, record: &str) {
    let verdict = check_one(signal, record);
    assert!(verdict.is_ok_and(|summary| summary.records == 1), "{verdict:?} for {record}");
}

#[track_caller]
fn refuses(signal: Signal, record: &str, rule: Rule) {
    assert_eq!(check_one(signal, record), Err(Refusal::Malformed { record: 0, rule }), "for {record}");
}

/// A valid record of a signal.
fn valid(signal: Signal) -> String {
    match signal {
        Signal::Metrics => format!(r#"{{"group":"agent_stats","name":"up","value":1,"timestamp":"{TIME}"}}"#),
        Signal::Logs => format!(r#"{{"severity":"info","message":"up","timestamp":"{TIME}"}}"#),
        Signal::Audit => {
            format!(r#"{{"source":"auditd","action":"login","outcome":"success","timestamp":"{TIME}"}}"#)
        }
    }
}
