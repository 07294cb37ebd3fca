//! A million tuples in a real database. Prints its figures; run with `--ignored --nocapture`, optimised.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plexsphere_kernel::Authorizer as _;

use crate::world::{TREE, object, user, world};

/// 250 Projects with 1,000 Nodes each, and 1,000 Groups with 250 Users each.
const FILL: &str = "
    INSERT INTO rebac.tuples (id, scope, object_kind, object_id, relation, subject_kind, subject_id, subject_name,
        class, created_at)
    SELECT gen_random_uuid(), lpad(to_hex(1), 32, '0')::uuid, kind, ('a' || lpad(to_hex(object), 31, '0'))::uuid, relation, subject_kind,
        ('a' || lpad(to_hex(subject), 31, '0'))::uuid, '', class, now()
    FROM (
        SELECT 'resource', n + 1000, 'parent', 'project', n / 1000, 'system' FROM generate_series(0, 249999) n
        UNION ALL SELECT 'node', n + 1000, 'parent', 'resource', n + 1000, 'system' FROM generate_series(0, 249999) n
        UNION ALL SELECT 'project', n / 1000, 'node', 'node', n + 1000, 'system' FROM generate_series(0, 249999) n
        UNION ALL SELECT 'group', n / 250, 'member', 'user', n, 'members' FROM generate_series(0, 249999) n
    ) AS t (kind, object, relation, subject_kind, subject, class)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute"]
async fn a_million_tuples_are_read_followed_and_decided_by() {
    let world = world().await;
    world.grant(&TREE).await;
    for sql in [
        "ALTER TABLE rebac.tuples DISABLE TRIGGER tuples_log",
        FILL,
        "ALTER TABLE rebac.tuples ENABLE TRIGGER tuples_log",
    ] {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&world.db.pool()).await.unwrap();
    }
    let began = Instant::now();
    let replica = world.replica().await;
    println!("{} tuples read and built in {:?}", replica.current().tuples(), began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(60));
    let authorizer = Arc::new(world.authorizer(&replica));
    let mut visible = Vec::new();
    let mut decided = Vec::new();
    for round in 0..200u128 {
        let line = format!("domain:1#admin@user:{}", 100 + round);
        world.grant(&[&line]).await;
        let began = Instant::now();
        let granted = authorizer.check(&user(100 + round), "act", &object("node:4")).await.unwrap();
        visible.push(began.elapsed());
        assert!(granted.is_allowed());
        let began = Instant::now();
        authorizer.check(&user(100 + round), "act", &object("node:4")).await.unwrap();
        decided.push(began.elapsed());
    }
    visible.sort();
    decided.sort();
    println!("from commit to a check that has seen it: p50 {:?}, p99 {:?}", visible[100], visible[198]);
    println!("a check at a gate, nothing new: p50 {:?}, p99 {:?}", decided[100], decided[198]);
    let began = Instant::now();
    let askers: Vec<_> = (0..256u128)
        .map(|asker| {
            let authorizer = Arc::clone(&authorizer);
            tokio::spawn(async move {
                for number in 0..100 {
                    let who = user(100 + (asker + number) % 200);
                    assert!(authorizer.check(&who, "act", &object("node:4")).await.unwrap().is_allowed());
                }
            })
        })
        .collect();
    for asker in askers {
        asker.await.unwrap();
    }
    println!("256 askers at a gate: {:.0} checks per second", 25_600.0 / began.elapsed().as_secs_f64());
}
