mod naive;
mod random;

use std::sync::Arc;

use plexsphere_wire::{DenialReason, Timestamp};
use uuid::Uuid;

use super::*;
use crate::model::caveat::Caveat;
use crate::model::graph::{Change, Generations, Graph, Tuple};
use crate::model::refs::ObjectId;

/// A graph out of lines `object#relation@subject`, where an id is a small number.
fn graph(lines: &[&str]) -> Graph {
    Graph::build(Schema::built_in(), lines.iter().map(|line| tuple(line)).collect(), Generations::new())
}

fn tuple(line: &str) -> Tuple {
    let (left, subject) = line.split_once('@').unwrap();
    let (left, relation) = left.split_once('#').unwrap();
    let schema = Schema::built_in();
    let relation = schema.name_id(relation).unwrap();
    let tuple = Tuple { object: object(left), relation, subject: subject_of(subject), caveat: None };
    assert!(schema.admits(tuple.object.kind, relation, tuple.subject.form()), "{line}");
    tuple
}

fn object(text: &str) -> ObjectKey {
    let (kind, id) = text.split_once(':').unwrap();
    let kind = Schema::built_in().kind_id(kind).unwrap();
    let id = id.parse().map_or(ObjectId::SINGLETON, |id| ObjectId::new(Uuid::from_u128(id)));
    ObjectKey { kind, id }
}

fn subject_of(text: &str) -> SubjectKey {
    match text.split_once('#') {
        Some((left, name)) => SubjectKey::userset(object(left), Schema::built_in().name_id(name).unwrap()),
        None => SubjectKey::object(object(text)),
    }
}

fn ask_with(graph: &Graph, line: &str, inputs: &CaveatInputs) -> Result<Verdict, Exhausted> {
    let (left, subject) = line.split_once('@').unwrap();
    let (left, name) = left.split_once('#').unwrap();
    let name = Schema::built_in().name_id(name).unwrap();
    let question = Question { subject: subject_of(subject), name, object: object(left), inputs };
    check(graph, &question, Limits::USUAL)
}

fn ask(graph: &Graph, line: &str) -> Verdict {
    ask_with(graph, line, &CaveatInputs::default()).unwrap()
}

/// A path with ids as small numbers.
fn path(verdict: &Verdict) -> String {
    let schema = Schema::built_in();
    let hops = verdict.path.iter().map(|hop| {
        let kind = schema.kind(hop.object.kind).unwrap();
        let id = kind.singleton.clone().unwrap_or_else(|| hop.object.id.uuid().as_u128().to_string());
        format!("{}:{id}#{}", kind.name, schema.name(hop.relation))
    });
    hops.collect::<Vec<_>>().join(" ")
}

const TREE: [&str; 4] = [
    "domain:1#parent@platform:plexsphere",
    "project:2#parent@domain:1",
    "resource:3#parent@project:2",
    "node:4#parent@resource:3",
];

fn tree(more: &[&str]) -> Graph {
    graph(&[&TREE, more].concat())
}

#[test]
fn a_domains_administrator_manages_its_projects_by_a_path_from_the_grant() {
    let graph = tree(&["domain:1#admin@user:9"]);
    let verdict = ask(&graph, "project:2#manage@user:9");
    assert!(verdict.is_allowed());
    assert_eq!(path(&verdict), "domain:1#admin project:2#parent");
    assert_eq!(path(&ask(&graph, "domain:1#admin@user:9")), "", "a direct grant has no path");
    assert_eq!(
        path(&ask(&graph, "node:4#act@user:9")),
        "domain:1#admin project:2#parent resource:3#parent node:4#parent"
    );
}

#[test]
fn a_member_observes_and_does_not_deploy() {
    let graph = tree(&["domain:1#member@user:9"]);
    assert!(ask(&graph, "project:2#observe@user:9").is_allowed());
    let verdict = ask(&graph, "project:2#deploy@user:9");
    assert_eq!(verdict.denied, Some(DenialReason::InsufficientRelation));
    assert_eq!(path(&verdict), "domain:1#member project:2#parent");
}

