//! The segments of one Domain and signal, and the batches that are in them.

use std::collections::{HashSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use plexsphere_wire::Timestamp;

use super::frame::{self, BatchKey, Found, FoundHeader};
use crate::batch::Slice;

/// What every segment's name ends with.
pub(super) const SUFFIX: &str = ".ndjson.zst";

/// When a segment is closed, and how many batches are remembered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rotation {
    pub(super) segment_bytes: u64,
    pub(super) segment_age: Duration,
    /// Absent: segments are kept for ever.
    pub(super) retention: Option<Duration>,
    pub(super) remembered: usize,
}

/// What a write did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Batches written.
    pub batches: usize,
    /// Batches that were there already.
    pub duplicates: usize,
}

pub(super) struct Partition {
    folder: PathBuf,
    /// Absent until the folder was walked, and again after a failed write: what is on disk is then unknown.
    segments: Option<Segments>,
    last_written: Option<Timestamp>,
    /// The last call, whether it wrote or not.
    last_touched: Option<Timestamp>,
    /// The current segment and when it was begun, kept while the rest is forgotten: its age must go on counting.
    opened: Option<(u64, Timestamp)>,
}

/// What is known about the folder once it was walked.
struct Segments {
    current: u64,
    /// Bytes of whole groups in the current segment.
    length: u64,
    opened_at: Timestamp,
    file: Option<File>,
    index: Index,
}

/// The newest batches, by segment, so that they are forgotten whole segments at a time. A key is the first half of a
/// batch id: 128 bits of SHA-256 do not collide within any number of batches that fits in memory.
#[derive(Default)]
struct Index {
    known: HashSet<u128>,
    by_segment: VecDeque<(u64, Vec<u128>)>,
}

// === impl Partition ===

impl Partition {
    pub(super) const fn new(folder: PathBuf) -> Self {
        Self { folder, segments: None, last_written: None, last_touched: None, opened: None }
    }

    pub(super) fn is_open(&self) -> bool {
        self.segments.as_ref().is_some_and(|segments| segments.file.is_some())
    }

    pub(super) const fn last_written(&self) -> Option<Timestamp> {
        self.last_written
    }

    /// Gives the file handle back; the next write opens it again.
    pub(super) fn close(&mut self) {
        if let Some(segments) = &mut self.segments {
            segments.file = None;
        }
    }

    /// Forgets what is known about the folder when nothing came since `before`; the next write walks it again.
    pub(super) fn release_idle(&mut self, before: Timestamp) {
        if self.last_touched.is_some_and(|touched| touched < before)
            && let Some(segments) = self.segments.take()
        {
            self.opened = Some((segments.current, segments.opened_at));
        }
    }

    #[cfg(test)]
    pub(super) const fn is_loaded(&self) -> bool {
        self.segments.is_some()
    }

    pub(super) fn append(&mut self, parts: &[Slice], now: Timestamp, rotation: &Rotation) -> io::Result<Written> {
        // Taken out, so that every early return below leaves the state unknown and the next write walks the folder.
        let mut segments = match self.segments.take() {
            Some(segments) => segments,
            None => {
                let mut segments = Segments::load(&self.folder, now, rotation)?;
                if let Some((number, opened_at)) = self.opened.take()
                    && number == segments.current
                {
                    segments.opened_at = opened_at;
                }
                segments
            }
        };
        self.last_touched = Some(now);
        let mut fresh: Vec<(BatchKey, &Slice)> = Vec::with_capacity(parts.len());
        for part in parts {
            let key = frame::key(&part.batch().batch_id)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "batch id is not a SHA-256"))?;
            if !segments.index.knows(&key) && !fresh.iter().any(|(other, _)| *other == key) {
                fresh.push((key, part));
            }
        }
        let written = Written { batches: fresh.len(), duplicates: parts.len() - fresh.len() };
        if !fresh.is_empty() {
            if segments.rotate(now, rotation)
                && let Some(retention) = rotation.retention
            {
                expire(&self.folder, segments.current, now.minus(retention))?;
            }
            segments.write(&self.folder, &frame::encode(&fresh)?)?;
            let current = segments.current;
            segments.index.add(current, fresh.iter().map(|(key, _)| key));
            segments.index.forget_beyond(rotation.remembered);
            self.last_written = Some(now);
        }
        self.segments = Some(segments);
        Ok(written)
    }
}

// === impl Segments ===

impl Segments {
    /// Walks the folder from its newest segment back until enough batches are known, and cuts torn tails off.
    fn load(folder: &Path, now: Timestamp, rotation: &Rotation) -> io::Result<Self> {
        create_durably(folder)?;
        let mut numbers: Vec<u64> = list(folder)?.into_iter().map(|(number, _)| number).collect();
        let mut index = Index::default();
        let (current, mut length) = (numbers.last().copied().unwrap_or(0), 0);
        while let Some(number) = numbers.pop() {
            let batches = if number == current {
                let (batches, whole) = walk(&path(folder, number))?;
                length = whole;
                batches
            } else {
                hop(&path(folder, number))?
            };
            index.put_before(number, &batches);
            if index.known.len() >= rotation.remembered {
                break;
            }
        }
        Ok(Self { current, length, opened_at: now, file: None, index })
    }

