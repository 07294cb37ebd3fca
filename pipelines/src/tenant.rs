//! A Domain as Mimir, Loki and the SIEM see it.

use std::fmt;

use plexsphere_wire::DomainId;

/// The value of `X-Scope-OrgID`: the Domain id as lowercase hyphenated UUID.
///
/// A UUID holds none of the characters that mean something in a tenant id (`|` joins tenants, `/` and blanks are
/// illegal), so that no Domain can be mistaken for several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TenantId(DomainId);

impl TenantId {
    /// The tenant of a Domain.
    #[must_use]
    pub const fn of(domain: DomainId) -> Self {
        Self(domain)
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