#[test]
fn a_stranger_is_out_of_scope_and_so_is_an_object_that_does_not_exist() {
    let graph = tree(&["domain:1#admin@user:9"]);
    for line in ["project:2#read@user:8", "project:77#read@user:9"] {
        let verdict = ask(&graph, line);
        assert_eq!((verdict.denied, path(&verdict).as_str()), (Some(DenialReason::OutOfScope), ""), "{line}");
    }
}

#[test]
fn groups_nest_and_a_circle_of_them_ends() {
    let graph =
        tree(&["project:2#operator@group:11#member", "group:11#member@group:12#member", "group:12#member@user:9"]);
    let verdict = ask(&graph, "project:2#act@user:9");
    assert!(verdict.is_allowed());
    assert_eq!(path(&verdict), "group:12#member group:11#member project:2#operator");
    let left = graph.with(&[Change::Remove(tuple("group:12#member@user:9"))], &[]);
    assert!(!ask(&left, "project:2#act@user:9").is_allowed());
    let circle = left.with(&[Change::Put(tuple("group:12#member@group:11#member"))], &[]);
    assert_eq!(ask(&circle, "project:2#act@user:9").denied, Some(DenialReason::OutOfScope));
}

#[test]
fn a_false_caveat_is_told_apart_and_named_without_its_values() {
    let prefixes = vec!["10.0.0.0/8".parse().unwrap()];
    let caveat = Some(Arc::new(Caveat::FromCidr { allowed_cidrs: prefixes }));
    let granted = Tuple { caveat, ..tuple("project:2#operator@user:9") };
    let graph = tree(&[]).with(&[Change::Put(granted)], &[]);
    let from = |ip: &str| CaveatInputs { client_ip: Some(ip.parse().unwrap()), ..CaveatInputs::default() };
    assert!(ask_with(&graph, "node:4#act@user:9", &from("10.1.1.1")).unwrap().is_allowed());
    let verdict = ask_with(&graph, "node:4#act@user:9", &from("192.0.2.1")).unwrap();
    assert_eq!(verdict.denied, Some(DenialReason::CaveatViolation));
    assert_eq!(path(&verdict), "project:2#operator resource:3#parent node:4#parent");
    let names: Vec<_> = verdict.caveats.iter().collect();
    assert_eq!(names, [("from_cidr", &["allowed_cidrs", "client_ip"][..])]);
    assert_eq!(ask(&graph, "project:2#manage@user:9").denied, Some(DenialReason::InsufficientRelation));
}

#[test]
fn a_node_is_its_own_agent_and_nobody_elses() {
    let graph = tree(&["secret:5#parent@project:2", "project:2#node@node:4", "node:6#parent@resource:3"]);
    assert!(ask(&graph, "node:4#node-agent@node:4").is_allowed());
    assert!(!ask(&graph, "node:6#node-agent@node:4").is_allowed());
    assert!(!ask(&graph, "secret:5#read@node:4").is_allowed(), "nothing is granted by default");
    let granted = graph.with(&[Change::Put(tuple("secret:5#reader@project:2#node"))], &[]);
    assert!(ask(&granted, "secret:5#read@node:4").is_allowed());
    assert!(!ask(&granted, "secret:5#read@node:6").is_allowed());
}

