use std::collections::BTreeMap;

use plexsphere_kernel::GrantRules;
use plexsphere_wire::{DomainId, ProjectId, Timestamp};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::model::{InvitationRefusal, InvitationStatus, NewInvitation, StagedObject, Trigger, TupleDraft};

/// Rules with one relation per kind, and caveats that are told apart by their parameters.
struct Rules;

impl GrantRules for Rules {
    fn is_assignable(&self, kind: &str, relation: &str) -> bool {
        matches!((kind, relation), ("domain", "admin") | ("project", "viewer"))
    }

    fn caveat_fits(&self, name: &str, context: &BTreeMap<String, Value>) -> bool {
        context.keys().all(|key| match name {
            "from_cidr" => key == "allowed_cidrs",
            "requires_assurance" => matches!(key.as_str(), "any_acr" | "max_age_seconds"),
            _ => false,
        })
    }
}

fn domain() -> DomainId {
    DomainId::mint(Timestamp::from_unix_seconds(1_790_000_000))
}

fn check(domain: DomainId, tuples: &[(&str, &str, Option<Value>)]) -> Result<NewInvitation, InvitationRefusal> {
    let contexts: Vec<Option<Map<String, Value>>> =
        tuples.iter().map(|(_, _, context)| context.as_ref().map(|value| value.as_object().unwrap().clone())).collect();
    let drafts: Vec<TupleDraft<'_>> = tuples
        .iter()
        .zip(&contexts)
        .map(|((relation, object, _), context)| TupleDraft { relation, object, caveat_context: context.as_ref() })
        .collect();
    NewInvitation::check(domain, "ada@example.com", None, &drafts, &Rules)
}

#[test]
fn only_a_pending_invitation_moves_and_each_end_absorbs_everything() {
    for status in InvitationStatus::ALL {
        assert_eq!(InvitationStatus::parse(status.as_str()), Some(status));
        for (trigger, end) in [
            (Trigger::SignIn, InvitationStatus::Accepted),
            (Trigger::Revoke, InvitationStatus::Revoked),
            (Trigger::TimeOut, InvitationStatus::Expired),
        ] {
            let expected = (status == InvitationStatus::Pending).then_some(end);
            assert_eq!(status.transition(trigger), expected, "{status:?} {trigger:?}");
        }
    }
}

#[test]
fn an_object_is_the_domain_itself_a_project_or_a_group_and_nothing_else() {
    let own = domain();
    let other = domain();
    let project = ProjectId::mint(Timestamp::from_unix_seconds(1_790_000_000));
    assert_eq!(StagedObject::parse(&format!("domain:{own}"), own), Some(StagedObject::Domain(own)));
    assert_eq!(StagedObject::parse(&format!("project:{project}"), own), Some(StagedObject::Project(project)));
    let upper = format!("project:{project}").replace("project:", "").to_uppercase();
    assert_eq!(StagedObject::parse(&format!("project:{upper}"), own), Some(StagedObject::Project(project)));
    let foreign = format!("domain:{other}");
    let userset = format!("domain:{own}#read");
    for bad in ["", "domain", "domain:", "project:x", "platform:plexsphere", "user:*", &foreign, &userset] {
        assert_eq!(StagedObject::parse(bad, own), None, "{bad}");
    }
}

#[test]
fn the_number_of_tuples_is_judged_first_then_form_then_relation_then_condition() {
    let own = domain();
    let here = format!("domain:{own}");
    let many: Vec<_> = (0..33).map(|_| ("nonsense", "nowhere", None)).collect();
    assert!(matches!(check(own, &many), Err(InvitationRefusal::TooManyTuples)));
    let scope = [("nonsense", here.as_str(), None), ("admin", "nowhere", None)];
    assert!(matches!(check(own, &scope), Err(InvitationRefusal::OutOfScope(1))));
    let relation = [("admin", here.as_str(), None), ("manage", here.as_str(), Some(json!({ "x": 1 })))];
    assert!(matches!(check(own, &relation), Err(InvitationRefusal::NotAssignable(1))));
    let group = "group:0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a3";
    assert!(check(own, &[("member", group, None)]).is_ok());
    assert!(matches!(check(own, &[("admin", group, None)]), Err(InvitationRefusal::NotAssignable(0))));
    let conditional = [("member", group, Some(json!({ "allowed_cidrs": ["10.0.0.0/8"] })))];
    assert!(matches!(check(own, &conditional), Err(InvitationRefusal::Caveat(0))));
}

#[test]
fn a_condition_is_the_one_whose_parameters_it_has_and_comes_back_unchanged() {
    let own = domain();
    let here = format!("domain:{own}");
    let with = |context: Value| check(own, &[("admin", here.as_str(), Some(context))]);
    let staged = with(json!({ "allowed_cidrs": ["10.0.0.0/8"] })).unwrap_or_else(|refusal| panic!("{refusal}"));
    assert_eq!(staged.tuples[0].caveat.as_ref().unwrap().name, "from_cidr");
    let staged = with(json!({ "max_age_seconds": 60, "any_acr": [] })).unwrap_or_else(|refusal| panic!("{refusal}"));
    assert_eq!(staged.tuples[0].caveat.as_ref().unwrap().name, "requires_assurance");
    for bad in [
        json!({}),
        json!({ "unknown": 1 }),
        json!({ "allowed_cidrs": [], "any_acr": [] }),
        json!({ "max_age_seconds": 1.5 }),
        json!({ "max_age_seconds": 1e300 }),
        json!({ "any_acr": "x".repeat(2_049) }),
        json!({ "any_acr": [[[[1]]]] }),
    ] {
        assert!(matches!(with(bad.clone()), Err(InvitationRefusal::Caveat(0))), "{bad}");
    }
    assert!(with(json!({ "any_acr": [[[1]]] })).is_ok());
}

#[test]
fn a_life_lies_between_a_minute_and_a_week() {
    let with = |ttl: Option<i64>| NewInvitation::check(domain(), "ada", ttl, &[], &Rules).map(|new| new.ttl.as_secs());
    assert!(matches!(with(None), Ok(86_400)));
    assert!(matches!(with(Some(60)), Ok(60)));
    assert!(matches!(with(Some(604_800)), Ok(604_800)));
    for bad in [59, 604_801, 0, -1, i64::MIN, i64::MAX] {
        assert!(matches!(with(Some(bad)), Err(InvitationRefusal::Ttl)), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_an_object_of_another_domain(text in "(domain|project|group|platform):?[0-9a-f-]{0,40}") {
        let own = domain();
        if let Some(StagedObject::Domain(id)) = StagedObject::parse(&text, own) {
            prop_assert_eq!(id, own);
        }
    }
}
