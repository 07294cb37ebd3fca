//! A decoder that builds everything and trusts `serde_json` and `time` for the grammar: slow, and easy to believe.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer as _, Error as _, MapAccess, SeqAccess, Visitor};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::telemetry::{AuditEvent, LogLine, MetricSample, Refusal, Shape, Signal};

/// A record as plain data, whatever its schema.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plain {
    pub(super) texts: BTreeMap<&'static str, String>,
    pub(super) value: Option<f64>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) nanos: i128,
}

/// What becomes of a batch; the rule itself is not compared.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Records(Vec<Plain>),
    Malformed(usize),
    TooMany,
}

impl From<Refusal> for Verdict {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TooManyRecords { .. } => Self::TooMany,
            Refusal::Malformed { record, .. } => Self::Malformed(record),
        }
    }
}

pub(super) fn decode(signal: Signal, shape: Shape, bytes: &[u8], cap: usize) -> Verdict {
    match shape {
        Shape::Ndjson => lines(signal, bytes, cap),
        Shape::Array => array(signal, bytes, cap),
    }
}

fn lines(signal: Signal, bytes: &[u8], cap: usize) -> Verdict {
    let mut records = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r')) {
            continue;
        }
        if records.len() == cap {
            return if records.is_empty() { Verdict::Malformed(0) } else { Verdict::TooMany };
        }
        match serde_json::from_slice::<Json>(line).ok().and_then(|json| plain(signal, &json)) {
            Some(record) => records.push(record),
            None => return Verdict::Malformed(records.len()),
        }
    }
    if records.is_empty() { Verdict::Malformed(0) } else { Verdict::Records(records) }
}

fn array(signal: Signal, bytes: &[u8], cap: usize) -> Verdict {
    let mut walk = Walk { signal, cap, records: Vec::new(), too_many: false };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let walked = deserializer.deserialize_seq(&mut walk).and_then(|()| deserializer.end());
    match walked {
        _ if walk.too_many => Verdict::TooMany,
        Ok(()) if !walk.records.is_empty() => Verdict::Records(walk.records),
        _ => Verdict::Malformed(walk.records.len()),
    }
}

struct Walk {
    signal: Signal,
    cap: usize,
    records: Vec<Plain>,
    too_many: bool,
}

impl<'de> Visitor<'de> for &mut Walk {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while elements.next_element_seed(&mut *self)?.is_some() {}
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for &mut Walk {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, element: D) -> Result<(), D::Error> {
        if self.records.len() == self.cap {
            self.too_many = true;
            return Err(D::Error::custom("too many"));
        }
        let json = Json::deserialize(element)?;
        self.records.push(plain(self.signal, &json).ok_or_else(|| D::Error::custom("malformed"))?);
        Ok(())
    }
}

fn plain(signal: Signal, json: &Json) -> Option<Plain> {
    let Json::Object(members) = json else { return None };
    let (required, optional): (&[&'static str], &[&'static str]) = match signal {
        Signal::Metrics => (&["group", "name", "value", "timestamp"], &["labels"]),
        Signal::Logs => (&["severity", "message", "timestamp"], &["unit", "hostname"]),
        Signal::Audit => (&["source", "action", "outcome", "timestamp"], &[]),
    };
    let mut record = Plain { texts: BTreeMap::new(), value: None, labels: BTreeMap::new(), nanos: 0 };
    let mut seen = Vec::new();
    for (name, json) in members {
        let name = *required.iter().chain(optional).find(|known| *known == name)?;
        if seen.contains(&name) {
            return None;
        }
        seen.push(name);
        match (name, json) {
            ("value", Json::Number(number)) => record.value = Some(*number),
            ("labels", Json::Object(labels)) => record.labels = plain_labels(labels)?,
            ("timestamp", Json::Text(text)) => record.nanos = nanos(text)?,
            ("value" | "labels" | "timestamp", _) => return None,
            (_, Json::Text(text)) if text_is_legal(name, text) => {
                record.texts.insert(name, text.clone());
            }
            _ => return None,
        }
    }
    required.iter().all(|name| seen.contains(name)).then_some(record)
}

fn text_is_legal(name: &str, text: &str) -> bool {
    match name {
        "group" => ["node_resources", "tunnel_health", "peer_latency", "agent_stats"].contains(&text),
        "severity" => ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"].contains(&text),
        "source" => ["auditd", "k8s"].contains(&text),
        "name" => text.len() <= 256 && !text.trim().is_empty(),
        "action" | "outcome" => text.len() <= 512 && !text.trim().is_empty(),
        "unit" | "hostname" => text.len() <= 512,
        _ => !text.is_empty(),
    }
}

fn plain_labels(labels: &[(String, Json)]) -> Option<BTreeMap<String, String>> {
    let mut plain = BTreeMap::new();
    for (key, value) in labels {
        let Json::Text(value) = value else { return None };
        let fits = key.len() <= 128 && value.len() <= 1_024;
        if !fits || plain.insert(key.clone(), value.clone()).is_some() {
            return None;
        }
    }
    (plain.len() <= 20).then_some(plain)
}

fn nanos(text: &str) -> Option<i128> {
    // The crate takes any separator, we take the letter.
    if !matches!(text.as_bytes().get(10), Some(b'T' | b't')) {
        return None;
    }
    let nanos = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
    (nanos != -62_135_596_800_000_000_000).then_some(nanos)
}

/// JSON with every member of an object, repeated ones too.
#[derive(Debug)]
enum Json {
    Other,
    Number(f64),
    Text(String),
    Object(Vec<(String, Json)>),
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Other)
    }

    #[expect(clippy::cast_precision_loss, reason = "the nearest double is what is compared")]
    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "the nearest double is what is compared")]
    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Json::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Json, A::Error> {
        while elements.next_element::<Json>()?.is_some() {}
        Ok(Json::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some(member) = members.next_entry()? {
            object.push(member);
        }
        Ok(Json::Object(object))
    }
}

// === views as plain data ===

impl From<MetricSample<'_>> for Plain {
    fn from(sample: MetricSample<'_>) -> Self {
        let labels = sample.labels.iter().map(|(key, value)| (key.to_cow().into_owned(), value.to_cow().into_owned()));
        Self {
            texts: BTreeMap::from([("group", sample.group.to_string()), ("name", sample.name.to_cow().into_owned())]),
            value: Some(sample.value.to_f64()),
            labels: labels.collect(),
            nanos: sample.timestamp.unix_nanos(),
        }
    }
}

impl From<LogLine<'_>> for Plain {
    fn from(line: LogLine<'_>) -> Self {
        let mut texts =
            BTreeMap::from([("severity", line.severity.to_string()), ("message", line.message.to_cow().into_owned())]);
        texts.extend(line.unit.map(|unit| ("unit", unit.to_cow().into_owned())));
        texts.extend(line.hostname.map(|hostname| ("hostname", hostname.to_cow().into_owned())));
        Self { texts, value: None, labels: BTreeMap::new(), nanos: line.timestamp.unix_nanos() }
    }
}

impl From<AuditEvent<'_>> for Plain {
    fn from(event: AuditEvent<'_>) -> Self {
        let texts = BTreeMap::from([
            ("source", event.source.to_string()),
            ("action", event.action.to_cow().into_owned()),
            ("outcome", event.outcome.to_cow().into_owned()),
        ]);
        Self { texts, value: None, labels: BTreeMap::new(), nanos: event.timestamp.unix_nanos() }
    }
}
