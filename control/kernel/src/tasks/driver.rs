//! The driver: one loop per task, around its timetable.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::metrics::TaskMetrics;
use super::timetable::{End, Timetable, pause};
use super::wakeups::Wakeups;
use super::{Exclusive, Health, OnCancel, Progress, Run, RunOutcome, Schedule, Service, Task, TaskKind, TaskStatus};
use crate::probes::Probe;
use crate::{Clock, Database, Fault, Probes};

/// The class of the advisory locks of tasks; the second key is a hash of the task's name.
const LOCK_CLASS: i32 = 0x706c_7874;

/// Takes the lock until the transaction ends. The transaction stays open for the whole run and must outlive the
/// session's limit for idle transactions; it has no transaction id, so it holds nobody's horizon back.
const LOCK: &str = "SELECT pg_try_advisory_xact_lock($1, hashtext($2)), \
     set_config('idle_in_transaction_session_timeout', '0', true)";

/// What the driver stands on.
#[derive(Clone)]
pub struct TasksContext {
    /// For advisory locks and notifications.
    pub db: Database,
    /// The time, for statuses.
    pub clock: Arc<dyn Clock>,
    /// Where the tasks' probes are registered.
    pub probes: Probes,
}

/// One task's end for the rest of the program.
#[derive(Clone, Debug)]
pub struct TaskHandle {
    notify: Arc<Notify>,
    status: Arc<RwLock<TaskStatus>>,
}

impl TaskHandle {
    /// Says that there is work. Cheap; nudges before the next run are one.
    pub fn nudge(&self) {
        self.notify.notify_one();
    }

    /// What is known of the task.
    #[must_use]
    pub fn status(&self) -> TaskStatus {
        self.status.read().clone()
    }
}

/// All background work of a process: added first, started together, drained together.
pub struct Tasks {
    context: TasksContext,
    metrics: TaskMetrics,
    cancel: CancellationToken,
    tracker: TaskTracker,
    handles: Vec<TaskHandle>,
    wakeups: Wakeups,
    loops: Vec<Loop>,
    services: Vec<(Arc<dyn Service>, TaskHandle)>,
}

/// A task with everything its loop needs.
struct Loop {
    task: Arc<dyn Task>,
    schedule: Schedule,
    handle: TaskHandle,
    probe: Option<Probe>,
    context: TasksContext,
    metrics: TaskMetrics,
    cancel: CancellationToken,
}

// === impl Tasks ===

impl Tasks {
    /// A driver without tasks. Cancelling `cancel` ends all of them.
    #[must_use]
    pub fn new(context: TasksContext, registry: &mut Registry, cancel: CancellationToken) -> Self {
        Self {
            context,
            metrics: TaskMetrics::register(registry),
            cancel,
            tracker: TaskTracker::new(),
            handles: Vec::new(),
            wakeups: Wakeups::default(),
            loops: Vec::new(),
            services: Vec::new(),
        }
    }

    /// Adds a task; it begins with [`Self::start`].
    pub fn add(&mut self, task: Arc<dyn Task>, schedule: Schedule) -> TaskHandle {
        let handle = self.handle(task.kind());
        if let Some(channel) = schedule.channel {
            self.wakeups.add(channel, Arc::clone(&handle.notify));
        }
        self.loops.push(Loop {
            probe: task.kind().probe().map(|name| self.context.probes.register(name)),
            task,
            schedule,
            handle: handle.clone(),
            context: self.context.clone(),
            metrics: self.metrics.clone(),
            cancel: self.cancel.clone(),
        });
        handle
    }

    /// Adds a service; it begins with [`Self::start`].
    pub fn serve(&mut self, service: Arc<dyn Service>) -> TaskHandle {
        let handle = self.handle(service.kind());
        self.services.push((service, handle.clone()));
        handle
    }

    /// Starts everything that was added since the last start.
    pub fn start(&mut self) {
        let wakeups = std::mem::take(&mut self.wakeups);
        if !wakeups.is_empty() {
            self.tracker.spawn(wakeups.listen(self.context.db.clone(), self.cancel.clone()));
        }
        for task in self.loops.drain(..) {
            self.tracker.spawn(task.go());
        }
        for (service, handle) in self.services.drain(..) {
            let (metrics, clock) = (self.metrics.clone(), Arc::clone(&self.context.clock));
            self.tracker.spawn(keep_serving(service, handle, metrics, clock, self.cancel.clone()));
        }
    }

    /// The status of every task, in the order in which they were added.
    #[must_use]
    pub fn statuses(&self) -> Vec<TaskStatus> {
        self.handles.iter().map(TaskHandle::status).collect()
    }

    /// Cancels everything and waits at most `grace` for it; `false` when something had not ended by then.
    pub async fn drain(&self, grace: Duration) -> bool {
        self.cancel.cancel();
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait()).await.is_ok()
    }

    fn handle(&mut self, kind: TaskKind) -> TaskHandle {
        let status = TaskStatus { kind, running: false, last: None, failures: 0 };
        let handle = TaskHandle { notify: Arc::new(Notify::new()), status: Arc::new(RwLock::new(status)) };
        self.handles.push(handle.clone());
        handle
    }
}

// === impl Loop ===

