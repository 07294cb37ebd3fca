//! Compares a run's ledger with what a file sink holds, record by record.
//!
//! The sink's layout is `<root>/<domain_id>/<signal>/*.ndjson.zst`; each line has `batch_id`, `index`, `domain_id`,
//! `node_id` and the record's members. Rows of Nodes that the ledger does not know belong to others and are left out.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use plexsphere_wire::NodeId;
use plexsphere_wire::telemetry::Signal;
use serde::{Deserialize, Serialize};

use crate::ledger::{self, Identity, RecordKey, Settled};

/// Counts of one signal, in records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalCounts {
    /// In the ledger, sent or not.
    #[serde(default)]
    pub made: u64,
    /// Sent at least once.
    pub sent: u64,
    /// Of batches that were answered with 202.
    pub acknowledged: u64,
    /// Distinct records of the ledger found in the sink.
    pub arrived: u64,
    /// Acknowledged and not found.
    pub missing: u64,
    /// Rows in the sink above one per record.
    pub duplicated: u64,
    /// Rows of this run's Nodes that the ledger does not name.
    pub unknown: u64,
    /// Records of the ledger that have no key and cannot be looked for.
    #[serde(default)]
    pub unkeyed: u64,
}

impl SignalCounts {
    /// Whether something was acknowledged and all of it arrived, once or more often.
    #[must_use]
    pub const fn at_least_once(&self) -> bool {
        self.acknowledged > 0 && self.missing + self.unknown + self.unkeyed == 0
    }
}

/// The result of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// One entry per signal.
    pub signals: BTreeMap<String, SignalCounts>,
    /// Files of the sink that were read.
    pub files: u64,
    /// Lines that are no row.
    pub unreadable_lines: u64,
    /// Files whose end cannot be read: still being written, or torn by a crash.
    pub unfinished_files: u64,
}

impl Counts {
    /// Whether the comparison proves that every acknowledged record arrived once.
    ///
    /// It proves nothing, and does not hold, when nothing was acknowledged of a signal that was made, or of all signals;
    /// when rows of the ledger's Nodes are not in the ledger; when records or lines could not be compared. A torn end of
    /// a file is no such line: what it held was not acknowledged to its stream.
    #[must_use]
    pub fn holds(&self) -> bool {
        let complete = |counts: &SignalCounts| {
            counts.at_least_once() && counts.duplicated == 0 || *counts == SignalCounts::default()
        };
        self.unreadable_lines == 0
            && self.signals.values().all(complete)
            && self.signals.values().any(|counts| counts.acknowledged > 0)
    }

    /// The counts as a table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = format!(
            "{:<8} {:>10} {:>12} {:>10} {:>8} {:>10} {:>8} {:>8}\n",
            "signal", "sent", "acknowledged", "arrived", "missing", "duplicated", "unknown", "unkeyed"
        );
        for (signal, counts) in &self.signals {
            out.push_str(&format!(
                "{signal:<8} {:>10} {:>12} {:>10} {:>8} {:>10} {:>8} {:>8}\n",
                counts.sent,
                counts.acknowledged,
                counts.arrived,
                counts.missing,
                counts.duplicated,
                counts.unknown,
                counts.unkeyed
            ));
        }
        if self.unreadable_lines > 0 {
            out.push_str(&format!("{} lines of the sink are no rows\n", self.unreadable_lines));
        }
        out
    }
}

#[derive(Clone, Copy, Default)]
struct Fate {
    sent: bool,
    acknowledged: bool,
    rows: u32,
}

/// What ledgers say was sent, and which of it a sink has shown so far. One per sink.
#[derive(Clone, Default)]
pub struct Arrivals {
    records: HashMap<(Signal, RecordKey), Fate>,
    nodes: HashSet<NodeId>,
    unkeyed: HashMap<Signal, u64>,
    unknown: HashMap<Signal, u64>,
}

#[derive(Deserialize)]
struct Row<'a> {
    node_id: NodeId,
    #[serde(default, borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    message: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    timestamp: Option<Cow<'a, str>>,
}

/// Counts what of `ledger` is in the file sink under `sink_root`.
///
/// # Errors
/// An I/O error, or an unreadable ledger. A folder that is not there counts as an empty sink.
pub fn compare(ledger: &Path, sink_root: &Path) -> io::Result<Counts> {
    compare_all(std::slice::from_ref(&ledger.to_path_buf()), sink_root)
}

