//! Audit rows that arise here, on their way to control. Never holds up or fails a response.

use std::collections::HashMap;
use std::future::IntoFuture as _;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType};
use parking_lot::Mutex;
use plexsphere_wire::intake::AuditIntake;
use plexsphere_wire::{CorrelationId, NodeId, subjects};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::metrics::{Metrics, OfReason};

/// Rows of one Node a minute; further ones are summed up in one row.
const ROWS_PER_MINUTE: u32 = 60;
const MINUTE: Duration = Duration::from_secs(60);
/// Rows that wait for the bus.
const QUEUE: usize = 1_024;
/// Nodes that are counted at a time.
const MAX_NODES: usize = 10_000;

struct Minute {
    began: Duration,
    rows: u32,
    /// The last row of those that were held back, and how many they were.
    held: Option<(AuditIntake, u32)>,
}

/// Decides which rows go out; the pure part.
#[derive(Default)]
pub struct RowLimit {
    nodes: HashMap<NodeId, Minute>,
}

impl RowLimit {
    /// The row, if it goes out now.
    pub fn admit(&mut self, row: AuditIntake, now: Duration) -> Option<AuditIntake> {
        if self.nodes.len() >= MAX_NODES && !self.nodes.contains_key(&row.node) {
            return Some(row);
        }
        let minute = self.nodes.entry(row.node).or_insert(Minute { began: now, rows: 0, held: None });
        if minute.rows < ROWS_PER_MINUTE {
            minute.rows += 1;
            return Some(row);
        }
        let count = minute.held.as_ref().map_or(0, |(_, count)| *count).saturating_add(1);
        minute.held = Some((row, count));
        None
    }

    /// The summaries of the minutes that have ended.
    pub fn sweep(&mut self, now: Duration) -> Vec<AuditIntake> {
        let mut summaries = Vec::new();
        self.nodes.retain(|_, minute| {
            let ended = now.saturating_sub(minute.began) >= MINUTE;
            if ended && let Some((mut row, count)) = minute.held.take() {
                row.repeated = count - 1;
                summaries.push(row);
            }
            !ended
        });
        summaries
    }
}

/// Takes rows from handlers.
#[derive(Clone)]
pub struct Intake {
    rows: mpsc::Sender<AuditIntake>,
    limit: Arc<Mutex<RowLimit>>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl Intake {
    /// An intake, and the task that carries its rows to the bus.
    pub fn new(
        client: async_nats::Client,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        cancel: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (rows, queue) = mpsc::channel(QUEUE);
        let intake = Self { rows, limit: Arc::default(), clock, metrics };
        let carrier = carry(intake.clone(), async_nats::jetstream::new(client), queue, cancel);
        (intake, carrier)
    }

    /// Hands a row over.
    pub fn record(&self, row: AuditIntake) {
        let admitted = self.limit.lock().admit(row, self.clock.monotonic());
        if let Some(row) = admitted {
            self.enqueue(row);
        }
    }

    fn enqueue(&self, row: AuditIntake) {
        if let Err(error) = self.rows.try_send(row) {
            let (mpsc::error::TrySendError::Full(row) | mpsc::error::TrySendError::Closed(row)) = error;
            self.metrics.intake_lost.get_or_create(&OfReason { reason: "queue_full" }).inc();
            tracing::error!(node = %row.node, correlation_id = %row.correlation_id, "audit row lost");
        }
    }
}

async fn carry(
    intake: Intake,
    jetstream: async_nats::jetstream::Context,
    mut queue: mpsc::Receiver<AuditIntake>,
    cancel: CancellationToken,
) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut ensured = false;
    loop {
        tokio::select! {
            () = cancel.cancelled() => {
                for row in intake.limit.lock().sweep(Duration::MAX) {
                    intake.enqueue(row);
                }
                queue.close();
                while let Some(row) = queue.recv().await {
                    deliver(&intake, &jetstream, &row, 1).await;
                }
                return;
            }
            _ = tick.tick() => {
                let summaries = intake.limit.lock().sweep(intake.clock.monotonic());
                summaries.into_iter().for_each(|row| intake.enqueue(row));
                if !ensured {
                    ensured = ensure(&jetstream).await;
                }
            }
            row = queue.recv() => match row {
                Some(row) => deliver(&intake, &jetstream, &row, 5).await,
                None => return,
            },
        }
    }
}

async fn ensure(jetstream: &async_nats::jetstream::Context) -> bool {
    let config = Config {
        name: subjects::AUDIT_INTAKE_STREAM.into(),
        subjects: vec![subjects::AUDIT_INTAKE.into()],
        retention: RetentionPolicy::WorkQueue,
        storage: StorageType::File,
        ..Config::default()
    };
    match jetstream.get_or_create_stream(config).await {
        Ok(_) => true,
        Err(error) => {
            tracing::debug!(%error, "audit intake stream is not there yet");
            false
        }
    }
}

async fn deliver(intake: &Intake, jetstream: &async_nats::jetstream::Context, row: &AuditIntake, tries: u32) {
    let Ok(body) = serde_json::to_vec(row) else { return };
    // Not the correlation id: the caller chooses that, and could make one row swallow the others.
    let id = CorrelationId::mint(intake.clock.now()).to_string();
    for attempt in 0..tries {
        if attempt > 0 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            ensure(jetstream).await;
        }
        let message =
            async_nats::jetstream::message::PublishMessage::build().message_id(&id).payload(body.clone().into());
        if let Ok(pending) = jetstream.send_publish(subjects::AUDIT_INTAKE, message).await
            && pending.into_future().await.is_ok()
        {
            return;
        }
    }
    intake.metrics.intake_lost.get_or_create(&OfReason { reason: "bus" }).inc();
    tracing::error!(node = %row.node, correlation_id = %row.correlation_id, "audit row lost");
}

#[cfg(test)]
mod tests {
    use super::*;
    use plexsphere_wire::{DenialReason, DomainId, Timestamp};

    #[test]
    fn sixty_rows_a_minute_go_out_and_the_rest_is_one_row() {
        let now = Timestamp::from_unix_seconds(1_700_000_000);
        let row = AuditIntake {
            domain: DomainId::mint(now),
            node: NodeId::mint(now),
            relation: "telemetry_ingest".into(),
            object_type: "node".into(),
            object_id: "x".into(),
            reason: DenialReason::InsufficientRelation,
            repeated: 0,
            correlation_id: CorrelationId::mint(now),
            occurred_at: now,
            client_ip: None,
            user_agent: None,
        };
        let mut limit = RowLimit::default();
        let sent = (0..100).filter(|_| limit.admit(row.clone(), Duration::from_secs(5)).is_some()).count();
        assert_eq!(sent, 60);
        assert!(limit.sweep(Duration::from_secs(64)).is_empty());
        let summaries = limit.sweep(Duration::from_secs(65));
        assert_eq!(summaries.iter().map(|row| row.repeated).collect::<Vec<_>>(), vec![39]);
        assert!(limit.admit(row, Duration::from_secs(66)).is_some());
    }
}
