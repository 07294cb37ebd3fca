//! Random schemas and tuples: every answer is compared with the plain evaluator's.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::naive::Naive;
use super::*;

const KINDS: [&str; 3] = ["k0", "k1", "group"];
const NAMES: [&str; 7] = ["up", "side", "r0", "member", "p0", "p1", "p2"];
const IDS: u128 = 3;
const LIMITS: Limits = Limits { depth: 1_000, edges: 1_000_000, time: Duration::from_secs(60) };

/// A kind whose every name may use the names before it, arrows to any name, and itself.
fn kind(name: &'static str) -> impl Strategy<Value = String> {
    let kinds = || subsequence(KINDS.to_vec(), 1..=3);
    let usersets = || {
        let all: Vec<String> =
            KINDS.iter().flat_map(|kind| NAMES.iter().map(move |name| format!("{kind}#{name}"))).collect();
        subsequence(all, 0..=4)
    };
    let terms = |before: usize| {
        let mut all: Vec<String> = NAMES.iter().take(before).map(|name| (*name).to_owned()).collect();
        all.extend(NAMES.iter().flat_map(|name| [format!("up->{name}"), format!("side->{name}")]));
        all.push("self".to_owned());
        subsequence(all, 1..=3)
    };
    let relation = |before: usize| (kinds(), usersets(), proptest::option::of(terms(before)));
    let relations = (relation(2), relation(3));
    (kinds(), kinds(), relations, (terms(4), terms(5), terms(6))).prop_map(move |(up, side, (r0, r1), (p0, p1, p2))| {
        let relation = |relation: &str, (kinds, usersets, rule): (Vec<&str>, Vec<String>, Option<Vec<String>>)| {
            let subjects: Vec<String> = kinds.iter().map(|kind| (*kind).to_owned()).chain(usersets).collect();
            let rule = rule.map_or_else(String::new, |rule| format!(" = {}", rule.join(" | ")));
            format!(" assignable {relation}: {}{rule}\n", subjects.join(", "))
        };
        format!(
            "kind {name}\n system up: {}\n system side: {}\n{}{} permission p0 = {}\n permission p1 = {}\n permission p2 = {}\n",
            up.join(", "),
            side.join(", "),
            relation("r0", r0),
            relation("member", r1),
            p0.join(" | "),
            p1.join(" | "),
            p2.join(" | "),
        )
    })
}

/// The form, the ends and the caveat of a tuple: none, one that holds, or one that does not.
type Draw = (usize, u128, u128, u8);

fn world() -> impl Strategy<Value = (String, Vec<Draw>)> {
    let schema = (kind("k0"), kind("k1"), kind("group")).prop_map(|(a, b, c)| a + &b + &c);
    let draw = (any::<usize>(), 1..=IDS, 1..=IDS, select(vec![0, 0, 0, 1, 2]));
    (schema, proptest::collection::vec(draw, 0..30))
}

fn tuples(schema: &Schema, draws: &[Draw]) -> Vec<Tuple> {
    let forms = schema.forms();
    let mut tuples: Vec<Tuple> = Vec::new();
    for (form, object, subject, caveat) in draws {
        let (kind, relation, subject_kind, userset, _) = &forms[form % forms.len()];
        let key = |kind: &str, id: u128| ObjectKey {
            kind: schema.kind_id(kind).unwrap(),
            id: ObjectId::new(Uuid::from_u128(id)),
        };
        let prefix = [None, Some("10.0.0.0/8"), Some("192.168.0.0/16")][usize::from(*caveat)];
        let tuple = Tuple {
            object: key(kind, *object),
            relation: schema.name_id(relation).unwrap(),
            subject: SubjectKey { object: key(subject_kind, *subject), name: schema.name_id(userset) },
            caveat: prefix.map(|prefix| Arc::new(Caveat::FromCidr { allowed_cidrs: vec![prefix.parse().unwrap()] })),
        };
        let triple = |tuple: &Tuple| (tuple.object, tuple.relation, tuple.subject);
        tuples.retain(|other| triple(other) != triple(&tuple));
        tuples.push(tuple);
    }
    tuples
}

fn objects(schema: &Schema) -> Vec<ObjectKey> {
    let kinds = schema.kinds().map(|(kind, _)| kind);
    kinds.flat_map(|kind| (1..=IDS).map(move |id| ObjectKey { kind, id: ObjectId::new(Uuid::from_u128(id)) })).collect()
}

