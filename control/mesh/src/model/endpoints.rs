//! Where a Node saw itself from outside, and what others program for it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use plexsphere_wire::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How far the time of an observation may lie from ours.
pub(crate) const MAX_SKEW: Duration = Duration::from_secs(60);

/// A `host:port` at which a Node can be reached from outside: a literal address, IPv6 in brackets. Addresses that lead
/// nowhere from another machine are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint(SocketAddr);

/// Why a text is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EndpointError {
    /// No `host:port` with a literal address.
    #[error("it must be `host:port` with a literal IPv4 address or an IPv6 address in brackets")]
    Form,
    /// Not in 1 to 65535, or not in plain decimal.
    #[error("its port must be a decimal number from 1 to 65535")]
    Port,
    /// An address that no other machine reaches.
    #[error("its host is a {0} address")]
    Unreachable(&'static str),
    /// An address of the Domain's own mesh.
    #[error("its host lies inside the Domain's own mesh")]
    InsideMesh,
}

impl Endpoint {
    /// Parses `host:port`.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub(crate) fn parse(text: &str) -> Result<Self, EndpointError> {
        let (host, port) = text.rsplit_once(':').ok_or(EndpointError::Form)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bracketed {
            Some(v6) => IpAddr::V6(v6.parse::<Ipv6Addr>().map_err(|_| EndpointError::Form)?),
            None => IpAddr::V4(host.parse::<Ipv4Addr>().map_err(|_| EndpointError::Form)?),
        };
        Self::new(host, parse_port(port)?)
    }

    /// An address and a port, judged as [`Self::parse`] does.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub(crate) fn new(host: IpAddr, port: u16) -> Result<Self, EndpointError> {
        if port == 0 {
            return Err(EndpointError::Port);
        }
        unreachable(host).map_or(Ok(Self(SocketAddr::new(host, port))), |what| Err(EndpointError::Unreachable(what)))
    }

    /// The same, unless it lies in the Domain's pool: packets to it would enter the tunnel that they are to carry.
    ///
    /// # Errors
    /// [`EndpointError::InsideMesh`].
    pub(crate) fn outside(self, pool: Option<IpNet>) -> Result<Self, EndpointError> {
        match pool {
            Some(pool) if pool.contains(&self.0.ip()) => Err(EndpointError::InsideMesh),
            _ => Ok(self),
        }
    }

    /// The address.
    pub(crate) const fn host(self) -> IpAddr {
        self.0.ip()
    }

    /// The port.
    pub(crate) const fn port(self) -> u16 {
        self.0.port()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn parse_port(text: &str) -> Result<u16, EndpointError> {
    let is_plain = !text.is_empty() && !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain { text.parse().map_err(|_| EndpointError::Port) } else { Err(EndpointError::Port) }
}

/// What makes an address one that no other machine reaches.
const fn unreachable(host: IpAddr) -> Option<&'static str> {
    match host {
        _ if host.is_unspecified() => Some("unspecified"),
        _ if host.is_loopback() => Some("loopback"),
        _ if host.is_multicast() => Some("multicast"),
        IpAddr::V4(v4) if v4.is_link_local() => Some("link-local"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("broadcast"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("link-local"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("IPv4-mapped"),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// How the NAT before a Node maps its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NatType {
    /// One mapping for all, open to all.
    FullCone,
    /// One mapping for all, open to hosts that were sent to.
    Restricted,
    /// One mapping for all, open to ports that were sent to.
    PortRestricted,
    /// A mapping for each destination: what one observer saw is of no use to another.
    Symmetric,
    /// Not known.
    Unknown,
}

impl NatType {
    const ALL: [Self; 5] = [Self::FullCone, Self::Restricted, Self::PortRestricted, Self::Symmetric, Self::Unknown];

    /// The word on the wire and in the database.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::FullCone => "full_cone",
            Self::Restricted => "restricted",
            Self::PortRestricted => "port_restricted",
            Self::Symmetric => "symmetric",
            Self::Unknown => "unknown",
        }
    }

    /// The type of a word.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|nat| nat.as_str() == word)
    }
}

/// An endpoint as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Observation {
    /// Where.
    pub(crate) endpoint: Endpoint,
    /// Behind what.
    pub(crate) nat_type: NatType,
    /// Whether it outlived its time and the others were told.
    pub(crate) stale: bool,
}

/// An endpoint as a Node reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// Where.
    pub(crate) endpoint: Endpoint,
    /// Behind what.
    pub(crate) nat_type: NatType,
    /// When the Node saw it.
    pub(crate) reported_at: Timestamp,
}

/// What a report means to what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// None: something newer is kept.
    Older,
    /// What is kept stays fresh for longer.
    Refresh,
    /// Others have to program something else.
    Change,
}

/// Judges a report against what is kept, an observation and the time of its report.
pub(crate) fn effect(kept: Option<(&Observation, Timestamp)>, report: &Report) -> Effect {
    let Some((kept, reported_at)) = kept else { return Effect::Change };
    if report.reported_at < reported_at {
        Effect::Older
    } else if kept.stale || (kept.endpoint, kept.nat_type) != (report.endpoint, report.nat_type) {
        Effect::Change
    } else {
        Effect::Refresh
    }
}

/// What others program for Peers that no relay serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FallbackFill {
    /// The Peer's own observation. Agents learn endpoints from nowhere else.
    #[default]
    Observed,
    /// Nothing: for fleets whose agents learn endpoints elsewhere.
    BridgeOnly,
}

/// The endpoint that others program for a Peer: its own while fresh, unless each destination sees another one.
pub(crate) fn fallback_endpoint(observed: Option<&Observation>, fill: FallbackFill) -> Option<Endpoint> {
    let usable = |seen: &&Observation| !seen.stale && seen.nat_type != NatType::Symmetric;
    match fill {
        FallbackFill::Observed => observed.filter(usable).map(|seen| seen.endpoint),
        FallbackFill::BridgeOnly => None,
    }
}

#[cfg(test)]
mod tests;
