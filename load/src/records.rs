//! Telemetry records as a Node writes them.

use bytes::Bytes;
use plexsphere_wire::Timestamp;
use serde::Serialize;

/// Longest log line that an agent sends, in bytes.
pub const MAX_LINE_BYTES: usize = 16 * 1024;

/// Which group a metric belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// The machine.
    NodeResources,
    /// The agent's own process.
    AgentStats,
}

/// One metric sample.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Metric {
    /// Its group.
    pub group: Group,
    /// Its name.
    pub name: &'static str,
    /// Its value; always finite.
    pub value: f64,
    /// When it was taken.
    pub timestamp: Timestamp,
}

/// One log line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// A syslog severity word.
    pub severity: &'static str,
    /// The line, not empty.
    pub message: String,
    /// Where it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// When it was read.
    pub timestamp: Timestamp,
}

/// One normalised audit event of the kernel's audit daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditEvent {
    /// Always `auditd`.
    pub source: &'static str,
    /// What was done.
    pub action: String,
    /// How it ended.
    pub outcome: String,
    /// When it happened.
    pub timestamp: Timestamp,
}

macro_rules! texts {
    ($($record:ty),*) => {$(
        impl $record {
            /// The JSON text on the wire; `None` when a number has no JSON form.
            #[must_use]
            pub fn to_json(&self) -> Option<Bytes> {
                serde_json::to_vec(self).ok().map(Bytes::from)
            }
        }
    )*};
}

texts!(Metric, LogLine, AuditEvent);

/// Guesses a syslog severity from the words of a line.
#[must_use]
pub fn severity_of(line: &str) -> &'static str {
    let lower = line.get(..line.len().min(512)).unwrap_or(line).to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if says(&["panic", "fatal", "critical"]) {
        "crit"
    } else if says(&["error", "failed", "failure"]) {
        "err"
    } else if says(&["warn"]) {
        "warning"
    } else if says(&["debug"]) {
        "debug"
    } else {
        "info"
    }
}

/// Reads a line of the audit daemon's log: `type=USER_LOGIN msg=audit(1700000000.123:45): … res=success`.
///
/// `None` for any other line.
#[must_use]
pub fn audit_of(line: &str) -> Option<AuditEvent> {
    let action = line.strip_prefix("type=").or_else(|| line.split_once(" type=").map(|(_, rest)| rest))?;
    let action = action.split(' ').next().filter(|word| !word.is_empty())?;
    let (_, stamp) = line.split_once("msg=audit(")?;
    let (stamp, _) = stamp.split_once(':')?;
    let (seconds, millis) = stamp.split_once('.')?;
    let seconds: i64 = seconds.parse().ok()?;
    let millis: u64 = millis.parse().ok().filter(|millis| *millis < 1_000)?;
    let outcome = ["res=", "success="].into_iter().find_map(|field| {
        let (_, rest) = line.split_once(field)?;
        let word: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
        (!word.is_empty()).then_some(word)
    });
    Some(AuditEvent {
        source: "auditd",
        action: action.to_owned(),
        outcome: outcome.unwrap_or_else(|| "unknown".to_owned()),
        timestamp: Timestamp::from_unix_seconds(seconds).plus(std::time::Duration::from_millis(millis)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_pass_the_strict_decoder_of_the_platform() {
        use plexsphere_wire::telemetry::{Limits, Shape, Signal, validate};
        let timestamp = Timestamp::from_unix_seconds(1_800_000_000);
        let metric = Metric { group: Group::NodeResources, name: "load_avg_1", value: 0.5, timestamp };
        let line = LogLine { severity: "info", message: "up".into(), unit: None, timestamp };
        let audit = audit_of("type=USER_LOGIN msg=audit(1700000000.123:45): pid=1 res=success").unwrap();
        let array = [b"[", &metric.to_json().unwrap()[..], b"]"].concat();
        for (signal, shape, body) in [
            (Signal::Metrics, Shape::Array, Bytes::from(array)),
            (Signal::Logs, Shape::Ndjson, line.to_json().unwrap()),
            (Signal::Audit, Shape::Ndjson, audit.to_json().unwrap()),
        ] {
            let summary = validate(signal, shape, &body, &Limits::default()).unwrap();
            assert_eq!(summary.records, 1, "{signal}");
        }
    }

    #[test]
    fn an_audit_line_gives_action_outcome_and_time_and_other_lines_give_nothing() {
        let event = audit_of("node=a type=SYSCALL msg=audit(1700000000.123:45): arch=c success=no exit=1").unwrap();
        assert_eq!((event.action.as_str(), event.outcome.as_str()), ("SYSCALL", "no"));
        assert_eq!(event.timestamp.to_string(), "2023-11-14T22:13:20.123Z");
        assert_eq!(audit_of("type=EOE msg=audit(1700000000.123:45):").unwrap().outcome, "unknown");
        assert_eq!(audit_of("Nov 24 08:00:00 sshd[1]: session opened"), None);
    }

    #[test]
    fn a_severity_is_guessed_from_words() {
        assert_eq!(severity_of("ERROR: no space"), "err");
        assert_eq!(severity_of("Warning: deprecated"), "warning");
        assert_eq!(severity_of("status installed libc6"), "info");
    }
}
