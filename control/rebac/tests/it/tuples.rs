use std::collections::BTreeMap;

use plexsphere_kernel::{Fault, GrantRules as _, RelationTuple, StoredCaveat, SubjectRef, TupleWriter as _};
use plexsphere_rebac::PgTupleWriter;
use serde_json::{Value, json};

use crate::world::{TREE, World, object, tuple, world};

async fn counts(world: &World) -> (i64, i64, i64) {
    let sql = "SELECT (SELECT count(*) FROM rebac.tuples), (SELECT max(generation) FROM rebac.generations),
                (SELECT count(*) FROM rebac.changes)";
    sqlx::query_as(sql).fetch_one(&world.db.pool()).await.unwrap()
}

fn within(prefix: &str) -> Option<StoredCaveat> {
    Some(StoredCaveat { name: "from_cidr".to_owned(), context: context(&json!({ "allowed_cidrs": [prefix] })) })
}

fn context(value: &Value) -> BTreeMap<String, Value> {
    value.as_object().unwrap().clone().into_iter().collect()
}

#[tokio::test]
async fn a_tuple_written_twice_stands_once_and_moves_its_scope_once() {
    let world = world().await;
    for _ in 0..2 {
        world.grant(&["domain:1#admin@user:9"]).await;
    }
    assert_eq!(counts(&world).await, (1, 1, 1));
}

#[tokio::test]
async fn a_write_leaves_what_stands_under_another_condition_alone_and_says_so() {
    let world = world().await;
    let admin = tuple("domain:1#admin@user:9");
    let operator = tuple("domain:1#operator@user:9");
    let conditional = RelationTuple { caveat: within("10.0.0.0/8"), ..operator.clone() };
    let mut tx = world.database.begin().await.unwrap();
    let write = [admin.clone(), conditional.clone()];
    assert_eq!(world.writer.write(&mut tx, Some(world.domain), &write).await.unwrap(), []);
    tx.commit().await.unwrap();
    for (again, left) in [
        (vec![conditional.clone(), admin.clone()], vec![]),
        (vec![operator.clone(), admin.clone()], vec![operator.clone()]),
        (
            vec![RelationTuple { caveat: within("192.0.2.0/24"), ..operator.clone() }],
            vec![RelationTuple { caveat: within("192.0.2.0/24"), ..operator.clone() }],
        ),
        (
            vec![tuple("domain:1#member@user:9"), RelationTuple { caveat: within("10.0.0.0/8"), ..admin.clone() }],
            vec![RelationTuple { caveat: within("10.0.0.0/8"), ..admin.clone() }],
        ),
    ] {
        let mut tx = world.database.begin().await.unwrap();
        assert_eq!(world.writer.write(&mut tx, Some(world.domain), &again).await.unwrap(), left, "{again:?}");
        tx.commit().await.unwrap();
    }
    assert_eq!(counts(&world).await, (3, 3, 3));
}

#[tokio::test]
async fn a_writer_with_the_last_word_replaces_the_condition_and_leaves_an_equal_one_alone() {
    let world = world().await;
    let admin = tuple("domain:1#admin@user:9");
    for (caveat, generation) in [(None, 1), (within("10.0.0.0/8"), 3), (within("10.0.0.0/8"), 3), (None, 5)] {
        let mut tx = world.database.begin().await.unwrap();
        let written = [RelationTuple { caveat: caveat.clone(), ..admin.clone() }];
        world.writer.overwrite(&mut tx, Some(world.domain), &written).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(counts(&world).await, (1, generation, generation), "{caveat:?}");
    }
}

#[tokio::test]
async fn a_domain_is_administered_by_whoever_needs_no_condition_and_is_somebody() {
    let world = world().await;
    let administered = async || {
        let mut tx = world.database.begin().await.unwrap();
        world.writer.has_administrator(&mut tx, world.domain).await.unwrap()
    };
    assert!(!administered().await);
    world.grant(&["domain:1#admin@group:11#member", "group:11#member@group:12#member"]).await;
    assert!(!administered().await, "nobody is in the groups");
    world.grant(&["group:12#member@serviceaccount:40"]).await;
    assert!(administered().await);
    world.revoke(&["group:12#member@serviceaccount:40"]).await;
    let mut tx = world.database.begin().await.unwrap();
    let conditional = RelationTuple { caveat: within("10.0.0.0/8"), ..tuple("domain:1#admin@user:9") };
    world.writer.write(&mut tx, Some(world.domain), &[conditional]).await.unwrap();
    tx.commit().await.unwrap();
    assert!(!administered().await, "a condition may not hold when it is needed");
    world.grant(&["domain:1#admin@user:8"]).await;
    assert!(administered().await);
}