/// As [`compare`], for several ledgers of one fleet.
///
/// # Errors
/// As [`compare`].
pub fn compare_all(ledgers: &[PathBuf], sink_root: &Path) -> io::Result<Counts> {
    let mut arrivals = Arrivals::of(ledgers)?;
    let mut counts = Counts::default();
    for (signal, path) in segments(sink_root)? {
        counts.files += 1;
        read_segment(&path, signal, &mut arrivals, &mut counts)?;
    }
    counts.signals = arrivals.signals();
    Ok(counts)
}

impl Arrivals {
    /// What the ledgers of one fleet expect, with nothing arrived.
    ///
    /// # Errors
    /// An I/O error, or an unreadable ledger.
    pub fn of(ledgers: &[PathBuf]) -> io::Result<Self> {
        let mut arrivals = Self::default();
        for path in ledgers {
            ledger::read(path, |entry| arrivals.expect(&entry))?;
        }
        Ok(arrivals)
    }

    fn expect(&mut self, entry: &ledger::Entry) {
        self.nodes.insert(entry.node_id);
        *self.unkeyed.entry(entry.signal).or_default() += entry.unkeyed;
        for key in &entry.keys {
            let fate = self.records.entry((entry.signal, *key)).or_default();
            fate.sent |= entry.attempts > 0;
            fate.acknowledged |= entry.settled == Settled::Acknowledged;
        }
    }

    /// Takes a record that a sink holds. Records of Nodes that no ledger knows belong to others and are left out.
    pub fn row(&mut self, signal: Signal, node: NodeId, identity: &Identity<'_>) {
        if !self.nodes.contains(&node) {
            return;
        }
        let key = RecordKey::of(signal, node, identity);
        match key.and_then(|key| self.records.get_mut(&(signal, key))) {
            Some(fate) => fate.rows += 1,
            None => *self.unknown.entry(signal).or_default() += 1,
        }
    }

    /// The counts so far, with an entry for every signal.
    #[must_use]
    pub fn signals(&self) -> BTreeMap<String, SignalCounts> {
        let of = |map: &HashMap<Signal, u64>, signal| map.get(&signal).copied().unwrap_or_default();
        let mut by_signal: BTreeMap<&str, SignalCounts> = Signal::ALL
            .into_iter()
            .map(|signal| {
                let (unknown, unkeyed) = (of(&self.unknown, signal), of(&self.unkeyed, signal));
                (signal.as_str(), SignalCounts { unknown, unkeyed, ..SignalCounts::default() })
            })
            .collect();
        for ((signal, _), fate) in &self.records {
            let Some(counts) = by_signal.get_mut(signal.as_str()) else { continue };
            counts.made += 1;
            counts.sent += u64::from(fate.sent);
            counts.acknowledged += u64::from(fate.acknowledged);
            counts.arrived += u64::from(fate.rows > 0);
            counts.missing += u64::from(fate.acknowledged && fate.rows == 0);
            counts.duplicated += u64::from(fate.rows.saturating_sub(1));
        }
        by_signal.into_iter().map(|(signal, counts)| (signal.to_owned(), counts)).collect()
    }
}

/// Every segment under the root, with its signal.
fn segments(root: &Path) -> io::Result<Vec<(Signal, PathBuf)>> {
    let mut found = Vec::new();
    for domain in folder(root)? {
        for signal in Signal::ALL {
            for path in folder(&domain.join(signal.as_str()))? {
                if path.to_string_lossy().ends_with(".ndjson.zst") {
                    found.push((signal, path));
                }
            }
        }
    }
    Ok(found)
}

fn folder(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn read_segment(path: &Path, signal: Signal, arrivals: &mut Arrivals, counts: &mut Counts) -> io::Result<()> {
    let decoder = zstd::stream::read::Decoder::new(File::open(path)?)?;
    let mut reader = BufReader::with_capacity(256 * 1024, decoder);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.raw_os_error().is_some() => return Err(error),
            // What a crash tore off was never acknowledged to its stream and comes again, in this file or the next.
            Err(_) => {
                counts.unfinished_files += 1;
                return Ok(());
            }
        }
        let Ok(row) = serde_json::from_slice::<Row<'_>>(&line) else {
            if !line.ends_with(b"\n") {
                counts.unfinished_files += 1;
                return Ok(());
            }
            counts.unreadable_lines += u64::from(!line.trim_ascii().is_empty());
            continue;
        };
        let identity = Identity { name: row.name, message: row.message, timestamp: row.timestamp };
        arrivals.row(signal, row.node_id, &identity);
    }
}

#[cfg(test)]
mod tests;
