//! Audit rows that arise here, on their way to control. Never holds up or fails a response.

use std::collections::HashMap;
use std::future::IntoFuture as _;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType};
use parking_lot::Mutex;
use plexsphere_wire::intake::{self, AuditIntake, SystemIntake};
use plexsphere_wire::{CorrelationId, NodeId, subjects};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::metrics::{Metrics, OfReason};

/// Rows of one Node, or of the edge itself, a minute; further ones are summed up in one row.
const ROWS_PER_MINUTE: u32 = 60;
const MINUTE: Duration = Duration::from_secs(60);
/// Rows that wait for the bus.
const QUEUE: usize = 1_024;
/// Nodes that are counted at a time.
const MAX_NODES: usize = 10_000;

/// A row on its way to control.
#[derive(Clone, Debug)]
pub struct Row {
    body: intake::Intake,
    /// By which control knows the same deed again when this or another edge tells of it.
    name: Option<String>,
}

impl Row {
    /// The Node that the row counts against; none for a row of the edge's own.
    const fn node(&self) -> Option<NodeId> {
        match &self.body {
            intake::Intake::Refusal(row) => Some(row.node),
            intake::Intake::System(_) => None,
        }
    }

    const fn correlation_id(&self) -> &CorrelationId {
        match &self.body {
            intake::Intake::Refusal(row) => &row.correlation_id,
            intake::Intake::System(row) => &row.correlation_id,
        }
    }

    /// The row, standing for `repeated` further ones: a sum, and so like no other row.
    fn summing(mut self, repeated: u32) -> Self {
        match &mut self.body {
            intake::Intake::Refusal(row) => row.repeated = repeated,
            intake::Intake::System(row) => row.repeated = repeated,
        }
        if repeated > 0 {
            self.name = None;
        }
        self
    }
}

impl From<AuditIntake> for Row {
    fn from(row: AuditIntake) -> Self {
        Self { body: intake::Intake::Refusal(row), name: None }
    }
}

struct Minute {
    began: Duration,
    rows: u32,
    /// The last row of those that were held back, and how many they were.
    held: Option<(Row, u32)>,
}

/// Decides which rows go out; the pure part.
#[derive(Default)]
pub struct RowLimit {
    sources: HashMap<Option<NodeId>, Minute>,
}

impl RowLimit {
    /// The row, if it goes out now.
    pub fn admit(&mut self, row: Row, now: Duration) -> Option<Row> {
        let source = row.node();
        if self.sources.len() >= MAX_NODES && !self.sources.contains_key(&source) {
            return Some(row);
        }
        let minute = self.sources.entry(source).or_insert(Minute { began: now, rows: 0, held: None });
        if minute.rows < ROWS_PER_MINUTE {
            minute.rows += 1;
            return Some(row);
        }
        let count = minute.held.as_ref().map_or(0, |(_, count)| *count).saturating_add(1);
        minute.held = Some((row, count));
        None
    }

    /// The summaries of the minutes that have ended.
    pub fn sweep(&mut self, now: Duration) -> Vec<Row> {
        let mut summaries = Vec::new();
        self.sources.retain(|_, minute| {
            let ended = now.saturating_sub(minute.began) >= MINUTE;
            if ended && let Some((row, count)) = minute.held.take() {
                summaries.push(row.summing(count - 1));
            }
            !ended
        });
        summaries
    }
}

/// Takes rows from handlers and from the event gateway.
#[derive(Clone)]
pub struct Intake {
    rows: mpsc::Sender<Row>,
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

    /// Hands a refusal over.
    pub fn record(&self, refusal: AuditIntake) {
        self.admit(refusal.into());
    }

    /// Hands over a row of the edge's own. `name`, at most 128 bytes, is the same wherever and whenever the same deed is
    /// told of; only one of those rows is kept.
    pub fn record_named(&self, row: SystemIntake, name: String) {
        self.admit(Row { body: intake::Intake::System(row), name: Some(name) });
    }

    fn admit(&self, row: Row) {
        let admitted = self.limit.lock().admit(row, self.clock.monotonic());
        if let Some(row) = admitted {
            self.enqueue(row);
        }
    }

    fn enqueue(&self, row: Row) {
        if let Err(error) = self.rows.try_send(row) {
            let (mpsc::error::TrySendError::Full(row) | mpsc::error::TrySendError::Closed(row)) = error;
            self.lost("queue_full", &row);
        }
    }

    fn lost(&self, reason: &'static str, row: &Row) {
        self.metrics.intake_lost.get_or_create(&OfReason { reason }).inc();
        let node = row.node().map(tracing::field::display);
        tracing::error!(node, correlation_id = %row.correlation_id(), "audit row lost");
    }
}

async fn carry(
    intake: Intake,
    jetstream: async_nats::jetstream::Context,
    mut queue: mpsc::Receiver<Row>,
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

async fn deliver(intake: &Intake, jetstream: &async_nats::jetstream::Context, row: &Row, tries: u32) {
    let Ok(body) = serde_json::to_vec(&row.body) else { return };
    // Not the correlation id: the caller chooses that, and could make one row swallow the others.
    let id = row.name.clone().unwrap_or_else(|| CorrelationId::mint(intake.clock.now()).to_string());
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
    intake.lost("bus", row);
}

#[cfg(test)]
mod tests {
    use super::*;
    use plexsphere_wire::intake::EVENT_GATEWAY;
    use plexsphere_wire::{DenialReason, DomainId, Timestamp};

    fn refusal() -> Row {
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
        row.into()
    }

    fn own() -> Row {
        let now = Timestamp::from_unix_seconds(1_700_000_000);
        let row = SystemIntake {
            domain: None,
            subject: EVENT_GATEWAY,
            relation: "event_bus.envelope_rejected".into(),
            object_type: "envelope".into(),
            object_id: "1/signature".into(),
            denied: Some(DenialReason::OutOfScope),
            repeated: 0,
            correlation_id: CorrelationId::mint(now),
            occurred_at: now,
        };
        Row { body: intake::Intake::System(row), name: Some("x".into()) }
    }

    #[test]
    fn sixty_rows_a_minute_go_out_and_the_rest_is_one_row() {
        for row in [refusal(), own()] {
            let mut limit = RowLimit::default();
            let sent = (0..100).filter(|_| limit.admit(row.clone(), Duration::from_secs(5)).is_some()).count();
            assert_eq!(sent, 60);
            assert!(limit.sweep(Duration::from_secs(64)).is_empty());
            let [summary] = limit.sweep(Duration::from_secs(65)).try_into().unwrap();
            assert_eq!(serde_json::to_value(&summary.body).unwrap()["repeated"], 39);
            assert_eq!(summary.name, None);
            assert!(limit.admit(row, Duration::from_secs(66)).is_some());
        }
    }
}
