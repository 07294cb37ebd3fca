//! Through which binding somebody signs in.

use plexsphere_wire::{DomainId, IdpBindingId};

use crate::bindings::{BindingOwner, IdpBinding};

/// What a request says of the binding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Of which Domain the caller wants to be.
    pub(crate) domain: Option<DomainId>,
    /// Which binding.
    pub(crate) binding: Option<IdpBindingId>,
    /// Or by its alias.
    pub(crate) alias: Option<String>,
}

/// Why no binding is selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SelectRefusal {
    /// The selectors select nothing, several, or contradict each other.
    Ambiguous,
    /// There is no such usable binding.
    NotFound,
}

/// The bindings that matter for a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Candidates {
    /// Every binding of the Domain.
    pub(crate) own: Vec<IdpBinding>,
    /// Every binding of the platform.
    pub(crate) platform: Vec<IdpBinding>,
}

impl Candidates {
    /// What somebody may choose from: the Domain's usable bindings, or the platform's when the Domain owns none.
    pub(crate) fn usable(&self) -> impl Iterator<Item = &IdpBinding> {
        let list = if self.own.is_empty() { &self.platform } else { &self.own };
        list.iter().filter(|binding| binding.status.is_usable())
    }
}

/// Selects: what is named, else the Domain's primary, else its only usable one, else the only usable one of the platform
/// when the Domain owns none. A Domain that does not exist behaves as one without bindings.
pub(crate) fn select(wanted: &Wanted, candidates: &Candidates) -> Result<IdpBinding, SelectRefusal> {
    if let Some(id) = wanted.binding {
        return named(wanted, candidates, |binding| binding.id == id);
    }
    if let Some(alias) = &wanted.alias {
        return named(wanted, candidates, |binding| binding.settings.alias.as_ref() == Some(alias));
    }
    if wanted.domain.is_none() {
        return Err(SelectRefusal::Ambiguous);
    }
    let usable: Vec<&IdpBinding> = candidates.usable().collect();
    let primary = usable.iter().find(|binding| binding.settings.primary);
    match (primary, usable.as_slice()) {
        (Some(primary), _) => Ok((*primary).clone()),
        (None, [only]) => Ok((*only).clone()),
        (None, []) => Err(SelectRefusal::NotFound),
        (None, _) => Err(SelectRefusal::Ambiguous),
    }
}