impl Loop {
    async fn go(self) {
        let began = Instant::now();
        let mut timetable = Timetable::new(self.schedule.period);
        loop {
            let wait = timetable.wait(began.elapsed());
            if self.cancel.is_cancelled() {
                return;
            }
            if !wait.is_zero() {
                tokio::select! {
                    () = self.cancel.cancelled() => return,
                    () = self.handle.notify.notified() => timetable.nudge(),
                    () = tokio::time::sleep(wait) => {}
                }
                continue;
            }
            timetable.started();
            let Some(outcome) = self.run_once().await else { return };
            let end = match &outcome {
                RunOutcome::Done(progress) => End::Done { again_in: progress.again_in },
                RunOutcome::HeldElsewhere => End::HeldElsewhere,
                RunOutcome::Failed(_) | RunOutcome::Panicked(_) | RunOutcome::TimedOut => End::Failed,
            };
            let now = began.elapsed();
            timetable.finished(now, end);
            self.handle.status.write().failures = timetable.failures();
            self.report(&outcome, timetable.failures(), timetable.is_stale(now, self.schedule.patience));
        }
    }

    /// One run; `None` when it was dropped by a cancellation.
    async fn run_once(&self) -> Option<RunOutcome> {
        let (started_at, began) = (self.context.clock.now(), Instant::now());
        self.handle.status.write().running = true;
        let run = AssertUnwindSafe(tokio::time::timeout(self.schedule.deadline, self.exclusively())).catch_unwind();
        let ended = match self.task.kind().on_cancel() {
            OnCancel::Finish => run.await,
            OnCancel::Drop => tokio::select! {
                () = self.cancel.cancelled() => return None,
                ended = run => ended,
            },
        };
        let outcome = match ended {
            Err(panic) => RunOutcome::Panicked(panic_text(panic.as_ref())),
            Ok(Err(_)) => RunOutcome::TimedOut,
            Ok(Ok(Err(fault))) => RunOutcome::Failed(chain(&fault)),
            Ok(Ok(Ok(None))) => RunOutcome::HeldElsewhere,
            Ok(Ok(Ok(Some(progress)))) => RunOutcome::Done(progress),
        };
        let took = began.elapsed();
        self.metrics.ran(self.task.kind(), &outcome, took);
        let mut status = self.handle.status.write();
        status.running = false;
        status.last = Some(Run { started_at, took, outcome: outcome.clone() });
        Some(outcome)
    }

    /// Runs the task under its lock; `None` when another replica holds it.
    async fn exclusively(&self) -> Result<Option<Progress>, Fault> {
        match self.schedule.exclusive {
            Exclusive::PerReplica => self.task.run().await.map(Some),
            Exclusive::OneReplica => {
                // Dropped on any way out, the transaction rolls back and lets the lock go.
                let mut lock = self.context.db.begin().await?;
                let (held, _): (bool, String) =
                    sqlx::query_as(LOCK).bind(LOCK_CLASS).bind(self.task.kind().name()).fetch_one(&mut *lock).await?;
                if !held {
                    return Ok(None);
                }
                let progress = self.task.run().await?;
                lock.rollback().await?;
                Ok(Some(progress))
            }
        }
    }

    fn report(&self, outcome: &RunOutcome, failures: u32, stale: bool) {
        let task = self.task.kind().name();
        match outcome {
            RunOutcome::Failed(cause) if failures == 1 => tracing::warn!(task, cause, "a background run failed"),
            RunOutcome::Failed(cause) => tracing::info!(task, cause, failures, "a background run failed again"),
            RunOutcome::Panicked(cause) => tracing::error!(task, cause, "a background run panicked"),
            RunOutcome::TimedOut => tracing::warn!(task, "a background run took too long"),
            RunOutcome::Done(_) | RunOutcome::HeldElsewhere => {}
        }
        let Some(probe) = &self.probe else { return };
        match outcome {
            RunOutcome::Done(progress) => match progress.health {
                Health::Good => probe.pass("ok"),
                Health::Degraded(why) => probe.pass(why),
                Health::Bad(why) => probe.fail(why),
            },
            RunOutcome::HeldElsewhere => probe.pass("another replica runs it"),
            RunOutcome::Failed(_) | RunOutcome::Panicked(_) | RunOutcome::TimedOut if stale => {
                probe.fail("the last run failed");
            }
            RunOutcome::Failed(_) | RunOutcome::Panicked(_) | RunOutcome::TimedOut => {}
        }
    }
}

/// Keeps a service going until it is cancelled.
async fn keep_serving(
    service: Arc<dyn Service>,
    handle: TaskHandle,
    metrics: TaskMetrics,
    clock: Arc<dyn Clock>,
    cancel: CancellationToken,
) {
    let mut failures = 0;
    while !cancel.is_cancelled() {
        let (started_at, began) = (clock.now(), Instant::now());
        handle.status.write().running = true;
        let ended = AssertUnwindSafe(service.serve(cancel.clone())).catch_unwind().await;
        let took = began.elapsed();
        let outcome = match ended {
            Err(panic) => RunOutcome::Panicked(panic_text(panic.as_ref())),
            Ok(Err(fault)) => RunOutcome::Failed(chain(&fault)),
            Ok(Ok(())) => RunOutcome::Done(Progress::done(0)),
        };
        metrics.ran(service.kind(), &outcome, took);
        if !cancel.is_cancelled() {
            tracing::warn!(service = service.kind().name(), outcome = ?outcome, "a service ended and is started again");
        }
        // A service that had held for a while begins its pauses anew.
        failures = if took > pause(failures) { 0 } else { failures + 1 };
        *handle.status.write() = TaskStatus {
            kind: service.kind(),
            running: false,
            last: Some(Run { started_at, took, outcome }),
            failures,
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(pause(failures)) => {}
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without text".to_owned())
}

/// An error with its sources, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
