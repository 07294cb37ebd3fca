//! Reading records: each schema's members and the rules on them.

use super::{AuditEvent, AuditSource, Labels, LogLine, MetricGroup, MetricSample, Number, RecordTime, Severity};
use crate::telemetry::batch::Summary;
use crate::telemetry::limits::{FIELD_BYTES, MESSAGE_BYTES, NAME_BYTES};
use crate::telemetry::refusal::{Field, Rule};
use crate::telemetry::rewrite;
use crate::telemetry::scanner::Scanner;
use crate::telemetry::text::Text;

/// What the decoder does with a record. Public in a private module, which seals [`Record`](super::Record).
pub trait Read<'a>: Sized {
    /// Reads the record whose `{` is under the cursor.
    fn read(scanner: &mut Scanner<'a>) -> Result<Self, Rule>;

    /// Counts what rewriting would change.
    fn tally(&self, summary: &mut Summary);

    /// Appends the record's canonical line, without a line feed.
    fn write(&self, out: &mut Vec<u8>);
}

impl<'a> Read<'a> for MetricSample<'a> {
    fn read(scanner: &mut Scanner<'a>) -> Result<Self, Rule> {
        let (mut group, mut name, mut value, mut labels, mut timestamp) = (None, None, None, None, None);
        scanner.object(|scanner, member| match &*member.to_cow() {
            "group" => once(&mut group, Field::Group, || token(scanner, Field::Group, MetricGroup::parse)),
            "name" => once(&mut name, Field::Name, || spoken(scanner, Field::Name, NAME_BYTES)),
            "value" => once(&mut value, Field::Value, || number(scanner)),
            "labels" => once(&mut labels, Field::Labels, || Labels::read(scanner)),
            "timestamp" => once(&mut timestamp, Field::Timestamp, || time(scanner)),
            _ => Err(Rule::UnknownMember),
        })?;
        Ok(Self {
            group: group.ok_or(Rule::Missing(Field::Group))?,
            name: name.ok_or(Rule::Missing(Field::Name))?,
            value: value.ok_or(Rule::Missing(Field::Value))?,
            labels: labels.unwrap_or_default(),
            timestamp: timestamp.ok_or(Rule::Missing(Field::Timestamp))?,
        })
    }

    fn tally(&self, summary: &mut Summary) {
        summary.labels_dropped += self.labels.forbidden();
    }

    fn write(&self, out: &mut Vec<u8>) {
        rewrite::metric_sample(self, out);
    }
}

impl<'a> Read<'a> for LogLine<'a> {
    fn read(scanner: &mut Scanner<'a>) -> Result<Self, Rule> {
        let (mut severity, mut unit, mut hostname, mut message, mut timestamp) = (None, None, None, None, None);
        scanner.object(|scanner, member| match &*member.to_cow() {
            "severity" => once(&mut severity, Field::Severity, || token(scanner, Field::Severity, Severity::parse)),
            "unit" => once(&mut unit, Field::Unit, || bounded(scanner, Field::Unit, FIELD_BYTES)),
            "hostname" => once(&mut hostname, Field::Hostname, || bounded(scanner, Field::Hostname, FIELD_BYTES)),
            "message" => once(&mut message, Field::Message, || line_text(scanner)),
            "timestamp" => once(&mut timestamp, Field::Timestamp, || time(scanner)),
            _ => Err(Rule::UnknownMember),
        })?;
        Ok(Self {
            severity: severity.ok_or(Rule::Missing(Field::Severity))?,
            unit,
            hostname,
            message: message.ok_or(Rule::Missing(Field::Message))?,
            timestamp: timestamp.ok_or(Rule::Missing(Field::Timestamp))?,
        })
    }

    fn tally(&self, summary: &mut Summary) {
        summary.messages_cut += usize::from(self.message.is_longer_than(MESSAGE_BYTES));
    }

    fn write(&self, out: &mut Vec<u8>) {
        rewrite::log_line(self, out);
    }
}

impl<'a> Read<'a> for AuditEvent<'a> {
    fn read(scanner: &mut Scanner<'a>) -> Result<Self, Rule> {
        let (mut source, mut action, mut outcome, mut timestamp) = (None, None, None, None);
        scanner.object(|scanner, member| match &*member.to_cow() {
            "source" => once(&mut source, Field::Source, || token(scanner, Field::Source, AuditSource::parse)),
            "action" => once(&mut action, Field::Action, || spoken(scanner, Field::Action, FIELD_BYTES)),
            "outcome" => once(&mut outcome, Field::Outcome, || spoken(scanner, Field::Outcome, FIELD_BYTES)),
            "timestamp" => once(&mut timestamp, Field::Timestamp, || time(scanner)),
            _ => Err(Rule::UnknownMember),
        })?;
        Ok(Self {
            source: source.ok_or(Rule::Missing(Field::Source))?,
            action: action.ok_or(Rule::Missing(Field::Action))?,
            outcome: outcome.ok_or(Rule::Missing(Field::Outcome))?,
            timestamp: timestamp.ok_or(Rule::Missing(Field::Timestamp))?,
        })
    }

    fn tally(&self, _summary: &mut Summary) {}

    fn write(&self, out: &mut Vec<u8>) {
        rewrite::audit_event(self, out);
    }
}

/// Fills a member that must not have been filled before.
#[inline]
fn once<T>(slot: &mut Option<T>, field: Field, read: impl FnOnce() -> Result<T, Rule>) -> Result<(), Rule> {
    if slot.is_some() {
        return Err(Rule::DuplicateMember(field));
    }
    *slot = Some(read()?);
    Ok(())
}

fn token<T>(scanner: &mut Scanner<'_>, field: Field, parse: impl Fn(&str) -> Option<T>) -> Result<T, Rule> {
    parse(&scanner.text(field)?.to_cow()).ok_or(Rule::NotAllowed(field))
}

fn bounded<'a>(scanner: &mut Scanner<'a>, field: Field, cap: usize) -> Result<Text<'a>, Rule> {
    let text = scanner.text(field)?;
    if text.is_longer_than(cap) { Err(Rule::TooLong(field)) } else { Ok(text) }
}

/// A bounded text with something in it that can be seen.
fn spoken<'a>(scanner: &mut Scanner<'a>, field: Field, cap: usize) -> Result<Text<'a>, Rule> {
    let text = bounded(scanner, field, cap)?;
    if text.is_blank() { Err(Rule::Empty(field)) } else { Ok(text) }
}

/// A text that may be blank and of any length: a long line is cut later, and a blank one is still a line.
fn line_text<'a>(scanner: &mut Scanner<'a>) -> Result<Text<'a>, Rule> {
    let text = scanner.text(Field::Message)?;
    if text.is_empty() { Err(Rule::Empty(Field::Message)) } else { Ok(text) }
}

fn number<'a>(scanner: &mut Scanner<'a>) -> Result<Number<'a>, Rule> {
    match scanner.peek() {
        Some(b'-' | b'0'..=b'9') => Number::finite(scanner.number()?).ok_or(Rule::NotFinite),
        _ => Err(scanner.other_than(Rule::WrongType(Field::Value))),
    }
}

fn time(scanner: &mut Scanner<'_>) -> Result<RecordTime, Rule> {
    RecordTime::parse(&scanner.text(Field::Timestamp)?.to_cow())
}
