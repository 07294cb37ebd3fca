//! What event streams carried, per Node and across the Nodes of a Domain.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plexsphere_wire::DomainId;
use plexsphere_wire::envelope::EventType;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::result::EventCounts;
use super::tally::Tally;
use crate::api::NodeApi;
use crate::events::{Order, StreamEvent};

/// What one Node saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    counts: EventCounts,
    domain: Option<DomainId>,
    /// Sequences of Domain-wide events.
    wide: BTreeSet<u64>,
    first: Option<u64>,
}

/// Listens until the stream's task is gone, and returns what was seen. `connected` hears of the first open stream, `pull`
/// of every reason to pull.
pub(super) async fn listen(
    mut events: mpsc::Receiver<StreamEvent>,
    connected: mpsc::Sender<()>,
    pull: Arc<Notify>,
) -> Seen {
    let mut seen = Seen::default();
    while let Some(event) = events.recv().await {
        if matches!(event, StreamEvent::Connected { .. }) && seen.counts.connects == 0 {
            let _ = connected.send(()).await;
        }
        if matches!(event, StreamEvent::Connected { .. } | StreamEvent::Event { .. }) {
            pull.notify_one();
        }
        seen.take(&event);
    }
    seen
}

/// Pulls whenever there is a reason; reasons that come during a pull are one.
pub(super) async fn pull(api: NodeApi, tally: Arc<Tally>, wanted: Arc<Notify>) {
    loop {
        wanted.notified().await;
        let started = Instant::now();
        match api.state().await {
            Ok(_) => tally.pull(started.elapsed()),
            Err(error) => tally.failed(&format!("pull: {}", error.word()), false),
        }
    }
}

impl Seen {
    fn take(&mut self, event: &StreamEvent) {
        match event {
            StreamEvent::Connected { resumed_from } => {
                self.counts.connects += 1;
                self.counts.resumed += u64::from(resumed_from.is_some());
            }
            StreamEvent::Event { sequence, envelope, order } => {
                let unsigned = &envelope.unsigned;
                self.domain = Some(unsigned.domain);
                self.counts.believed += 1;
                *self.counts.by_type.entry(unsigned.event.as_str().to_owned()).or_default() += 1;
                self.counts.repeated += u64::from(*order == Order::Repeated);
                self.counts.backwards += u64::from(matches!(order, Order::Backwards | Order::Missing));
                if let Some(sequence) = sequence.filter(|_| unsigned.event != EventType::SigningKeyRotated) {
                    self.first.get_or_insert(sequence);
                    if unsigned.event.carries_peers() {
                        self.wide.insert(sequence);
                    }
                }
            }
            StreamEvent::Distrusted { .. } => self.counts.distrusted += 1,
            StreamEvent::Comment
            | StreamEvent::CursorRefused
            | StreamEvent::Interrupted { .. }
            | StreamEvent::Ended { .. } => {}
        }
    }
}

/// Adds up what all Nodes saw. A Domain-wide event behind a Node's first one, seen by another Node of its Domain and not
/// by this one, was missed.
pub(super) fn sum(all: Vec<Seen>, joins: u64) -> EventCounts {
    let mut wide: BTreeMap<DomainId, BTreeSet<u64>> = BTreeMap::new();
    for seen in &all {
        if let Some(domain) = seen.domain {
            wide.entry(domain).or_default().extend(&seen.wide);
        }
    }
    let mut total = EventCounts { joins, ..EventCounts::default() };
    for seen in all {
        total.connects += seen.counts.connects;
        total.resumed += seen.counts.resumed;
        total.believed += seen.counts.believed;
        total.distrusted += seen.counts.distrusted;
        total.repeated += seen.counts.repeated;
        total.backwards += seen.counts.backwards;
        for (word, count) in seen.counts.by_type {
            *total.by_type.entry(word).or_default() += count;
        }
        let expected = seen.domain.and_then(|domain| wide.get(&domain)).zip(seen.first);
        if let Some((expected, first)) = expected {
            let missed = expected.range(first..).filter(|sequence| !seen.wide.contains(sequence)).count();
            total.missed += u64::try_from(missed).unwrap_or(u64::MAX);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_only_the_neighbour_saw_was_missed_unless_it_came_before_the_first() {
        let domain = DomainId::from_bytes([1; 16]);
        let seen = |sequences: &[u64]| Seen {
            domain,
            wide: sequences.iter().copied().collect(),
            first: sequences.first().copied(),
            ..Seen::default()
        };
        assert_eq!(sum(vec![seen(&[1, 2, 3]), seen(&[2, 3])], 0).missed, 0);
        assert_eq!(sum(vec![seen(&[1, 2, 3]), seen(&[1, 3])], 0).missed, 1);
        assert_eq!(sum(vec![seen(&[1, 2, 3, 4]), seen(&[2])], 0).missed, 2);
        let foreign = Seen { domain: DomainId::from_bytes([2; 16]), ..seen(&[1]) };
        assert_eq!(sum(vec![seen(&[1, 2]), foreign], 0).missed, 0);
    }
}
