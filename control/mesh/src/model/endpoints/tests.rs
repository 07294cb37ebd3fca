use proptest::prelude::*;

use super::*;

fn seen(nat_type: NatType, stale: bool) -> Observation {
    Observation { endpoint: Endpoint::parse("192.0.2.1:51820").unwrap(), nat_type, stale }
}

fn report(endpoint: &str, nat_type: NatType, seconds: i64) -> Report {
    let reported_at = Timestamp::from_unix_seconds(seconds);
    Report { endpoint: Endpoint::parse(endpoint).unwrap(), nat_type, reported_at }
}

#[test]
fn public_private_and_carrier_addresses_are_endpoints() {
    for text in ["192.0.2.1:1", "10.0.0.1:65535", "100.64.0.1:51820", "[2001:db8::1]:51820", "[fd00::1]:7"] {
        assert_eq!(Endpoint::parse(text).unwrap().to_string(), text);
    }
    assert_eq!(Endpoint::parse("[2001:DB8:0::1]:5").unwrap().to_string(), "[2001:db8::1]:5");
}

#[test]
fn what_leads_nowhere_is_no_endpoint() {
    for text in ["127.0.0.1:1", "127.9.9.9:1", "169.254.1.1:5", "0.0.0.0:9", "224.0.0.1:9", "255.255.255.255:9"] {
        assert!(matches!(Endpoint::parse(text), Err(EndpointError::Unreachable(_))), "{text}");
    }
    for text in ["[::]:9", "[::1]:9", "[fe80::1]:9", "[febf::1]:9", "[ff02::1]:9", "[::ffff:192.0.2.1]:9"] {
        assert!(matches!(Endpoint::parse(text), Err(EndpointError::Unreachable(_))), "{text}");
    }
}

#[test]
fn names_zones_bare_addresses_and_odd_ports_are_no_endpoints() {
    let form = [
        "",
        ":",
        ":51820",
        "192.0.2.1",
        "example.org:51820",
        "host:0",
        "2001:db8::1:51820",
        "[2001:db8::1]",
        "[::1",
        "[fe80::1%eth0]:9",
        "[192.0.2.1]:9",
        "192.0.2.1 :9",
        " 192.0.2.1:9",
        "192.0.2.01:9",
        "192.0.2:9",
        "[]:9",
    ];
    for text in form {
        assert_eq!(Endpoint::parse(text), Err(EndpointError::Form), "{text}");
    }
    for port in ["", "0", "65536", "+1", "-1", "01", "1 ", "0x1", "99999999999999999999", "١"] {
        assert_eq!(Endpoint::parse(&format!("192.0.2.1:{port}")), Err(EndpointError::Port), "{port}");
    }
}

#[test]
fn an_address_of_the_mesh_itself_is_none_that_leads_there() {
    let pool = |text: &str| Some(text.parse().unwrap());
    let inside = Endpoint::parse("100.64.3.4:51820").unwrap();
    assert_eq!(inside.outside(pool("100.64.0.0/10")), Err(EndpointError::InsideMesh));
    assert_eq!(inside.outside(pool("10.0.0.0/8")), Ok(inside));
    assert_eq!(inside.outside(pool("fd00::/8")), Ok(inside));
    assert_eq!(inside.outside(None), Ok(inside));
}

#[test]
fn only_a_change_or_the_end_of_staleness_concerns_others() {
    let at = Timestamp::from_unix_seconds(100);
    let (fresh, stale) = (seen(NatType::FullCone, false), seen(NatType::FullCone, true));
    let same = |seconds| report("192.0.2.1:51820", NatType::FullCone, seconds);
    assert_eq!(effect(None, &same(1)), Effect::Change);
    assert_eq!(effect(Some((&fresh, at)), &same(99)), Effect::Older);
    assert_eq!(effect(Some((&stale, at)), &same(99)), Effect::Older);
    assert_eq!(effect(Some((&fresh, at)), &same(100)), Effect::Refresh);
    assert_eq!(effect(Some((&stale, at)), &same(100)), Effect::Change);
    for other in [
        report("192.0.2.1:51821", NatType::FullCone, 101),
        report("192.0.2.2:51820", NatType::FullCone, 101),
        report("192.0.2.1:51820", NatType::Symmetric, 101),
    ] {
        assert_eq!(effect(Some((&fresh, at)), &other), Effect::Change);
    }
}

#[test]
fn others_program_a_fresh_observation_that_is_not_symmetric() {
    let observed = |seen: Option<&Observation>| fallback_endpoint(seen, FallbackFill::Observed);
    for nat in NatType::ALL {
        let (fresh, stale) = (seen(nat, false), seen(nat, true));
        assert_eq!(observed(Some(&fresh)).is_some(), nat != NatType::Symmetric);
        assert_eq!(observed(Some(&stale)), None);
        assert_eq!(fallback_endpoint(Some(&fresh), FallbackFill::BridgeOnly), None);
    }
    assert_eq!(observed(None), None);
}

#[test]
fn the_words_of_nat_types_are_those_of_the_wire() {
    for nat in NatType::ALL {
        assert_eq!(serde_json::to_value(nat).unwrap(), nat.as_str());
        assert_eq!(NatType::parse(nat.as_str()), Some(nat));
    }
    assert_eq!(NatType::parse("cone"), None);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_and_what_was_read_reads_the_same_again(text in "\\PC*|[0-9a-f:.\\[\\]%]{0,40}") {
        if let Ok(endpoint) = Endpoint::parse(&text) {
            prop_assert_eq!(Endpoint::parse(&endpoint.to_string()), Ok(endpoint));
        }
    }

    #[test]
    fn any_address_and_port_makes_the_round_trip_or_none(host: IpAddr, port: u16) {
        if let Ok(endpoint) = Endpoint::new(host, port) {
            prop_assert_eq!((endpoint.host(), endpoint.port()), (host, port));
            prop_assert_eq!(Endpoint::parse(&endpoint.to_string()), Ok(endpoint));
        } else {
            prop_assert!(Endpoint::parse(&SocketAddr::new(host, port).to_string()).is_err());
        }
    }
}
