use plexsphere_kernel::authz::{SystemTuple, TupleWriter as _};
use plexsphere_kernel::{Clock as _, Fault};

use crate::world::{TREE, object, tuple, world};

#[tokio::test]
async fn a_tuple_granted_twice_stands_once_and_moves_its_scope_once() {
    let world = world().await;
    for _ in 0..2 {
        world.grant(&["domain:1#admin@user:9"]).await;
    }
    let (tuples, generation, changes): (i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM rebac.tuples), (SELECT max(generation) FROM rebac.generations),
                (SELECT count(*) FROM rebac.changes)",
    )
    .fetch_one(&world.db.pool())
    .await
    .unwrap();
    assert_eq!((tuples, generation, changes), (1, 1, 1));
}

#[tokio::test]
async fn an_object_that_ends_takes_its_tuples_of_both_sides_along() {
    let world = world().await;
    world.grant(&TREE).await;
    world.grant(&["project:2#node@node:4", "node:4#operator@user:9", "domain:1#admin@user:9"]).await;
    let replica = world.replica().await;
    let mut tx = world.database.begin().await.unwrap();
    world.writer.forget(&mut tx, &object("node:4")).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(replica.fresh().await.unwrap().tuples(), TREE.len() - 1 + 1);
}

#[tokio::test]
async fn a_tuple_outside_the_schema_is_not_written_by_code_either() {
    let world = world().await;
    let mut tx = world.database.begin().await.unwrap();
    let good = tuple(world.domain, "domain:1#admin@user:9");
    for bad in [
        SystemTuple { relation: "read", ..good.clone() },
        SystemTuple { userset: Some("member"), ..good.clone() },
        SystemTuple { subject: object("node:4"), ..good.clone() },
        SystemTuple { object: plexsphere_kernel::ObjectRef { kind: "domain", id: "*".into() }, ..good.clone() },
    ] {
        let refused = world.writer.grant(&mut tx, &[bad.clone()], world.clock.now()).await;
        assert!(matches!(refused, Err(Fault::Invariant(_))), "{bad:?}");
        assert!(matches!(world.writer.revoke(&mut tx, &[bad]).await, Err(Fault::Invariant(_))));
    }
}
