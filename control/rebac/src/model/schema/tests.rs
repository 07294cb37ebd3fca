use super::*;

fn problem(text: &str) -> (usize, SchemaProblem) {
    let error = Schema::parse(text).unwrap_err();
    (error.line, error.problem)
}

#[test]
fn the_schema_of_this_build_is_valid_and_holds_every_kind() {
    let schema = Schema::parse(SCHEMA_TEXT).unwrap();
    let kinds: Vec<_> = schema.kinds().map(|(_, kind)| kind.name.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "platform",
            "domain",
            "project",
            "resource",
            "node",
            "policy",
            "secret",
            "group",
            "user",
            "serviceaccount",
            "cloud",
            "cloud_credential",
            "blueprint",
            "managementfleet",
            "managementcluster",
            "label_definition"
        ]
    );
    let names = |kind: &str| {
        let kind = schema.kind(schema.kind_id(kind).unwrap()).unwrap();
        kind.definitions.iter().map(|definition| schema.name(definition.name)).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        names("project"),
        "parent node secret_consumer admin maintainer operator member viewer manage deploy assign observe read act \
         secret_read"
    );
    assert_eq!(names("blueprint"), "parent owner publisher user publish");
}

#[test]
fn a_rule_comes_down_to_tuples_arrows_and_identity() {
    let schema = Schema::built_in();
    let expansion = |kind: &str, name: &str| {
        let definition = schema.definition(schema.kind_id(kind).unwrap(), schema.name_id(name).unwrap()).unwrap();
        let relations: Vec<_> = definition.expansion.relations.iter().map(|name| schema.name(*name)).collect();
        let arrows = definition.expansion.arrows.iter();
        let arrows: Vec<_> = arrows.map(|(o, t)| format!("{}->{}", schema.name(*o), schema.name(*t))).collect();
        (relations.join(" "), arrows.join(" "), definition.expansion.own)
    };
    assert_eq!(
        expansion("project", "operator"),
        ("operator maintainer admin".into(), "parent->manage parent->maintainer parent->operator".into(), false)
    );
    assert_eq!(expansion("node", "node-agent"), ("operator".into(), "parent->operator".into(), true));
    assert_eq!(expansion("domain", "emergency_approver"), ("emergency_approver".into(), String::new(), false));
}

#[test]
fn a_schema_that_says_nonsense_is_refused_with_its_line() {
    use SchemaProblem as P;
    let own = |text: &str| text.to_owned();
    assert_eq!(problem("permission a = b"), (1, P::OutsideKind));
    assert_eq!(problem("kind a\n  grant b: a"), (2, P::UnknownWord(own("grant"))));
    assert_eq!(problem("kind A"), (1, P::BadName(own("A"))));
    assert_eq!(problem("kind a\n# words\n\nkind a"), (4, P::KindTwice(own("a"))));
    assert_eq!(problem("kind a\n system b: a\n system b: a"), (3, P::NameTwice(own("b"))));
    assert_eq!(problem("kind a\n system b: a, a"), (2, P::ListedTwice(own("a"))));
    assert_eq!(problem("kind a\n system b: c"), (2, P::NoKind(own("c"))));
    let missing = |kind: &str, name: &str| P::NoName { kind: own(kind), name: own(name) };
    assert_eq!(problem("kind a\n system b: a#c"), (2, missing("a", "c")));
    assert_eq!(problem("kind a\n permission b = c"), (2, missing("a", "c")));
    assert_eq!(problem("kind a\n system p: a, u\n permission b = p->p\nkind u"), (3, missing("u", "p")));
    assert_eq!(
        problem("kind a\n system b: a\n permission c = b\n permission d = c->b").1,
        P::ArrowOverPermission(own("c->b"))
    );
    assert_eq!(problem("kind a\n system b: a#b\n permission d = b->b").1, P::ArrowOverUserset(own("b->b")));
    assert_eq!(problem("kind a\n permission b = c\n permission c = b"), (2, P::Circle(own("b"))));
    assert_eq!(problem("kind a\n permission b =").1, P::BadName(String::new()));
    assert_eq!(problem("kind a\n system b a").1, P::Expected("`:` and the relation's subjects"));
    assert_eq!(problem("kind a b").1, P::Expected("`singleton \"<id>\"` or nothing behind the kind's name"));
    let many = "kind a\n".to_owned() + &(0..251).map(|n| format!(" system r{n}: a\n")).collect::<String>();
    assert_eq!(problem(&many), (252, P::TooMany));
}

#[test]
fn separation_of_duty_follows_from_nothing() {
    let schema = Schema::built_in();
    for (kind, name) in [("platform", "auditor"), ("domain", "auditor"), ("domain", "emergency_approver")] {
        let definition = schema.definition(schema.kind_id(kind).unwrap(), schema.name_id(name).unwrap()).unwrap();
        assert!(definition.rule.is_empty(), "{kind}#{name}");
    }
    let domain = schema.kind(schema.kind_id("domain").unwrap()).unwrap();
    assert!(domain.arrows.is_empty(), "nothing of the platform reaches into a domain");
}

#[test]
fn groups_and_the_nodes_of_a_project_are_known_from_the_subjects_side() {
    let schema = Schema::built_in();
    let plain = schema.plain.iter().map(|(kind, name)| format!("{}#{}", schema.kind_name(*kind), schema.name(*name)));
    assert_eq!(plain.collect::<Vec<_>>(), ["project#node", "group#member"]);
}
