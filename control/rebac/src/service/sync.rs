//! The tuples in memory, and how they follow the database.
//!
//! A reader that must see every committed write asks for a **round**: one statement reads which scopes have moved, one
//! more reads what happened in them, and the next state takes the place of the last in one step. Readers that ask while
//! a round runs share the next one, so that any number of checks at once costs the database two rounds at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::Mutex;
use plexsphere_kernel::tasks::{Progress, Schedule, Task, TaskKind};
use plexsphere_kernel::{Clock, Database, Fault, Tx};
use plexsphere_wire::Timestamp;
use tokio::sync::watch;

use crate::model::graph::{Graph, Scope};
use crate::model::schema::Schema;
use crate::store::feed::{self, Foreign, Gap};
use crate::store::reach;

/// Changes that are applied one by one; beyond, everything is read anew.
const MAX_CHANGES: u64 = 50_000;
/// How often the tuples are followed when nobody asks and nothing is notified.
const PERIOD: Duration = Duration::from_secs(5);
/// How long one round may take, everything read anew included.
const DEADLINE: Duration = Duration::from_secs(120);
/// The channel that every write of a tuple notifies.
const CHANNEL: &str = "plexsphere_rebac";
/// How long a request waits for the database's word that the tuples in memory are complete.
const PATIENCE: Duration = Duration::from_millis(250);

/// The generations that a writer's transaction brought scopes to, for reading one's own writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Token(pub(crate) Vec<(Scope, u64)>);

/// All tuples in memory, and the way to newer ones.
pub struct Relations {
    db: Database,
    clock: Arc<dyn Clock>,
    schema: &'static Schema,
    graph: ArcSwap<Graph>,
    /// Rounds that have begun.
    begun: AtomicU64,
    /// The last round that came to a good end: whoever waits for it goes on without a turn at the lock.
    ended: watch::Sender<u64>,
    round: tokio::sync::Mutex<Round>,
    fresh_at: Mutex<Timestamp>,
}

/// The tuples in memory could not be shown to be complete.
#[derive(Debug)]
pub(crate) struct Unconfirmed {
    /// What broke, if it was not only slow.
    pub(crate) cause: Option<Fault>,
    /// Whether the database is gone. One that is slow may have taken rights away meanwhile.
    pub(crate) gone: bool,
}

/// No connection came free in time: the database may be there and busy.
const fn is_slow(fault: &Fault) -> bool {
    matches!(fault, Fault::Database(sqlx::Error::PoolTimedOut))
}

/// Held by whoever makes a round.
struct Round {
    /// Transactions below it have been seen.
    horizon: String,
}

// === impl Relations ===

impl Relations {
    /// Reads every tuple.
    ///
    /// # Errors
    /// [`Fault`], also when the database's forms differ from the schema of this build, or a tuple has none of them.
    pub async fn open(db: Database, clock: Arc<dyn Clock>) -> Result<Arc<Self>, Fault> {
        let schema = Schema::built_in();
        let mut allowed = feed::forms(db.pool()).await?;
        let own = schema
            .forms()
            .into_iter()
            .map(|(kind, relation, subject, name, class)| (kind, relation, subject, name, class.as_str().to_owned()));
        let mut own: Vec<_> = own.collect();
        allowed.sort();
        own.sort();
        if allowed != own {
            return Err(Fault::Invariant("the database's relations are those of the schema"));
        }
        let began = clock.now();
        let (graph, horizon) = load(&db, schema, Foreign::Refused).await?;
        tracing::info!(tuples = graph.tuples(), bytes = graph.heap_bytes(), "the relation tuples are in memory");
        Ok(Arc::new(Self {
            db,
            clock,
            schema,
            graph: ArcSwap::from_pointee(graph),
            begun: AtomicU64::new(0),
            ended: watch::Sender::new(0),
            round: tokio::sync::Mutex::new(Round { horizon }),
            fresh_at: Mutex::new(began),
        }))
    }

