//! The rendered peer lists of the Domains that are being pulled, newest version only.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use parking_lot::RwLock;
use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::DomainId;
use tokio::sync::Mutex;

use crate::model::endpoints::FallbackFill;
use crate::model::peer_list::PeerList;
use crate::store::listing;
use crate::store::peers::Head;

/// Domains whose list is kept.
const MAX_DOMAINS: u64 = 10_000;
/// How long a list outlives its last pull: longer than stale reads are served.
const IDLE: Duration = Duration::from_secs(15 * 60);

/// One Domain's list.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    newest: RwLock<Option<Arc<PeerList>>>,
    /// Held by whoever reads the list from the database: ten thousand pulls behind one change read it once.
    pub(crate) loading: Mutex<()>,
}

impl Slot {
    /// The newest list, unless it is older than this version.
    pub(crate) fn since(&self, mesh_version: i64) -> Option<Arc<PeerList>> {
        self.newest().filter(|list| list.mesh_version() >= mesh_version)
    }

    /// The newest list there is.
    pub(crate) fn newest(&self) -> Option<Arc<PeerList>> {
        self.newest.read().clone()
    }

    /// Reads the list of the head's version in the transaction that read the head: what changed since the newest one, or
    /// everything where there is none. Keeps it.
    pub(crate) async fn read(&self, tx: &mut Tx, head: &Head, fill: FallbackFill) -> Result<Arc<PeerList>, Fault> {
        let rendered = match self.newest() {
            Some(list) if list.mesh_version() >= head.mesh_version => return Ok(list),
            Some(list) => {
                let changes = listing::changed(tx, head.domain, list.mesh_version(), fill).await?;
                list.next(head.mesh_version, changes)
            }
            None => PeerList::render(head.mesh_version, listing::list(tx, head.domain, fill).await?),
        };
        let list = Arc::new(rendered.map_err(|error| {
            tracing::error!(%error, "a peer has no json form");
            Fault::Invariant("a peer has a json form")
        })?);
        self.keep(&list);
        Ok(list)
    }

    /// Keeps a list unless a newer one is there.
    fn keep(&self, list: &Arc<PeerList>) {
        let mut newest = self.newest.write();
        if newest.as_ref().is_none_or(|kept| kept.mesh_version() < list.mesh_version()) {
            *newest = Some(Arc::clone(list));
        }
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
