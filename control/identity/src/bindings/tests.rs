use std::collections::{BTreeMap, HashMap};

use plexsphere_wire::{Code, DomainId, IdpBindingId, Timestamp};

use super::model::{BindingOwner, Draft, IdpBinding, NewBinding, Patch};
use super::probe::{Seen, longest_unseen_first};
use super::reach::{is_issuer, is_url, is_within_reach};
use super::status::{BindingEvent, BindingStatus};

fn domain() -> DomainId {
    DomainId::mint(Timestamp::from_unix_seconds(1_790_000_000))
}

#[test]
fn every_status_meets_every_event_and_goes_where_the_table_says() {
    use BindingEvent::{Activate, Deactivate, ProbeFailed, ProbeFoundFault, ProbeSucceeded};
    use BindingStatus::{Active, Deactivated, Degraded, Inactive};
    let events = [Deactivate, Activate, ProbeFailed, ProbeFoundFault, ProbeSucceeded];
    let table = [
        (Active, [Some(Deactivated), None, Some(Degraded), Some(Inactive), None]),
        (Degraded, [Some(Deactivated), None, None, Some(Inactive), Some(Active)]),
        (Inactive, [Some(Deactivated), None, None, None, Some(Active)]),
        (Deactivated, [None, Some(Active), None, None, None]),
    ];
    assert_eq!(table.map(|(status, _)| status), BindingStatus::ALL);
    for (status, expected) in table {
        for (event, expected) in events.into_iter().zip(expected) {
            assert_eq!(status.transition(event), expected, "{status:?} {event:?}");
        }
        assert_eq!(BindingStatus::parse(status.as_str()), Some(status));
        assert_eq!(status.is_usable(), matches!(status, Active | Degraded));
    }
    for word in ["", "Active", "active ", "deleted"] {
        assert_eq!(BindingStatus::parse(word), None, "{word}");
    }
}

#[test]
fn a_domain_reaches_its_own_secrets_alone_and_the_platform_the_servers() {
    let (own, other) = (domain(), domain());
    for path in ["idp", "idp/client", "a/c_d-e", "A/1"] {
        assert!(is_within_reach(&format!("secret:{own}/{path}"), Some(own)), "{path}");
        assert!(!is_within_reach(&format!("secret:{own}/{path}"), None), "{path}");
        assert!(!is_within_reach(&format!("secret:{other}/{path}"), Some(own)), "{path}");
    }
    let climbing = [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        "a.b",
        "..a/b",
        ".",
        "..",
        "../x",
        "a/../../x",
        "a/./b",
        "a b",
        "a%2f..",
        "a\\b",
        "a?b",
        "a#b",
        "a\u{0}",
        "ä",
        "a\n",
    ];
    for path in climbing {
        assert!(!is_within_reach(&format!("secret:{own}/{path}"), Some(own)), "{path:?}");
    }
    let upper = format!("secret:{}/a", own.to_string().to_uppercase());
    let foreign = [
        "file:/etc/passwd",
        "env:PLEXSPHERE_TOKEN_PEPPER",
        "a",
        "",
        "secret:",
        "secret:/a",
        " secret:x",
        upper.as_str(),
    ];
    for reference in foreign {
        assert!(!is_within_reach(reference, Some(own)), "{reference}");
    }
    for reference in ["env:IDP_SECRET", "env:_x1", "file:/run/secrets/idp", "file:/a"] {
        assert!(is_within_reach(reference, None), "{reference}");
    }
    for reference in ["env:", "env:1A", "env:A-B", "env:A B", "file:", "file:a", "file:/", "file:/a/../b", "file://a"] {
        assert!(!is_within_reach(reference, None), "{reference}");
    }
}

