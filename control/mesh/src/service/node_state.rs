//! The pull: all desired state of one Node.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use parking_lot::Mutex;
use plexsphere_kernel::{Clock, Database, Fault};
use plexsphere_wire::{Code, DomainId, NodeId, Problem, Timestamp};

use super::heads::Heads;
use super::peer_lists::PeerLists;
use super::served::ServedVersions;
use crate::blocks::{BlockTexts, Blocks};
use crate::model::endpoints::FallbackFill;
use crate::model::entries::EntriesText;
use crate::model::peer_list::PeerList;
use crate::model::reachability::Reachability;
use crate::store::entries;
use crate::store::peers::{self, Head};

/// Above it an answer is not compressed: agents cut inflated bodies at 10 MiB.
const GZIP_CEILING_BYTES: usize = 9 * 1024 * 1024;
/// What the last good answers may weigh; one without entries weighs [`REMEMBERED_BYTES`].
const MAX_REMEMBERED_BYTES: u64 = 200_000 * 1_024;
const REMEMBERED_BYTES: u32 = 1_024;
/// A longer part behind the peers is compressed where that may take tens of milliseconds.
const MAX_INLINE_BYTES: usize = 64 * 1_024;
/// Chunks that are compressed where the answer is made; more are on a thread of their own.
const CHUNKS_AT_ONCE: usize = 2;
/// How long after a failed attempt the next one is made.
const OUTAGE_PAUSE: Duration = Duration::from_secs(1);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadRefusal {
    /// The Node has no live Peer.
    #[error("the node is not live")]
    NotFound,
    /// Something broke.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<ReadRefusal> for Problem {
    fn from(refusal: ReadRefusal) -> Self {
        match refusal {
            ReadRefusal::NotFound => Problem::new(Code::NodeNotFound, "There is no such Node."),
            ReadRefusal::Fault(fault) => fault.into(),
        }
    }
}

/// Who pulls a Node's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Puller {
    /// The Node itself, which then has what it was served.
    Node,
    /// Somebody who looks at it. The Node has nothing of that, so it counts for no reconciliation.
    Operator,
}

/// An answer in one coding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pull {
    /// The bytes.
    pub body: Vec<u8>,
    /// Whether they are one gzip member.
    pub gzip: bool,
}

/// The last good answer's own part; the list comes from the Domain's slot.
#[derive(Clone)]
struct Remembered {
    at: Timestamp,
    domain: DomainId,
    reachability: Reachability,
    texts: BlockTexts,
    entries: EntriesText,
}

/// What an answer is made of.
struct Parts {
    list: Arc<PeerList>,
    reachability: Reachability,
    texts: BlockTexts,
    entries: EntriesText,
}

/// What a pull reads.
struct Snapshot {
    head: Head,
    list: Arc<PeerList>,
    texts: BlockTexts,
    entries: EntriesText,
}

/// Reads Nodes' states.
pub struct NodeStates {
    pub(crate) db: Database,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) blocks: Blocks,
    pub(crate) heads: Arc<Heads>,
    pub(crate) lists: PeerLists,
    pub(crate) served: Arc<ServedVersions>,
    pub(crate) stale_read_ttl: Duration,
    pub(crate) fill: FallbackFill,
    remembered: Cache<NodeId, Remembered>,
    /// Until when the database is not asked by pulls that memory can answer.
    outage: Mutex<Option<Timestamp>>,
}

impl NodeStates {
    pub(crate) fn new(
        db: Database,
        clock: Arc<dyn Clock>,
        (blocks, heads): (Blocks, Arc<Heads>),
        served: Arc<ServedVersions>,
        (stale_read_ttl, fill): (Duration, FallbackFill),
    ) -> Self {
        let remembered = Cache::builder()
            .max_capacity(MAX_REMEMBERED_BYTES)
            .weigher(|_, answer: &Remembered| answer.weight())
            .time_to_live(stale_read_ttl)
            .build();
        Self {
            db,
            clock,
            blocks,
            heads,
            lists: PeerLists::new(),
            served,
            stale_read_ttl,
            fill,
            remembered,
            outage: Mutex::new(None),
        }
    }

    /// A Node's reachability now.
    ///
    /// # Errors
    /// [`ReadRefusal`].
    pub async fn reachability(&self, node: NodeId) -> Result<Reachability, ReadRefusal> {
        let head = peers::head(self.db.pool(), node).await?.ok_or(ReadRefusal::NotFound)?;
        Ok(head.reachability.at(self.clock.now(), &head.policy))
    }

    /// A Node's whole state. While the database cannot be reached, the last good one of this replica answers until it
    /// is too old, with `sessions: null` and `executions: []`.
    ///
    /// # Errors
    /// [`ReadRefusal`].
    pub async fn pull(&self, node: NodeId, by: Puller, gzip: bool) -> Result<Pull, ReadRefusal> {
        let in_outage = self.outage.lock().is_some_and(|until| self.clock.now() < until);
        let from_memory = if in_outage { self.remembered(node) } else { None };
        let parts = match from_memory {
            Some(parts) => parts,
            None => match self.read(node, by).await {
                Ok(parts) => parts,
                Err(ReadRefusal::Fault(fault)) if fault.is_unreachable() => {
                    self.note_outage(&fault);
                    self.remembered(node).ok_or(ReadRefusal::Fault(fault))?
                }
                Err(refusal) => return Err(refusal),
            },
        };
        Ok(compose(node, parts, gzip).await?)
    }

