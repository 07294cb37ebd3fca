use std::sync::Arc;
use std::time::Duration;

use plexsphere_kernel::tasks::{Task as _, Tasks, TasksContext};
use plexsphere_kernel::{Authorizer as _, Database, Probes, TupleWriter as _};
use plexsphere_rebac::{ChangeSweeper, RelationSync, Relations, Scope};
use plexsphere_testkit::{eventually, logs, postgres_own};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::world::{TREE, domain, migrator, object, tuple, user, world, world_on};

#[tokio::test]
async fn what_one_replica_writes_every_replica_decides_by_at_once() {
    let world = world().await;
    world.grant(&TREE).await;
    let (a, b) = (world.replica().await, world.replica().await);
    for round in 0..20 {
        for replica in [&a, &b] {
            let decided = world.authorizer(replica).check(&user(9), "manage", &object("project:2")).await.unwrap();
            assert!(!decided.is_allowed(), "round {round}");
        }
        world.grant(&["domain:1#admin@user:9"]).await;
        for replica in [&b, &a] {
            let decided = world.authorizer(replica).check(&user(9), "manage", &object("project:2")).await.unwrap();
            assert!(decided.is_allowed(), "round {round}");
        }
        world.revoke(&["domain:1#admin@user:9"]).await;
    }
    let graph = a.fresh().await.unwrap();
    assert_eq!((graph.generation(Scope(Some(world.domain))), graph.generation(Scope::PLATFORM)), (4 + 40, 1));
}

#[tokio::test]
async fn a_transaction_that_commits_behind_a_later_one_is_not_passed_over() {
    let world = world().await;
    world.grant(&TREE).await;
    let replica = world.replica().await;
    let mut slow = world.database.begin().await.unwrap();
    world.writer.write(&mut slow, Some(world.domain), &[tuple("domain:1#admin@user:9")]).await.unwrap();
    // Another Domain moves in the meantime, and the replica follows it.
    let mut other = world.database.begin().await.unwrap();
    let elsewhere = [tuple("domain:50#admin@user:8")];
    world.writer.write(&mut other, Some(domain(50)), &elsewhere).await.unwrap();
    other.commit().await.unwrap();
    assert_eq!(replica.fresh().await.unwrap().generation(Scope(Some(domain(50)))), 1);
    slow.commit().await.unwrap();
    let decided = world.authorizer(&replica).check(&user(9), "manage", &object("domain:1")).await.unwrap();
    assert!(decided.is_allowed());
}

#[tokio::test]
async fn a_rolled_back_write_leaves_neither_tuple_nor_generation() {
    let world = world().await;
    world.grant(&TREE).await;
    let replica = world.replica().await;
    let mut tx = world.database.begin().await.unwrap();
    world.writer.write(&mut tx, Some(world.domain), &[tuple("domain:1#admin@user:9")]).await.unwrap();
    tx.rollback().await.unwrap();
    let graph = replica.fresh().await.unwrap();
    assert_eq!((graph.tuples(), graph.generation(Scope(Some(world.domain)))), (TREE.len(), 4));
}

