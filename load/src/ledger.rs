//! What a run sent and what of it was acknowledged: one JSON line per batch, written when the batch is settled.
//!
//! Every record has a key, the first eight bytes of a SHA-256 over its signal, its Node and what makes it unique:
//! the message of a log line (which ends in a marker), the name and time of a sample, the time of an audit event.
//! A sink's rows yield the same keys, so arrivals are counted record by record without holding the records.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use plexsphere_wire::telemetry::Signal;
use plexsphere_wire::{NodeId, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// The key of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordKey(u64);

/// Members of a record that may make it unique, as sent or as a sink holds them.
#[derive(Debug, Deserialize)]
pub struct Identity<'a> {
    /// Metrics: the name.
    #[serde(default, borrow)]
    pub name: Option<std::borrow::Cow<'a, str>>,
    /// Logs: the message.
    #[serde(default, borrow)]
    pub message: Option<std::borrow::Cow<'a, str>>,
    /// Any: the time.
    #[serde(default, borrow)]
    pub timestamp: Option<std::borrow::Cow<'a, str>>,
}

impl RecordKey {
    /// The key of a record; `None` when a member that it needs is absent or unreadable.
    #[must_use]
    pub fn of(signal: Signal, node: NodeId, identity: &Identity<'_>) -> Option<Self> {
        let mut hash = Sha256::new();
        hash.update(signal.as_str());
        hash.update([0]);
        hash.update(node.as_bytes());
        hash.update([0]);
        let time = || {
            let text = identity.timestamp.as_deref()?;
            Some(Timestamp::parse(text).ok()?.unix_nanos().div_euclid(1_000).to_be_bytes())
        };
        match signal {
            Signal::Metrics => {
                hash.update(identity.name.as_deref()?);
                hash.update([0]);
                hash.update(time()?);
            }
            Signal::Logs => hash.update(identity.message.as_deref()?),
            Signal::Audit => hash.update(time()?),
        }
        let digest = hash.finalize();
        digest.first_chunk::<8>().map(|bytes| Self(u64::from_be_bytes(*bytes)))
    }

    /// The key of a record's JSON text.
    #[must_use]
    pub fn of_json(signal: Signal, node: NodeId, record: &[u8]) -> Option<Self> {
        Self::of(signal, node, &serde_json::from_slice(record).ok()?)
    }
}

/// How a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settled {
    /// 202.
    Acknowledged,
    /// Dropped for good by what the platform said.
    Dropped,
    /// Pushed out of a full buffer.
    Evicted,
    /// Still waiting when the run ended.
    Unsettled,
}

/// One line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The Node that sent it.
    pub node_id: NodeId,
    /// `metrics`, `logs` or `audit`.
    #[serde(serialize_with = "write_signal", deserialize_with = "read_signal")]
    pub signal: Signal,
    /// The id under which the platform recognises a repeat.
    pub batch_id: String,
    /// How often it was sent; 0 means never.
    pub attempts: u32,
    /// How it ended.
    pub settled: Settled,
    /// The last refusal, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The keys of its records, in order.
    #[serde(serialize_with = "write_keys", deserialize_with = "read_keys")]
    pub keys: Vec<RecordKey>,
    /// Records of the batch that have no key and cannot be looked for; a run with any of them proves nothing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unkeyed: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn write_signal<S: Serializer>(signal: &Signal, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(signal.as_str())
}

fn read_signal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Signal, D::Error> {
    let word = String::deserialize(deserializer)?;
    Signal::parse(&word).ok_or_else(|| serde::de::Error::custom("unknown signal"))
}

fn write_keys<S: Serializer>(keys: &[RecordKey], serializer: S) -> Result<S::Ok, S::Error> {
    let bytes: Vec<u8> = keys.iter().flat_map(|key| key.0.to_be_bytes()).collect();
    serializer.serialize_str(&STANDARD_NO_PAD.encode(bytes))
}

fn read_keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<RecordKey>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = STANDARD_NO_PAD.decode(text).map_err(serde::de::Error::custom)?;
    let (keys, rest) = bytes.as_chunks::<8>();
    if rest.is_empty() {
        Ok(keys.iter().map(|bytes| RecordKey(u64::from_be_bytes(*bytes))).collect())
    } else {
        Err(serde::de::Error::custom("keys are not whole"))
    }
}

/// Writes a ledger file.
#[derive(Debug)]
pub struct LedgerWriter {
    file: BufWriter<File>,
}

impl LedgerWriter {
    /// Creates the file; an older one is replaced.
    ///
    /// # Errors
    /// The I/O error.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: BufWriter::with_capacity(256 * 1024, File::create(path)?) })
    }

    /// Writes one line.
    ///
    /// # Errors
    /// The I/O error.
    pub fn write(&mut self, entry: &Entry) -> io::Result<()> {
        serde_json::to_writer(&mut self.file, entry)?;
        self.file.write_all(b"\n")
    }

    /// Hands everything to the system.
    ///
    /// # Errors
    /// The I/O error.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Reads a ledger file, line by line. A last line that was cut off by a crash of the rig is left out.
///
/// # Errors
/// The I/O error, or `InvalidData` for an unreadable line that is not the last.
pub fn read(path: &Path, mut each: impl FnMut(Entry)) -> io::Result<()> {
    let mut broken = None;
    for line in BufReader::with_capacity(256 * 1024, File::open(path)?).lines() {
        let line = line?;
        if let Some(error) = broken.take() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        match serde_json::from_str(&line) {
            Ok(entry) => each(entry),
            Err(error) => broken = Some(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeId {
        NodeId::from_bytes([7; 16]).unwrap()
    }

    // I5
    #[test]
    fn a_record_has_the_same_key_as_sent_and_as_a_sink_holds_it() {
        let sent =
            br#"{"group":"node_resources","name":"load_avg_1","value":1,"timestamp":"2026-11-24T08:00:00.000001Z"}"#;
        let held = br#"{"batch_id":"x","index":3,"name":"load_avg_1","value":1.0,"timestamp":"2026-11-24T08:00:00.000001000Z"}"#;
        let key = RecordKey::of_json(Signal::Metrics, node(), sent);
        assert!(key.is_some());
        assert_eq!(RecordKey::of_json(Signal::Metrics, node(), held), key);
        assert_ne!(RecordKey::of_json(Signal::Audit, node(), sent), key);
        assert_eq!(RecordKey::of_json(Signal::Logs, node(), sent), None);
    }

    #[test]
    fn entries_read_back_and_a_cut_last_line_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.ndjson");
        let entry = Entry {
            node_id: node(),
            signal: Signal::Logs,
            batch_id: "ab".into(),
            attempts: 2,
            settled: Settled::Acknowledged,
            code: None,
            keys: vec![RecordKey(1), RecordKey(u64::MAX)],
            unkeyed: 0,
        };
        let mut writer = LedgerWriter::create(&path).unwrap();
        writer.write(&entry).unwrap();
        writer.write(&entry).unwrap();
        writer.flush().unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        let mut entries = Vec::new();
        read(&path, |entry| entries.push(entry)).unwrap();
        assert_eq!(entries, vec![entry]);
        std::fs::write(&path, [&whole[..20], b"\n", &whole[..]].concat()).unwrap();
        assert!(read(&path, |_| {}).is_err());
    }
}
