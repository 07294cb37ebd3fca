//! Telemetry as compressed NDJSON segments in a local folder, each record once.
//!
//! **Layout.** `<root>/<domain_id>/<signal>/<number>.ndjson.zst`. A segment is an ordinary zstd file that any tool
//! decompresses. It grows by *groups*: a skippable frame that names the batches of the group, then one data frame with
//! their lines. Each line is `{"batch_id","index","domain_id","project_id","node_id","accepted_at",…record members}`.
//!
//! **Once.** A batch is acknowledged after its group is on disk, so that it comes again after a crash in between, and the
//! agent may send it again under the same batch id. The index of batch ids is therefore *in* the segment, in the same
//! write as the records: whatever survives a crash, either both are there or neither is. When a partition is first
//! touched, its segments are walked by their skippable frames, the tail that a crash tore is cut off, and the ids of
//! the newest `remembered_batches` batches are kept; a batch that is among them is not written again. A partition that is
//! idle forgets them and is walked again when it is next touched.
//!
//! **One writer.** A process holds a lock on `<root>/.lock` as long as it lives. Replicas need folders of their own, and
//! then a batch that is redelivered to another replica is written there too; a deployment that wants each record once
//! runs one routing replica with a file sink.
//!
//! Invariants:
//! - **I1** No group is acknowledged before its bytes, and the folder entry of its file, are flushed to the disk.
//! - **I2** Bytes behind the last whole group of a segment are never read and are cut before the next write.
//! - **I3** One batch id is in at most one group of a partition, within the last `remembered_batches` batches.

mod frame;
mod partition;
mod read;
mod tail;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use plexsphere_wire::telemetry::Signal;
use plexsphere_wire::{DomainId, Timestamp};

pub use partition::Written;
use partition::{Partition, Rotation};
pub use read::{ReadError, StoredRecord, StoredRecords, read_records};
pub use tail::{Tail, TailFilter};

use crate::batch::Slice;
use crate::config::FileSinkConfig;

/// Segments kept open for writing; the least recently written is closed first.
const OPEN_SEGMENTS: usize = 256;
/// A partition that nothing came to for so long gives the memory of its batches back.
const IDLE: Duration = Duration::from_secs(600);
/// Time between two looks for idle partitions.
const IDLE_LOOK: Duration = Duration::from_secs(60);
const LOCK_RETRY: Duration = Duration::from_millis(100);

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileSinkError {
    /// Another process writes to it.
    #[error("another process writes to {0}")]
    Busy(PathBuf),
    /// The file system refused.
    #[error("cannot use {path}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

type SharedPartition = Arc<Mutex<Partition>>;

/// The one writer of a folder.
pub struct FileSink {
    root: PathBuf,
    rotation: Rotation,
    partitions: Mutex<BTreeMap<(DomainId, Signal), SharedPartition>>,
    /// When idle partitions were last looked for.
    looked_at: Mutex<Option<Timestamp>>,
    /// Held for its lock.
    _lock: File,
}

// === impl FileSink ===

impl FileSink {
    /// Takes the folder, creating it when it is missing, and waits for a former writer to leave it.
    ///
    /// # Errors
    /// [`FileSinkError`] when another process keeps the lock for longer than `lock_seconds`, or the folder is unusable.
    pub async fn open(config: &FileSinkConfig) -> Result<Self, FileSinkError> {
        let root = config.folder.clone();
        let failed = |source| FileSinkError::Io { path: root.clone(), source };
        std::fs::create_dir_all(&root).map_err(failed)?;
        let path = root.join(".lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(failed)?;
        let mut patience = Duration::from_secs(config.lock_seconds);
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(source)) => return Err(failed(source)),
                Err(TryLockError::WouldBlock) if patience.is_zero() => return Err(FileSinkError::Busy(root)),
                Err(TryLockError::WouldBlock) => {
                    tokio::time::sleep(LOCK_RETRY).await;
                    patience = patience.saturating_sub(LOCK_RETRY);
                }
            }
        }
        let rotation = Rotation {
            segment_bytes: config.segment_bytes.max(1),
            segment_age: Duration::from_secs(config.segment_seconds),
            retention: (config.retention_days > 0)
                .then(|| Duration::from_secs(u64::from(config.retention_days) * 86_400)),
            remembered: config.remembered_batches,
        };
        Ok(Self { root, rotation, partitions: Mutex::new(BTreeMap::new()), looked_at: Mutex::new(None), _lock: lock })
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Writes whole batches of one Domain and signal and returns when they are on disk. Blocks; call it where that is
    /// allowed. Batches that are there already are left out and counted.
    ///
    /// # Errors
    /// What the file system said; nothing of the call is then acknowledged, and all of it may be written again.
    pub fn write(&self, parts: &[Slice], now: Timestamp) -> io::Result<Written> {
        let Some(first) = parts.first() else { return Ok(Written::default()) };
        self.release_idle(now);
        let key = (first.batch().origin.domain, first.batch().signal);
        let partition = self.partition(key);
        let mut partition = partition.lock();
        if !partition.is_open() {
            self.make_room();
        }
        partition.append(parts, now, &self.rotation)
    }

    fn partition(&self, key: (DomainId, Signal)) -> SharedPartition {
        let (domain, signal) = key;
        let new = || Partition::new(self.root.join(domain.to_string()).join(signal.as_str()));
        Arc::clone(self.partitions.lock().entry(key).or_insert_with(|| Arc::new(Mutex::new(new()))))
    }

    /// Gives back the memory of partitions that are idle, now and then.
    fn release_idle(&self, now: Timestamp) {
        let mut looked_at = self.looked_at.lock();
        if looked_at.is_some_and(|last| now.since(last) < IDLE_LOOK) {
            return;
        }
        *looked_at = Some(now);
        drop(looked_at);
        let partitions: Vec<_> = self.partitions.lock().values().map(Arc::clone).collect();
        for mut partition in partitions.iter().filter_map(|partition| partition.try_lock()) {
            partition.release_idle(now.minus(IDLE));
        }
    }

    /// One more file is about to be opened: a partition that nobody is writing to gives its own back.
    fn make_room(&self) {
        let partitions: Vec<_> = self.partitions.lock().values().map(Arc::clone).collect();
        let idle = partitions.iter().filter_map(|other| other.try_lock()).filter(|other| other.is_open());
        let mut idle: Vec<_> = idle.collect();
        if idle.len() >= OPEN_SEGMENTS
            && let Some(oldest) = idle.iter_mut().min_by_key(|other| other.last_written())
        {
            oldest.close();
        }
    }
}

impl std::fmt::Debug for FileSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileSink").field("root", &self.root).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
