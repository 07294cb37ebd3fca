use std::time::Duration;

use ReachabilityEvent::{Heartbeat, StaleLapsed, UnreachableLapsed};
use ReachabilityState::{Healthy, Stale, Unreachable};
use proptest::prelude::*;

use super::*;

const POLICY: ReachabilityPolicy = ReachabilityPolicy {
    heartbeat_interval: Duration::from_secs(30),
    stale_after: Duration::from_secs(90),
    unreachable_after: Duration::from_secs(300),
};

fn second(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(1_800_000_000 + seconds)
}

#[test]
fn every_state_and_event_has_its_one_successor() {
    let table = [
        (Healthy, Heartbeat, Healthy),
        (Healthy, StaleLapsed, Stale),
        (Healthy, UnreachableLapsed, Unreachable),
        (Stale, Heartbeat, Healthy),
        (Stale, StaleLapsed, Stale),
        (Stale, UnreachableLapsed, Unreachable),
        (Unreachable, Heartbeat, Healthy),
        (Unreachable, StaleLapsed, Unreachable),
        (Unreachable, UnreachableLapsed, Unreachable),
    ];
    for (from, event, to) in table {
        assert_eq!(from.transition(event), to, "{from:?} on {event:?}");
    }
    assert_eq!(table.len(), ReachabilityState::ALL.len() * 3);
    for state in ReachabilityState::ALL {
        assert_eq!(ReachabilityState::parse(state.as_str()), Some(state));
    }
}

#[test]
fn thresholds_are_judged_at_the_instant_they_pass() {
    let microsecond = Duration::from_micros(1);
    for (age, state) in [(0, Healthy), (90, Stale), (300, Unreachable)] {
        assert_eq!(state_of(second(age), Some(second(0)), &POLICY), state);
    }
    assert_eq!(state_of(second(90).minus(microsecond), Some(second(0)), &POLICY), Healthy);
    assert_eq!(state_of(second(300).minus(microsecond), Some(second(0)), &POLICY), Stale);
    assert_eq!(state_of(second(0), None, &POLICY), Unreachable);
    // A heartbeat from a clock slightly ahead is no silence at all.
    assert_eq!(state_of(second(0), Some(second(5)), &POLICY), Healthy);
}

#[test]
fn a_read_behind_a_lagging_sweeper_names_the_threshold_instant() {
    let heard = Reachability::joined(second(0)).heartbeat(second(10), &POLICY);
    assert_eq!(heard.state, Healthy);
    assert_eq!(heard.changed_at, second(10));
    assert_eq!(heard.at(second(99), &POLICY), heard);
    assert_eq!(heard.at(second(120), &POLICY).changed_at, second(100));
    assert_eq!(heard.at(second(120), &POLICY).state, Stale);
    assert_eq!(heard.at(second(900), &POLICY).changed_at, second(310));
    let longer = ReachabilityPolicy {
        stale_after: Duration::from_secs(2_000),
        unreachable_after: Duration::from_secs(3_000),
        ..POLICY
    };
    assert_eq!(heard.at(second(900), &POLICY).at(second(900), &longer).state, Healthy);
}

proptest! {
    #[test]
    fn any_order_and_loss_of_heartbeats_keeps_the_invariants(
        steps in proptest::collection::vec((0i64..400, any::<bool>(), 0i64..120), 1..40),
    ) {
        let mut now = 0;
        let mut kept = Reachability::joined(second(0));
        let mut newest = None;
        for (pause, is_heartbeat, late) in steps {
            now += pause;
            let before = kept;
            if is_heartbeat {
                let at = second(now - late);
                kept = kept.heartbeat(at, &POLICY);
                newest = newest.max(Some(at));
            } else {
                kept = kept.at(second(now), &POLICY);
            }
            prop_assert_eq!(kept.last_heartbeat_at, newest);
            prop_assert!(kept.last_heartbeat_at >= before.last_heartbeat_at);
            let read = kept.at(second(now), &POLICY);
            prop_assert_eq!(read.state, state_of(second(now), newest, &POLICY));
            // A read is what a sweep at the same time would have written.
            prop_assert_eq!(read.at(second(now), &POLICY), read);
            prop_assert!(read.changed_at <= second(now));
        }
    }
}
