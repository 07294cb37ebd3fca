//! Whether what is stored sealed can be opened by this process: the probe `wrap-key-ring`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::Fault;
use crate::tasks::{Health, Progress, Schedule, Task, TaskKind};

/// Rows of a context that rest sealed under a ring of wrap keys.
#[async_trait]
pub trait SealedRows: Send + Sync + 'static {
    /// What they are, for the log, such as `signing keys`.
    fn what(&self) -> &'static str;

    /// The wrap key's version of some row that the ring of this process does not hold; `None` when it holds all.
    ///
    /// # Errors
    /// [`Fault`].
    async fn foreign_version(&self) -> Result<Option<i32>, Fault>;
}

/// Compares the versions of stored rows with the rings. A ring that lacks one is a start with an old or a foreign file:
/// better to be seen at once than by the first signature that fails.
pub struct WrapKeyRing(Vec<Arc<dyn SealedRows>>);

impl WrapKeyRing {
    /// A check over these rows; run it by [`Self::schedule`].
    #[must_use]
    pub const fn new(rows: Vec<Arc<dyn SealedRows>>) -> Self {
        Self(rows)
    }

    /// At the start and every five minutes, on every replica: each has its own rings.
    #[must_use]
    pub const fn schedule() -> Schedule {
        Schedule::every(Duration::from_secs(300)).per_replica()
    }
}

#[async_trait]
impl Task for WrapKeyRing {
    fn kind(&self) -> TaskKind {
        TaskKind::WrapKeyRing
    }

    async fn run(&self) -> Result<Progress, Fault> {
        let mut progress = Progress::default();
        for rows in &self.0 {
            if let Some(version) = rows.foreign_version().await? {
                tracing::error!(
                    what = rows.what(),
                    version,
                    "stored values are sealed under a wrap key that is not loaded"
                );
                progress.health = Health::Bad("stored values are sealed under a wrap key that is not in the ring");
            }
            progress.done += 1;
        }
        Ok(progress)
    }
}
