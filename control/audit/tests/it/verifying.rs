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

/// Tail and head cut together, all columns consistent: only what was verified or copied once remembers more.
#[tokio::test]
async fn a_chain_that_was_rolled_back_consistently_is_found_where_it_ends() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("an audit chain does not hold");
    let rig = Rig::new().await;
    let domain = rig.domain(somebody(), 6).await;
    let task = rig.audit.verify_task();
    task.run().await.unwrap();
    rig.tamper(
        "UPDATE audit.chain_heads SET last_seq = 4, last_hash = (SELECT entry_hash FROM audit.entries WHERE seq = 4);
         DELETE FROM audit.entries WHERE seq > 4",
    )
    .await;
    assert_eq!(rig.verify(domain.uuid()).await.divergence.map(|found| found.seq), Some(5));
    for hours in [1, 1, 24] {
        rig.clock.advance(Duration::from_secs(hours * 3_600));
        assert_eq!(task.run().await.unwrap().health, Health::Degraded("a chain does not hold"));
    }
    let told = "SELECT count(*) FROM kernel.outbox WHERE event_name = 'DivergenceFound' AND payload->>'seq' = '5'";
    assert_eq!(rig.count(told).await, 1);
    let part = plexsphere_audit::Range { from: Some(1), to: Some(3) };
    assert_eq!(rig.audit.verifier().verify(domain.uuid(), part).await.unwrap().divergence, None);
}

#[tokio::test]
async fn a_chain_that_cannot_be_read_holds_no_other_one_back() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("an audit chain cannot be verified");
    let rig = Rig::new().await;
    let mut chains = [rig.domain(somebody(), 3).await, rig.domain(somebody(), 4).await];
    chains.sort_unstable();
    rig.tamper(&format!(
        "ALTER TABLE audit.entries RENAME TO kept;
         CREATE VIEW audit.entries AS SELECT chain, seq, entry, subject, relation, object_type, object_id, reason,
             caveat_names, correlation_id, ctx, occurred_at,
             CASE chain WHEN '{}' THEN 1 / (seq - seq)::integer ELSE repeated END AS repeated,
             prev_hash, entry_hash, canonical FROM audit.kept",
        chains[0].uuid()
    ))
    .await;
    let progress = rig.audit.verify_task().run().await.unwrap();
    assert_eq!(progress.health, Health::Degraded("a chain cannot be verified"));
    let verified = format!("SELECT verified_to FROM audit.verifications WHERE chain = '{}'", chains[1].uuid());
    assert!(rig.count(&verified).await > 2);
}
