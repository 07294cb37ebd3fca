//! Who may open a transaction for a registration.
//!
//! A fleet that enrols at once is one queue per Domain anyway, for addresses are handed out one by one. It stands here,
//! without a connection in hand, so that a burst neither empties the pool nor pins old transactions.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use plexsphere_wire::DomainId;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// How long a registration waits for its turn.
const PATIENCE: Duration = Duration::from_secs(2);
/// The part of the pool that registrations may hold at once.
const SHARE_OF_POOL: u32 = 4;
/// Domains with a queue at the same time.
const MAX_QUEUES: usize = 10_000;

type Turn = Arc<tokio::sync::Mutex<()>>;

/// The queues.
pub(super) struct Admission {
    places: Arc<Semaphore>,
    queues: Mutex<HashMap<DomainId, Turn>>,
}

/// The right to a transaction, until it is dropped.
pub(super) struct Admitted {
    _turn: OwnedMutexGuard<()>,
    _place: OwnedSemaphorePermit,
}

impl Admission {
    /// Room for a quarter of a pool of `connections`, at least one.
    pub(super) fn new(connections: u32) -> Self {
        let places = usize::try_from(connections / SHARE_OF_POOL).unwrap_or(1).max(1);
        Self { places: Arc::new(Semaphore::new(places)), queues: Mutex::default() }
    }

    /// Waits for the Domain's turn and then for a place, 2 s in all; `None` when that was not enough. In this order, so
    /// that a busy Domain holds one place.
    pub(super) async fn enter(&self, domain: DomainId) -> Option<Admitted> {
        let queue = self.queue(domain)?;
        let both = async {
            let turn = queue.lock_owned().await;
            let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
            Some(Admitted { _turn: turn, _place: place })
        };
        tokio::time::timeout(PATIENCE, both).await.ok().flatten()
    }

    /// The Domain's queue; `None` when too many Domains have one.
    fn queue(&self, domain: DomainId) -> Option<Turn> {
        let mut queues = self.queues.lock();
        if queues.len() >= MAX_QUEUES && !queues.contains_key(&domain) {
            // Whoever holds or awaits a turn holds its queue.
            queues.retain(|_, queue| Arc::strong_count(queue) > 1);
            if queues.len() >= MAX_QUEUES {
                return None;
            }
        }
        Some(Arc::clone(queues.entry(domain).or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plexsphere_wire::Timestamp;

    #[tokio::test(start_paused = true)]
    async fn a_domain_has_one_turn_and_all_domains_a_quarter_of_the_pool() {
        let admission = Admission::new(8);
        let [a, b, c] = [(); 3].map(|()| DomainId::mint(Timestamp::from_unix_seconds(1_790_000_000)));
        let first = admission.enter(a).await.unwrap();
        assert!(admission.enter(a).await.is_none(), "the turn is taken");
        let second = admission.enter(b).await.unwrap();
        assert!(admission.enter(c).await.is_none(), "both places are taken");
        drop(second);
        admission.enter(c).await.unwrap();
        drop(first);
        admission.enter(a).await.unwrap();
    }

    #[test]
    fn queues_without_anyone_make_room_for_others() {
        let admission = Admission::new(1);
        let mint = || DomainId::mint(Timestamp::from_unix_seconds(1_790_000_000));
        let held: Vec<_> = (0..MAX_QUEUES - 1).filter_map(|_| admission.queue(mint())).collect();
        assert!(admission.queue(mint()).is_some() && admission.queue(mint()).is_some());
        let last = admission.queue(mint());
        assert!(last.is_some() && admission.queue(mint()).is_none());
        assert_eq!(held.len(), MAX_QUEUES - 1);
    }
}
