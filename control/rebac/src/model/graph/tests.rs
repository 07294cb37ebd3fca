use std::collections::BTreeMap;

use uuid::Uuid;

use super::*;
use crate::model::refs::ObjectId;

fn key(kind: &str, id: u128) -> ObjectKey {
    ObjectKey { kind: Schema::built_in().kind_id(kind).unwrap(), id: ObjectId::new(Uuid::from_u128(id)) }
}

fn member(group: u128, user: u128) -> Tuple {
    let relation = Schema::built_in().name_id("member").unwrap();
    Tuple { object: key("group", group), relation, subject: SubjectKey::object(key("user", user)), caveat: None }
}

fn users(graph: &Graph, group: u128) -> Vec<Uuid> {
    let relation = Schema::built_in().name_id("member").unwrap();
    graph.of_relation(key("group", group), relation).map(|found| found.edge.subject_object().id.uuid()).collect()
}

#[test]
fn a_table_that_grows_and_shrinks_holds_what_a_map_holds() {
    let mut graph = Graph::empty(Schema::built_in());
    let mut model: BTreeMap<u128, Vec<Uuid>> = BTreeMap::new();
    let mut number: u64 = 1;
    for step in 0..20_000 {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (group, user) = (u128::from(number >> 40) % 300 + 1, u128::from(number >> 20) % 50 + 1);
        let held = model.entry(group).or_default();
        let id = Uuid::from_u128(user);
        if step % 3 == 0 {
            graph = graph.with(&[Change::Remove(member(group, user))], &[]);
            held.retain(|other| *other != id);
        } else {
            graph = graph.with(&[Change::Put(member(group, user))], &[]);
            if !held.contains(&id) {
                held.push(id);
            }
        }
    }
    assert_eq!(graph.tuples(), model.values().map(Vec::len).sum::<usize>());
    let mut by_subject = 0;
    for (group, mut held) in model {
        held.sort();
        assert_eq!(users(&graph, group), held, "{group}");
    }
    for user in 1..=50 {
        by_subject += graph.of_subject(SubjectKey::object(key("user", user))).count();
    }
    assert_eq!(by_subject, graph.tuples());
}

#[test]
fn a_state_is_not_changed_by_the_one_behind_it() {
    let scope = Scope(None);
    let before = Graph::build(Schema::built_in(), vec![member(1, 1)], Generations::from([(scope, 4)]));
    let after = before.with(&[Change::Put(member(1, 2)), Change::Remove(member(1, 1))], &[(scope, 6)]);
    assert_eq!(users(&before, 1), [Uuid::from_u128(1)]);
    assert_eq!(users(&after, 1), [Uuid::from_u128(2)]);
    assert_eq!((before.generation(scope), after.generation(scope)), (4, 6));
}

#[test]
fn a_condition_stays_with_its_tuple_through_its_neighbours_changes() {
    let conditions: Vec<Arc<Caveat>> = (0..40)
        .map(|n| {
            let allowed_cidrs = vec![format!("10.{n}.0.0/16").parse().unwrap()];
            Arc::new(Caveat::FromCidr { allowed_cidrs })
        })
        .collect();
    let mut graph = Graph::empty(Schema::built_in());
    for (user, caveat) in (1..).zip(&conditions) {
        let conditioned = Tuple { caveat: Some(Arc::clone(caveat)), ..member(1, user) };
        graph = graph.with(&[Change::Put(conditioned), Change::Put(member(1, user + 1_000))], &[]);
    }
    graph = graph.with(&[Change::Remove(member(1, 7))], &[]);
    for (user, caveat) in (1..).zip(&conditions) {
        let subject = SubjectKey::object(key("user", user));
        let relation = Schema::built_in().name_id("member").unwrap();
        let found = graph.object(key("group", 1)).direct(relation, subject);
        assert_eq!(found.map(|found| found.caveat), (user != 7).then_some(Some(caveat)), "{user}");
    }
}