/// Every object and every userset.
fn subjects_of(schema: &Schema, objects: &[ObjectKey]) -> Vec<SubjectKey> {
    let names =
        |object: &ObjectKey| schema.kind(object.kind).unwrap().definitions.iter().map(|definition| definition.name);
    let usersets = objects.iter().flat_map(|object| names(object).map(|name| SubjectKey::userset(*object, name)));
    objects.iter().map(|object| SubjectKey::object(*object)).chain(usersets).collect()
}

/// `group:<id>#member`; of other kinds, which stand for nobody, the object.
fn members(schema: &Schema, object: ObjectKey) -> SubjectKey {
    match schema.kind_name(object.kind) {
        "group" => SubjectKey::userset(object, schema.name_id("member").unwrap()),
        _ => SubjectKey::object(object),
    }
}

/// A path leads from a grant down to the object, each hop over a tuple.
fn assert_leads(path: &[Hop], question: &Question<'_>, tuples: &[Tuple]) {
    let mut below: Option<ObjectKey> = None;
    for hop in path {
        let over = tuples.iter().any(|tuple| {
            (tuple.object, tuple.relation) == (hop.object, hop.relation)
                && below.is_none_or(|below| tuple.subject.object == below)
        });
        assert!(over, "no tuple for {hop:?} of {path:?}");
        below = Some(hop.object);
    }
    assert!(below.is_none_or(|below| below == question.object), "{path:?}");
}

fn compare(schema: &'static Schema, tuples: &[Tuple]) {
    let graph = Graph::build(schema, tuples.to_vec(), Generations::new());
    let objects = objects(schema);
    let inputs = CaveatInputs { client_ip: Some("10.1.2.3".parse().unwrap()), ..CaveatInputs::default() };
    let strict = Naive::new(schema, tuples, &objects, Some(&inputs));
    let loose = Naive::new(schema, tuples, &objects, None);
    let pairs = objects.iter().flat_map(|object| {
        schema.kind(object.kind).unwrap().definitions.iter().map(|definition| (*object, definition.name))
    });
    for (object, name) in pairs {
        for subject in subjects_of(schema, &objects) {
            let question = Question { subject, name, object, inputs: &inputs };
            let verdict = check(&graph, &question, LIMITS).unwrap();
            let expected = if strict.may(subject, name, object) {
                None
            } else if loose.may(subject, name, object) {
                Some(DenialReason::CaveatViolation)
            } else if loose.tied(subject, object) {
                Some(DenialReason::InsufficientRelation)
            } else {
                Some(DenialReason::OutOfScope)
            };
            assert_eq!(
                verdict.denied,
                expected,
                "{} {} {}",
                object.text(schema),
                schema.name(name),
                subject.text(schema)
            );
            assert_leads(&verdict.path, &question, tuples);
        }
        for (kind, _) in schema.kinds() {
            let question = SubjectsQuestion { kind, name, object, inputs: &inputs };
            let expected: std::collections::BTreeSet<ObjectKey> = strict
                .holders(object, name)
                .into_iter()
                .filter(|subject| subject.name.is_none() || *subject == members(schema, subject.object))
                .map(|subject| subject.object)
                .filter(|subject| subject.kind == kind)
                .collect();
            assert_eq!(subjects(&graph, &question, LIMITS).unwrap(), Vec::from_iter(expected));
        }
    }
    for subject in subjects_of(schema, &objects) {
        for (kind, definitions) in schema.kinds() {
            for name in definitions.definitions.iter().map(|definition| definition.name) {
                let question = ResourcesQuestion { subject, name, kind, inputs: &inputs };
                let may = |object: &&ObjectKey| object.kind == kind && strict.may(subject, name, **object);
                let expected: Vec<ObjectKey> = objects.iter().filter(may).copied().collect();
                assert_eq!(resources(&graph, &question, LIMITS).unwrap(), expected);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_is_the_plain_evaluators(drawn in world()) {
        let schema: &'static Schema = Box::leak(Box::new(Schema::parse(&drawn.0).unwrap()));
        let tuples = tuples(schema, &drawn.1);
        compare(schema, &tuples);
    }
}
