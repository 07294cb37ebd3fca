use std::time::Duration;

use proptest::prelude::*;

use super::cidr::{self, CidrRefusal};
use super::durations;

#[test]
fn a_pool_is_canonical_of_a_useful_length_and_outside_reserved_space() {
    for good in ["100.64.0.0/10", "10.0.0.0/8", "192.168.7.252/30", "fd00::/16", "fd00:1::/126"] {
        assert_eq!(cidr::pool(good).unwrap().to_string(), good);
    }
    for (bad, why) in [
        ("", CidrRefusal::Malformed),
        ("10.0.0.0", CidrRefusal::Malformed),
        ("010.0.0.0/8", CidrRefusal::Malformed),
        ("10.0.0.0/33", CidrRefusal::Malformed),
        ("10.0.0.0/-1", CidrRefusal::Malformed),
        ("10.0.0.1/8", CidrRefusal::HostBits),
        ("fd00::1/64", CidrRefusal::HostBits),
        ("10.0.0.0/31", CidrRefusal::Length),
        ("8.0.0.0/7", CidrRefusal::Length),
        ("fd01::/15", CidrRefusal::HostBits),
        ("10.0.0.0/08", CidrRefusal::Malformed),
        ("10.0.0.0/+8", CidrRefusal::Malformed),
        ("fc00::/15", CidrRefusal::Length),
        ("fd00::/127", CidrRefusal::Length),
        ("127.1.0.0/16", CidrRefusal::Reserved),
        ("169.254.9.0/24", CidrRefusal::Reserved),
        ("239.0.0.0/8", CidrRefusal::Reserved),
        ("0.0.0.0/8", CidrRefusal::Reserved),
        ("::/16", CidrRefusal::Reserved),
        ("fe80::/64", CidrRefusal::Reserved),
        ("ff02::/16", CidrRefusal::Reserved),
    ] {
        assert_eq!(cidr::pool(bad), Err(why), "{bad}");
    }
}

#[test]
fn durations_are_read_in_every_unit_and_rendered_as_seconds() {
    for (text, seconds) in [
        ("300s", "300s"),
        ("5m", "300s"),
        ("1h0m", "3600s"),
        ("1.5s", "1.5s"),
        ("1500ms", "1.5s"),
        ("0", "0s"),
        ("0s", "0s"),
        (".5m", "30s"),
        ("1m30s", "90s"),
        ("1us", "0.000001s"),
        ("1µs", "0.000001s"),
    ] {
        assert_eq!(durations::render(durations::parse(text).unwrap()), seconds, "{text}");
    }
    for bad in
        ["", "s", "5", "-5s", "+5s", "5 s", "5d", "5S", ".s", "1e3s", "5s ", "٣s", "99999999999999999999h", "1..5s"]
    {
        assert_eq!(durations::parse(bad), None, "{bad}");
    }
}

#[test]
fn a_policy_keeps_its_ratios_or_is_the_default() {
    let default = plexsphere_kernel::seams::ReachabilityPolicy::default();
    assert_eq!(durations::policy("0s", "0", "0h"), Some(default));
    assert!(durations::policy("10s", "30s", "60s").is_some());
    assert!(durations::policy("600s", "30m", "1h").is_some());
    for (interval, stale, unreachable) in [
        ("0s", "90s", "300s"),
        ("9s", "90s", "300s"),
        ("30s", "89s", "300s"),
        ("30s", "90s", "179s"),
        ("30s", "90s", "3601s"),
        ("601s", "1803s", "3606s"),
        ("x", "90s", "300s"),
    ] {
        assert_eq!(durations::policy(interval, stale, unreachable), None, "{interval} {stale} {unreachable}");
    }
}

proptest! {
    #[test]
    fn a_rendered_duration_reads_back_to_itself(nanos in 0_u64..10_000_000_000_000) {
        let duration = Duration::from_nanos(nanos);
        prop_assert_eq!(durations::parse(&durations::render(duration)), Some(duration));
    }

    #[test]
    fn reading_a_duration_or_a_prefix_never_panics(text in ".{0,80}") {
        let _ = durations::parse(&text);
        let _ = cidr::pool(&text);
    }

    #[test]
    fn two_pools_overlap_exactly_when_they_share_an_address(a in any::<u32>(), b in any::<u32>(), la in 8_u8..=30, lb in 8_u8..=30) {
        let net = |bits: u32, len| ipnet::Ipv4Net::new(bits.into(), len).unwrap().trunc();
        let (x, y) = (net(a, la), net(b, lb));
        let shared = x.network() <= y.broadcast() && y.network() <= x.broadcast();
        prop_assert_eq!(cidr::overlaps(&x.into(), &y.into()), shared);
    }
}
