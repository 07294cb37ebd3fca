//! The directory projector: writes what changed into the bucket that every edge follows.
//!
//! Contexts mark keys in the transaction that changes them ([`crate::directory`]). After the commit the projector reads
//! each marked key's entry, writes it and deletes the marks it has seen. One replica projects at a time, and should one
//! go on that has lost its lock, its older reading overwrites no newer one: a write names the revision that was there
//! before the entry was read, and is made anew from the database when that is the last no more. When it starts, and when it finds another bucket than before, it compares the
//! whole bucket with the database.

mod bucket;
mod lookup;
mod reconcile;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State as BusState;
use async_nats::jetstream::kv::Store;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use plexsphere_wire::NodeId;
use plexsphere_wire::directory::{DirectoryKey, node_key};
use tokio::sync::{Mutex, Notify};

use crate::seams::{DomainEntries, NodeEntries};
use crate::tasks::{Health, Progress, Schedule, Task, TaskKind};
use crate::{Database, Fault};

pub use lookup::DirectoryLookup;

/// The PostgreSQL channel on which marks are announced.
pub const DIRECTORY_CHANNEL: &str = "plexsphere_directory";

/// Marks dealt with in one pass.
const PASS_MARKS: i64 = 1_000;
/// Entries written at the same time.
const WRITES_AT_ONCE: usize = 32;
/// How often a key is tried that others write as well, and the pause before the second time; it grows.
const WRITE_ATTEMPTS: u32 = 8;
const WRITE_PAUSE: Duration = Duration::from_millis(5);
/// The longest that [`DirectoryFlush::node`] waits.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

const MARKS: &str = "SELECT seq, key FROM kernel.directory_changes ORDER BY seq LIMIT $1";
const DELETE_MARKS: &str = "DELETE FROM kernel.directory_changes WHERE seq = ANY($1)";
const IS_MARKED: &str = "SELECT EXISTS (SELECT 1 FROM kernel.directory_changes WHERE key = $1)";

/// Every statement of the projector, for the test that prepares them.
#[doc(hidden)]
pub const STATEMENTS: [&str; 3] = [MARKS, DELETE_MARKS, IS_MARKED];

/// What the projector stands on.
#[derive(Clone)]
pub struct ProjectorParts {
    /// Where the marks are.
    pub db: Database,
    /// The message bus.
    pub bus: async_nats::Client,
    /// The Nodes.
    pub nodes: Arc<dyn NodeEntries>,
    /// The Domains.
    pub domains: Arc<dyn DomainEntries>,
    /// Copies of the bucket: 1, 3 or 5.
    pub replicas: usize,
}

/// Writes the edge directory.
pub struct DirectoryProjector {
    parts: ProjectorParts,
    bucket: bucket::Bucket,
    /// When the bucket that was last compared with the database was created.
    compared: Mutex<Option<i128>>,
    passed: Arc<Notify>,
}

/// Waits until what was marked is in the directory.
#[derive(Clone, Debug)]
pub struct DirectoryFlush {
    db: Database,
    passed: Arc<Notify>,
}

impl DirectoryProjector {
    /// A projector; run it by [`Self::schedule`].
    #[must_use]
    pub fn new(parts: ProjectorParts) -> Self {
        Self {
            bucket: bucket::Bucket::new(parts.bus.clone(), parts.replicas),
            parts,
            compared: Mutex::default(),
            passed: Arc::new(Notify::new()),
        }
    }

    /// On each mark and every second, on one replica at a time. The limit is for a comparison of a large directory.
    #[must_use]
    pub const fn schedule() -> Schedule {
        Schedule::every(Duration::from_secs(1)).and_on(DIRECTORY_CHANNEL).within(Duration::from_secs(600))
    }

    /// A handle that waits for marks to be written, by whichever replica.
    #[must_use]
    pub fn flush(&self) -> DirectoryFlush {
        DirectoryFlush { db: self.parts.db.clone(), passed: Arc::clone(&self.passed) }
    }

