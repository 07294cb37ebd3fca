//! How a binding reads claims that providers name differently.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::json::{self, Object};

/// The most groups that are read of one token.
pub const MAX_GROUPS: usize = 512;
/// The longest free text, in bytes.
const MAX_TEXT_BYTES: usize = 4_096;
/// The longest display name, in characters; a longer one is cut.
const MAX_NAME_CHARS: usize = 256;

/// Our names to the provider's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClaimMappings {
    /// Where the email is; `email` when `None`.
    pub email: Option<String>,
    /// Where the display name is; before `name` and `preferred_username`.
    pub display_name: Option<String>,
    /// Where the groups are; none are read when `None`.
    pub groups: Option<String>,
    /// Where the SPIFFE bundle lies. No claim, but it has no other home.
    pub spiffe_bundle_url: Option<String>,
}

impl ClaimMappings {
    /// Picks the known keys out of a binding's map; others are ignored, and so are empty values.
    #[must_use]
    pub fn from_map(map: &BTreeMap<String, String>) -> Self {
        let get = |key: &str| map.get(key).filter(|value| !value.is_empty()).cloned();
        Self {
            email: get("email"),
            display_name: get("display_name"),
            groups: get("groups"),
            spiffe_bundle_url: get("spiffe_bundle_url"),
        }
    }
}

/// What a token says of its subject's groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Groups {
    /// The binding does not map them: memberships are none of this token's business.
    NotMapped,
    /// Exactly these, possibly none.
    Known(BTreeSet<String>),
    /// The provider says that there are more than it sends (`_claim_names`), sent more than [`MAX_GROUPS`], or something
    /// that is no list: change nothing, because a part would take memberships away.
    Unknown,
}

/// The email and whether the provider vouches for it.
pub(crate) fn email(claims: &Object, mappings: &ClaimMappings) -> (Option<String>, bool) {
    let claim = mappings.email.as_deref().unwrap_or("email");
    let fits = |text: &&str| !text.is_empty() && text.len() <= MAX_TEXT_BYTES && !text.chars().any(char::is_control);
    let email = json::text(claims, claim).filter(fits).map(str::to_owned);
    // `email_verified` vouches for the claim `email` and no other. Some providers send it as a string.
    let vouched = matches!(claims.get("email_verified"), Some(Value::Bool(true)))
        || json::text(claims, "email_verified") == Some("true");
    let verified = vouched && claim == "email" && email.is_some();
    (email, verified)
}

/// The mapped claim, else `name`, else `preferred_username`; never the email.
pub(crate) fn display_name(claims: &Object, mappings: &ClaimMappings) -> Option<String> {
    let read = |claim: &str| {
        let text = json::text(claims, claim)?;
        let shown: String = text.chars().filter(|symbol| !symbol.is_control()).take(MAX_NAME_CHARS).collect();
        Some(shown.trim().to_owned()).filter(|shown| !shown.is_empty())
    };
    mappings.display_name.as_deref().and_then(read).or_else(|| read("name")).or_else(|| read("preferred_username"))
}

/// The groups, by the mapped claim.
pub(crate) fn groups(claims: &Object, mappings: &ClaimMappings) -> Groups {
    let Some(claim) = mappings.groups.as_deref() else { return Groups::NotMapped };
    match claims.get(claim).filter(|value| !value.is_null()) {
        None if claims.contains_key("_claim_names") => Groups::Unknown,
        None => Groups::Known(BTreeSet::new()),
        Some(Value::String(one)) => Groups::Known([one.clone()].into()),
        Some(Value::Array(many)) if many.len() <= MAX_GROUPS => {
            Groups::Known(many.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        }
        Some(_) => Groups::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Object {
        value.as_object().unwrap().clone()
    }

    fn mapped(email: &str, display_name: &str, groups: &str) -> ClaimMappings {
        let map = [("email", email), ("display_name", display_name), ("groups", groups), ("shoe_size", "x")];
        ClaimMappings::from_map(&map.map(|(key, value)| (key.to_owned(), value.to_owned())).into())
    }

    #[test]
    fn only_the_claim_email_is_vouched_for() {
        let claims = object(json!({ "email": "a@x", "email_verified": true, "upn": "root@y" }));
        assert_eq!(email(&claims, &ClaimMappings::default()), (Some("a@x".to_owned()), true));
        assert_eq!(email(&claims, &mapped("upn", "", "")), (Some("root@y".to_owned()), false));
        let text = object(json!({ "email": "a@x", "email_verified": "true" }));
        assert!(email(&text, &ClaimMappings::default()).1);
        for unverified in [json!("yes"), json!(1), json!(false), json!(null)] {
            let claims = object(json!({ "email": "a@x", "email_verified": unverified }));
            assert!(!email(&claims, &ClaimMappings::default()).1);
        }
        assert_eq!(email(&object(json!({ "email_verified": true })), &ClaimMappings::default()), (None, false));
    }

    #[test]
    fn the_display_name_falls_back_and_is_never_the_email() {
        let name = |claims: Value| display_name(&object(claims), &mapped("", "nick", ""));
        assert_eq!(name(json!({ "nick": " Ada ", "name": "B" })).as_deref(), Some("Ada"));
        assert_eq!(name(json!({ "nick": "\u{7}", "name": "B\n" })).as_deref(), Some("B"));
        assert_eq!(name(json!({ "name": 7, "preferred_username": "c" })).as_deref(), Some("c"));
        assert_eq!(name(json!({ "email": "a@x" })), None);
        assert_eq!(name(json!({ "name": "é".repeat(300) })).unwrap().chars().count(), 256);
    }

    #[test]
    fn a_missing_groups_claim_is_the_empty_set_unless_the_provider_has_more() {
        let mappings = mapped("", "", "roles");
        let read = |claims: Value| groups(&object(claims), &mappings);
        let known = |names: &[&str]| Groups::Known(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(read(json!({})), known(&[]));
        assert_eq!(read(json!({ "roles": "one" })), known(&["one"]));
        assert_eq!(read(json!({ "roles": ["b", "a", "b", 7] })), known(&["a", "b"]));
        assert_eq!(read(json!({ "_claim_names": { "roles": "src1" } })), Groups::Unknown);
        assert_eq!(read(json!({ "roles": null, "_claim_names": {} })), Groups::Unknown);
        assert_eq!(read(json!({ "roles": vec!["x"; 513] })), Groups::Unknown);
        assert_eq!(read(json!({ "roles": { "a": true } })), Groups::Unknown);
        assert_eq!(read(json!({ "roles": null })), known(&[]));
        assert_eq!(groups(&object(json!({ "groups": ["a"] })), &ClaimMappings::default()), Groups::NotMapped);
    }
}
