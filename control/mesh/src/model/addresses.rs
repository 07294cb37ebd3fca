//! Which addresses a registration may draw from: the free space of a range as ascending, disjoint spans.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// A run of addresses, both ends included, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The lowest address.
    pub(crate) first: IpAddr,
    /// The highest address.
    pub(crate) last: IpAddr,
}

/// The range that a Project draws from, with what must not be handed out taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AddressPlan {
    range: IpNet,
    strict: bool,
    reserved: Vec<IpNet>,
    spans: Vec<Span>,
}

impl AddressPlan {
    /// A Project with a sub-range draws from it alone; one without draws from the pool minus every reserved range.
    /// The network address of the pool and of the drawn range, and for IPv4 the broadcast address, are never handed out.
    pub(crate) fn new(pool: IpNet, sub_range: Option<IpNet>, reserved: &[IpNet]) -> Self {
        let pool = pool.trunc();
        let range = sub_range.map_or(pool, |sub_range| sub_range.trunc());
        let mut reserved: Vec<IpNet> = if sub_range.is_some() {
            Vec::new()
        } else {
            reserved.iter().map(IpNet::trunc).filter(|net| is_v4(net.addr()) == is_v4(range.addr())).collect()
        };
        reserved.sort_unstable();
        reserved.dedup();
        let mut taken: Vec<(u128, u128)> = reserved.iter().map(ends).collect();
        for net in [pool, range] {
            let (first, last) = ends(&net);
            taken.push((first, first));
            if is_v4(net.addr()) {
                taken.push((last, last));
            }
        }
        taken.sort_unstable();
        let bounds = intersection(ends(&pool), ends(&range), is_v4(pool.addr()) == is_v4(range.addr()));
        let spans = bounds.map_or_else(Vec::new, |bounds| free_spans(bounds, &taken, is_v4(range.addr())));
        Self { range, strict: sub_range.is_some(), reserved, spans }
    }

    /// The range drawn from.
    pub(crate) const fn range(&self) -> IpNet {
        self.range
    }

    /// Whether the range is a Project's own.
    pub(crate) const fn is_sub_range(&self) -> bool {
        self.strict
    }

    /// The reserved ranges in canonical text: a floor that was found under others is void.
    pub(crate) fn reserved_text(&self) -> String {
        self.reserved.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// What may be handed out at or above `floor`, ascending.
    pub(crate) fn spans_from(&self, floor: Option<IpAddr>) -> Vec<Span> {
        let Some(floor) = floor.filter(|floor| is_v4(*floor) == is_v4(self.range.addr())) else {
            return self.spans.clone();
        };
        let above = self.spans.iter().filter(|span| span.last >= floor);
        above.map(|span| Span { first: span.first.max(floor), last: span.last }).collect()
    }
}

/// The address behind `ip`; the last of a family stays.
pub(crate) fn successor(ip: IpAddr) -> IpAddr {
    address(number(ip).saturating_add(1), is_v4(ip)).unwrap_or(ip)
}

const fn is_v4(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(_))
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn address(number: u128, v4: bool) -> Option<IpAddr> {
    if v4 {
        u32::try_from(number).ok().map(|bits| IpAddr::V4(Ipv4Addr::from(bits)))
    } else {
        Some(IpAddr::V6(Ipv6Addr::from(number)))
    }
}

fn ends(net: &IpNet) -> (u128, u128) {
    (number(net.network()), number(net.broadcast()))
}

fn intersection(a: (u128, u128), b: (u128, u128), same_family: bool) -> Option<(u128, u128)> {
    let (first, last) = (a.0.max(b.0), a.1.min(b.1));
    (same_family && first <= last).then_some((first, last))
}

/// `bounds` without `taken`, which is sorted and may overlap itself.
fn free_spans(bounds: (u128, u128), taken: &[(u128, u128)], v4: bool) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut push = |first: u128, last: u128| {
        if let (true, Some(first), Some(last)) = (first <= last, address(first, v4), address(last, v4)) {
            spans.push(Span { first, last });
        }
    };
    let mut next = bounds.0;
    for (first, last) in taken.iter().copied() {
        if last < next {
            continue;
        }
        if first > bounds.1 {
            break;
        }
        if first > next {
            push(next, first - 1);
        }
        match last.checked_add(1) {
            Some(behind) => next = behind,
            None => return spans,
        }
    }
    push(next, bounds.1);
    spans
}

#[cfg(test)]
mod tests;
