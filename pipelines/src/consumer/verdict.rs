//! What a fetch, as a whole, says about its sink: the breaker must tell a dead sink from one throttled tenant. Pure.

use std::collections::BTreeMap;

use plexsphere_wire::DomainId;

use super::delivery::ChunkReport;
use crate::breaker::Event;

/// What the requests of one Domain came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// The sink answered about the data, whatever it said.
    pub(super) answered: u32,
    /// No answer, or a failure of the sink.
    pub(super) retryable: u32,
    /// The tenant was told to slow down.
    pub(super) throttled: u32,
    /// The platform is at fault.
    pub(super) misconfigured: u32,
}

/// The fetches whose deliveries have not all ended.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    started: u64,
    open: BTreeMap<u64, Fetch>,
}

#[derive(Debug, Default)]
struct Fetch {
    chunks: usize,
    domains: BTreeMap<DomainId, Tally>,
}

// === impl Verdicts ===

impl Verdicts {
    /// Begins a fetch of so many chunks and returns its number.
    pub(super) fn fetch_started(&mut self, chunks: usize) -> u64 {
        self.started += 1;
        if chunks > 0 {
            self.open.insert(self.started, Fetch { chunks, domains: BTreeMap::new() });
        }
        self.started
    }

    /// Takes a chunk's report; the event of the fetch when it was the last one.
    pub(super) fn chunk_ended(&mut self, report: ChunkReport) -> Option<Event> {
        let fetch = self.open.get_mut(&report.fetch)?;
        if let Some(domain) = report.domain {
            fetch.domains.entry(domain).or_default().add(report.tally);
        }
        fetch.chunks = fetch.chunks.saturating_sub(1);
        if fetch.chunks > 0 {
            return None;
        }
        self.open.remove(&report.fetch).and_then(|fetch| fetch.event())
    }
}

impl Fetch {
    fn event(&self) -> Option<Event> {
        let tried: Vec<&Tally> = self.domains.values().filter(|tally| **tally != Tally::default()).collect();
        let lone_tenant_throttled = match tried.as_slice() {
            [] => return None,
            [only] => only.retryable == 0 && only.misconfigured == 0,
            _ => false,
        };
        if lone_tenant_throttled || tried.iter().any(|tally| tally.answered > 0) {
            return Some(Event::Answered);
        }
        if tried.iter().all(|tally| tally.misconfigured > 0) {
            return Some(Event::Misconfigured);
        }
        Some(Event::Failed { outcomes: tried.iter().map(|tally| tally.retryable + tally.throttled).sum() })
    }
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.retryable += other.retryable;
        self.throttled += other.throttled;
        self.misconfigured += other.misconfigured;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::tests::origin;

    fn event(tallies: &[(u8, Tally)]) -> Option<Event> {
        let mut verdicts = Verdicts::default();
        let fetch = verdicts.fetch_started(tallies.len());
        let mut last = None;
        for (domain, tally) in tallies {
            assert_eq!(last, None);
            last = verdicts.chunk_ended(ChunkReport { fetch, domain: Some(origin(*domain).domain), tally: *tally });
        }
        last
    }

    const ANSWERED: Tally = Tally { answered: 1, retryable: 0, throttled: 0, misconfigured: 0 };
    const FAILED: Tally = Tally { answered: 0, retryable: 1, throttled: 0, misconfigured: 0 };
    const THROTTLED: Tally = Tally { answered: 0, retryable: 0, throttled: 1, misconfigured: 0 };
    const REFUSED: Tally = Tally { answered: 0, retryable: 0, throttled: 0, misconfigured: 1 };

    #[test]
    fn a_failure_of_one_domain_among_several_does_not_count_against_the_sink() {
        assert_eq!(event(&[(1, ANSWERED), (2, FAILED)]), Some(Event::Answered));
        assert_eq!(event(&[(1, THROTTLED), (2, ANSWERED)]), Some(Event::Answered));
        assert_eq!(event(&[(1, THROTTLED)]), Some(Event::Answered));
        assert_eq!(event(&[(1, REFUSED), (2, ANSWERED)]), Some(Event::Answered));
    }

    #[test]
    fn a_failure_of_every_domain_counts_once_per_outcome() {
        assert_eq!(event(&[(1, FAILED), (1, FAILED), (2, FAILED)]), Some(Event::Failed { outcomes: 3 }));
        assert_eq!(event(&[(1, THROTTLED), (2, THROTTLED)]), Some(Event::Failed { outcomes: 2 }));
        assert_eq!(event(&[(1, REFUSED)]), Some(Event::Misconfigured));
        assert_eq!(event(&[(1, REFUSED), (2, FAILED)]), Some(Event::Failed { outcomes: 1 }));
        assert_eq!(event(&[(1, Tally::default())]), None);
    }
}
