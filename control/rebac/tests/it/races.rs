//! Changes of tuples that meet.

use plexsphere_kernel::TupleWriter as _;
use serde_json::Value;

use crate::served::{Served, code, grant, served};
use crate::world::object;

/// Nobody writes tuples until it is committed.
async fn hold(served: &Served) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut holder = served.world.db.pool().begin().await.unwrap();
    sqlx::query("SELECT scope FROM rebac.generations FOR UPDATE").execute(&mut *holder).await.unwrap();
    holder
}

async fn made(served: &Served) -> Value {
    let (status, made) = served.create("u8", 2, grant("user:6", "operator", "project:2")).await;
    assert_eq!(status, 201, "{made}");
    made["id"].clone()
}

#[tokio::test]
async fn a_deletion_takes_away_what_a_replacement_put_there_meanwhile() {
    let served = served().await;
    let id = made(&served).await;
    let holder = hold(&served).await;
    let (replaced, deleted, ()) = tokio::join!(
        served.change("u8", &id, Some(grant("user:6", "viewer", "project:2"))),
        async {
            served.world.waiting_for_locks(1).await;
            served.change("u8", &id, None).await
        },
        async {
            served.world.waiting_for_locks(2).await;
            holder.commit().await.unwrap();
        },
    );
    assert_eq!((replaced.0.as_u16(), deleted.0.as_u16()), (200, 204));
    assert_eq!(served.ask("u9", "user:6", "read", "project:2").await, "out_of_scope");
}

#[tokio::test]
async fn a_replacement_finds_nothing_behind_a_deletion() {
    let served = served().await;
    let id = made(&served).await;
    let holder = hold(&served).await;
    let (deleted, replaced, ()) = tokio::join!(
        served.change("u8", &id, None),
        async {
            served.world.waiting_for_locks(1).await;
            served.change("u8", &id, Some(grant("user:6", "viewer", "project:2"))).await
        },
        async {
            served.world.waiting_for_locks(2).await;
            holder.commit().await.unwrap();
        },
    );
    assert_eq!((deleted.0.as_u16(), code(&replaced)), (204, (404, "relation_tuple_not_found")));
    assert_eq!(served.ask("u9", "user:6", "read", "project:2").await, "out_of_scope");
}

#[tokio::test]
async fn a_deletion_is_judged_by_what_a_replacement_made_of_the_tuple() {
    let served = served().await;
    let id = made(&served).await;
    let holder = hold(&served).await;
    let (replaced, deleted, ()) = tokio::join!(
        served.change("u9", &id, Some(grant("user:6", "approver", "domain:1"))),
        async {
            served.world.waiting_for_locks(1).await;
            served.change("u8", &id, None).await
        },
        async {
            served.world.waiting_for_locks(2).await;
            holder.commit().await.unwrap();
        },
    );
    assert_eq!((replaced.0.as_u16(), code(&deleted)), (200, (403, "permission_denied")));
    assert_eq!(served.ask("u9", "user:6", "approve", "domain:1").await, "allowed");
}

#[tokio::test]
async fn nothing_is_granted_on_or_to_what_ends_meanwhile() {
    for (gone, body, expected) in [
        ("node:4", grant("user:6", "operator", "node:4"), (400, "invalid_relation_tuple")),
        ("user:6", grant("user:6", "operator", "node:4"), (400, "invalid_relation_tuple")),
        ("project:2", grant("user:6", "operator", "project:2"), (404, "project_not_found")),
    ] {
        let served = served().await;
        // The end has forgotten the object and not committed yet.
        let mut end = served.world.database.begin().await.unwrap();
        served.world.writer.forget(&mut end, &object(gone)).await.unwrap();
        let (refused, ()) = tokio::join!(served.create("u9", 2, body), async {
            served.world.waiting_for_locks(1).await;
            end.commit().await.unwrap();
        });
        assert_eq!(code(&refused), expected, "{gone}");
        assert_eq!(served.events().await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_end_takes_along_what_is_granted_meanwhile() {
    let served = served().await;
    let holder = hold(&served).await;
    let (granted, (), ()) = tokio::join!(
        served.create("u8", 2, grant("user:6", "operator", "node:4")),
        async {
            served.world.waiting_for_locks(1).await;
            let mut end = served.world.database.begin().await.unwrap();
            served.world.writer.forget(&mut end, &object("node:4")).await.unwrap();
            end.commit().await.unwrap();
        },
        async {
            served.world.waiting_for_locks(2).await;
            holder.commit().await.unwrap();
        },
    );
    assert_eq!(granted.0, 201, "{}", granted.1);
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM rebac.tuples WHERE object_kind = 'node'")
        .fetch_one(&served.world.db.pool())
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn of_two_administrators_who_go_at_once_one_stays() {
    let served = served().await;
    let mut ids = Vec::new();
    for user in ["user:7", "user:8"] {
        let (status, made) = served.create("u9", 2, grant(user, "admin", "domain:1")).await;
        assert_eq!(status, 201, "{made}");
        ids.push(made["id"].clone());
    }
    served.world.revoke(&["domain:1#admin@user:9"]).await;
    let holder = hold(&served).await;
    let (one, other, ()) = tokio::join!(
        served.change("u7", &ids[0], None),
        served.change("u8", &ids[1], Some(grant("user:8", "member", "domain:1"))),
        async {
            served.world.waiting_for_locks(2).await;
            holder.commit().await.unwrap();
        },
    );
    let mut statuses = [one.0.as_u16(), other.0.as_u16()];
    statuses.sort_unstable();
    assert!(matches!(statuses, [200 | 204, 400]), "{statuses:?} {} {}", one.1, other.1);
}
