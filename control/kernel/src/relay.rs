//! The outbox relay: reads committed rows in order, seals them into envelopes, has them signed and publishes them.
//!
//! Per Domain, wire order equals commit order: rows are read below the snapshot's `xmin` by (txid, seq), each Domain
//! belongs to one of 64 shards, and a shard has one worker, by a session advisory lock. A row that fails blocks its own
//! Domain only. What is sealed is stored first, so that a repetition carries the same content under the same id.

mod metrics;
mod plan;
mod publish;
mod shards;
mod store;
mod streams;
mod sweeper;
mod waits;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State as BusState;
use async_nats::jetstream;
use async_trait::async_trait;
use futures_util::StreamExt as _;
use plexsphere_wire::DomainId;
use plexsphere_wire::envelope::EventType;
use prometheus_client::registry::Registry;
use tokio::sync::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use self::metrics::RelayMetrics;
use self::plan::{Plan, plan};
use self::publish::{DomainEnd, DomainWork};
use self::shards::Shards;
use self::waits::Waits;
use crate::tasks::{Health, Progress, Schedule, Task, TaskKind};
use crate::{AuditLog, Clock, Database, Fault, Tx};

#[doc(hidden)]
pub use store::STATEMENTS;
pub use store::requeue;
pub use streams::DOMAIN_EVENTS_STREAM;
pub use sweeper::OutboxSweeper;

/// The PostgreSQL channel on which producers announce rows.
pub const OUTBOX_CHANNEL: &str = "plexsphere_outbox";

/// Rows read in one pass.
const PASS_ROWS: i64 = 512;
/// Domains published at the same time.
const DOMAINS_AT_ONCE: usize = 32;
/// How long a type of event rests after a broadcast, so that followers are merged.
const MERGE_WINDOW: Duration = Duration::from_secs(1);
/// How soon a pass is repeated for rows that an older open transaction holds back.
const HELD_BACK: Duration = Duration::from_millis(10);
/// The age of the oldest pending row at which readiness fails.
const LAG_LIMIT: Duration = Duration::from_secs(60);
/// How often the lag is measured.
const LAG_PERIOD: Duration = Duration::from_secs(1);

/// Why nothing was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignerFault {
    /// It may work later: the database, a wrap key or the custody backend is out of reach.
    #[error("signing is unavailable: {0}")]
    Unavailable(String),
    /// The Domain has no key yet.
    #[error("the domain has no signing key")]
    NoKey,
    /// The key that would have to sign is destroyed; it never works again.
    #[error("the signing key is destroyed")]
    Destroyed,
    /// The key is one of the Domain's, but not the announced one, or not any more: whoever asked read it too early.
    #[error("the signing key is not announced")]
    NotAnnounced,
    /// The envelope was issued too long ago or in the future: whoever asked was held up, or has a wrong clock.
    #[error("the envelope was issued at another time")]
    Untimely,
    /// What was asked is not allowed: other bytes than a canonical envelope, another Domain, another key.
    #[error("the signer refuses: {0}")]
    Refused(&'static str),
}

/// Signs envelopes of a Domain. Implemented by the signing context.
#[async_trait]
pub trait EnvelopeSigner: Send + Sync + 'static {
    /// The kid under which the relay signs now: the announced one, which trails the current one until
    /// `signing_key_rotated` is on the stream.
    ///
    /// # Errors
    /// [`SignerFault`].
    async fn announced_kid(&self, domain: DomainId) -> Result<String, SignerFault>;

    /// Signs canonical envelope bytes under `kid`.
    ///
    /// # Errors
    /// [`SignerFault`]; `Refused` when the bytes are no canonical envelope of this Domain and kid, `NotAnnounced` and
    /// `Untimely` when they were or will be.
    async fn sign(&self, domain: DomainId, kid: &str, canonical: &[u8]) -> Result<[u8; 64], SignerFault>;

    /// Moves the announced key to `kid`: its `signing_key_rotated` is on the stream at `sequence`. Called in the
    /// transaction that marks the row as published.
    ///
    /// # Errors
    /// [`SignerFault`]; the transaction is rolled back and the row repeated under the same id and the old key.
    async fn announced_moved(&self, tx: &mut Tx, domain: DomainId, kid: &str, sequence: u64)
    -> Result<(), SignerFault>;
}

/// What the relay stands on.
#[derive(Clone)]
pub struct RelayParts {
    /// Where the outbox is.
    pub db: Database,
    /// The message bus.
    pub bus: async_nats::Client,
    /// Who signs.
    pub signer: Arc<dyn EnvelopeSigner>,
    /// Where parked rows are recorded.
    pub audit: Arc<dyn AuditLog>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Copies of each stream: 1, 3 or 5.
    pub replicas: usize,
}

/// The only publisher of events.
pub struct Relay {
    parts: RelayParts,
    jetstream: jetstream::Context,
    metrics: RelayMetrics,
    began: Instant,
    state: Mutex<State>,
}

/// What the relay remembers between passes. Losing it loses no event.
#[derive(Default)]
struct State {
    shards: Shards,
    waits: Waits,
    /// When a type was last broadcast in a Domain.
    broadcasts: HashMap<(DomainId, EventType), Duration>,
    bus_seen: bool,
    streams_seen: bool,
    lag_measured: Option<Duration>,
    lagging: bool,
}

