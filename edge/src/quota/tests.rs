use plexsphere_wire::{ProjectId, Timestamp};
use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn origin() -> Origin {
    let now = Timestamp::from_unix_seconds(1_700_000_000);
    Origin { domain: DomainId::mint(now), project: ProjectId::mint(now), node: NodeId::mint(now) }
}

fn quotas(node: (u64, u64), domain: (u64, u64)) -> Quotas {
    Quotas::new(&QuotaConfig {
        node_bytes_per_second: node.0,
        node_burst_bytes: node.1,
        domain_bytes_per_second: domain.0,
        domain_burst_bytes: domain.1,
        replicas: 1,
        idle_seconds: 600,
    })
}

#[test]
fn a_refused_charge_says_when_it_would_pass_and_then_passes() {
    let quotas = quotas((10, 100), (1_000_000, 1_000_000));
    let origin = origin();
    quotas.charge(&origin, 100, SECOND).unwrap();
    assert_eq!(quotas.charge(&origin, 25, SECOND), Err(Exhausted::Node { retry_after: 3 }));
    assert_eq!(quotas.charge(&origin, 25, SECOND + SECOND * 3), Ok(()));
}

#[test]
fn a_refusal_by_the_domain_gives_the_node_its_charge_back() {
    let quotas = quotas((10, 100), (10, 150));
    let (first, mut second) = (origin(), origin());
    second.domain = first.domain;
    quotas.charge(&first, 100, SECOND).unwrap();
    assert!(matches!(quotas.charge(&second, 100, SECOND), Err(Exhausted::Domain { .. })));
    second.domain = origin().domain;
    assert_eq!(quotas.charge(&second, 100, SECOND), Ok(()), "the node's budget was still full");
}

#[test]
fn one_domain_does_not_touch_another_and_usage_is_counted_per_domain() {
    let quotas = quotas((100, 1_000), (10, 100));
    let (first, second) = (origin(), origin());
    quotas.charge(&first, 100, SECOND).unwrap();
    assert!(quotas.charge(&first, 1, SECOND).is_err());
    quotas.charge(&second, 60, SECOND).unwrap();
    quotas.refund(&second, 20);
    let mut usage = quotas.take_usage();
    usage.sort();
    let mut expected = vec![(first.domain, 100), (second.domain, 40)];
    expected.sort();
    assert_eq!(usage, expected);
    assert!(quotas.take_usage().is_empty());
}

#[test]
fn full_and_untouched_budgets_are_forgotten() {
    let quotas = quotas((10, 100), (10, 100));
    quotas.charge(&origin(), 10, SECOND).unwrap();
    assert_eq!(quotas.evict(SECOND * 300), 2);
    quotas.take_usage();
    assert_eq!(quotas.evict(SECOND * 700), 0);
}

#[test]
fn many_domains_are_forgotten_although_nobody_asks_for_their_usage() {
    let quotas = quotas((10, 100), (10, 100));
    let busy = origin();
    let mut held = 0;
    for round in 0..50u32 {
        let now = SECOND * 100 * (round + 1);
        for _ in 0..100 {
            quotas.charge(&origin(), 10, now).unwrap();
        }
        quotas.charge(&busy, 10, now).unwrap();
        held = held.max(quotas.evict(now));
    }
    // Of each hundred seconds a hundred Nodes and as many Domains, for the idle time of six hundred and a refill.
    assert!(held <= 2 * 700 + 2, "{held}");
    assert_eq!(quotas.take_usage().iter().find(|(domain, _)| *domain == busy.domain), Some(&(busy.domain, 500)));
    assert_eq!(quotas.evict(SECOND * 10_000), 0);
}

#[test]
fn waits_are_whole_seconds_from_one_to_three_hundred() {
    assert_eq!(retry_seconds(Duration::from_nanos(1)), 1);
    assert_eq!(retry_seconds(Duration::from_millis(1_001)), 2);
    assert_eq!(retry_seconds(Duration::from_secs(9_000)), 300);
}

#[test]
fn usage_of_others_counts_and_its_debt_is_bounded() {
    let gcra = Gcra::new();
    let rate = Rate::new(10, 100);
    gcra.absorb(rate, 1_000_000, SECOND);
    let wait = gcra.charge(rate, 1, SECOND).unwrap_err();
    assert!(wait <= Duration::from_millis(10_100), "{wait:?}");
}

/// The budget as one would write it without thinking of threads: tokens that drip in.
struct Naive {
    millibytes: u128,
    burst: u128,
    per_milli: u128,
    at_milli: u64,
}

impl Naive {
    fn charge(&mut self, bytes: u64, at_milli: u64) -> bool {
        let dripped = u128::from(at_milli - self.at_milli) * self.per_milli;
        self.at_milli = at_milli;
        self.millibytes = (self.millibytes + dripped).min(self.burst);
        let weight = u128::from(bytes) * 1_000;
        let fits = weight <= self.millibytes;
        if fits {
            self.millibytes -= weight;
        }
        fits
    }

    fn refund(&mut self, bytes: u64) {
        self.millibytes = (self.millibytes + u128::from(bytes) * 1_000).min(self.burst);
    }
}

proptest! {
    /// Rates are powers of ten so that both sides compute exactly.
    #[test]
    fn the_word_agrees_with_a_bucket_of_tokens(
        rate in prop::sample::select(vec![10u64, 100, 1_000, 100_000]),
        burst in 1u64..50_000,
        steps in prop::collection::vec((0u64..500, 0u64..60_000, any::<bool>()), 1..200),
    ) {
        let gcra = Gcra::new();
        let word = Rate::new(rate, burst);
        let burst = u128::from(burst) * 1_000;
        let mut naive = Naive { millibytes: burst, burst, per_milli: u128::from(rate), at_milli: 0 };
        let mut at = 0;
        for (wait, bytes, undo) in steps {
            at += wait;
            let passed = gcra.charge(word, bytes, Duration::from_millis(at)).is_ok();
            prop_assert_eq!(passed, naive.charge(bytes, at));
            if passed && undo {
                gcra.refund(word, bytes);
                naive.refund(bytes);
            }
        }
    }
}