#[test]
fn platform_rights_stop_at_a_domain_and_duties_stay_apart() {
    let graph = tree(&[
        "platform:plexsphere#admin@user:9",
        "domain:1#admin@user:8",
        "domain:1#approver@user:7",
        "domain:1#emergency_approver@user:6",
        "platform:plexsphere#tenant@domain:1#read",
    ]);
    for (line, allowed) in [
        ("platform:plexsphere#manage@user:9", true),
        ("platform:plexsphere#auditor@user:9", false),
        ("domain:1#read@user:9", false),
        ("project:2#read@user:9", false),
        ("domain:1#auditor@user:8", false),
        ("domain:1#approve@user:7", true),
        ("domain:1#emergency_approver@user:7", false),
        ("domain:1#approve@user:6", false),
        ("domain:1#emergency_approver@user:6", true),
        ("platform:plexsphere#browse@user:6", true),
        ("platform:plexsphere#read@user:6", false),
    ] {
        assert_eq!(ask(&graph, line).is_allowed(), allowed, "{line}");
    }
}

#[test]
fn a_credential_is_used_by_deployers_of_the_project_it_is_assigned_to() {
    let graph =
        tree(&["cloud_credential:5#uses@project:2#deploy", "project:2#maintainer@user:9", "project:2#member@user:8"]);
    assert!(ask(&graph, "cloud_credential:5#uses@user:9").is_allowed());
    assert_eq!(ask(&graph, "cloud_credential:5#uses@user:8").denied, Some(DenialReason::OutOfScope));
}

#[test]
fn a_walk_over_its_limits_is_an_error_and_never_a_grant() {
    let mut lines: Vec<String> =
        (0..40).map(|n| format!("group:{}#member@group:{}#member", 100 + n, 101 + n)).collect();
    lines.push("group:140#member@user:9".to_owned());
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let deep = graph(&lines);
    assert_eq!(ask_with(&deep, "group:100#member@user:9", &CaveatInputs::default()), Err(Exhausted::Depth));
    assert!(ask(&deep, "group:108#member@user:9").is_allowed());
    let wide: Vec<String> = (0..200).map(|n| format!("group:1#member@group:{}#member", 100 + n)).collect();
    let wide = graph(&wide.iter().map(String::as_str).collect::<Vec<_>>());
    let question = Question {
        subject: subject_of("user:9"),
        name: Schema::built_in().name_id("member").unwrap(),
        object: object("group:1"),
        inputs: &CaveatInputs::default(),
    };
    assert_eq!(check(&wide, &question, Limits { edges: 199, ..Limits::USUAL }), Err(Exhausted::Edges));
}

#[test]
fn lookups_go_through_groups_both_ways() {
    let graph = tree(&[
        "project:2#operator@group:11#member",
        "group:11#member@group:12#member",
        "group:12#member@user:9",
        "project:2#viewer@user:8",
    ]);
    let inputs = CaveatInputs::default();
    let (schema, name) = (Schema::built_in(), |name: &str| Schema::built_in().name_id(name).unwrap());
    let on = |kind: &str, wanted: &str, subject: &str| {
        let kind = schema.kind_id(kind).unwrap();
        let question = ResourcesQuestion { subject: subject_of(subject), name: name(wanted), kind, inputs: &inputs };
        resources(&graph, &question, Limits::USUAL).unwrap()
    };
    assert_eq!(on("node", "act", "user:9"), [object("node:4")]);
    assert_eq!(on("node", "act", "user:8"), []);
    assert_eq!(on("group", "read", "user:9"), [object("group:11"), object("group:12")]);
    assert_eq!(on("node", "node-agent", "node:4"), [object("node:4")]);
    let who = |kind: &str, wanted: &str, on: &str| {
        let kind = schema.kind_id(kind).unwrap();
        let question = SubjectsQuestion { kind, name: name(wanted), object: object(on), inputs: &inputs };
        subjects(&graph, &question, Limits::USUAL).unwrap()
    };
    assert_eq!(who("user", "observe", "node:4"), [object("user:8"), object("user:9")]);
    assert_eq!(who("group", "act", "node:4"), [object("group:11"), object("group:12")]);
}