    /// One pass over the marks; whether there are more.
    async fn pass(&self, store: &Store) -> Result<(u64, bool), Fault> {
        let marks: Vec<(i64, String)> = sqlx::query_as(MARKS).bind(PASS_MARKS).fetch_all(self.parts.db.pool()).await?;
        let more = i64::try_from(marks.len()).is_ok_and(|read| read == PASS_MARKS);
        if marks.is_empty() {
            return Ok((0, false));
        }
        let (seqs, keys): (Vec<i64>, HashSet<String>) = marks.into_iter().unzip();
        let written = u64::try_from(keys.len()).unwrap_or(u64::MAX);
        futures_util::stream::iter(keys)
            .map(Ok)
            .try_for_each_concurrent(WRITES_AT_ONCE, |key| async move { self.project(store, &key).await.map(drop) })
            .await?;
        // Exactly the marks that were read: a later one for the same key stands for a later change.
        sqlx::query(DELETE_MARKS).bind(seqs).execute(self.parts.db.pool()).await?;
        self.passed.notify_waiters();
        Ok((written, more))
    }

    /// Brings one key in line with the database; whether something had to be written. The bucket is looked at before the
    /// database: whoever writes in between has read the database no earlier, and its write fails this one.
    async fn project(&self, store: &Store, key: &str) -> Result<bool, Fault> {
        for attempt in 1..=WRITE_ATTEMPTS {
            let seen = bucket::look(store, key).await?;
            let value = self.entry(key).await?;
            if value == seen.value {
                return Ok(false);
            }
            if bucket::replace(store, key, value, seen.revision).await? {
                return Ok(true);
            }
            tracing::debug!(key, attempt, "a directory key was written by another projector");
            // What was looked at may be a copy that lags behind.
            tokio::time::sleep(WRITE_PAUSE * attempt).await;
        }
        Err(Fault::Bus("a directory key is written by another projector again and again".to_owned()))
    }

    /// The present entry of a key, as it stands in the bucket.
    async fn entry(&self, key: &str) -> Result<Option<Bytes>, Fault> {
        match DirectoryKey::parse(key) {
            Some(DirectoryKey::Node(node)) => self.parts.nodes.node_entry(node).await?.as_ref().map(encode).transpose(),
            Some(DirectoryKey::Domain(domain)) => {
                self.parts.domains.domain_entry(domain).await?.as_ref().map(encode).transpose()
            }
            None => Ok(None),
        }
    }
}

fn encode(entry: &impl serde::Serialize) -> Result<Bytes, Fault> {
    serde_json::to_vec(entry).map(Bytes::from).map_err(|_| Fault::Invariant("a directory entry is json"))
}

#[async_trait]
impl Task for DirectoryProjector {
    fn kind(&self) -> TaskKind {
        TaskKind::DirectoryProjector
    }

    async fn run(&self) -> Result<Progress, Fault> {
        let mut compared = self.compared.lock().await;
        if self.parts.bus.connection_state() != BusState::Connected {
            let health = match *compared {
                Some(_) => Health::Degraded("message bus unreachable"),
                None => Health::Bad("message bus unreachable"),
            };
            return Ok(Progress { health, ..Progress::default() });
        }
        let (store, created) = self.bucket.open().await?;
        let mut done = 0;
        if *compared != Some(created) {
            done += self.reconcile(&store).await?;
            *compared = Some(created);
        }
        let (written, more) = self.pass(&store).await?;
        Ok(Progress::done(done + written).and_more(more))
    }
}

impl DirectoryFlush {
    /// Waits until no mark of this Node is left, at most 2 s. `false` when it took longer: the Node is not unknown to an
    /// edge then, only slower, for an edge that misses it asks.
    ///
    /// # Errors
    /// [`Fault`] when the database does not answer.
    pub async fn node(&self, node: NodeId) -> Result<bool, Fault> {
        let key = node_key(node);
        let mut pause = Duration::from_millis(2);
        let waited = tokio::time::timeout(FLUSH_LIMIT, async {
            loop {
                let passed = self.passed.notified();
                if !sqlx::query_scalar::<_, bool>(IS_MARKED).bind(&key).fetch_one(self.db.pool()).await? {
                    return Ok::<_, Fault>(());
                }
                // Another replica may be the one that projects, so its passes are not heard here.
                let _ = tokio::time::timeout(pause, passed).await;
                pause = (pause * 2).min(Duration::from_millis(50));
            }
        });
        waited.await.map_or(Ok(false), |written| written.map(|()| true))
    }
}