impl Relay {
    /// A relay; run it by [`Self::schedule`].
    #[must_use]
    pub fn new(parts: RelayParts, registry: &mut Registry) -> Self {
        Self {
            jetstream: streams::context(parts.bus.clone()),
            parts,
            metrics: RelayMetrics::register(registry),
            began: Instant::now(),
            state: Mutex::default(),
        }
    }

    /// On each notification of the outbox and every 500 ms, on every replica: the shards share the work out.
    #[must_use]
    pub const fn schedule() -> Schedule {
        Schedule::every(Duration::from_millis(500))
            .per_replica()
            .and_on(OUTBOX_CHANNEL)
            .within(Duration::from_secs(300))
    }

    /// One pass over the rows that are due.
    async fn pass(&self, state: &mut State) -> Result<Progress, Fault> {
        let now = self.began.elapsed();
        let batch = state.shards.read(&self.parts.db, now, &state.waits.blocked(now), PASS_ROWS).await?;
        let full = batch.read == PASS_ROWS;
        // Rows that are held back come last, so that all others were read; to look again at once would only spin.
        let mut again_in = if batch.held_back { Some(HELD_BACK) } else { full.then_some(Duration::ZERO) };
        let work = self.sealed(batch.domains, state, now).await?;
        let ends: Vec<DomainEnd> = futures_util::stream::iter(work)
            .map(|work| self.publish(work))
            .buffer_unordered(DOMAINS_AT_ONCE)
            .collect()
            .await;
        let done = self.settle(ends, state);
        let now = self.began.elapsed();
        if let Some(wait) = state.waits.next(now) {
            again_in = Some(again_in.map_or(wait, |other| other.min(wait)));
        }
        Ok(Progress { done, again_in, health: Health::Good })
    }

    /// Plans the Domains' rows and stores the seals of what is new, in one step.
    async fn sealed(
        &self,
        domains: Vec<(Uuid, Vec<plan::Row>)>,
        state: &mut State,
        now: Duration,
    ) -> Result<Vec<DomainWork>, Fault> {
        state.broadcasts.retain(|_, at| now.saturating_sub(*at) < MERGE_WINDOW);
        let mut work = Vec::with_capacity(domains.len());
        for (key, rows) in domains {
            let domain = DomainId::from_uuid(key);
            let rest =
                |event| state.broadcasts.get(&(domain, event)).map(|at| (*at + MERGE_WINDOW).saturating_sub(now));
            let Plan { steps, held_for } = plan(rows, rest);
            if let Some(held_for) = held_for {
                state.waits.hold(key, now + held_for);
            }
            if !steps.is_empty() {
                work.push(DomainWork { key, steps });
            }
        }
        store::seal(&self.parts.db, &mut work, self.parts.clock.now()).await?;
        Ok(work)
    }

    /// Takes note of how the Domains fared.
    fn settle(&self, ends: Vec<DomainEnd>, state: &mut State) -> u64 {
        let now = self.began.elapsed();
        let mut done = 0;
        for end in ends {
            done += end.published;
            for event in end.broadcasts {
                state.broadcasts.insert((DomainId::from_uuid(end.key), event), now);
            }
            match end.failed {
                Some(cause) => {
                    // The stream may be gone.
                    state.streams_seen = false;
                    let pause = state.waits.failed(end.key, now);
                    self.metrics.retries.inc();
                    tracing::info!(domain = %end.key, cause, ?pause, "publishing failed and is tried again");
                }
                None => state.waits.succeeded(end.key),
            }
        }
        done
    }

    /// Measures the age of the oldest row that should be published.
    async fn measure(&self, state: &mut State) -> Result<(), Fault> {
        let now = self.began.elapsed();
        if state.lag_measured.is_some_and(|at| now.saturating_sub(at) < LAG_PERIOD) {
            return Ok(());
        }
        let oldest = store::oldest(&self.parts.db).await?;
        let lag = oldest.map_or(Duration::ZERO, |at| self.parts.clock.now().since(at));
        self.metrics.lag.set(lag.as_secs_f64());
        state.lagging = lag > LAG_LIMIT;
        state.lag_measured = Some(now);
        Ok(())
    }

    /// Makes sure of the streams once per connection to the bus; `false` while the bus is out of reach.
    async fn bus_ready(&self, state: &mut State) -> bool {
        if self.parts.bus.connection_state() != BusState::Connected {
            state.bus_seen = false;
            return false;
        }
        if !state.bus_seen {
            // What failed for want of a bus is due at once.
            state.waits = Waits::default();
            state.streams_seen = false;
            state.bus_seen = true;
        }
        if !state.streams_seen {
            if let Err(cause) = streams::ensure(&self.jetstream, self.parts.replicas).await {
                tracing::info!(%cause, "the event streams cannot be made sure of");
                return false;
            }
            state.streams_seen = true;
        }
        true
    }
}

#[async_trait]
impl Task for Relay {
    fn kind(&self) -> TaskKind {
        TaskKind::OutboxRelay
    }

    async fn run(&self) -> Result<Progress, Fault> {
        let mut state = self.state.lock().await;
        self.measure(&mut state).await?;
        if !self.bus_ready(&mut state).await {
            // Not a failure of readiness: pulls, heartbeats and writes go on without the bus.
            return Ok(Progress { health: Health::Degraded("message bus unreachable"), ..Progress::default() });
        }
        let mut progress = self.pass(&mut state).await?;
        if state.lagging {
            progress.health = Health::Bad("events wait for more than a minute");
        }
        Ok(progress)
    }
}