    /// Whether a new segment is begun.
    fn rotate(&mut self, now: Timestamp, rotation: &Rotation) -> bool {
        let full = self.length >= rotation.segment_bytes;
        let old = self.length > 0 && now.since(self.opened_at) >= rotation.segment_age;
        if full || old {
            self.current += 1;
            self.length = 0;
            self.file = None;
        }
        if self.length == 0 {
            self.opened_at = now;
        }
        full || old
    }

    /// Writes a group behind the last whole one and returns when it is on disk.
    fn write(&mut self, folder: &Path, group: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            let path = path(folder, self.current);
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
            File::open(folder)?.sync_all()?;
            self.file = Some(file);
        }
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        file.seek(SeekFrom::Start(self.length))?;
        if let Err(error) = file.write_all(group).and_then(|()| file.sync_data()) {
            // The group was not promised to anybody. When cutting it off fails too, the next walk finds it: whole, and
            // then its batches are known, or torn, and then it is cut.
            let _ = file.set_len(self.length);
            return Err(error);
        }
        self.length += u64::try_from(group.len()).unwrap_or(u64::MAX);
        Ok(())
    }
}

// === impl Index ===

impl Index {
    fn knows(&self, key: &BatchKey) -> bool {
        self.known.contains(&half(key))
    }

    fn add<'k>(&mut self, segment: u64, keys: impl Iterator<Item = &'k BatchKey>) {
        if self.by_segment.back().is_none_or(|(last, _)| *last != segment) {
            self.by_segment.push_back((segment, Vec::new()));
        }
        let Some((_, batches)) = self.by_segment.back_mut() else { return };
        for key in keys {
            self.known.insert(half(key));
            batches.push(half(key));
        }
    }

    /// Adds the batches of a segment older than all others.
    fn put_before(&mut self, segment: u64, keys: &[BatchKey]) {
        self.known.extend(keys.iter().map(half));
        self.by_segment.push_front((segment, keys.iter().map(half).collect()));
    }

    /// Forgets the oldest segments while enough batches stay known without them. The current one is never forgotten.
    fn forget_beyond(&mut self, remembered: usize) {
        while self.by_segment.len() > 1 {
            let Some((_, oldest)) = self.by_segment.front() else { break };
            if self.known.len().saturating_sub(oldest.len()) < remembered {
                break;
            }
            for key in oldest {
                self.known.remove(key);
            }
            self.by_segment.pop_front();
        }
    }
}

fn half(key: &BatchKey) -> u128 {
    key.first_chunk::<16>().map_or(0, |bytes| u128::from_le_bytes(*bytes))
}

/// The batches of a segment that is not written any more: its headers alone, because its tail was cut, if it was ever
/// torn, before the segment behind it was begun.
fn hop(path: &Path) -> io::Result<Vec<BatchKey>> {
    let mut reader = BufReader::with_capacity(1 << 13, File::open(path)?);
    let mut batches = Vec::new();
    loop {
        match frame::decode_header(&mut reader)? {
            FoundHeader::Header(header, _) => {
                batches.extend(header.batches);
                reader.seek_relative(i64::from(header.data_bytes))?;
            }
            FoundHeader::End => return Ok(batches),
            FoundHeader::Torn => {
                tracing::warn!(segment = %path.display(), "segment is damaged; its later batches are not recognised");
                return Ok(batches);
            }
        }
    }
}

/// The batches of a segment and the length of its whole groups; what lies behind them is cut off.
fn walk(path: &Path) -> io::Result<(Vec<BatchKey>, u64)> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut reader = BufReader::with_capacity(1 << 16, &file);
    let (mut batches, mut whole) = (Vec::new(), 0);
    loop {
        match frame::decode(&mut reader)? {
            Found::Group { header, bytes, .. } => {
                batches.extend(header.batches);
                whole += bytes;
            }
            Found::End => break,
            Found::Torn => {
                tracing::info!(segment = %path.display(), whole_bytes = whole, "cutting off the torn tail of a segment");
                file.set_len(whole)?;
                break;
            }
        }
    }
    // A group that reached the page cache but not the disk is acknowledged from now on.
    file.sync_all()?;
    Ok((batches, whole))
}

/// Deletes the segments before `current` that were last written before `oldest`.
fn expire(folder: &Path, current: u64, oldest: Timestamp) -> io::Result<()> {
    for (number, path) in list(folder)? {
        let written = Timestamp::new(fs::metadata(&path)?.modified()?.into());
        if number < current && written < oldest {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Creates the folder and flushes each new entry on the way.
fn create_durably(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        create_durably(parent)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => File::open(parent)?.sync_all()?,
        }
    }
    Ok(())
}

pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:012}{SUFFIX}"))
}

/// The segments of a folder, oldest first.
pub(super) fn list(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(number) = name.and_then(|name| name.strip_suffix(SUFFIX)).and_then(|number| number.parse().ok()) {
            segments.push((number, path));
        }
    }
    segments.sort_unstable();
    Ok(segments)
}