#[tokio::test]
async fn who_administers_a_domain_alone_is_told_from_who_has_fellows_in_groups_too() {
    let world = world().await;
    let alone = async |subjects: &[&str]| {
        let subjects: Vec<_> = subjects.iter().map(|subject| object(subject)).collect();
        let mut tx = world.database.begin().await.unwrap();
        world.writer.administered_alone(&mut tx, &subjects).await.unwrap()
    };
    world.grant(&["domain:1#admin@user:8", "domain:1#admin@group:11#member"]).await;
    assert_eq!(alone(&["user:8"]).await, Some(world.domain), "nobody is in the group");
    world.grant(&["group:11#member@user:8"]).await;
    assert_eq!(alone(&["user:8"]).await, Some(world.domain), "nobody else is");
    world.grant(&["group:11#member@user:9"]).await;
    assert_eq!(alone(&["user:8"]).await, None);
    assert_eq!(alone(&["user:8", "user:9"]).await, Some(world.domain));
    world.revoke(&["domain:1#admin@user:8", "group:11#member@user:8"]).await;
    assert_eq!(alone(&["user:9"]).await, Some(world.domain), "by the group alone");
    assert_eq!(alone(&["user:8"]).await, None);
}

#[tokio::test]
async fn objects_that_end_take_their_tuples_of_both_sides_along() {
    let world = world().await;
    world.grant(&TREE).await;
    world.grant(&["project:2#node@node:4", "node:4#operator@user:9", "domain:1#admin@user:9"]).await;
    let replica = world.replica().await;
    let mut tx = world.database.begin().await.unwrap();
    world.writer.forget_many(&mut tx, &[object("node:4"), object("user:9")]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(replica.fresh().await.unwrap().tuples(), TREE.len() - 1);
}

#[tokio::test]
async fn a_tuple_outside_the_schema_is_not_written_by_code_either() {
    let world = world().await;
    let mut tx = world.database.begin().await.unwrap();
    let good = tuple("domain:1#admin@user:9");
    for bad in [
        RelationTuple { relation: "read".to_owned(), ..good.clone() },
        RelationTuple { subject: SubjectRef::userset(object("user:9"), "member"), ..good.clone() },
        RelationTuple { subject: object("node:4").into(), ..good.clone() },
        RelationTuple { object: plexsphere_kernel::ObjectRef { kind: "domain", id: "*".into() }, ..good.clone() },
        RelationTuple { caveat: within("nowhere"), ..good.clone() },
        RelationTuple { caveat: within("10.0.0.0/8"), ..tuple("project:2#parent@domain:1") },
    ] {
        let bad = std::slice::from_ref(&bad);
        let refused = world.writer.write(&mut tx, Some(world.domain), bad).await;
        assert!(matches!(refused, Err(Fault::Invariant(_))), "{bad:?}");
        let refused = world.writer.remove(&mut tx, Some(world.domain), bad).await;
        assert!(matches!(refused, Err(Fault::Invariant(_))), "{bad:?}");
    }
}

#[test]
fn the_schema_says_what_may_be_granted_to_a_user_and_under_which_conditions() {
    let rules = PgTupleWriter::new(std::sync::Arc::new(plexsphere_kernel::SystemClock));
    for (kind, relation, assignable) in [
        ("domain", "admin", true),
        ("project", "viewer", true),
        ("project", "secret_consumer", false),
        ("project", "parent", false),
        ("project", "read", false),
        ("platform", "admin", false),
        ("group", "member", false),
        ("robot", "admin", false),
    ] {
        assert_eq!(rules.is_assignable(kind, relation), assignable, "{kind}#{relation}");
    }
    assert!(rules.caveat_fits("from_cidr", &context(&json!({"allowed_cidrs": ["10.0.0.0/8"]}))));
    assert!(!rules.caveat_fits("from_cidr", &context(&json!({"allowed_cidrs": ["10.0.0.0/8"], "now": 1}))));
    assert!(!rules.caveat_fits("office_hours", &BTreeMap::new()));
}
