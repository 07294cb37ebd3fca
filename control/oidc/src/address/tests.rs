use proptest::prelude::*;

use super::*;

fn kind(text: &str) -> Option<AddressKind> {
    kind_of(text.parse().unwrap())
}

#[test]
fn each_range_that_leads_inside_has_its_kind() {
    use AddressKind::{LinkLocal, Loopback, Metadata, Private, Reserved};
    let cases = [
        (
            Loopback,
            &["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"][..],
        ),
        (
            Private,
            &["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fd12::1", "::ffff:10.1.1.1"],
        ),
        (LinkLocal, &["169.254.0.1", "fe80::1", "febf::1", "fec0::1", "::ffff:169.254.1.1"]),
        (Metadata, &["169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192"]),
        (
            Metadata,
            &["fd00:ec2::254", "fd00:ec2::23", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1"],
        ),
        (Reserved, &["0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.51.100.1"]),
        (Reserved, &["203.0.113.9", "198.18.0.1", "198.19.255.255", "192.88.99.1", "::", "ff02::1", "2001:db8::1"]),
        (Reserved, &["2001::1", "100::1", "64:ff9b:1::1", "4000::1", "3fff::1"]),
    ];
    for (expected, addresses) in cases {
        for address in addresses {
            assert_eq!(kind(address), Some(expected), "{address}");
        }
    }
}

#[test]
fn public_addresses_and_the_neighbours_of_each_range_pass() {
    let public =
        ["1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0"];
    let more = ["169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0"];
    let six = ["2606:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2001:4860::8888"];
    for address in public.iter().chain(&more).chain(&six) {
        assert_eq!(kind(address), None, "{address}");
    }
}

#[test]
fn a_wider_reach_admits_private_then_loopback_and_never_metadata() {
    let admitted = |text: &str, reach| judge(text.parse().unwrap(), reach).is_ok();
    for (address, expected) in [
        ("1.1.1.1", [true, true, true]),
        ("10.0.0.1", [false, true, true]),
        ("127.0.0.1", [false, false, true]),
        ("169.254.169.254", [false; 3]),
        ("169.254.7.7", [false; 3]),
        ("fd00:ec2::254", [false; 3]),
        ("0.0.0.0", [false; 3]),
    ] {
        let got = [Reach::Public, Reach::Private, Reach::Loopback].map(|reach| admitted(address, reach));
        assert_eq!(got, expected, "{address}");
    }
}

proptest! {
    #[test]
    fn an_address_is_judged_alike_in_every_spelling(bits: u32) {
        let four = Ipv4Addr::from(bits);
        let [a, b, c, d] = four.octets();
        let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
        let (high, low) = (pair(a, b), pair(c, d));
        for six in [
            Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        ] {
            prop_assert_eq!(kind_of(IpAddr::V6(six)), kind_of(IpAddr::V4(four)));
        }
    }

    #[test]
    fn nothing_outside_global_unicast_is_public(bits: u128) {
        let six = Ipv6Addr::from(bits);
        if kind_of(IpAddr::V6(six)).is_none() && embedded_v4(six).is_none() {
            prop_assert_eq!(bits >> 125, 1);
        }
    }
}
