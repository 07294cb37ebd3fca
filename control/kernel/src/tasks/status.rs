//! What a task last did, for whoever asks.

use std::time::Duration;

use plexsphere_wire::Timestamp;

use super::{Progress, TaskKind};

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// Well.
    Done(Progress),
    /// Another replica runs the task.
    HeldElsewhere,
    /// With a fault; its text.
    Failed(String),
    /// With a panic; its text.
    Panicked(String),
    /// It was dropped at its deadline.
    TimedOut,
}

impl RunOutcome {
    /// The word in metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::HeldElsewhere => "held_elsewhere",
            Self::Failed(_) => "failed",
            Self::Panicked(_) => "panicked",
            Self::TimedOut => "timed_out",
        }
    }
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub outcome: RunOutcome,
}

/// What is known of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskStatus {
    /// Which one.
    pub kind: TaskKind,
    /// Whether it runs right now.
    pub running: bool,
    /// Its last run.
    pub last: Option<Run>,
    /// Failed runs since the last good one.
    pub failures: u32,
}
