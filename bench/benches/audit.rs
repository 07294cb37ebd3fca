//! What the audit log costs, against a PostgreSQL of its own whose commits survive a crash. Not a criterion bench: each
//! figure is a ratio of two roads through the same server in the same run, and printed as such.
//!
//! `cargo bench -p plexsphere-bench --bench audit`, with names of parts to run only those: `drain`, `mutation`,
//! `visible`, `verify`.
#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench that does not run must say so at once"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use plexsphere_audit::chain::{ChainCheck, GENESIS, Row, Stored, link};
use plexsphere_audit::{Audit, AuditKey, AuditParts, CursorKey, PgAuditLog, Range};
use plexsphere_kernel::audit::RequestContext;
use plexsphere_kernel::seams::DomainEntries;
use plexsphere_kernel::tasks::{Task as _, Tasks, TasksContext};
use plexsphere_kernel::{
    AuditLog as _, AuditRecord, Clock as _, Database, Fault, ObjectRef, Outcome, Probes, Subject, SystemClock,
};
use plexsphere_local::{Artifact, Artifacts, Paths, Postgres, PostgresOptions, PostgresTuning, Progress};
use plexsphere_wire::directory::DomainEntry;
use plexsphere_wire::{CorrelationId, DomainId, PrincipalId};
use prometheus_client::registry::Registry;
use sqlx::Connection as _;
use tokio_util::sync::CancellationToken;

const DRAIN_ROWS: usize = 200_000;
const VERIFY_ROWS: usize = 500_000;
const SLICE: Duration = Duration::from_millis(1_000);
const PAIRS: u32 = 8;

struct NoDomains;

#[async_trait]
impl DomainEntries for NoDomains {
    async fn domain_entry(&self, _: DomainId) -> Result<Option<DomainEntry>, Fault> {
        Ok(None)
    }

    async fn domain_entries(&self, _: Option<DomainId>, _: i64) -> Result<Vec<DomainEntry>, Fault> {
        Ok(Vec::new())
    }
}

struct Rig {
    server: Postgres,
    db: Database,
    log: Arc<PgAuditLog>,
    audit: Audit,
    _folder: tempfile::TempDir,
}

