//! Background work: one driver for every long-lived task of the control tier.
//!
//! A [`Task`] takes no input and is idempotent: it looks at the database, does what is due and reports. It runs on a
//! period and on a nudge, from inside the process ([`TaskHandle::nudge`]) or from PostgreSQL (`LISTEN`). It never
//! overlaps itself: within a replica there is one loop per task, and across replicas an advisory lock where the
//! [`Schedule`] asks for one. A [`Service`] is the other shape of long-lived work: it listens until it is cancelled, and
//! is started again after a pause when it ends.

mod driver;
mod kind;
mod metrics;
mod status;
mod timetable;
mod wakeups;

use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::Fault;

pub use driver::{TaskHandle, Tasks, TasksContext};
pub use kind::{OnCancel, OnError, TaskKind};
pub use status::{Run, RunOutcome, TaskStatus};

/// How a task is faring, for its probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// The probe passes.
    #[default]
    Good,
    /// The probe passes and says why it is not well.
    Degraded(&'static str),
    /// The probe fails.
    Bad(&'static str),
}

/// What one run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// How many things were dealt with.
    pub done: u64,
    /// When to run again although neither period nor nudge asks for it.
    pub again_in: Option<Duration>,
    /// How it is faring.
    pub health: Health,
}

impl Progress {
    /// A run that dealt with `done` things and left nothing behind.
    #[must_use]
    pub const fn done(done: u64) -> Self {
        Self { done, again_in: None, health: Health::Good }
    }

    /// The same run, with more to do at once.
    #[must_use]
    pub const fn and_more(mut self, more: bool) -> Self {
        if more {
            self.again_in = Some(Duration::ZERO);
        }
        self
    }
}

/// Work that is repeated. Idempotent, and safe to be dropped at any await point.
#[async_trait]
pub trait Task: Send + Sync + 'static {
    /// Which one it is.
    fn kind(&self) -> TaskKind;

    /// Does what is due.
    ///
    /// # Errors
    /// [`Fault`]; the driver reports it and tries again after a growing pause.
    async fn run(&self) -> Result<Progress, Fault>;
}

/// Work that goes on until it is cancelled, such as answering requests.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Which one it is.
    fn kind(&self) -> TaskKind;

    /// Serves until `cancel` fires. Returning earlier, with or without an error, has it started again after a pause.
    ///
    /// # Errors
    /// [`Fault`].
    async fn serve(&self, cancel: CancellationToken) -> Result<(), Fault>;
}

/// Who may run a task at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exclusive {
    /// Each replica runs it; the task itself shares the work out.
    PerReplica,
    /// One replica at a time, by a PostgreSQL advisory lock.
    OneReplica,
}

/// When a task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// From the end of one run to the start of the next; the first run is at once.
    pub period: Duration,
    /// A PostgreSQL channel whose notifications nudge it.
    pub channel: Option<&'static str>,
    /// Who may run it at the same time.
    pub exclusive: Exclusive,
    /// How long one run may take before it is dropped.
    pub deadline: Duration,
    /// How many periods may go by without a good run before failed ones fail its probe.
    pub patience: u32,
}

impl Schedule {
    /// Every `period`, on one replica at a time, each run within a minute.
    #[must_use]
    pub const fn every(period: Duration) -> Self {
        let deadline = Duration::from_secs(60);
        Self { period, channel: None, exclusive: Exclusive::OneReplica, deadline, patience: 0 }
    }

    /// Also on notifications of this PostgreSQL channel.
    #[must_use]
    pub const fn and_on(mut self, channel: &'static str) -> Self {
        self.channel = Some(channel);
        self
    }

    /// On every replica.
    #[must_use]
    pub const fn per_replica(mut self) -> Self {
        self.exclusive = Exclusive::PerReplica;
        self
    }

    /// With a probe that bears failures until so many periods went by without a good run. One that has never run well is
    /// not ready.
    #[must_use]
    pub const fn stale_after(mut self, periods: u32) -> Self {
        self.patience = periods;
        self
    }

    /// With another limit for one run.
    #[must_use]
    pub const fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}