/// A binding that the request names: of its Domain, or the platform's.
fn named(
    wanted: &Wanted,
    candidates: &Candidates,
    is_it: impl Fn(&IdpBinding) -> bool,
) -> Result<IdpBinding, SelectRefusal> {
    let all = candidates.own.iter().chain(&candidates.platform);
    let found = all.filter(|binding| is_it(binding)).max_by_key(|binding| binding.status.is_usable());
    let found = found.ok_or(SelectRefusal::NotFound)?;
    match (found.owner, wanted.domain) {
        (BindingOwner::Domain(_), None) => Err(SelectRefusal::Ambiguous),
        (BindingOwner::Domain(owner), Some(domain)) if owner != domain => Err(SelectRefusal::NotFound),
        _ if !found.status.is_usable() => Err(SelectRefusal::NotFound),
        _ => Ok(found.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use plexsphere_wire::Timestamp;

    use super::*;
    use crate::bindings::{BindingStatus, JitPolicy, Settings};

    fn binding(owner: BindingOwner, alias: &str, (primary, status): (bool, BindingStatus)) -> IdpBinding {
        let now = Timestamp::from_unix_seconds(1_795_507_200);
        IdpBinding {
            id: IdpBindingId::mint(now),
            owner,
            issuer: "https://idp.example".to_owned(),
            client_id: "client".to_owned(),
            client_secret_ref: "env:SECRET".to_owned(),
            settings: Settings {
                discovery_url: "https://idp.example/.well-known/openid-configuration".to_owned(),
                claim_mappings: BTreeMap::new(),
                required_acr: Vec::new(),
                required_amr: Vec::new(),
                jit_policy: JitPolicy::Deny,
                alias: Some(alias.to_owned()),
                primary,
            },
            status,
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }

    const LIVE: (bool, BindingStatus) = (false, BindingStatus::Active);
    const PRIMARY: (bool, BindingStatus) = (true, BindingStatus::Degraded);
    const OFF: (bool, BindingStatus) = (false, BindingStatus::Deactivated);

    fn chosen(wanted: &Wanted, own: &[IdpBinding], platform: &[IdpBinding]) -> Result<String, SelectRefusal> {
        let candidates = Candidates { own: own.to_vec(), platform: platform.to_vec() };
        select(wanted, &candidates).map(|binding| binding.settings.alias.unwrap_or_default())
    }

    #[test]
    fn without_a_name_the_primary_wins_then_the_only_one_then_the_platforms_only_one() {
        let domain = DomainId::mint(Timestamp::from_unix_seconds(1_795_507_200));
        let of_domain = |alias, how| binding(BindingOwner::Domain(domain), alias, how);
        let of_platform = |alias, how| binding(BindingOwner::Platform, alias, how);
        let wanted = Wanted { domain: Some(domain), ..Wanted::default() };
        let shared = of_platform("shared", LIVE);
        let ok = |alias: &str| Ok(alias.to_owned());
        for (own, platform, expected) in [
            (vec![of_domain("a", LIVE), of_domain("b", PRIMARY)], vec![], ok("b")),
            (vec![of_domain("a", LIVE), of_domain("b", OFF)], vec![], ok("a")),
            (vec![of_domain("a", LIVE), of_domain("b", LIVE)], vec![], Err(SelectRefusal::Ambiguous)),
            (vec![of_domain("a", OFF)], vec![shared.clone()], Err(SelectRefusal::NotFound)),
            (vec![], vec![shared.clone()], ok("shared")),
            (vec![], vec![shared.clone(), of_platform("other", OFF)], ok("shared")),
            (vec![], vec![shared.clone(), of_platform("other", LIVE)], Err(SelectRefusal::Ambiguous)),
            (vec![], vec![], Err(SelectRefusal::NotFound)),
        ] {
            assert_eq!(chosen(&wanted, &own, &platform), expected, "{own:?} {platform:?}");
        }
        assert_eq!(chosen(&Wanted::default(), &[], &[shared]), Err(SelectRefusal::Ambiguous));
    }

    #[test]
    fn a_named_binding_must_be_the_domains_or_the_platforms_and_usable() {
        let at = Timestamp::from_unix_seconds(1_795_507_200);
        let (domain, other) = (DomainId::mint(at), DomainId::mint(at));
        let own = binding(BindingOwner::Domain(domain), "own", LIVE);
        let off = binding(BindingOwner::Domain(domain), "off", OFF);
        let shared = binding(BindingOwner::Platform, "shared", LIVE);
        let by_id = |domain, id| Wanted { domain, binding: Some(id), alias: None };
        let by_alias = |domain, alias: &str| Wanted { domain, binding: None, alias: Some(alias.to_owned()) };
        let all = [own.clone(), off.clone()];
        let platform = [shared.clone()];
        let ok = |alias: &str| Ok(alias.to_owned());
        for (wanted, expected) in [
            (by_id(Some(domain), own.id), ok("own")),
            (by_id(Some(domain), shared.id), ok("shared")),
            (by_id(Some(domain), off.id), Err(SelectRefusal::NotFound)),
            (by_id(Some(other), own.id), Err(SelectRefusal::NotFound)),
            (by_id(None, own.id), Err(SelectRefusal::Ambiguous)),
            (by_id(None, shared.id), ok("shared")),
            (by_id(Some(domain), IdpBindingId::mint(at)), Err(SelectRefusal::NotFound)),
            (by_alias(Some(domain), "own"), ok("own")),
            (by_alias(None, "shared"), ok("shared")),
            (by_alias(Some(domain), "nobody"), Err(SelectRefusal::NotFound)),
        ] {
            assert_eq!(chosen(&wanted, &all, &platform), expected, "{wanted:?}");
        }
    }
}