    /// The schema that the tuples follow.
    #[must_use]
    pub const fn schema(&self) -> &'static Schema {
        self.schema
    }

    /// The state that is in memory.
    #[must_use]
    pub fn current(&self) -> Arc<Graph> {
        self.graph.load_full()
    }

    /// When the state in memory was last known to be complete.
    #[must_use]
    pub fn fresh_at(&self) -> Timestamp {
        *self.fresh_at.lock()
    }

    /// A state with every write that was committed before this call.
    ///
    /// # Errors
    /// [`Fault`] when the database cannot be read.
    pub async fn fresh(&self) -> Result<Arc<Graph>, Fault> {
        let begun = self.begun.load(Ordering::SeqCst);
        let mut ended = self.ended.subscribe();
        // A round that began after this call and has ended is as good as one of our own.
        let mut round = tokio::select! {
            biased;
            _ = ended.wait_for(|ended| *ended > begun) => return Ok(self.current()),
            round = self.round.lock() => round,
        };
        if *self.ended.borrow() <= begun {
            let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
            let now = self.clock.now();
            self.advance(&mut round).await?;
            *self.fresh_at.lock() = now;
            self.ended.send_replace(number);
        }
        Ok(self.current())
    }

    /// [`Self::fresh`] within the time that a request has for it.
    ///
    /// # Errors
    /// [`Unconfirmed`].
    pub(crate) async fn confirmed(&self) -> Result<Arc<Graph>, Unconfirmed> {
        match tokio::time::timeout(PATIENCE, self.fresh()).await {
            Ok(Ok(graph)) => Ok(graph),
            Ok(Err(fault)) => {
                let gone = (fault.is_unreachable() || is_slow(&fault)) && !reach::listens(&self.db).await;
                Err(Unconfirmed { cause: Some(fault), gone })
            }
            Err(_) => Err(Unconfirmed { cause: None, gone: !reach::listens(&self.db).await }),
        }
    }

    /// What the caller's transaction has written so far, to be shown to [`Self::at_least`] after its commit.
    ///
    /// # Errors
    /// [`Fault`] when the database cannot be read.
    pub async fn token(tx: &mut Tx) -> Result<Token, Fault> {
        Ok(Token(feed::moved_here(tx).await?))
    }

    /// A state with the writes of a token; the database is asked only when they are not in memory yet.
    ///
    /// # Errors
    /// As [`Self::fresh`].
    pub async fn at_least(&self, token: &Token) -> Result<Arc<Graph>, Fault> {
        let graph = self.current();
        if token.0.iter().all(|(scope, generation)| graph.generation(*scope) >= *generation) {
            return Ok(graph);
        }
        self.fresh().await
    }

    /// One round.
    async fn advance(&self, round: &mut Round) -> Result<(), Fault> {
        let heads = feed::heads(self.db.pool(), &round.horizon).await?;
        let graph = self.current();
        let gaps: Vec<Gap> = heads
            .moved
            .iter()
            .map(|(scope, head)| Gap { scope: *scope, known: graph.generation(*scope), head: *head })
            .filter(|gap| gap.head != gap.known)
            .collect();
        if gaps.is_empty() {
            round.horizon = heads.horizon;
            return Ok(());
        }
        // A generation that went back is another database's, as after a restore.
        let width: Option<u64> = gaps.iter().map(|gap| gap.head.checked_sub(gap.known)).sum();
        if let Some(width) = width.filter(|width| *width <= MAX_CHANGES) {
            let changes = feed::changes(self.db.pool(), self.schema, &gaps).await?;
            if changes.seen == width {
                let generations: Vec<_> = gaps.iter().map(|gap| (gap.scope, gap.head)).collect();
                self.graph.store(Arc::new(graph.with(&changes.known, &generations)));
                round.horizon = heads.horizon;
                return Ok(());
            }
        }
        tracing::info!(scopes = gaps.len(), "the relation tuples are read anew");
        let (graph, horizon) = load(&self.db, self.schema, Foreign::PassedOver).await?;
        self.graph.store(Arc::new(graph));
        round.horizon = horizon;
        Ok(())
    }
}

async fn load(db: &Database, schema: &'static Schema, foreign: Foreign) -> Result<(Graph, String), Fault> {
    let everything = feed::everything(db, schema, foreign).await?;
    let horizon = everything.horizon;
    let built = tokio::task::spawn_blocking(move || Graph::build(schema, everything.tuples, everything.generations));
    let graph = built.await.map_err(|_| Fault::Invariant("building a graph does not panic"))?;
    Ok((graph, horizon))
}

/// Follows the tuples whether anybody asks or not. On every replica.
pub struct RelationSync(Arc<Relations>);

impl RelationSync {
    /// A task that keeps these tuples fresh.
    #[must_use]
    pub const fn new(relations: Arc<Relations>) -> Self {
        Self(relations)
    }

    /// On every write that is notified, and every 5 s.
    #[must_use]
    pub const fn schedule() -> Schedule {
        Schedule::every(PERIOD).and_on(CHANNEL).per_replica().within(DEADLINE)
    }
}

#[async_trait]
impl Task for RelationSync {
    fn kind(&self) -> TaskKind {
        TaskKind::RelationSync
    }

    async fn run(&self) -> Result<Progress, Fault> {
        self.0.fresh().await?;
        Ok(Progress::done(0))
    }
}
