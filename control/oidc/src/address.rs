//! Which addresses an outbound fetch may go to. Pure.
//!
//! The ranges are those of the IANA special-purpose registries (RFC 6890 and its successors) and the metadata services
//! of the large clouds, which hand credentials to whoever asks from inside.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far inside a fetch may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Reach {
    /// The public internet only.
    #[default]
    Public,
    /// Private networks too, for an identity provider beside the installation.
    Private,
    /// Loopback too. For development and tests.
    Loopback,
}

/// What kind of address was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressKind {
    /// This machine.
    Loopback,
    /// A private network (RFC 1918, RFC 4193, RFC 6598).
    Private,
    /// The local link (RFC 3927, RFC 4291).
    LinkLocal,
    /// The metadata service of a cloud.
    Metadata,
    /// Multicast, broadcast, documentation, translation and reserved ranges.
    Reserved,
}

impl fmt::Display for AddressKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::Metadata => "metadata",
            Self::Reserved => "reserved",
        })
    }
}

/// Judges one address.
///
/// # Errors
/// The kind of address, when `reach` does not admit it. Metadata, link-local and reserved ones are admitted by none.
pub fn judge(address: IpAddr, reach: Reach) -> Result<(), AddressKind> {
    let Some(kind) = kind_of(address) else { return Ok(()) };
    let least = match kind {
        AddressKind::Private => Reach::Private,
        AddressKind::Loopback => Reach::Loopback,
        AddressKind::LinkLocal | AddressKind::Metadata | AddressKind::Reserved => return Err(kind),
    };
    if reach >= least { Ok(()) } else { Err(kind) }
}

/// `None` for a public address.
fn kind_of(address: IpAddr) -> Option<AddressKind> {
    match address {
        IpAddr::V4(address) => kind_of_v4(address),
        IpAddr::V6(address) => kind_of_v6(address),
    }
}

/// Addresses of metadata services: the common one, containers of AWS, Oracle, Alibaba, Azure's wire server.
const METADATA_V4: [Ipv4Addr; 5] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
];

/// AWS over IPv6: instances, and containers.
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x23)];

fn kind_of_v4(address: Ipv4Addr) -> Option<AddressKind> {
    if METADATA_V4.contains(&address) {
        return Some(AddressKind::Metadata);
    }
    match address.octets() {
        [127, ..] => Some(AddressKind::Loopback),
        // 0.0.0.0 reaches this machine on most systems, so it is as good as loopback, and never needed.
        [0, ..] => Some(AddressKind::Reserved),
        [10, ..] | [192, 168, ..] => Some(AddressKind::Private),
        [172, second, ..] if (16..32).contains(&second) => Some(AddressKind::Private),
        [100, second, ..] if (64..128).contains(&second) => Some(AddressKind::Private),
        [169, 254, ..] => Some(AddressKind::LinkLocal),
        [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [192, 88, 99, _] => Some(AddressKind::Reserved),
        [198, 18 | 19, ..] => Some(AddressKind::Reserved),
        [first, ..] if first >= 224 => Some(AddressKind::Reserved),
        _ => None,
    }
}

fn kind_of_v6(address: Ipv6Addr) -> Option<AddressKind> {
    if address == Ipv6Addr::LOCALHOST {
        return Some(AddressKind::Loopback);
    }
    if METADATA_V6.contains(&address) {
        return Some(AddressKind::Metadata);
    }
    if let Some(inner) = embedded_v4(address) {
        return kind_of_v4(inner);
    }
    let [first, second, ..] = address.segments();
    match first {
        0xfe80..=0xfeff => Some(AddressKind::LinkLocal),
        0xfc00..=0xfdff => Some(AddressKind::Private),
        // Teredo hides an address it did not judge; 2001:db8::/32 and 3fff::/20 are for documentation.
        0x2001 if second == 0 || second == 0x0db8 => Some(AddressKind::Reserved),
        0x3fff if second < 0x1000 => Some(AddressKind::Reserved),
        0x2000..=0x3fff => None,
        _ => Some(AddressKind::Reserved),
    }
}

/// The IPv4 address that a packet to this address ends at: mapped, compatible, NAT64 (RFC 6052), 6to4 (RFC 3056).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = address.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff | 0] => Some(join(high, low)),
        [0x0064, 0xff9b, 0, 0, 0, 0] => Some(join(high, low)),
        [0x2002, _, _, _, _, _] => Some(join(b, c)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
