use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn all(plan: &AddressPlan, floor: Option<IpAddr>) -> Vec<IpAddr> {
    let mut out = Vec::new();
    for span in plan.spans_from(floor) {
        let v4 = is_v4(span.first);
        out.extend((number(span.first)..=number(span.last)).filter_map(|number| address(number, v4)));
    }
    out
}

#[test]
fn the_first_host_of_the_default_pool_is_its_dot_one() {
    let plan = AddressPlan::new(net("100.64.0.0/10"), None, &[]);
    let spans = plan.spans_from(None);
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].first, "100.64.0.1".parse::<IpAddr>().unwrap());
    assert_eq!(spans[0].last, "100.127.255.254".parse::<IpAddr>().unwrap());
}

#[test]
fn a_project_with_a_sub_range_draws_from_it_alone() {
    let plan = AddressPlan::new(net("10.0.0.0/24"), Some(net("10.0.0.8/30")), &[net("10.0.0.8/30")]);
    let hosts: Vec<IpAddr> = ["10.0.0.9", "10.0.0.10"].iter().map(|text| text.parse().unwrap()).collect();
    assert_eq!(all(&plan, None), hosts);
    assert!(plan.is_sub_range());
    assert_eq!(plan.reserved_text(), "");
}

#[test]
fn an_ipv6_pool_keeps_its_last_address_and_never_gives_its_first() {
    let plan = AddressPlan::new(net("fd00::/126"), None, &[net("10.0.0.0/8")]);
    let spans = plan.spans_from(None);
    assert_eq!(spans, [Span { first: "fd00::1".parse().unwrap(), last: "fd00::3".parse().unwrap() }]);
    let whole = AddressPlan::new(net("::/0"), None, &[net("8000::/1")]);
    assert_eq!(
        whole.spans_from(None).last().unwrap().last,
        "7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse::<IpAddr>().unwrap()
    );
}

#[test]
fn a_pool_without_hosts_has_no_spans() {
    for text in ["10.0.0.0/32", "10.0.0.0/31", "fd00::/128"] {
        assert!(AddressPlan::new(net(text), None, &[]).spans_from(None).is_empty(), "{text}");
    }
    assert!(AddressPlan::new(net("10.0.0.0/24"), Some(net("10.0.1.0/24")), &[]).spans_from(None).is_empty());
}

proptest! {
    #[test]
    fn the_spans_are_the_naive_set_in_ascending_order(
        prefix in 24u8..=32,
        subs in proptest::collection::vec((0u32..256, 26u8..=32), 0..6),
        own in proptest::option::of((0u32..256, 26u8..=31)),
        floor in proptest::option::of(0u32..256),
    ) {
        let base = u32::from(Ipv4Addr::new(10, 0, 0, 0));
        let cut = |(host, prefix): (u32, u8)| {
            IpNet::new(IpAddr::V4(Ipv4Addr::from(base + host)), prefix).unwrap().trunc()
        };
        let pool = IpNet::new(IpAddr::V4(Ipv4Addr::from(base)), prefix).unwrap();
        let reserved: Vec<IpNet> = subs.into_iter().map(cut).collect();
        let own = own.map(cut);
        let floor = floor.map(|host| IpAddr::V4(Ipv4Addr::from(base + host)));
        let plan = AddressPlan::new(pool, own, &reserved);

        let range = own.unwrap_or(pool);
        let naive: BTreeSet<IpAddr> = (base..base + 256)
            .map(|bits| IpAddr::V4(Ipv4Addr::from(bits)))
            .filter(|ip| pool.contains(ip) && range.contains(ip))
            .filter(|ip| [pool, range].iter().all(|net| *ip != net.network() && *ip != net.broadcast()))
            .filter(|ip| own.is_some() || reserved.iter().all(|net| !net.contains(ip)))
            .filter(|ip| floor.is_none_or(|floor| *ip >= floor))
            .collect();
        prop_assert_eq!(all(&plan, floor), naive.into_iter().collect::<Vec<_>>());
    }
}
