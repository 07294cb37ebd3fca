//! What a replica remembers of Nodes and Domains, and how it hears that it must forget.
//!
//! Whoever changes a Node or a Domain notifies in the transaction of the change, by triggers on `kernel.directory_changes`
//! and on the tables of contexts; every replica listens on one connection. Memory is used only while it listens: a
//! replica that is deaf asks the database each time. PostgreSQL hands a notification out at the commit, so memory is
//! behind by the time that takes, which is below that of any event about the same change.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use moka::sync::Cache;
use parking_lot::Mutex;
use plexsphere_wire::directory::DirectoryKey;
use sqlx::postgres::PgListener;
use tokio_util::sync::CancellationToken;

use crate::tasks::{Service, TaskKind};
use crate::{Database, Fault};

const CHANNEL: &str = "plexsphere_changes";
/// How long a silent connection is trusted before it is asked whether it lives. With [`PATIENCE`] below the five seconds in
/// which the revocation of a key acts everywhere.
const SILENCE: Duration = Duration::from_secs(3);
/// How long it may take to say so.
const PATIENCE: Duration = Duration::from_secs(1);
/// Parts of a memory that are filled independently of changes heard in the others.
const SHARDS: usize = 64;

/// Forgets what is told to have changed.
pub trait Forgets: Send + Sync + 'static {
    /// A Node or a Domain has changed.
    fn changed(&self, key: DirectoryKey);

    /// Anything may have changed.
    fn everything(&self);
}

/// Who forgets, and whether changes are heard at all.
#[derive(Default)]
pub struct Changes {
    hearing: AtomicBool,
    listeners: Mutex<Vec<Weak<dyn Forgets>>>,
}

impl Changes {
    /// Nobody listens yet, and nothing is heard.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Whether memory may be used.
    #[must_use]
    pub fn hearing(&self) -> bool {
        self.hearing.load(Ordering::Acquire)
    }

    /// Has `memory` told of every change from now on, as long as it lives.
    pub fn follow(&self, memory: &Arc<impl Forgets>) {
        let memory: Arc<dyn Forgets> = Arc::clone(memory) as Arc<dyn Forgets>;
        self.listeners.lock().push(Arc::downgrade(&memory));
    }

    fn each(&self, tell: impl Fn(&dyn Forgets)) {
        self.listeners.lock().retain(|listener| {
            listener.upgrade().is_some_and(|memory| {
                tell(memory.as_ref());
                true
            })
        });
    }

    fn heard(&self, payload: &str) {
        match DirectoryKey::parse(payload) {
            Some(key) => self.each(|memory| memory.changed(key)),
            None => self.each(Forgets::everything),
        }
    }

    /// From here on nothing that was missed is remembered, and memory is used.
    fn begin(&self) {
        self.each(Forgets::everything);
        self.hearing.store(true, Ordering::Release);
    }

    fn end(&self) {
        self.hearing.store(false, Ordering::Release);
    }
}

/// Listens for changes: a service for the driver, on every replica.
pub struct ChangeListener {
    changes: Arc<Changes>,
    db: Database,
}

impl ChangeListener {
    /// A listener on this database.
    #[must_use]
    pub const fn new(changes: Arc<Changes>, db: Database) -> Self {
        Self { changes, db }
    }

    async fn listen(&self) -> Result<(), Fault> {
        let mut listener = PgListener::connect_with(self.db.pool()).await?;
        listener.listen(CHANNEL).await?;
        self.changes.begin();
        loop {
            match tokio::time::timeout(SILENCE, listener.try_recv()).await {
                Ok(Ok(Some(notification))) => self.changes.heard(notification.payload()),
                // The connection was lost and made anew: what was said in between is unknown.
                Ok(Ok(None)) => self.changes.begin(),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => {
                    let alive = sqlx::query("SELECT 1").execute(&mut listener);
                    tokio::time::timeout(PATIENCE, alive).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
                }
            }
        }
    }
}

#[async_trait]
impl Service for ChangeListener {
    fn kind(&self) -> TaskKind {
        TaskKind::ChangeListener
    }

    async fn serve(&self, cancel: CancellationToken) -> Result<(), Fault> {
        let ended = tokio::select! {
            () = cancel.cancelled() => Ok(()),
            ended = self.listen() => ended,
        };
        self.changes.end();
        ended
    }
}

/// Where a memory stood before the database was asked.
#[derive(Clone, Debug)]
pub struct Mark([u64; SHARDS]);

/// Values by key that hold until a change of the key is heard. What was read before a change was heard is not
/// remembered after it.
pub struct Memory<K, V> {
    changes: Arc<Changes>,
    kept: Cache<K, V>,
    hasher: RandomState,
    /// How many changes were heard, by part.
    heard: [Mutex<u64>; SHARDS],
}

impl<K, V> Memory<K, V>
where
    K: Hash + Eq + Copy + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// An empty memory of at most `capacity` values, each kept for at most `longest`, that is used while `changes` are
    /// heard.
    #[must_use]
    pub fn new(changes: Arc<Changes>, capacity: u64, longest: Duration) -> Self {
        Self {
            changes,
            kept: Cache::builder().max_capacity(capacity).time_to_live(longest).build(),
            hasher: RandomState::new(),
            heard: std::array::from_fn(|_| Mutex::new(0)),
        }
    }

    fn shard(&self, key: &K) -> usize {
        usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0)
    }

    /// What is remembered, while changes are heard.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<V> {
        if self.changes.hearing() { self.kept.get(key) } else { None }
    }

    /// To be taken before the database is asked.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(std::array::from_fn(|shard| self.heard.get(shard).map_or(0, |heard| *heard.lock())))
    }

    /// Remembers what was read since `mark`, unless a change was heard meanwhile.
    pub fn put(&self, mark: &Mark, key: K, value: V) {
        let shard = self.shard(&key);
        let (Some(heard), Some(then)) = (self.heard.get(shard), mark.0.get(shard)) else { return };
        let heard = heard.lock();
        if *heard == *then && self.changes.hearing() {
            self.kept.insert(key, value);
        }
    }

    /// Changes what is remembered of a key, if anything is.
    pub fn amend(&self, key: &K, change: impl FnOnce(&mut V)) {
        let Some(heard) = self.heard.get(self.shard(key)) else { return };
        let _whole = heard.lock();
        if let Some(mut value) = self.kept.get(key) {
            change(&mut value);
            self.kept.insert(*key, value);
        }
    }

    /// Forgets a key; what was remembered of it.
    pub fn forget(&self, key: &K) -> Option<V> {
        let mut heard = self.heard.get(self.shard(key))?.lock();
        *heard += 1;
        self.kept.remove(key)
    }

    /// Forgets everything.
    pub fn clear(&self) {
        for heard in &self.heard {
            *heard.lock() += 1;
        }
        self.kept.invalidate_all();
    }
}
