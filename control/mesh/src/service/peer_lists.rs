//! The rendered peer lists of the Domains that are being pulled, newest version only.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use parking_lot::RwLock;
use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::{DomainId, Timestamp};
use tokio::sync::Mutex;

use crate::model::endpoints::FallbackFill;
use crate::model::peer_list::PeerList;
use crate::store::listing;
use crate::store::peers::Head;

/// Domains whose list is kept.
const MAX_DOMAINS: u64 = 10_000;
/// How long a list outlives its last pull: longer than stale reads are served.
const IDLE: Duration = Duration::from_secs(15 * 60);

/// How long a list is brought up to date by what changed, before it is read whole again: a database that was put back to
/// an earlier state, and counts the same versions anew, is misread for no longer.
const WHOLE_EVERY: Duration = Duration::from_secs(10 * 60);

/// One Domain's list.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    newest: RwLock<Option<Kept>>,
    /// Held by whoever reads the list from the database: ten thousand pulls behind one change read it once.
    pub(crate) loading: Mutex<()>,
}

#[derive(Clone, Debug)]
struct Kept {
    list: Arc<PeerList>,
    /// When it was last read whole.
    whole_at: Timestamp,
}

impl Slot {
    /// The newest list, unless it is older than this version or has to be read whole.
    pub(crate) fn since(&self, mesh_version: i64, now: Timestamp) -> Option<Arc<PeerList>> {
        let kept = self.newest.read().clone()?;
        (kept.list.mesh_version() >= mesh_version && !kept.is_old(now)).then_some(kept.list)
    }

    /// The newest list there is.
    pub(crate) fn newest(&self) -> Option<Arc<PeerList>> {
        self.newest.read().as_ref().map(|kept| Arc::clone(&kept.list))
    }

    /// Reads the list of the head's version in the transaction that read the head: what changed since the last one, or
    /// everything where there is none that will do. The caller has the turn to load.
    pub(crate) async fn read(
        &self,
        tx: &mut Tx,
        head: &Head,
        (fill, now): (FallbackFill, Timestamp),
    ) -> Result<Arc<PeerList>, Fault> {
        let last = self.newest.read().clone();
        let (rendered, whole_at) = match last {
            Some(last) if last.list.mesh_version() <= head.mesh_version && !last.is_old(now) => {
                let changes = listing::changed(tx, head.domain, last.list.mesh_version(), fill).await?;
                (last.list.next(head.mesh_version, changes), last.whole_at)
            }
            last => {
                let views = listing::list(tx, head.domain, fill).await?;
                let rendered = PeerList::render(head.mesh_version, views).map(|list| match &last {
                    Some(last) => list.sharing(&last.list),
                    None => list,
                });
                (rendered, now)
            }
        };
        let list = Arc::new(rendered.map_err(|error| {
            tracing::error!(%error, "a peer has no json form");
            Fault::Invariant("a peer has a json form")
        })?);
        *self.newest.write() = Some(Kept { list: Arc::clone(&list), whole_at });
        Ok(list)
    }
}

impl Kept {
    fn is_old(&self, now: Timestamp) -> bool {
        now.since(self.whole_at) >= WHOLE_EVERY
    }
}

/// The lists of all Domains.
#[derive(Debug)]
pub(crate) struct PeerLists {
    slots: Cache<DomainId, Arc<Slot>>,
}

impl PeerLists {
    pub(crate) fn new() -> Self {
        Self { slots: Cache::builder().max_capacity(MAX_DOMAINS).time_to_idle(IDLE).build() }
    }

    /// The Domain's slot.
    pub(crate) fn slot(&self, domain: DomainId) -> Arc<Slot> {
        self.slots.get_with(domain, Arc::default)
    }
}