    /// Spares the pulls of the next second the wait for a connection, where memory can answer them.
    fn note_outage(&self, fault: &Fault) {
        let now = self.clock.now();
        let before = self.outage.lock().replace(now.plus(OUTAGE_PAUSE));
        if before.is_none_or(|until| now >= until) {
            tracing::warn!(cause = ?fault, "pulls are answered from memory");
        }
    }

    async fn read(&self, node: NodeId, by: Puller) -> Result<Parts, ReadRefusal> {
        let Snapshot { head, list, texts, entries } = self.snapshot(node).await?;
        let now = self.clock.now();
        let reachability = head.reachability.at(now, &head.policy);
        let (domain, texts_kept, entries_kept) = (head.domain, texts.clone(), entries.clone());
        let remembered = Remembered { at: now, domain, reachability, texts: texts_kept, entries: entries_kept };
        self.remembered.insert(node, remembered);
        if by == Puller::Node {
            // The list may be older or newer than the head that was read beside it.
            self.served.note(node, list.mesh_version(), head.node_version);
        }
        Ok(Parts { list, reachability, texts, entries })
    }

    /// What a pull is made of: nothing but memory where head, list and the Node's entries are at hand and nobody else is to
    /// be asked, else one REPEATABLE READ transaction. Any list will do that is at least as new as the head read on
    /// arrival. Who finds none waits for whoever is reading one, without a connection in hand, and then takes that or reads
    /// the next: two readings at most stand before an answer, however fast the mesh version moves.
    async fn snapshot(&self, node: NodeId) -> Result<Snapshot, ReadRefusal> {
        let arrival = self.heads.of(node, self.clock.now()).await?.ok_or(ReadRefusal::NotFound)?;
        let slot = self.lists.slot(arrival.domain);
        let now = self.clock.now();
        let mut ready = slot.since(arrival.mesh_version, now);
        let mut loading = None;
        if ready.is_none() {
            let turn = slot.loading.lock().await;
            ready = slot.since(arrival.mesh_version, now);
            // The turn is kept by who has to read.
            loading = ready.is_none().then_some(turn);
        }
        if let (Some(list), Some(entries), true) = (&ready, self.entries_at(node, &arrival), self.blocks.is_empty()) {
            return Ok(Snapshot { head: arrival, list: Arc::clone(list), texts: BlockTexts::default(), entries });
        }
        let mut tx = self.db.snapshot().await?;
        let head = peers::head(&mut *tx, node).await?.ok_or(ReadRefusal::NotFound)?;
        let list = match ready {
            Some(list) => list,
            None => slot.read(&mut tx, &head, (self.fill, now)).await?,
        };
        drop(loading);
        let entries = match self.entries_at(node, &head) {
            Some(entries) => entries,
            None => entries::read(&mut tx, node, head.entries_version).await?,
        };
        let texts = self.blocks.read(&mut tx, node).await?;
        Ok(Snapshot { head, list, texts, entries })
    }

    /// The Node's entries at the version that `head` names, where none are there or memory has them.
    fn entries_at(&self, node: NodeId, head: &Head) -> Option<EntriesText> {
        let is_current = |entries: &EntriesText| entries.version() == head.entries_version;
        Some(EntriesText::default())
            .filter(is_current)
            .or_else(|| self.remembered.get(&node).map(|answer| answer.entries).filter(is_current))
    }

    fn remembered(&self, node: NodeId) -> Option<Parts> {
        let remembered = self.remembered.get(&node)?;
        if self.clock.now().since(remembered.at) >= self.stale_read_ttl {
            return None;
        }
        let list = self.lists.slot(remembered.domain).newest()?;
        let Remembered { reachability, texts, entries, .. } = remembered;
        Some(Parts { list, reachability, texts: texts.stale(), entries })
    }
}

impl Remembered {
    /// Bytes, about.
    fn weight(&self) -> u32 {
        u32::try_from(self.entries.len()).unwrap_or(u32::MAX).saturating_add(REMEMBERED_BYTES)
    }
}

async fn compose(node: NodeId, parts: Parts, gzip: bool) -> Result<Pull, Fault> {
    let Parts { list, reachability, texts, entries } = parts;
    let head = br#"{"peers":["#;
    let tail = tail(&reachability, &texts, entries.as_str())?;
    let gzip = gzip && head.len() + list.len() + tail.len() <= GZIP_CEILING_BYTES;
    let body = if !gzip {
        list.compose(node, head, tail.as_bytes())
    } else if list.uncompressed() <= CHUNKS_AT_ONCE && tail.len() <= MAX_INLINE_BYTES {
        list.compose_gzip(node, head, tail.as_bytes())
    } else {
        tokio::task::spawn_blocking(move || list.compose_gzip(node, head, tail.as_bytes()))
            .await
            .map_err(|_| Fault::Invariant("compression does not panic"))?
    };
    Ok(Pull { body, gzip })
}

/// Everything behind the peers.
fn tail(reachability: &Reachability, texts: &BlockTexts, entries: &str) -> Result<String, Fault> {
    let reachability = serde_json::to_string(&crate::http::ReachabilityView::from(*reachability))
        .map_err(|_| Fault::Invariant("a reachability has a json form"))?;
    Ok(format!(
        r#"],"reachability":{reachability},"policy":{},"bridge":{},"state":{entries},"reports":{entries},"executions":{},"sessions":{}}}"#,
        texts.policy(),
        texts.bridge(),
        texts.executions(),
        texts.sessions(),
    ))
}