impl Rig {
    async fn new() -> Self {
        let artifacts = Artifacts::new(&Paths::discover().unwrap());
        let installed = artifacts.ensure(&[Artifact::Postgres], &Progress::stderr()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        open_to_all(folder.path());
        let options = PostgresOptions {
            data: folder.path().join("postgres"),
            tuning: PostgresTuning::Durable,
            ..PostgresOptions::default()
        };
        let server = Postgres::start(&installed, options).await.unwrap();
        let db = Database::connect(&server.url(), 80).await.unwrap();
        db.migrate().await.unwrap();
        for table in [
            "CREATE TABLE thing (id uuid PRIMARY KEY, what text NOT NULL)",
            "CREATE TABLE plain (id uuid PRIMARY KEY, chain uuid, subject bytea, relation text, object_type text, \
             object_id text, reason text, correlation_id text, ctx bytea, occurred_at timestamptz)",
            "CREATE TABLE locked (chain uuid, seq bigint, prev bytea, own bytea, canonical bytea, subject bytea, \
             relation text, object_type text, object_id text, reason text, correlation_id text, ctx bytea, \
             occurred_at timestamptz, PRIMARY KEY (chain, seq))",
            "CREATE TABLE locked_head (chain uuid PRIMARY KEY, seq bigint, hash bytea)",
        ] {
            sqlx::query(table).execute(db.pool()).await.unwrap();
        }
        let key = AuditKey::parse(&"ab".repeat(32)).unwrap();
        let log = Arc::new(PgAuditLog::new(db.clone(), key, Arc::new(SystemClock)));
        let parts = AuditParts {
            log: Arc::clone(&log),
            domains: Arc::new(NoDomains),
            cursor_key: CursorKey::new([1; 32]),
            mirror: None,
        };
        let audit = Audit::new(parts, &mut Registry::default());
        Self { server, db, log, audit, _folder: folder }
    }

    /// The background work as a process runs it, until the returned value is drained.
    fn tasks(&mut self) -> Tasks {
        let context = TasksContext { db: self.db.clone(), clock: Arc::new(SystemClock), probes: Probes::default() };
        let mut tasks = Tasks::new(context, &mut Registry::default(), CancellationToken::new());
        self.audit.add_tasks(&mut tasks);
        tasks.start();
        tasks
    }

    async fn pending(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM audit.pending").fetch_one(self.db.pool()).await.unwrap()
    }

    async fn enlist(&self, domain: DomainId, rows: usize) {
        for batch in 0..rows.div_ceil(5_000) {
            let count = 5_000.min(rows - batch * 5_000);
            let mut tx = self.db.begin().await.unwrap();
            self.log.record_many(&mut tx, (0..count).map(|_| record(Some(domain))).collect()).await.unwrap();
            tx.commit().await.unwrap();
        }
    }
}

/// PostgreSQL refuses to be root and becomes somebody else, who must reach its folder.
fn open_to_all(folder: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn record(domain: Option<DomainId>) -> AuditRecord {
    let now = SystemClock.now();
    AuditRecord {
        domain,
        subject: Subject::User(PrincipalId::from_uuid(uuid::Uuid::from_u128(now.unix_nanos() as u128 % 500 + 1))),
        relation: "node.read".to_owned(),
        object: ObjectRef { kind: "node", id: PrincipalId::mint(now).to_string() },
        outcome: Outcome::Granted,
        correlation_id: CorrelationId::mint(now),
        context: RequestContext {
            ip: Some("192.0.2.7".to_owned()),
            user_agent: Some("plexctl/1.4 (linux)".to_owned()),
        },
        occurred_at: now,
    }
}

fn rate(rows: usize, took: Duration) -> f64 {
    rows as f64 / took.as_secs_f64()
}

fn mark(name: &str, value: f64, least: f64) {
    let word = if value >= least { "ok" } else { "MISSED" };
    println!("  {name}: {value:.2} (mark: at least {least}) {word}");
}

/// A backlog of one chain, against one transaction per row that locks the head, and against single plain INSERTs.
async fn drain(rig: &Rig) {
    println!("drain: {DRAIN_ROWS} pending rows of one chain");
    let domain = DomainId::mint(SystemClock.now());
    rig.enlist(domain, DRAIN_ROWS).await;
    let sequencer = rig.audit.sequencer();
    let began = Instant::now();
    while rig.pending().await > 0 {
        sequencer.run().await.unwrap();
    }
    let ours = rate(DRAIN_ROWS, began.elapsed());
    let locked = row_locked(rig, 3_000).await;
    let plain = single_inserts(rig, 3_000).await;
    println!("  sequencer {ours:.0} rows/s, row-locked chain {locked:.0} rows/s, single INSERTs {plain:.0} rows/s");
    mark("sequencer / row-locked chain", ours / locked, 20.0);
    mark("sequencer / single INSERTs", ours / plain, 2.0);
    let verdict = rig.audit.verifier().verify(domain.uuid(), Range::default()).await.unwrap();
    assert_eq!((verdict.to, verdict.divergence), (i64::try_from(DRAIN_ROWS).unwrap(), None));
}

/// The simplest chain there is: lock the head, hash, insert, move the head, commit.
async fn row_locked(rig: &Rig, rows: usize) -> f64 {
    let domain = DomainId::mint(SystemClock.now());
    sqlx::query("INSERT INTO locked_head VALUES ($1, 0, $2)")
        .bind(domain.uuid())
        .bind(GENESIS.as_slice())
        .execute(rig.db.pool())
        .await
        .unwrap();
    let began = Instant::now();
    for _ in 0..rows {
        let row = record(Some(domain));
        let mut tx = rig.db.begin().await.unwrap();
        let (seq, hash): (i64, Vec<u8>) =
            sqlx::query_as("SELECT seq, hash FROM locked_head WHERE chain = $1 FOR UPDATE")
                .bind(domain.uuid())
                .fetch_one(&mut *tx)
                .await
                .unwrap();
        let subject = [7u8; 32];
        let mut canonical = Vec::new();
        encoded(domain, seq + 1, &row, &subject).encode(&mut canonical);
        let prev = hash.try_into().unwrap();
        let own = link(&prev, &canonical);
        sqlx::query("INSERT INTO locked VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)")
            .bind(domain.uuid())
            .bind(seq + 1)
            .bind(prev.as_slice())
            .bind(own.as_slice())
            .bind(&canonical)
            .bind(subject.as_slice())
            .bind(&row.relation)
            .bind(row.object.kind)
            .bind(&row.object.id)
            .bind("granted")
            .bind(row.correlation_id.as_str())
            .bind(subject.as_slice())
            .bind(row.occurred_at.inner())
            .execute(&mut *tx)
            .await
            .unwrap();
        sqlx::query("UPDATE locked_head SET seq = $2, hash = $3 WHERE chain = $1")
            .bind(domain.uuid())
            .bind(seq + 1)
            .bind(own.as_slice())
            .execute(&mut *tx)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }
    rate(rows, began.elapsed())
}

fn encoded<'a>(domain: DomainId, seq: i64, row: &'a AuditRecord, subject: &'a [u8; 32]) -> Row<'a> {
    Row {
        chain: domain.uuid(),
        seq,
        subject,
        relation: &row.relation,
        object_type: row.object.kind,
        object_id: &row.object.id,
        reason: "granted",
        caveat_names: "{}",
        correlation_id: row.correlation_id.as_str(),
        ctx: subject,
        occurred_at: i64::try_from(row.occurred_at.unix_nanos() / 1_000).unwrap(),
        repeated: 0,
    }
}

async fn single_inserts(rig: &Rig, rows: usize) -> f64 {
    let mut connection = sqlx::PgConnection::connect(&rig.server.url()).await.unwrap();
    let began = Instant::now();
    for _ in 0..rows {
        plain_log(&mut connection, &record(None)).await;
    }
    rate(rows, began.elapsed())
}

async fn plain_log(connection: &mut sqlx::PgConnection, row: &AuditRecord) {
    let bytes = [7u8; 32];
    sqlx::query("INSERT INTO plain VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)")
        .bind(PrincipalId::mint(row.occurred_at).uuid())
        .bind(row.domain.map(|domain| domain.uuid()))
        .bind(bytes.as_slice())
        .bind(&row.relation)
        .bind(row.object.kind)
        .bind(&row.object.id)
        .bind("granted")
        .bind(row.correlation_id.as_str())
        .bind(bytes.as_slice())
        .bind(row.occurred_at.inner())
        .execute(connection)
        .await
        .unwrap();
}

/// A change with an audit row, chained meanwhile, against the same change with a row in a plain log. Short slices of the two
/// take turns, and the median of the pairs' ratios counts, so that both see the same machine.
async fn mutation(rig: &mut Rig) {
    println!("mutation: one change in a transaction, audited or logged plainly; {PAIRS} pairs of slices of {SLICE:?}");
    let tasks = rig.tasks();
    for callers in [1usize, 16, 64] {
        let (mut rates, mut latencies) = (Vec::new(), Vec::new());
        let (mut ours, mut theirs) = (0, 0);
        for pair in 0..PAIRS {
            let first = slice(rig, callers, pair % 2 == 0).await;
            let second = slice(rig, callers, pair % 2 != 0).await;
            let (audited, plain) = if pair % 2 == 0 { (first, second) } else { (second, first) };
            ours += audited.len();
            theirs += plain.len();
            rates.push(audited.len() as f64 / plain.len() as f64);
            latencies.push(
                median(audited.iter().map(Duration::as_secs_f64)) / median(plain.iter().map(Duration::as_secs_f64)),
            );
        }
        let seconds = SLICE.as_secs_f64() * f64::from(PAIRS);
        println!("  {callers} callers: audited {:.0}/s, plain {:.0}/s", ours as f64 / seconds, theirs as f64 / seconds);
        mark("rate audited / plain", median(rates.into_iter()), 0.85);
        if callers == 1 {
            let ratio = median(latencies.into_iter());
            println!(
                "  median latency audited / plain: {ratio:.2} (mark: at most 1.2) {}",
                if ratio <= 1.2 { "ok" } else { "MISSED" }
            );
        }
    }
    assert!(tasks.drain(Duration::from_secs(30)).await);
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn slice(rig: &Rig, callers: usize, audited: bool) -> Vec<Duration> {
    let until = Instant::now() + SLICE;
    let domain = DomainId::mint(SystemClock.now());
    let work = (0..callers).map(|_| {
        let (db, log) = (rig.db.clone(), Arc::clone(&rig.log));
        tokio::spawn(async move {
            let mut took = Vec::new();
            while Instant::now() < until {
                let began = Instant::now();
                let row = record(Some(domain));
                let mut tx = db.begin().await.unwrap();
                sqlx::query("INSERT INTO thing VALUES ($1, 'x')")
                    .bind(PrincipalId::mint(row.occurred_at).uuid())
                    .execute(&mut *tx)
                    .await
                    .unwrap();
                if audited {
                    log.record(&mut tx, row).await.unwrap();
                } else {
                    plain_log(&mut tx, &row).await;
                }
                tx.commit().await.unwrap();
                took.push(began.elapsed());
            }
            took
        })
    });
    let mut all = Vec::new();
    for caller in work.collect::<Vec<_>>() {
        all.extend(caller.await.unwrap());
    }
    all
}

/// From the commit of a pending row to the moment a reader finds it, while 5,000 rows a second come in.
async fn visible(rig: &mut Rig) {
    println!("visible: 5,000 rows/s for 10 s");
    let tasks = rig.tasks();
    let domain = DomainId::mint(SystemClock.now());
    let stop = Arc::new(AtomicBool::new(false));
    let load = {
        let (db, log, stop) = (rig.db.clone(), Arc::clone(&rig.log), Arc::clone(&stop));
        tokio::spawn(async move {
            let (began, mut sent) = (Instant::now(), 0u64);
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            while !stop.load(Ordering::Relaxed) {
                tick.tick().await;
                let due = (began.elapsed().as_secs_f64() * 5_000.0) as u64;
                let rows: Vec<_> = (sent..due).map(|_| record(Some(domain))).collect();
                sent = due;
                let mut tx = db.begin().await.unwrap();
                log.record_many(&mut tx, rows).await.unwrap();
                tx.commit().await.unwrap();
            }
            sent
        })
    };
    let (began, mut waits) = (Instant::now(), Vec::new());
    while began.elapsed() < Duration::from_secs(10) {
        let row = record(Some(domain));
        let correlation = row.correlation_id.clone();
        rig.log.record_alone(row).await.unwrap();
        let committed = Instant::now();
        loop {
            let there: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT FROM audit.entries WHERE chain = $1 AND correlation_id = $2)",
            )
            .bind(domain.uuid())
            .bind(correlation.as_str())
            .fetch_one(rig.db.pool())
            .await
            .unwrap();
            if there {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        waits.push(committed.elapsed());
    }
    stop.store(true, Ordering::Relaxed);
    let sent = load.await.unwrap();
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1_000.0;
    println!(
        "  {sent} rows sent, {} watched: p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms",
        waits.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    mark("250 ms / p99", 250.0 / at(0.99), 1.0);
    assert!(tasks.drain(Duration::from_secs(30)).await);
}

/// Hashing and encoding again on one core, and the whole way out of the database.
async fn verify(rig: &Rig) {
    println!("verify: {VERIFY_ROWS} rows");
    let domain = DomainId::mint(SystemClock.now());
    let subject = [7u8; 32];
    let records: Vec<_> = (0..1_000).map(|_| record(Some(domain))).collect();
    let mut last = GENESIS;
    let rows: Vec<_> = (0..VERIFY_ROWS)
        .map(|at| {
            let (which, seq) = (at % 1_000, i64::try_from(at).unwrap() + 1);
            let mut canonical = Vec::new();
            encoded(domain, seq, &records[which], &subject).encode(&mut canonical);
            let (prev, own) = (last, link(&last, &canonical));
            last = own;
            (which, seq, canonical, prev, own)
        })
        .collect();
    let began = Instant::now();
    let mut check = ChainCheck::from_genesis();
    for (which, seq, canonical, prev, own) in &rows {
        let row = encoded(domain, *seq, &records[*which], &subject);
        check.entry(&Stored { row, prev_hash: prev, entry_hash: own, canonical }).unwrap();
    }
    let core = rate(VERIFY_ROWS, began.elapsed());
    println!("  {} bytes a row, {core:.0} rows/s on one core", rows[0].2.len());
    mark("rows/s / 500,000", core / 500_000.0, 1.0);
    drop(rows);
    let domain = DomainId::mint(SystemClock.now());
    rig.enlist(domain, DRAIN_ROWS).await;
    let sequencer = rig.audit.sequencer();
    while rig.pending().await > 0 {
        sequencer.run().await.unwrap();
    }
    let began = Instant::now();
    let verdict = rig.audit.verifier().verify(domain.uuid(), Range::default()).await.unwrap();
    assert_eq!(verdict.divergence, None);
    println!("  {:.0} rows/s out of the database", rate(DRAIN_ROWS, began.elapsed()));
}

fn main() {
    let parts: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|word| word == part);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut rig = Rig::new().await;
        if wanted("drain") {
            drain(&rig).await;
        }
        if wanted("mutation") {
            mutation(&mut rig).await;
        }
        if wanted("visible") {
            visible(&mut rig).await;
        }
        if wanted("verify") {
            verify(&rig).await;
        }
        let _ = rig.server.stop(Duration::from_secs(10)).await;
    });
}
