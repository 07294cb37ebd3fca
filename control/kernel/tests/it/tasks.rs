use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use plexsphere_kernel::tasks::{Progress, RunOutcome, Schedule, Task, TaskKind};
use plexsphere_kernel::{Database, Fault, Probes};
use plexsphere_testkit::{TestDatabase, eventually};

use crate::rig::{GRACE, SCHEMA, driver};

/// Counts its runs and how many of them were at the same time.
#[derive(Default)]
struct Counting {
    runs: AtomicU32,
    present: AtomicU32,
    most: AtomicU32,
}

#[async_trait]
impl Task for Counting {
    fn kind(&self) -> TaskKind {
        TaskKind::OutboxSweeper
    }

    async fn run(&self) -> Result<Progress, Fault> {
        let present = self.present.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(present, Ordering::SeqCst);
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.present.fetch_sub(1, Ordering::SeqCst);
        self.runs.fetch_add(1, Ordering::SeqCst);
        Ok(Progress::done(1))
    }
}

/// Panics once, then runs well.
#[derive(Default)]
struct Stumbling(AtomicU32);

#[async_trait]
impl Task for Stumbling {
    fn kind(&self) -> TaskKind {
        TaskKind::ReachabilitySweeper
    }

    async fn run(&self) -> Result<Progress, Fault> {
        assert!(self.0.fetch_add(1, Ordering::SeqCst) > 0, "it stumbles");
        Ok(Progress::done(3))
    }
}

#[tokio::test]
async fn a_task_of_one_replica_never_runs_on_two_at_once() {
    let database = TestDatabase::with(&SCHEMA).await;
    let db = Database::new(database.pool());
    let task = Arc::new(Counting::default());
    let mut replicas: Vec<_> = (0..2).map(|_| driver(&db, &Probes::default())).collect();
    for replica in &mut replicas {
        replica.add(Arc::clone(&task) as Arc<dyn Task>, Schedule::every(Duration::from_millis(1)));
        replica.start();
    }
    eventually!(task.runs.load(Ordering::SeqCst) >= 20, "the task runs again and again");
    assert_eq!(task.most.load(Ordering::SeqCst), 1);
    for replica in replicas {
        assert!(replica.drain(GRACE).await);
    }
}

#[tokio::test]
async fn a_panic_is_caught_and_reported_and_the_next_run_heals_the_probe() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("a background run panicked");
    let database = TestDatabase::with(&SCHEMA).await;
    let (db, probes) = (Database::new(database.pool()), Probes::default());
    let mut tasks = driver(&db, &probes);
    let handle = tasks.add(Arc::new(Stumbling::default()), Schedule::every(Duration::from_secs(60)));
    assert!(!probes.ready(), "a probe is pending until its task reports");
    tasks.start();
    let last = || handle.status().last.map(|run| run.outcome);
    eventually!(matches!(last(), Some(RunOutcome::Panicked(text)) if text.contains("it stumbles")), "a panic is seen");
    eventually!(last() == Some(RunOutcome::Done(Progress::done(3))), "the task runs again");
    eventually!(probes.ready(), "the probe passes");
    assert!(guard.saw("a background run panicked"));
}

/// Runs well once, and then never again.
#[derive(Default)]
struct Failing(AtomicU32);

#[async_trait]
impl Task for Failing {
    fn kind(&self) -> TaskKind {
        TaskKind::ReachabilitySweeper
    }

    async fn run(&self) -> Result<Progress, Fault> {
        if self.0.fetch_add(1, Ordering::SeqCst) > 0 {
            return Err(Fault::Invariant("it runs well"));
        }
        Ok(Progress::done(0))
    }
}

#[tokio::test]
async fn a_probe_bears_failures_until_its_patience_is_over() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("a background run failed");
    let database = TestDatabase::with(&SCHEMA).await;
    let db = Database::new(database.pool());
    for (patience, bears) in [(0, false), (1_000_000, true)] {
        let (probes, task) = (Probes::default(), Arc::new(Failing::default()));
        let mut tasks = driver(&db, &probes);
        let often = Schedule::every(Duration::from_millis(1)).stale_after(patience);
        let handle = tasks.add(Arc::clone(&task) as Arc<dyn Task>, often);
        tasks.start();
        eventually!(handle.status().failures >= 2, "it fails again and again");
        assert_eq!(probes.ready(), bears, "{patience}");
        assert!(tasks.drain(GRACE).await);
    }
}

#[tokio::test]
async fn a_notification_of_the_database_wakes_the_task() {
    let database = TestDatabase::with(&SCHEMA).await;
    let db = Database::new(database.pool());
    let task = Arc::new(Counting::default());
    let mut tasks = driver(&db, &Probes::default());
    let hourly = Schedule::every(Duration::from_secs(3_600)).and_on("plexsphere_test").per_replica();
    tasks.add(Arc::clone(&task) as Arc<dyn Task>, hourly);
    tasks.start();
    // The first run, and one because the listener has just come up.
    eventually!(task.runs.load(Ordering::SeqCst) == 2, "the task has run");
    sqlx::query("SELECT pg_notify('plexsphere_test', '')").execute(&database.pool()).await.unwrap();
    eventually!(task.runs.load(Ordering::SeqCst) == 3, "the notification is heard");
}
