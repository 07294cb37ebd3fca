//! What the driver counts.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{RunOutcome, TaskKind};

const SECONDS: [f64; 8] = [0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunLabels {
    task: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TaskLabels {
    task: &'static str,
}

#[derive(Clone, Debug)]
pub(super) struct TaskMetrics {
    runs: Family<RunLabels, Counter>,
    seconds: Family<TaskLabels, Histogram, fn() -> Histogram>,
}

impl TaskMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics =
            Self { runs: Family::default(), seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)) };
        registry.register(
            "plexsphere_control_task_runs",
            "Runs of background tasks by how they ended",
            metrics.runs.clone(),
        );
        registry.register(
            "plexsphere_control_task_run_seconds",
            "How long runs of background tasks took",
            metrics.seconds.clone(),
        );
        metrics
    }

    pub(super) fn ran(&self, kind: TaskKind, outcome: &RunOutcome, took: Duration) {
        self.runs.get_or_create(&RunLabels { task: kind.name(), outcome: outcome.as_str() }).inc();
        self.seconds.get_or_create(&TaskLabels { task: kind.name() }).observe(took.as_secs_f64());
    }
}
