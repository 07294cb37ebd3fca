use plexsphere_wire::{Code, DomainId, GroupId, IdpBindingId, PrincipalId, Timestamp};

use super::members::{MAX_DEPTH, MemberKind};
use super::model::{Draft, GroupRefusal, GroupSource, NewGroup};

fn now() -> Timestamp {
    Timestamp::from_unix_seconds(1_790_000_000)
}

fn draft(slug: &str, source: &str, binding: Option<String>, value: Option<&str>) -> Draft {
    Draft {
        domain_id: DomainId::mint(now()).to_string(),
        slug: slug.to_owned(),
        display_name: "Operators".to_owned(),
        source: source.to_owned(),
        idp_binding_id: binding,
        idp_claim_value: value.map(str::to_owned),
    }
}

#[test]
fn a_group_slug_may_double_its_inner_hyphens_and_nothing_else() {
    let longest = "a".repeat(64);
    for slug in ["a", "1", "a--b", "a-b-c", longest.as_str()] {
        assert!(NewGroup::check(draft(slug, "manual", None, None)).is_ok(), "{slug}");
    }
    let longer = "a".repeat(65);
    for slug in ["", "-", "-a", "a-", "A", "a_b", "a b", "ä", "a\n", longer.as_str()] {
        let refused = NewGroup::check(draft(slug, "manual", None, None)).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidGroup, "{slug:?}");
    }
}

#[test]
fn a_group_of_a_provider_names_binding_and_value_and_a_manual_one_neither() {
    let binding = IdpBindingId::mint(now());
    let id = Some(binding.to_string());
    let made = NewGroup::check(draft("a", "idp", id.clone(), Some("ops"))).unwrap();
    assert_eq!(made.source, GroupSource::Idp { binding, claim_value: "ops".into() });
    for (source, binding, value) in [
        ("manual", id.clone(), None),
        ("manual", None, Some("ops")),
        ("manual", id.clone(), Some("ops")),
        ("idp", None, Some("ops")),
        ("idp", id.clone(), None),
        ("idp", id.clone(), Some("")),
        ("idp", Some("x".into()), Some("ops")),
        ("IdP", id, Some("ops")),
        ("", None, None),
    ] {
        assert!(
            matches!(NewGroup::check(draft("a", source, binding.clone(), value)), Err(GroupRefusal::Invalid(_))),
            "{source} {binding:?} {value:?}"
        );
    }
}

#[test]
fn ten_groups_may_lie_one_inside_the_other() {
    use super::members::Nesting;
    let nest = |outwards, inwards| Nesting { closes_a_cycle: false, outwards, inwards }.check();
    assert!(nest(1, MAX_DEPTH - 1).is_ok() && nest(MAX_DEPTH - 1, 1).is_ok());
    assert!(matches!(nest(1, MAX_DEPTH), Err(GroupRefusal::TooDeep)));
    let cycle = Nesting { closes_a_cycle: true, outwards: 1, inwards: 1 }.check();
    assert!(matches!(cycle, Err(GroupRefusal::Cycle)));
}

#[test]
fn a_membership_is_told_to_the_relation_engine_in_its_spelling() {
    use super::members::Membership;
    let (group, principal) = (GroupId::mint(now()), PrincipalId::mint(now()));
    for (kind, subject) in [
        (MemberKind::User, format!("user:{principal}")),
        (MemberKind::ServiceIdentity, format!("serviceaccount:{principal}")),
        (MemberKind::Group, format!("group:{principal}")),
    ] {
        let tuple = Membership { group, kind, principal, created_at: now() }.tuple();
        assert_eq!((tuple.object.to_string(), tuple.relation.as_str()), (format!("group:{group}"), "member"));
        assert_eq!(tuple.subject.object.to_string(), subject);
        assert_eq!(tuple.subject.relation.as_deref(), (kind == MemberKind::Group).then_some("member"));
    }
}
