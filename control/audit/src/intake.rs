//! Audit rows that arose at edges, taken from their stream.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, AckKind, Message};
use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _};
use plexsphere_kernel::audit::RequestContext;
use plexsphere_kernel::tasks::{Progress, Schedule, Service, Task, TaskKind};
use plexsphere_kernel::{AuditRecord, Fault, ObjectRef, Outcome, Subject};
use plexsphere_wire::intake::{Intake, SystemIntake};
use plexsphere_wire::subjects::{AUDIT_INTAKE, AUDIT_INTAKE_STREAM, HEADER_MSG_ID};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::log::PgAuditLog;
use crate::model::Enlistment;
use crate::store::intake as store;

const DURABLE: &str = "control-audit-intake";
const DAY: Duration = Duration::from_secs(24 * 3_600);
const ACK_WAIT: Duration = Duration::from_secs(30);
/// How long a message that could not be written rests.
const REDELIVER: Duration = Duration::from_secs(2);
/// Messages delivered and not acknowledged yet.
const IN_FLIGHT: i64 = 256;
/// Messages written at the same time.
const AT_ONCE: usize = 4;
const MAX_MESSAGE_BYTES: i32 = 16 * 1_024;

/// Writes the denied rows of edges.
pub struct AuditIntakeConsumer {
    jetstream: jetstream::Context,
    log: Arc<PgAuditLog>,
    replicas: usize,
    refused: Counter,
}

/// Why a message was not written.
enum Setback {
    /// It never will be.
    Malformed(String),
    /// It may be later.
    Fault(Fault),
}

impl From<Fault> for Setback {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl AuditIntakeConsumer {
    /// A consumer; `replicas` is for the stream, should it have to be created.
    #[must_use]
    pub fn new(bus: async_nats::Client, log: Arc<PgAuditLog>, replicas: usize, registry: &mut Registry) -> Self {
        let refused = Counter::default();
        registry.register(
            "plexsphere_control_audit_intake_refused",
            "Audit messages of edges that are malformed",
            refused.clone(),
        );
        Self { jetstream: jetstream::new(bus), log, replicas, refused }
    }

    async fn consumer(&self) -> Result<PullConsumer, Fault> {
        let bus = |error: &dyn std::fmt::Display| Fault::Bus(error.to_string());
        let stream = self.jetstream.get_or_create_stream(stream(self.replicas)).await.map_err(|error| bus(&error))?;
        let config = pull::Config {
            durable_name: Some(DURABLE.to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_ack_pending: IN_FLIGHT,
            ..pull::Config::default()
        };
        stream.get_or_create_consumer(DURABLE, config).await.map_err(|error| bus(&error))
    }

    async fn take(&self, message: Message) {
        let acknowledged = match self.write(&message).await {
            Ok(()) => message.double_ack().await,
            Err(Setback::Malformed(cause)) => {
                self.refused.inc();
                tracing::error!(cause, "an audit message of an edge is malformed");
                message.ack_with(AckKind::Term).await
            }
            Err(Setback::Fault(cause)) => {
                tracing::warn!(?cause, "an audit message of an edge was not written and comes again");
                message.ack_with(AckKind::Nak(Some(REDELIVER))).await
            }
        };
        if let Err(error) = acknowledged {
            // It comes again, and is known then.
            tracing::debug!(%error, "an audit message was not acknowledged");
        }
    }

    async fn write(&self, message: &Message) -> Result<(), Setback> {
        let name = name(message)?;
        let intake: Intake =
            serde_json::from_slice(&message.payload).map_err(|error| Setback::Malformed(error.to_string()))?;
        let row = match intake {
            Intake::Refusal(refusal) => refusal.into(),
            Intake::System(system) => enlistment(system),
        };
        let mut tx = self.log.db().begin().await?;
        if store::first_seen(&mut tx, &name, self.log.clock().now()).await? {
            self.log.enlist(&mut tx, row).await.map_err(|fault| match fault {
                Fault::Invariant(cause) => Setback::Malformed(cause.to_owned()),
                fault => Setback::Fault(fault),
            })?;
        }
        tx.commit().await.map_err(Fault::from)?;
        Ok(())
    }
}

/// A row of the system's own: its object's type is a name of its own, which [`Enlistment`] checks.
fn enlistment(row: SystemIntake) -> Enlistment {
    let record = AuditRecord {
        domain: row.domain,
        subject: Subject::System(row.subject),
        relation: row.relation,
        object: ObjectRef { kind: "system", id: row.object_id },
        outcome: row.denied.map_or(Outcome::Granted, Outcome::Denied),
        correlation_id: row.correlation_id,
        context: RequestContext::default(),
        occurred_at: row.occurred_at,
    };
    Enlistment { object_type: row.object_type, repeated: row.repeated, ..record.into() }
}

/// By which a message is known again: its own id if the edge gave one, else its place in the stream.
fn name(message: &Message) -> Result<String, Setback> {
    let id = message.headers.as_ref().and_then(|headers| headers.get(HEADER_MSG_ID));
    if let Some(id) = id.filter(|id| id.as_str().len() <= 128) {
        return Ok(format!("id:{}", id.as_str()));
    }
    let info = message.info().map_err(|error| Setback::Malformed(error.to_string()))?;
    // A stream that was made anew counts from one again; its messages have other times.
    Ok(format!("seq:{}:{}", info.stream_sequence, info.published.unix_timestamp_nanos()))
}

fn stream(replicas: usize) -> Config {
    Config {
        name: AUDIT_INTAKE_STREAM.to_owned(),
        description: Some("audit rows of edges on their way to the database".to_owned()),
        subjects: vec![AUDIT_INTAKE.to_owned()],
        // The same as an edge makes when it comes first. No row is dropped for its age: it waits for the database.
        retention: RetentionPolicy::WorkQueue,
        storage: StorageType::File,
        num_replicas: replicas,
        max_message_size: MAX_MESSAGE_BYTES,
        ..Config::default()
    }
}

#[async_trait]
impl Service for AuditIntakeConsumer {
    fn kind(&self) -> TaskKind {
        TaskKind::AuditIntake
    }

    async fn serve(&self, cancel: CancellationToken) -> Result<(), Fault> {
        let consumer = self.consumer().await?;
        let messages = consumer.messages().await.map_err(|error| Fault::Bus(error.to_string()))?;
        messages
            .take_until(cancel.cancelled())
            .map_err(|error| Fault::Bus(error.to_string()))
            .try_for_each_concurrent(AT_ONCE, |message| async move {
                self.take(message).await;
                Ok(())
            })
            .await
    }
}

/// Forgets messages that cannot come again.
pub struct AuditIntakeSweeper(Arc<PgAuditLog>);

impl AuditIntakeSweeper {
    /// A sweeper; run it by [`Self::schedule`].
    #[must_use]
    pub const fn new(log: Arc<PgAuditLog>) -> Self {
        Self(log)
    }

    /// Every hour.
    #[must_use]
    pub const fn schedule() -> Schedule {
        Schedule::every(Duration::from_secs(3_600))
    }
}

#[async_trait]
impl Task for AuditIntakeSweeper {
    fn kind(&self) -> TaskKind {
        TaskKind::AuditIntakeSweeper
    }

    async fn run(&self) -> Result<Progress, Fault> {
        // Far longer than a message is delivered again.
        let before = self.0.clock().now().minus(2 * DAY);
        let swept = sqlx::query(store::FORGET).bind(before.inner()).execute(self.0.db().pool()).await?;
        Ok(Progress::done(swept.rows_affected()))
    }
}
