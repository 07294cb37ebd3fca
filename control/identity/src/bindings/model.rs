//! The binding as a value and its rules.

use std::collections::BTreeMap;

use plexsphere_kernel::{Fault, ObjectRef};
use plexsphere_wire::{Code, DomainId, IdpBindingId, Problem, Timestamp};

use super::reach::{self, MAX_TEXT};
use super::status::BindingStatus;
use crate::text;

/// The most demands of one kind.
const MAX_DEMANDS: usize = 16;
/// The most claims that are mapped.
const MAX_MAPPINGS: usize = 64;
/// The most characters of an alias.
const MAX_ALIAS: usize = 64;
/// The mapping that holds where a SPIFFE bundle is found, since no other member can.
const SPIFFE_BUNDLE_URL: &str = "spiffe_bundle_url";

/// Whose binding it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BindingOwner {
    /// The platform: shared by Domains without a usable one of their own.
    Platform,
    /// One Domain.
    Domain(DomainId),
}

impl BindingOwner {
    /// The Domain, if it is one's.
    #[must_use]
    pub const fn domain(self) -> Option<DomainId> {
        match self {
            Self::Platform => None,
            Self::Domain(domain) => Some(domain),
        }
    }

    /// The object whose relations decide about the binding.
    #[must_use]
    pub fn object(self) -> ObjectRef {
        self.domain().map_or_else(ObjectRef::platform, ObjectRef::domain)
    }
}

/// Whether a sign-in makes a User that is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JitPolicy {
    /// It does.
    Allow,
    /// Only an Invitation does.
    Deny,
}

impl JitPolicy {
    /// The word at rest and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Allow, Self::Deny].into_iter().find(|policy| policy.as_str() == word)
    }
}

/// What may be changed of a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) discovery_url: String,
    pub(crate) claim_mappings: BTreeMap<String, String>,
    pub(crate) required_acr: Vec<String>,
    pub(crate) required_amr: Vec<String>,
    pub(crate) jit_policy: JitPolicy,
    pub(crate) alias: Option<String>,
    pub(crate) primary: bool,
}

/// A stored binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdpBinding {
    pub(crate) id: IdpBindingId,
    pub(crate) owner: BindingOwner,
    pub(crate) issuer: String,
    pub(crate) client_id: String,
    pub(crate) client_secret_ref: String,
    pub(crate) settings: Settings,
    pub(crate) status: BindingStatus,
    /// Moves with every change.
    pub(crate) version: i64,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// A binding to be, with its rules checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewBinding {
    pub(crate) owner: BindingOwner,
    pub(crate) issuer: String,
    pub(crate) client_id: String,
    pub(crate) client_secret_ref: String,
    pub(crate) settings: Settings,
}

/// The members of a request for a binding, unchecked.
pub(crate) struct Draft {
    pub(crate) owner: BindingOwner,
    pub(crate) issuer: String,
    pub(crate) client_id: String,
    pub(crate) client_secret_ref: String,
    pub(crate) discovery_url: String,
    pub(crate) jit_policy: String,
    pub(crate) rest: Patch,
}

/// The members of a change, unchecked; absent ones stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Patch {
    pub(crate) discovery_url: Option<String>,
    pub(crate) claim_mappings: Option<BTreeMap<String, String>>,
    pub(crate) required_acr: Option<Vec<String>>,
    pub(crate) required_amr: Option<Vec<String>>,
    pub(crate) jit_policy: Option<String>,
    pub(crate) alias: Option<String>,
    pub(crate) primary: Option<bool>,
}

impl NewBinding {
    /// Checks the rules of a binding's members. `insecure` admits plain http.
    pub(crate) fn check(draft: Draft, insecure: bool) -> Result<Self, BindingRefusal> {
        let Draft { owner, issuer, client_id, client_secret_ref, discovery_url, jit_policy, rest } = draft;
        if !reach::is_issuer(&issuer, insecure) {
            return Err(BindingRefusal::Invalid("issuer"));
        }
        if !reach::is_text(&client_id) {
            return Err(BindingRefusal::Invalid("client_id"));
        }
        if !reach::is_within_reach(&client_secret_ref, owner.domain()) {
            return Err(BindingRefusal::Reach);
        }
        let blank = Settings {
            discovery_url: String::new(),
            claim_mappings: BTreeMap::new(),
            required_acr: Vec::new(),
            required_amr: Vec::new(),
            jit_policy: JitPolicy::Deny,
            alias: None,
            primary: false,
        };
        let whole = Patch { discovery_url: Some(discovery_url), jit_policy: Some(jit_policy), ..rest };
        let settings = whole.apply(blank, owner, insecure)?;
        Ok(Self { owner, issuer, client_id, client_secret_ref, settings })
    }
}

