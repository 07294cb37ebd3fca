use std::time::Duration;

use plexsphere_kernel::AuditLog as _;
use plexsphere_kernel::tasks::{Health, Task as _};

use crate::rig::{Rig, record, somebody};

#[tokio::test]
async fn the_task_walks_new_rows_by_the_hour_and_whole_chains_by_the_day() {
    let rig = Rig::new().await;
    let domain = rig.domain(somebody(), 6).await;
    let task = rig.audit.verify_task();
    assert_eq!(task.run().await.unwrap().done, 6);
    assert_eq!(task.run().await.unwrap().done, 0);
    for _ in 0..2 {
        rig.log.record_alone(record(Some(domain), somebody())).await.unwrap();
    }
    rig.sequence().await;
    rig.clock.advance(Duration::from_secs(3_600));
    assert_eq!(task.run().await.unwrap().done, 2);
    rig.clock.advance(Duration::from_secs(24 * 3_600));
    assert_eq!(task.run().await.unwrap().done, 8);
    assert_eq!(rig.count("SELECT count(*) FROM kernel.outbox").await, 0);
}

#[tokio::test]
async fn a_divergence_is_told_once_and_stays_known_until_a_whole_walk_finds_none() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("an audit chain does not hold");
    let rig = Rig::new().await;
    rig.domain(somebody(), 6).await;
    let task = rig.audit.verify_task();
    task.run().await.unwrap();
    rig.tamper("UPDATE audit.entries SET relation = 'x' WHERE seq = 3").await;
    rig.clock.advance(Duration::from_secs(24 * 3_600));
    for _ in 0..2 {
        let health = task.run().await.unwrap().health;
        assert_eq!(health, Health::Degraded("a chain does not hold"));
        rig.clock.advance(Duration::from_secs(24 * 3_600));
    }
    let told = "SELECT count(*) FROM kernel.outbox WHERE event_name = 'DivergenceFound' AND payload->>'seq' = '3'";
    assert_eq!(rig.count(told).await, 1);
    rig.tamper("UPDATE audit.entries SET relation = CASE seq WHEN 1 THEN 'domain.create' ELSE 'domain.read' END").await;
    assert_eq!(task.run().await.unwrap().health, Health::Good);
}