#[tokio::test]
async fn a_writers_token_is_answered_with_its_write_and_without_a_question_once_it_is_known() {
    let mut server = postgres_own().await;
    let db = server.database(migrator()).await;
    let database = Database::connect(db.url(), 4).await.unwrap();
    let world = world_on(db, database);
    world.grant(&TREE).await;
    let replica = world.replica().await;
    let mut tx = world.database.begin().await.unwrap();
    world.writer.write(&mut tx, Some(world.domain), &[tuple("domain:1#admin@user:9")]).await.unwrap();
    let token = Relations::token(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(replica.at_least(&token).await.unwrap().tuples(), TREE.len() + 1);
    server.kill9().await;
    assert!(replica.at_least(&token).await.is_ok(), "what is known needs no database");
    assert!(replica.fresh().await.is_err());
    server.restart().await;
}

#[tokio::test]
async fn a_replica_that_missed_trimmed_changes_reads_everything_anew() {
    let world = world().await;
    world.grant(&TREE).await;
    let replica = world.replica().await;
    world.grant(&["domain:1#admin@user:9", "domain:1#admin@user:8"]).await;
    world.revoke(&["domain:1#admin@user:8"]).await;
    // Rows carry the server's time, which lies before the clock of the test.
    let sweeper = ChangeSweeper::new(world.database.clone(), world.clock.clone());
    sqlx::query("UPDATE rebac.changes SET changed_at = '2020-01-01'").execute(&world.db.pool()).await.unwrap();
    assert_eq!(sweeper.run().await.unwrap().done, 8);
    let graph = replica.fresh().await.unwrap();
    assert_eq!(graph.tuples(), TREE.len() + 1);
    assert_eq!(graph.generation(Scope(Some(world.domain))), 7);
}

#[tokio::test]
async fn a_tuple_that_a_newer_build_writes_is_passed_over_by_one_that_runs_and_keeps_it_from_starting() {
    let logs = logs::guard();
    logs.expect("a tuple that this build does not know is passed over");
    let world = world().await;
    world.grant(&TREE).await;
    let replica = world.replica().await;
    for sql in [
        "INSERT INTO rebac.relations VALUES ('project', 'steward', 'user', '', 'system')",
        "INSERT INTO rebac.tuples SELECT gen_random_uuid(), scope, NULL, object_kind, object_id, 'steward', 'user', id, '',
         'system', NULL, NULL, now() FROM rebac.tuples WHERE object_kind = 'project'",
    ] {
        sqlx::query(sql).execute(&world.db.pool()).await.unwrap();
    }
    world.grant(&["domain:1#admin@user:9"]).await;
    let decided = world.authorizer(&replica).check(&user(9), "manage", &object("project:2")).await.unwrap();
    assert!(decided.is_allowed());
    // Also where it has to read everything anew.
    world.grant(&["domain:1#admin@user:8"]).await;
    sqlx::query("DELETE FROM rebac.changes").execute(&world.db.pool()).await.unwrap();
    let decided = world.authorizer(&replica).check(&user(8), "manage", &object("project:2")).await.unwrap();
    assert!(decided.is_allowed());
    assert!(Relations::open(world.database.clone(), world.clock.clone()).await.is_err());
}

#[tokio::test]
async fn checks_that_come_together_share_their_rounds() {
    let world = world().await;
    world.grant(&TREE).await;
    world.grant(&["domain:1#admin@user:9"]).await;
    let authorizer = Arc::new(world.authorizer(&world.replica().await));
    let before: i64 = commits(&world.db).await;
    let checks = (0..500).map(|_| {
        let authorizer = Arc::clone(&authorizer);
        tokio::spawn(async move { authorizer.check(&user(9), "act", &object("node:4")).await.unwrap().is_allowed() })
    });
    for check in checks.collect::<Vec<_>>() {
        assert!(check.await.unwrap());
    }
    eventually!(commits(&world.db).await > before, "the rounds are counted");
    let rounds = commits(&world.db).await - before;
    assert!(rounds < 250, "{rounds} rounds for 500 checks");
}

async fn commits(db: &plexsphere_testkit::TestDatabase) -> i64 {
    sqlx::query_scalar("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
        .fetch_one(&db.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn the_task_follows_notifications_and_says_that_it_is_ready() {
    let _logs = logs::guard();
    let world = world().await;
    world.grant(&TREE).await;
    let replica = world.replica().await;
    let probes = Probes::default();
    let context = TasksContext { db: world.database.clone(), clock: world.clock.clone(), probes: probes.clone() };
    let mut tasks = Tasks::new(context, &mut Registry::default(), CancellationToken::new());
    tasks.add(Arc::new(RelationSync::new(Arc::clone(&replica))), RelationSync::schedule());
    assert!(!probes.ready());
    tasks.start();
    eventually!(probes.ready(), "the first run reports");
    world.grant(&["domain:1#admin@user:9"]).await;
    let began = std::time::Instant::now();
    eventually!(replica.current().tuples() == TREE.len() + 1, "the write arrives unasked");
    assert!(began.elapsed() < Duration::from_secs(4), "by its notification, not by the period");
    assert!(tasks.drain(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn a_lost_database_is_caught_up_with_and_until_then_only_recent_reads_are_decided() {
    let logs = logs::guard();
    logs.expect("a decision cannot be made");
    let mut server = postgres_own().await;
    let db = server.database(migrator()).await;
    let database = Database::connect(db.url(), 4).await.unwrap();
    let world = world_on(db, database);
    world.grant(&TREE).await;
    world.grant(&["domain:1#admin@user:9"]).await;
    let replica = world.replica().await;
    let authorizer = world.authorizer(&replica);
    assert!(authorizer.check(&user(9), "observe", &object("node:4")).await.unwrap().is_allowed());
    server.kill9().await;
    world.clock.advance(29);
    let circumstances = plexsphere_kernel::authz::Circumstances::default();
    let ruling = authorizer.decide(&user(9), "observe", &object("node:4"), &circumstances).await.unwrap();
    assert!(ruling.decision.is_allowed());
    assert!(ruling.caveats.names().contains_key("stale_cache"), "{ruling:?}");
    assert!(authorizer.check(&user(9), "act", &object("node:4")).await.is_err(), "not to change anything");
    assert!(authorizer.check(&user(9), "manage", &object("domain:1")).await.is_err());
    world.clock.advance(2);
    assert!(authorizer.check(&user(9), "observe", &object("node:4")).await.is_err(), "31 s are too long");
    server.restart().await;
    world.grant(&["domain:1#operator@user:8"]).await;
    eventually!(
        authorizer.check(&user(8), "act", &object("node:4")).await.is_ok_and(|decided| decided.is_allowed()),
        "what was written in the meantime is seen"
    );
}