impl Patch {
    /// Whether nothing is to be changed.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The settings with the changes made, each judged.
    pub(crate) fn apply(self, old: Settings, owner: BindingOwner, insecure: bool) -> Result<Settings, BindingRefusal> {
        let mut new = old;
        if let Some(url) = self.discovery_url {
            if !reach::is_url(&url, insecure) {
                return Err(BindingRefusal::Invalid("discovery_url"));
            }
            new.discovery_url = url;
        }
        if let Some(mappings) = self.claim_mappings {
            new.claim_mappings = check_mappings(mappings)?;
        }
        if let Some(acr) = self.required_acr {
            new.required_acr = demands(acr).ok_or(BindingRefusal::Invalid("required_acr"))?;
        }
        if let Some(amr) = self.required_amr {
            new.required_amr = demands(amr).ok_or(BindingRefusal::Invalid("required_amr"))?;
        }
        if let Some(word) = self.jit_policy {
            new.jit_policy = JitPolicy::parse(&word).ok_or(BindingRefusal::Policy)?;
        }
        if let Some(text) = self.alias {
            new.alias = alias(&text)?;
        }
        if let Some(primary) = self.primary {
            if primary && owner == BindingOwner::Platform {
                return Err(BindingRefusal::Invalid("primary"));
            }
            new.primary = primary;
        }
        Ok(new)
    }
}

/// Names of ours onto names of the provider's. Names that are not known here are kept.
fn check_mappings(mappings: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, BindingRefusal> {
    let fits = mappings.len() <= MAX_MAPPINGS
        && mappings.iter().all(|(ours, theirs)| reach::is_text(ours) && reach::is_text(theirs))
        // Keys are fetched from there, so plain http is never good enough.
        && mappings.get(SPIFFE_BUNDLE_URL).is_none_or(|url| reach::is_url(url, false));
    if fits { Ok(mappings) } else { Err(BindingRefusal::Invalid("claim_mappings")) }
}

/// Values that are asked for side by side, separated by spaces, so none may have one.
fn demands(values: Vec<String>) -> Option<Vec<String>> {
    let fits = |value: &String| reach::is_text(value) && !value.contains(char::is_whitespace);
    (values.len() <= MAX_DEMANDS && values.iter().all(fits)).then_some(values)
}

/// The alias in lower-case kebab-case; none for the empty text. White space, `_`, `.` and `-` separate words.
fn alias(text: &str) -> Result<Option<String>, BindingRefusal> {
    if text.is_empty() {
        return Ok(None);
    }
    let separates = |c: char| c.is_whitespace() || matches!(c, '-' | '_' | '.');
    let words: Vec<&str> = text.split(separates).filter(|word| !word.is_empty()).collect();
    let plain = words.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let alias = words.join("-").to_ascii_lowercase();
    let fits = plain && (1..=MAX_ALIAS).contains(&alias.len()) && text.chars().count() <= MAX_TEXT;
    if fits { Ok(Some(alias)) } else { Err(BindingRefusal::Invalid("alias")) }
}

/// Why a request about a binding is refused.
#[derive(Debug, thiserror::Error)]
pub enum BindingRefusal {
    /// A member breaks its rule.
    #[error("`{0}` is not acceptable")]
    Invalid(&'static str),
    /// The secret lies outside the owner's reach.
    #[error(
        "`client_secret_ref` is not acceptable: a domain's binding names `secret:<domain id>/<path>` of its own, one of \
         the platform `env:NAME` or `file:/path`"
    )]
    Reach,
    /// No such policy.
    #[error("`jit_policy` is `allow` or `deny`")]
    Policy,
    /// A change that changes nothing.
    #[error("the patch sets nothing")]
    EmptyPatch,
    /// No such status, or none that an operator may set.
    #[error("`status` is `active` or `deactivated`")]
    Status,
    /// An operator switches on what is not switched off: the probe alone ends `degraded` and `inactive`.
    #[error("the binding is {}, and only the probe makes it active again", .0.as_str())]
    NotDeactivated(BindingStatus),
    /// Another live binding of the owner trusts the issuer.
    #[error("another binding that is not deactivated has this issuer")]
    IssuerTaken,
    /// Another live binding of the owner has the alias.
    #[error("another binding that is not deactivated has this alias")]
    AliasTaken,
    /// Another live binding of the Domain is primary.
    #[error("another binding of the domain is primary; demote it first")]
    PrimaryTaken,
    /// Somebody else changed the binding in between.
    #[error("the binding was changed by another request")]
    Stale,
    /// There is no such binding.
    #[error("there is no such binding")]
    NotFound,
    /// Something broke.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl BindingRefusal {
    /// The code on the wire.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Invalid(_) | Self::Reach => Code::InvalidIdpBinding,
            Self::Policy => Code::InvalidJitPolicy,
            Self::EmptyPatch => Code::EmptyPatch,
            Self::Status | Self::NotDeactivated(_) => Code::InvalidStatus,
            Self::IssuerTaken => Code::IssuerConflict,
            Self::AliasTaken => Code::AliasConflict,
            Self::PrimaryTaken => Code::PrimaryConflict,
            Self::Stale => Code::BindingConflict,
            Self::NotFound => Code::BindingNotFound,
            Self::Fault(_) => Code::Internal,
        }
    }
}

impl From<BindingRefusal> for Problem {
    fn from(refusal: BindingRefusal) -> Self {
        match refusal {
            BindingRefusal::Fault(fault) => fault.into(),
            other => Self::new(other.code(), text::sentence(&other)),
        }
    }
}
