//! PostgreSQL notifications, turned into nudges. One connection listens for all tasks.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::postgres::PgListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::timetable::pause;
use crate::{Database, Fault};

/// Who is nudged by which channel.
#[derive(Clone, Debug, Default)]
pub(super) struct Wakeups {
    channels: HashMap<&'static str, Vec<Arc<Notify>>>,
}

impl Wakeups {
    pub(super) fn add(&mut self, channel: &'static str, notify: Arc<Notify>) {
        self.channels.entry(channel).or_default().push(notify);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Listens until cancelled. A broken connection is replaced after a bounded pause; every task is nudged then,
    /// because what was notified in between was not heard.
    pub(super) async fn listen(self, db: Database, cancel: CancellationToken) {
        let mut failures = 0;
        loop {
            let ended = tokio::select! {
                () = cancel.cancelled() => return,
                ended = self.listen_once(&db, &mut failures) => ended,
            };
            if let Err(cause) = ended {
                tracing::info!(?cause, "the notifications are interrupted");
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(pause(failures)) => {}
            }
            failures = failures.saturating_add(1);
        }
    }

    async fn listen_once(&self, db: &Database, failures: &mut u32) -> Result<(), Fault> {
        let mut listener = PgListener::connect_with(db.pool()).await?;
        listener.listen_all(self.channels.keys().copied()).await?;
        *failures = 0;
        self.nudge_all();
        loop {
            // `try_recv` says `None` when the connection was lost and made anew.
            match listener.try_recv().await? {
                Some(notification) => {
                    for notify in self.channels.get(notification.channel()).into_iter().flatten() {
                        notify.notify_one();
                    }
                }
                None => self.nudge_all(),
            }
        }
    }

    fn nudge_all(&self) {
        for notify in self.channels.values().flatten() {
            notify.notify_one();
        }
    }
}
