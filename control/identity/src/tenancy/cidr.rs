//! Mesh pools and sub-ranges: canonical prefixes of space that can be routed inside a mesh.

use std::net::IpAddr;

use ipnet::IpNet;

/// The longest text of a prefix.
const MAX_TEXT: usize = 49;

/// Space that no pool may touch.
const FORBIDDEN: [&str; 8] =
    ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "::/127", "::ffff:0:0/96", "fe80::/10", "ff00::/8"];

/// Why a text is no mesh prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrRefusal {
    /// Not an IPv4 or IPv6 prefix.
    #[error("not an IPv4 or IPv6 prefix")]
    Malformed,
    /// Host bits are set.
    #[error("host bits are set")]
    HostBits,
    /// Longer than /30 or /126, or shorter than /8 or /16.
    #[error("the prefix length must lie between /8 and /30, or /16 and /126 for IPv6")]
    Length,
    /// Overlaps loopback, link-local, multicast or unspecified space.
    #[error("overlaps loopback, link-local, multicast or unspecified space")]
    Reserved,
}

/// Reads a canonical prefix of any length.
///
/// # Errors
/// [`CidrRefusal::Malformed`] or [`CidrRefusal::HostBits`].
pub(crate) fn canonical(text: &str) -> Result<IpNet, CidrRefusal> {
    if text.len() > MAX_TEXT {
        return Err(CidrRefusal::Malformed);
    }
    // Strict where the library is lenient: `010.0.0.0/08` means different things to different readers.
    let (address, length) = text.split_once('/').ok_or(CidrRefusal::Malformed)?;
    let address: IpAddr = address.parse().map_err(|_| CidrRefusal::Malformed)?;
    if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) || (length.len() > 1 && length.starts_with('0'))
    {
        return Err(CidrRefusal::Malformed);
    }
    let length: u8 = length.parse().map_err(|_| CidrRefusal::Malformed)?;
    let net = IpNet::new(address, length).map_err(|_| CidrRefusal::Malformed)?;
    if net == net.trunc() { Ok(net) } else { Err(CidrRefusal::HostBits) }
}

/// Reads a Domain's pool.
///
/// # Errors
/// [`CidrRefusal`].
pub(crate) fn pool(text: &str) -> Result<IpNet, CidrRefusal> {
    let net = canonical(text)?;
    let lengths = match net {
        IpNet::V4(_) => 8..=30,
        IpNet::V6(_) => 16..=126,
    };
    if !lengths.contains(&net.prefix_len()) {
        return Err(CidrRefusal::Length);
    }
    let forbidden = FORBIDDEN.iter().filter_map(|text| text.parse::<IpNet>().ok());
    if forbidden.into_iter().any(|space| overlaps(&space, &net)) { Err(CidrRefusal::Reserved) } else { Ok(net) }
}

/// Whether two prefixes share an address. Prefixes of two families never do.
#[must_use]
pub(crate) fn overlaps(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}