#[test]
fn only_groups_stand_for_those_who_have_a_name_on_them() {
    let graph = tree(&["cloud_credential:5#uses@project:2#deploy", "project:2#maintainer@group:11#member"]);
    let inputs = CaveatInputs::default();
    let (schema, name) = (Schema::built_in(), Schema::built_in().name_id("uses").unwrap());
    let who = |kind: &str| {
        let kind = schema.kind_id(kind).unwrap();
        let question = SubjectsQuestion { kind, name, object: object("cloud_credential:5"), inputs: &inputs };
        subjects(&graph, &question, Limits::USUAL).unwrap()
    };
    assert_eq!(who("project"), []);
    assert_eq!(who("group"), [object("group:11")]);
    assert!(ask(&graph, "cloud_credential:5#uses@group:11#member").is_allowed());
}

#[test]
fn a_denial_stays_one_when_its_reason_costs_more_than_the_limits() {
    // No way to the object is open, and 300 Groups tie nobody to the Project above it.
    let groups: Vec<String> = (0..300).map(|n| format!("project:2#admin@group:{}#member", 100 + n)).collect();
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let graph = tree(&[&groups[..], &["secret:5#parent@project:2"]].concat());
    let inputs = CaveatInputs::default();
    let name = Schema::built_in().name_id("read").unwrap();
    let question = Question { subject: subject_of("user:9"), name, object: object("secret:5"), inputs: &inputs };
    let verdict = check(&graph, &question, Limits { edges: 100, ..Limits::USUAL }).unwrap();
    assert_eq!(verdict.denied, Some(DenialReason::OutOfScope));
}

#[test]
fn a_walk_that_takes_too_long_is_an_error() {
    let wide: Vec<String> = (0..5_000).map(|n| format!("group:1#member@user:{}", 100 + n)).collect();
    let wide = graph(&wide.iter().map(String::as_str).collect::<Vec<_>>());
    let inputs = CaveatInputs::default();
    let (kind, name) = (Schema::built_in().kind_id("user").unwrap(), Schema::built_in().name_id("member").unwrap());
    let question = SubjectsQuestion { kind, name, object: object("group:1"), inputs: &inputs };
    let limits = Limits { time: Duration::ZERO, ..Limits::USUAL };
    assert_eq!(subjects(&wide, &question, limits), Err(Exhausted::Time));
    assert_eq!(subjects(&wide, &question, Limits::USUAL).map(|all| all.len()), Ok(5_000));
}

#[test]
fn what_does_not_exist_is_in_nobodys_scope_not_even_its_own() {
    let graph = tree(&[]);
    let inputs = CaveatInputs::default();
    for (line, denied) in [
        ("node:4#node-agent@node:4", None),
        ("node:77#node-agent@node:77", Some(DenialReason::OutOfScope)),
        ("user:77#read@user:77", Some(DenialReason::OutOfScope)),
        ("platform:plexsphere#read@user:9", Some(DenialReason::OutOfScope)),
    ] {
        let (left, subject) = line.split_once('@').unwrap();
        let (left, name) = left.split_once('#').unwrap();
        let name = Schema::built_in().name_id(name).unwrap();
        let question = Question { subject: subject_of(subject), name, object: object(left), inputs: &inputs };
        assert_eq!(check_existing(&graph, &question, Limits::USUAL).unwrap().denied, denied, "{line}");
    }
}

#[test]
fn a_time_window_opens_and_closes_a_grant() {
    let window = |from, until| {
        let at = |seconds| Some(Timestamp::from_unix_seconds(seconds));
        Some(Arc::new(Caveat::WithinTimeWindow { not_before: at(from), not_after: at(until) }))
    };
    let graph = tree(&[]).with(&[Change::Put(Tuple { caveat: window(10, 20), ..tuple("domain:1#admin@user:9") })], &[]);
    for (now, allowed) in [(9, false), (10, true), (19, true), (20, false)] {
        let inputs = CaveatInputs { now: Some(Timestamp::from_unix_seconds(now)), ..CaveatInputs::default() };
        assert_eq!(ask_with(&graph, "project:2#manage@user:9", &inputs).unwrap().is_allowed(), allowed, "{now}");
    }
}
