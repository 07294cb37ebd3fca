//! Reading the segments back, also while they are written.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use plexsphere_wire::telemetry::Signal;
use plexsphere_wire::{DomainId, NodeId, ProjectId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::frame::{self, Found};
use super::partition;

/// One record as it was stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredRecord {
    /// The batch that the record came in.
    pub batch_id: String,
    /// The record's index in its batch, from zero.
    pub index: u64,
    /// The Domain.
    pub domain_id: DomainId,
    /// The Project.
    pub project_id: ProjectId,
    /// The Node.
    pub node_id: NodeId,
    /// When the front door took the batch.
    pub accepted_at: Timestamp,
    /// The members of the record's own schema.
    #[serde(flatten)]
    pub record: Map<String, Value>,
}

/// Why a segment cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file system refused.
    #[error("cannot read {path}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// A segment that is not the newest of its folder ends in bytes that are no whole group.
    #[error("{path} is damaged behind byte {offset}")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Where the last whole group ends.
        offset: u64,
    },
}

/// Every record below a folder, Domain by Domain, signal by signal, in the order of writing.
///
/// A torn tail of the newest segment of a folder is what a crash, or a write under way, leaves behind; it is passed over.
///
/// # Errors
/// [`ReadError`] when the folder cannot be listed. The iterator yields one for each segment that cannot be read and goes
/// on with the next.
pub fn read_records(root: &Path) -> Result<StoredRecords, ReadError> {
    Ok(StoredRecords { segments: segments(root)?.into(), current: None, ready: VecDeque::new() })
}

/// See [`read_records`].
#[derive(Debug)]
pub struct StoredRecords {
    segments: VecDeque<Segment>,
    current: Option<Open>,
    ready: VecDeque<(Signal, StoredRecord)>,
}

#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) domain: DomainId,
    pub(super) signal: Signal,
    /// Whether it is the last of its folder, the only one that may end in a torn group.
    newest: bool,
}

#[derive(Debug)]
struct Open {
    segment: Segment,
    reader: BufReader<File>,
    offset: u64,
}

// === impl StoredRecords ===

impl Iterator for StoredRecords {
    type Item = Result<(Signal, StoredRecord), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.ready.pop_front() {
                return Some(Ok(record));
            }
            let Some(mut open) = self.current.take() else {
                let segment = self.segments.pop_front()?;
                match File::open(&segment.path) {
                    Ok(file) => self.current = Some(Open { segment, reader: BufReader::new(file), offset: 0 }),
                    Err(source) => return Some(Err(ReadError::Io { path: segment.path, source })),
                }
                continue;
            };
            match open.next_group(&mut self.ready) {
                Ok(true) => self.current = Some(open),
                Ok(false) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Open {
    /// Whether the segment goes on.
    fn next_group(&mut self, ready: &mut VecDeque<(Signal, StoredRecord)>) -> Result<bool, ReadError> {
        let path = &self.segment.path;
        let failed = |source| ReadError::Io { path: path.clone(), source };
        match frame::decode(&mut self.reader).map_err(failed)? {
            Found::End => Ok(false),
            Found::Torn if self.segment.newest => Ok(false),
            Found::Torn => Err(ReadError::Damaged { path: path.clone(), offset: self.offset }),
            Found::Group { data, bytes, .. } => {
                self.offset += bytes;
                let signal = self.segment.signal;
                ready.extend(records(&data).map_err(failed)?.into_iter().map(|record| (signal, record)));
                Ok(true)
            }
        }
    }
}

/// The records of a group's data frame.
pub(super) fn records(data: &[u8]) -> io::Result<Vec<StoredRecord>> {
    let lines = zstd::stream::decode_all(data)?;
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).map_err(io::Error::from)).collect()
}

/// Every segment below a folder.
pub(super) fn segments(root: &Path) -> Result<Vec<Segment>, ReadError> {
    let mut found = Vec::new();
    for domain in domains(root).map_err(|source| ReadError::Io { path: root.to_owned(), source })? {
        for signal in Signal::ALL {
            let folder = root.join(domain.to_string()).join(signal.as_str());
            let listed = match partition::list(&folder) {
                Ok(listed) => listed,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(ReadError::Io { path: folder, source }),
            };
            let newest = listed.last().map(|(number, _)| *number);
            found.extend(listed.into_iter().map(|(number, path)| Segment {
                path,
                domain,
                signal,
                newest: Some(number) == newest,
            }));
        }
    }
    Ok(found)
}

fn domains(root: &Path) -> io::Result<Vec<DomainId>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        // Nothing was written yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut domains = Vec::new();
    for entry in entries {
        domains.extend(entry?.file_name().to_str().and_then(|name| name.parse::<DomainId>().ok()));
    }
    domains.sort_unstable();
    Ok(domains)
}
