use std::sync::Arc;
use std::time::Duration;

use plexsphere_audit::chain::{GENESIS, link};
use plexsphere_audit::{PLATFORM_ANCHOR, Sequencer};
use plexsphere_kernel::tasks::{Task as _, Tasks, TasksContext};
use plexsphere_kernel::{AuditLog as _, Database, Probes, SystemClock};
use plexsphere_testkit::{eventually, postgres_own};
use plexsphere_wire::DomainId;
use prometheus_client::registry::Registry;
use sqlx::Row as _;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::rig::{Rig, SCHEMA, now, record, somebody};

/// I5: places from 1 to the number of rows, each once, and a chain that holds.
async fn holds(rig: &Rig, chain: Uuid, rows: i64) {
    let (count, first, last): (i64, i64, i64) =
        sqlx::query_as("SELECT count(DISTINCT seq), min(seq), max(seq) FROM audit.entries WHERE chain = $1")
            .bind(chain)
            .fetch_one(&rig.database.pool())
            .await
            .unwrap();
    assert_eq!((count, first, last), (rows, 1, rows));
    let verdict = rig.verify(chain).await;
    assert_eq!((verdict.to, verdict.divergence), (rows, None));
}

/// Rows of each of the sixteen writers; more are asked for by this variable.
fn rows_each() -> i64 {
    std::env::var("AUDIT_APPENDS").ok().and_then(|text| text.parse::<i64>().ok()).map_or(125, |rows| rows / 16)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_writers_and_two_sequencers_leave_no_gap_and_no_fork() {
    let rig = Arc::new(Rig::new().await);
    let domain = DomainId::mint(now());
    let writers: Vec<_> = (0..16)
        .map(|_| {
            let rig = Arc::clone(&rig);
            tokio::spawn(async move {
                let subject = somebody();
                for _ in 0..rows_each() {
                    rig.log.record_alone(record(Some(domain), subject)).await.unwrap();
                }
            })
        })
        .collect();
    let done = CancellationToken::new();
    let sequencers: Vec<_> = (0..2)
        .map(|_| {
            let (rig, done) = (Arc::clone(&rig), done.clone());
            tokio::spawn(async move {
                let sequencer: Sequencer = rig.audit.sequencer();
                while !done.is_cancelled() {
                    sequencer.run().await.unwrap();
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    eventually!(rig.rows().await == 0, "everything is chained");
    done.cancel();
    for sequencer in sequencers {
        sequencer.await.unwrap();
    }
    holds(&rig, domain.uuid(), 16 * rows_each()).await;
    let pseudonyms = rig.count("SELECT count(DISTINCT subject) FROM audit.entries").await;
    assert_eq!(pseudonyms, 16);
    assert_eq!(rig.count("SELECT count(*) FROM audit.request_contexts").await, 16 * rows_each());
    assert_eq!(rig.count("SELECT count(*) FROM audit.subject_pii WHERE subject_id IS NOT NULL").await, 16);
}

#[tokio::test]
async fn a_rolled_back_transaction_leaves_no_pending_row_and_no_entry() {
    let rig = Rig::new().await;
    let mut tx = rig.db.begin().await.unwrap();
    rig.log.record(&mut tx, record(None, somebody())).await.unwrap();
    tx.rollback().await.unwrap();
    rig.sequence().await;
    assert_eq!(
        rig.count("SELECT (SELECT count(*) FROM audit.pending) + (SELECT count(*) FROM audit.entries)").await,
        0
    );
}

#[tokio::test]
async fn the_first_row_stands_behind_zeros_and_its_hash_comes_from_its_bytes() {
    let rig = Rig::new().await;
    let domain = rig.domain(somebody(), 3).await;
    let row = sqlx::query("SELECT * FROM audit.entries WHERE chain = $1 AND seq = 1")
        .bind(domain.uuid())
        .fetch_one(&rig.database.pool())
        .await
        .unwrap();
    assert_eq!(row.get::<Vec<u8>, _>("prev_hash"), GENESIS);
    assert_eq!(row.get::<Vec<u8>, _>("entry_hash"), link(&GENESIS, row.get("canonical")));
    assert_eq!(row.get::<String, _>("relation"), "domain.create");
}

/// I7: a late creation still comes first, for its chain has no row before.
#[tokio::test]
async fn the_platforms_chain_begins_with_its_bootstrap() {
    let rig = Rig::new().await;
    for relation in ["domain.list", "platform.bootstrap", "domain.list"] {
        let mut row = record(None, somebody());
        row.relation = relation.to_owned();
        rig.log.record_alone(row).await.unwrap();
    }
    rig.sequence().await;
    let rows: Vec<String> = sqlx::query_scalar("SELECT relation FROM audit.entries ORDER BY seq")
        .fetch_all(&rig.database.pool())
        .await
        .unwrap();
    assert_eq!(rows, ["platform.bootstrap", "domain.list", "domain.list"]);
}

#[tokio::test]
async fn chains_are_moved_while_the_head_of_another_is_held() {
    let rig = Rig::new().await;
    let (held, free) = (rig.domain(somebody(), 1).await, rig.domain(somebody(), 1).await);
    let mut holder = rig.database.pool().begin().await.unwrap();
    sqlx::query("SELECT 1 FROM audit.chain_heads WHERE chain = $1 FOR UPDATE")
        .bind(held.uuid())
        .execute(&mut *holder)
        .await
        .unwrap();
    for domain in [held, free] {
        rig.log.record_alone(record(Some(domain), somebody())).await.unwrap();
    }
    assert_eq!(rig.sequence().await, 1);
    assert_eq!(rig.verify(free.uuid()).await.to, 2);
    holder.rollback().await.unwrap();
    assert_eq!(rig.sequence().await, 1);
    holds(&rig, held.uuid(), 2).await;
}

/// The task as it runs: woken by a row whose transaction commits later, and by nobody when the process has no sequencer.
#[tokio::test]
async fn a_row_is_visible_soon_after_its_commit_whoever_enlisted_it() {
    let mut rig = Rig::new().await;
    let context = TasksContext { db: rig.db.clone(), clock: Arc::new(SystemClock), probes: Probes::default() };
    let mut tasks = Tasks::new(context, &mut Registry::default(), CancellationToken::new());
    rig.audit.add_tasks(&mut tasks);
    tasks.start();
    for _ in 0..5 {
        let mut tx = rig.db.begin().await.unwrap();
        rig.log.record(&mut tx, record(None, somebody())).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        tx.commit().await.unwrap();
        assert!(rig.log.visible(PLATFORM_ANCHOR, Duration::from_secs(5)).await.unwrap());
    }
    let stranger = plexsphere_audit::PgAuditLog::new(rig.db.clone(), crate::rig::key(), Arc::new(SystemClock));
    stranger.record_alone(record(None, somebody())).await.unwrap();
    eventually!(rig.rows().await == 0, "the notification woke the sequencer");
    holds(&rig, PLATFORM_ANCHOR, 6).await;
    assert!(tasks.drain(Duration::from_secs(10)).await);
    rig.log.record_alone(record(None, somebody())).await.unwrap();
    assert!(!rig.log.visible(PLATFORM_ANCHOR, Duration::from_millis(50)).await.unwrap());
}

/// A server that dies between any two statements of a batch leaves rows either pending or chained.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_in_the_middle_of_batches_leaves_a_chain_that_holds() {
    let mut server = postgres_own().await;
    let rig = Arc::new(Rig::over(server.database(&SCHEMA).await));
    let domain = DomainId::mint(now());
    let mut expected = 0;
    for round in 0u64..3 {
        let records = vec![record(Some(domain), somebody()); 4_000];
        let mut tx = rig.db.begin().await.unwrap();
        rig.log.record_many(&mut tx, records).await.unwrap();
        tx.commit().await.unwrap();
        expected += 4_000;
        let sequencing = {
            let rig = Arc::clone(&rig);
            tokio::spawn(async move { rig.audit.sequencer().run().await.map(|progress| progress.done) })
        };
        let head = "SELECT coalesce(max(last_seq), 0) FROM audit.chain_heads";
        let before = rig.count(head).await;
        eventually!(rig.count(head).await > before, "a batch is through");
        tokio::time::sleep(Duration::from_millis(7 * round)).await;
        server.kill9().await;
        let _ = sequencing.await.unwrap();
        server.restart().await;
        eventually!(rig.db.begin().await.is_ok(), "the server is back");
    }
    eventually!(
        {
            let _ = rig.audit.sequencer().run().await;
            rig.rows().await == 0
        },
        "the rest is chained"
    );
    holds(&rig, domain.uuid(), expected).await;
    assert_eq!(rig.count("SELECT count(DISTINCT entry) FROM audit.entries").await, expected);
    assert_eq!(rig.count("SELECT count(*) FROM audit.request_contexts").await, expected);
}

#[tokio::test]
async fn a_batch_that_is_dropped_half_way_changes_nothing() {
    let _logs = plexsphere_testkit::logs::guard();
    let rig = Rig::new().await;
    let domain = rig.domain(somebody(), 1).await;
    for _ in 0..30 {
        rig.log.record_alone(record(Some(domain), somebody())).await.unwrap();
    }
    for micros in (0u64..4_000).step_by(250) {
        let sequencer = rig.audit.sequencer();
        let _ = tokio::time::timeout(Duration::from_micros(micros), sequencer.run()).await;
    }
    rig.sequence().await;
    eventually!(
        {
            rig.sequence().await;
            rig.rows().await == 0
        },
        "no lock is left behind"
    );
    holds(&rig, domain.uuid(), 31).await;
}

#[tokio::test]
async fn a_chain_that_cannot_be_moved_holds_no_other_one_back() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("an audit chain cannot be moved");
    let rig = Rig::new().await;
    let (broken, whole) = (rig.domain(somebody(), 1).await, rig.domain(somebody(), 1).await);
    // A row already stands where the next one belongs.
    rig.tamper(&format!(
        "INSERT INTO audit.entries SELECT chain, 2, entry, subject, relation, object_type, object_id, reason, caveat_names, \
         correlation_id, ctx, occurred_at, repeated, prev_hash, entry_hash, canonical FROM audit.entries WHERE chain = '{}'",
        broken.uuid()
    ))
    .await;
    for domain in [broken, whole] {
        rig.log.record_alone(record(Some(domain), somebody())).await.unwrap();
    }
    let progress = rig.audit.sequencer().run().await.unwrap();
    assert_eq!(progress.done, 1);
    assert_eq!(rig.rows().await, 1);
    holds(&rig, whole.uuid(), 2).await;
    rig.tamper("UPDATE audit.pending SET enlisted_at = now() - interval '31 seconds'").await;
    let progress = rig.audit.sequencer().run().await.unwrap();
    assert_eq!(progress.health, plexsphere_kernel::tasks::Health::Bad("rows have waited for more than 30 s"));
}

#[tokio::test]
async fn another_contexts_role_enlists_and_the_audit_role_chains() {
    let rig = Rig::new().await;
    let theirs = Database::new(rig.database.pool_as("kernel").await);
    let log = plexsphere_audit::PgAuditLog::new(theirs, crate::rig::key(), Arc::new(SystemClock));
    log.record_alone(record(None, somebody())).await.unwrap();
    let ours = Database::new(rig.database.pool_as("audit").await);
    let log = Arc::new(plexsphere_audit::PgAuditLog::new(ours, crate::rig::key(), Arc::new(SystemClock)));
    let parts = plexsphere_audit::AuditParts {
        log,
        domains: Arc::clone(&rig.world) as Arc<dyn plexsphere_kernel::seams::DomainEntries>,
        cursor_key: plexsphere_audit::CursorKey::new([3; 32]),
        mirror: None,
    };
    let audit = plexsphere_audit::Audit::new(parts, &mut Registry::default());
    assert_eq!(audit.sequencer().run().await.unwrap().done, 1);
    let range = plexsphere_audit::Range::default();
    assert_eq!(audit.verifier().verify(PLATFORM_ANCHOR, range).await.unwrap().divergence, None);
}
