//! Following the segments as they grow.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use plexsphere_wire::telemetry::Signal;
use plexsphere_wire::{DomainId, NodeId};

use super::frame::{self, Found};
use super::read::{self, ReadError, Segment, StoredRecord};

/// What a tail shows; an absent member shows everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TailFilter {
    /// Only this Domain.
    pub domain: Option<DomainId>,
    /// Only this signal.
    pub signal: Option<Signal>,
    /// Only this Node.
    pub node: Option<NodeId>,
}

/// A place in every segment of a folder. Blocking; a caller polls it, a few times a second.
#[derive(Debug)]
pub struct Tail {
    root: PathBuf,
    filter: TailFilter,
    pub(super) offsets: BTreeMap<PathBuf, u64>,
}

impl Tail {
    /// A tail that shows everything that is there, then what is added.
    #[must_use]
    pub fn from_start(root: &Path, filter: TailFilter) -> Self {
        Self { root: root.to_owned(), filter, offsets: BTreeMap::new() }
    }

    /// A tail that shows only what is added from now on.
    ///
    /// # Errors
    /// [`ReadError`] when the folder cannot be read.
    pub fn from_now(root: &Path, filter: TailFilter) -> Result<Self, ReadError> {
        let mut tail = Self::from_start(root, filter);
        tail.poll()?;
        Ok(tail)
    }

    /// What was added since the last call, ordered by acceptance.
    ///
    /// # Errors
    /// [`ReadError`] when the folder or a segment cannot be read; the next call tries again from the same place.
    pub fn poll(&mut self) -> Result<Vec<(Signal, StoredRecord)>, ReadError> {
        let mut added = Vec::new();
        // Committed when all went well: a segment that cannot be read must not take along what was read before it.
        // Segments that are gone are forgotten with it.
        let mut offsets = BTreeMap::new();
        for segment in read::segments(&self.root)? {
            let wanted = self.filter.domain.is_none_or(|domain| domain == segment.domain)
                && self.filter.signal.is_none_or(|signal| signal == segment.signal);
            if !wanted {
                continue;
            }
            let mut offset = self.offsets.get(&segment.path).copied().unwrap_or_default();
            let records = match follow(&segment, &mut offset) {
                Ok(records) => records,
                // It grew too old between the listing and now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(ReadError::Io { path: segment.path, source }),
            };
            offsets.insert(segment.path, offset);
            let node = self.filter.node;
            let records = records.into_iter().filter(|record| node.is_none_or(|node| node == record.node_id));
            added.extend(records.map(|record| (segment.signal, record)));
        }
        self.offsets = offsets;
        added.sort_by_key(|(_, record)| record.accepted_at);
        Ok(added)
    }
}

/// The records of the whole groups behind `offset`, which moves behind them.
fn follow(segment: &Segment, offset: &mut u64) -> io::Result<Vec<StoredRecord>> {
    let mut file = File::open(&segment.path)?;
    if file.metadata()?.len() <= *offset {
        return Ok(Vec::new());
    }
    file.seek(SeekFrom::Start(*offset))?;
    let mut reader = BufReader::new(file);
    let mut found = Vec::new();
    // A group that is being written right now looks torn and is whole at the next call.
    while let Found::Group { data, bytes, .. } = frame::decode(&mut reader)? {
        found.extend(read::records(&data)?);
        *offset += bytes;
    }
    Ok(found)
}
