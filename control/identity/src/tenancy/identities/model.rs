//! Principals of a Domain as values, and the rules of a ServiceIdentity.

use plexsphere_kernel::{Fault, ObjectRef};
use plexsphere_wire::{Code, DomainId, PrincipalId, Problem, Timestamp};

use crate::tenancy::edges;
use crate::text;

const MAX_DISPLAY_NAME: usize = 256;
const MAX_SUBJECT: usize = 2_048;
const MAX_AUDIENCE: usize = 256;
const SPIFFE: &str = "spiffe://";

/// What a principal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdentityKind {
    User,
    ServiceIdentity,
}

impl IdentityKind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::ServiceIdentity => "service-identity",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::User, Self::ServiceIdentity].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// A stored principal of a Domain.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    pub(crate) id: PrincipalId,
    pub(crate) kind: IdentityKind,
    pub(crate) domain: DomainId,
    pub(crate) display_name: String,
    pub(crate) external_subject: String,
    pub(crate) email: Option<String>,
    pub(crate) last_sign_in_at: Option<Timestamp>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

impl Principal {
    /// The object of the relation graph.
    pub(crate) fn object(&self) -> ObjectRef {
        match self.kind {
            IdentityKind::User => edges::user(self.id),
            IdentityKind::ServiceIdentity => edges::service_account(self.id),
        }
    }
}

/// How a ServiceIdentity proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FederationKind {
    /// By the client-credentials grant at its Domain's identity provider.
    OidcCc,
    /// By a JWT-SVID.
    SpiffeSvid,
    /// By API tokens of ours.
    ApiToken,
}

impl FederationKind {
    /// The word on the wire and in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OidcCc => "oidc_cc",
            Self::SpiffeSvid => "spiffe_svid",
            Self::ApiToken => "api_token",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::OidcCc, Self::SpiffeSvid, Self::ApiToken].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// A stored ServiceIdentity; nothing of it ever changes.
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceIdentity {
    /// Its id; also its `client_id`.
    pub id: PrincipalId,
    /// Its Domain.
    pub domain: DomainId,
    /// What people call it.
    pub display_name: String,
    /// Who it is to whoever vouches for it; unique in the Domain.
    pub subject: String,
    /// For whom its credentials must be meant.
    pub audience: String,
    /// How it proves itself.
    pub federation_kind: FederationKind,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A ServiceIdentity to be, with its rules checked.
#[derive(Clone, PartialEq, Eq)]
pub struct NewServiceIdentity {
    pub(crate) display_name: String,
    pub(crate) subject: String,
    pub(crate) audience: String,
    pub(crate) federation_kind: FederationKind,
}

impl NewServiceIdentity {
    /// Checks the rules of a ServiceIdentity's members.
    pub(crate) fn check(
        display_name: &str,
        subject: &str,
        audience: &str,
        federation_kind: &str,
    ) -> Result<Self, IdentityRefusal> {
        let new = Self {
            display_name: text::name(display_name, MAX_DISPLAY_NAME).ok_or(IdentityRefusal::Invalid("display_name"))?,
            subject: text::name(subject, MAX_SUBJECT).ok_or(IdentityRefusal::Invalid("subject"))?,
            audience: text::name(audience, MAX_AUDIENCE).ok_or(IdentityRefusal::Invalid("audience"))?,
            federation_kind: FederationKind::parse(federation_kind)
                .ok_or(IdentityRefusal::Invalid("federation_kind"))?,
        };
        if new.federation_kind == FederationKind::SpiffeSvid && !is_spiffe_id(&new.subject) {
            return Err(IdentityRefusal::Invalid("subject"));
        }
        Ok(new)
    }
}

/// A SPIFFE ID as its standard has it: a lower-case trust domain, then a path without empty or relative segments; no
/// port, no user, no query, no fragment.
fn is_spiffe_id(subject: &str) -> bool {
    let Some(rest) = subject.strip_prefix(SPIFFE) else { return false };
    let mut segments = rest.split('/');
    let trust_domain = segments.next().unwrap_or("");
    let is_trust_domain = (1..=255).contains(&trust_domain.len())
        && trust_domain
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_'));
    let is_segment = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    };
    is_trust_domain && segments.all(is_segment)
}

/// Why a request about the principals of a Domain is refused.
#[derive(Debug, thiserror::Error)]
pub enum IdentityRefusal {
    /// A member breaks its rule.
    #[error("`{0}` is not acceptable")]
    Invalid(&'static str),
    /// The Domain has a ServiceIdentity with this subject.
    #[error("the domain has a service identity with this subject")]
    AlreadyExists,
    /// There is no such Domain.
    #[error("there is no such domain")]
    DomainNotFound,
    /// There is no such principal in the Domain.
    #[error("there is no such identity")]
    NotFound,
    /// Something broke.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl IdentityRefusal {
    /// The code on the wire.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::InvalidServiceIdentity,
            Self::AlreadyExists => Code::ServiceIdentityAlreadyExists,
            Self::DomainNotFound => Code::DomainNotFound,
            Self::NotFound => Code::IdentityNotFound,
            Self::Fault(_) => Code::Internal,
        }
    }
}

impl From<IdentityRefusal> for Problem {
    fn from(refusal: IdentityRefusal) -> Self {
        match refusal {
            IdentityRefusal::Fault(fault) => fault.into(),
            other => Self::new(other.code(), text::sentence(&other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spiffe_id_has_a_trust_domain_and_a_clean_path() {
        for good in ["spiffe://example.org", "spiffe://example.org/ns/a/sa/B_1", "spiffe://td-1/x.y"] {
            assert!(is_spiffe_id(good), "{good}");
        }
        for bad in [
            "",
            "spiffe://",
            "spiffe:///x",
            "SPIFFE://example.org/x",
            "spiffe://Example.org/x",
            "spiffe://example.org/",
            "spiffe://example.org//x",
            "spiffe://example.org/../x",
            "spiffe://example.org:443/x",
            "spiffe://me@example.org/x",
            "spiffe://example.org/x?y",
            "spiffe://example.org/x#y",
            "https://example.org/x",
        ] {
            assert!(!is_spiffe_id(bad), "{bad}");
        }
    }
}