#[test]
fn a_url_is_absolute_and_bare_and_plain_http_needs_leave() {
    let long = format!("https://idp.example/{}", "a".repeat(4_076));
    for url in [
        "https://idp.example",
        "https://idp.example:8443/realms/a?x=1",
        "HTTPS://IDP.example/",
        "https://[::1]/",
        long.as_str(),
    ] {
        assert!(is_url(url, false), "{url}");
    }
    let longer = format!("{long}a");
    for url in [
        "",
        "idp.example",
        "/a",
        "//idp.example",
        "https:",
        "https:idp",
        "https:/idp",
        "https://",
        "https:///idp",
        "http://idp.example",
        "ftp://idp.example",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://u@idp.example",
        "https://u:p@idp.example",
        "https://idp.example/#x",
        "https://idp.example/#",
        " https://idp.example",
        "https://idp.example/a b",
        "https://idp.example/\n",
        "https://idp.example\\@evil.example",
        longer.as_str(),
    ] {
        assert!(!is_url(url, false), "{url:?}");
    }
    assert!(is_url("http://idp.example", true) && !is_url("ftp://idp.example", true));
    assert!(!is_issuer("https://idp.example/?a", false) && is_issuer("https://idp.example/a", false));
}

fn draft(owner: BindingOwner, reference: &str, rest: Patch) -> Draft {
    Draft {
        owner,
        issuer: "https://idp.example".into(),
        client_id: "plexsphere".into(),
        client_secret_ref: reference.into(),
        discovery_url: "https://idp.example/.well-known/openid-configuration".into(),
        jit_policy: "deny".into(),
        rest,
    }
}

#[test]
fn an_alias_is_brought_into_kebab_case_or_refused() {
    let read = |alias: &str| {
        let rest = Patch { alias: Some(alias.to_owned()), ..Patch::default() };
        NewBinding::check(draft(BindingOwner::Platform, "env:X", rest), false).map(|new| new.settings.alias)
    };
    let longest = "a".repeat(64);
    for (text, alias) in [
        ("GitHub EU", "github-eu"),
        ("github-eu", "github-eu"),
        ("  a__b..C ", "a-b-c"),
        (longest.as_str(), longest.as_str()),
    ] {
        assert_eq!(read(text).unwrap().as_deref(), Some(alias), "{text}");
    }
    assert_eq!(read("").unwrap(), None);
    for text in ["-", "   ", "a/b", "ä", "a\u{0}b", &"a".repeat(65), &" ".repeat(5_000)] {
        assert_eq!(read(text).unwrap_err().code(), Code::InvalidIdpBinding, "{text:?}");
    }
}

#[test]
fn a_spiffe_bundle_is_fetched_by_https_and_unknown_mappings_are_kept() {
    let read = |name: &str, value: &str| {
        let mappings = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let rest = Patch { claim_mappings: Some(mappings), ..Patch::default() };
        NewBinding::check(draft(BindingOwner::Platform, "env:X", rest), true).map(|new| new.settings.claim_mappings)
    };
    assert_eq!(read("shoe_size", "urn:size").unwrap().len(), 1);
    assert!(read("spiffe_bundle_url", "https://spire.example/bundle").is_ok());
    for (name, value) in [("spiffe_bundle_url", "http://spire.example"), ("email", ""), ("", "x"), ("email", "a\u{7}")]
    {
        assert!(read(name, value).is_err(), "{name} {value}");
    }
}

#[test]
fn bindings_never_seen_come_first_and_those_just_seen_last() {
    let at = Timestamp::from_unix_seconds;
    let binding = || {
        let new = NewBinding::check(draft(BindingOwner::Platform, "env:IDP", Patch::default()), false).unwrap();
        IdpBinding {
            id: IdpBindingId::mint(at(1_790_000_000)),
            owner: new.owner,
            issuer: new.issuer,
            client_id: new.client_id,
            client_secret_ref: new.client_secret_ref,
            settings: new.settings,
            status: BindingStatus::Active,
            version: 1,
            created_at: at(0),
            updated_at: at(0),
        }
    };
    let mut bindings = [binding(), binding(), binding()];
    let [new, old, fresh] = [bindings[2].id, bindings[1].id, bindings[0].id];
    let seen = |second| Seen { at: Some(at(second)), failures: 0 };
    longest_unseen_first(&mut bindings, &HashMap::from([(fresh, seen(20)), (old, seen(10))]));
    assert_eq!(bindings.map(|binding| binding.id), [new, old, fresh]);
}
