//! One Domain's steps, one after the other: sign, publish, await the acknowledgement, mark.

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use plexsphere_wire::envelope::{EnvelopeError, EventType, Unsigned, attach_signature};
use plexsphere_wire::{CorrelationId, DomainId, subjects};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::metrics::Route;
use super::plan::{Draft, Row, Step};
use super::{Relay, SignerFault, store};
use crate::audit::RequestContext;
use crate::{AuditRecord, Fault, ObjectRef, Outcome, Subject};

/// The relay as the subject of audit rows.
const RELAY_SUBJECT: Uuid = Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0101);

/// What one Domain publishes in a pass. The nil id stands for events of the platform.
#[derive(Debug)]
pub(super) struct DomainWork {
    pub(super) key: Uuid,
    pub(super) steps: Vec<Step>,
}

/// How that went.
#[derive(Debug)]
pub(super) struct DomainEnd {
    pub(super) key: Uuid,
    pub(super) published: u64,
    /// Types of which broadcasts with peers went out.
    pub(super) broadcasts: Vec<EventType>,
    /// Why the rest of the Domain waits.
    pub(super) failed: Option<String>,
}

/// What the steps behind the present one build upon.
#[derive(Default)]
struct Progress {
    /// The announced kid, read once and again after it moved.
    kid: Option<String>,
    /// Published and not marked yet.
    batches: Vec<Uuid>,
    rows: Vec<Uuid>,
    published: u64,
    broadcasts: Vec<EventType>,
}

/// Why a step was not published.
enum Setback {
    /// It may work later.
    Later(String),
    /// It never will.
    Never(String),
}

impl From<Fault> for Setback {
    fn from(fault: Fault) -> Self {
        Self::Later(format!("{fault:?}"))
    }
}

impl From<SignerFault> for Setback {
    fn from(fault: SignerFault) -> Self {
        match fault {
            // What a worker read before its shard was handed over, or before it was held up, it reads anew next time.
            SignerFault::Unavailable(_) | SignerFault::NoKey | SignerFault::NotAnnounced | SignerFault::Untimely => {
                Self::Later(fault.to_string())
            }
            SignerFault::Destroyed | SignerFault::Refused(_) => Self::Never(fault.to_string()),
        }
    }
}

impl From<EnvelopeError> for Setback {
    fn from(error: EnvelopeError) -> Self {
        Self::Never(error.to_string())
    }
}

impl From<PublishError> for Setback {
    fn from(error: PublishError) -> Self {
        match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => Self::Never(error.to_string()),
            _ => Self::Later(error.to_string()),
        }
    }
}

#[derive(Deserialize)]
struct RotatedPayload {
    key_id: String,
}

/// An event on the internal bus.
#[derive(Serialize)]
struct InternalEvent<'a> {
    id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain_id: Option<Uuid>,
    context: &'a str,
    event: &'a str,
    occurred_at: plexsphere_wire::Timestamp,
    payload: &'a RawValue,
}

impl Relay {
    /// Publishes a Domain's steps in order, up to the first that has to wait.
    pub(super) async fn publish(&self, work: DomainWork) -> DomainEnd {
        let mut progress = Progress::default();
        let mut failed = None;
        for step in &work.steps {
            match self.step(work.key, step, &mut progress).await {
                Ok(()) => {}
                Err(Setback::Never(cause)) => {
                    if let Err(fault) = self.park(step, &cause).await {
                        failed = Some(format!("{fault:?}"));
                        break;
                    }
                }
                Err(Setback::Later(cause)) => {
                    if let Err(fault) = store::failed(&self.parts.db, rows_of(step), &cause).await {
                        tracing::debug!(cause = ?fault, "a failed attempt was not counted");
                    }
                    failed = Some(cause);
                    break;
                }
            }
        }
        if let Err(fault) = self.mark(&mut progress).await {
            // Published and not marked: repeated under the same id, and dropped by the duplicate window.
            failed = Some(format!("{fault:?}"));
        }
        DomainEnd { key: work.key, published: progress.published, broadcasts: progress.broadcasts, failed }
    }

    async fn step(&self, key: Uuid, step: &Step, progress: &mut Progress) -> Result<(), Setback> {
        match step {
            Step::Unknown(_) => Err(Setback::Never("a type outside the taxonomy".to_owned())),
            Step::Internal(row) => {
                self.publish_internal(key, row).await?;
                progress.rows.push(row.id);
                self.count(progress, "internal", row.created_at);
                Ok(())
            }
            Step::Envelope(draft) => {
                let domain = DomainId::from_uuid(key);
                let sequence = self.publish_envelope(domain, draft, progress).await?;
                if draft.event == EventType::SigningKeyRotated {
                    self.announced(domain, draft, sequence, progress).await?;
                } else {
                    progress.batches.extend(draft.id.map(|id| id.uuid()));
                }
                if draft.event.carries_peers() && draft.target.is_none() {
                    progress.broadcasts.push(draft.event);
                }
                self.count(progress, "nodes", draft.created_at);
                Ok(())
            }
        }
    }

    async fn publish_envelope(&self, domain: DomainId, draft: &Draft, progress: &mut Progress) -> Result<u64, Setback> {
        let id = draft.id.ok_or(Fault::Invariant("an envelope is sealed before it is published"))?;
        let kid = match &progress.kid {
            Some(kid) => kid.clone(),
            None => progress.kid.insert(self.parts.signer.announced_kid(domain).await?).clone(),
        };
        let unsigned = Unsigned {
            id,
            event: draft.event,
            domain,
            key_id: kid.clone(),
            issued_at: self.parts.clock.now(),
            payload: draft.payload.clone(),
        };
        let canonical = unsigned.canonical_bytes()?;
        let signature = self.parts.signer.sign(domain, &kid, &canonical).await?;
        let subject = match draft.target {
            Some(node) => subjects::node_events(domain, node),
            None => subjects::domain_events(domain),
        };
        self.send(subject, id.to_string(), attach_signature(&canonical, &signature).into()).await
    }

    async fn publish_internal(&self, key: Uuid, row: &Row) -> Result<(), Setback> {
        let payload: &RawValue =
            serde_json::from_str(&row.payload).map_err(|_| Setback::Never("the payload is no json".to_owned()))?;
        let event = InternalEvent {
            id: row.id,
            domain_id: (!key.is_nil()).then_some(key),
            context: &row.context,
            event: &row.name,
            occurred_at: row.created_at,
            payload,
        };
        let body = serde_json::to_vec(&event).map_err(|error| Setback::Never(error.to_string()))?;
        self.send(subjects::domain_event(&row.context, &row.name), row.id.to_string(), body.into()).await?;
        Ok(())
    }

    /// Publishes and awaits the acknowledgement; the message's sequence, also of a repetition.
    async fn send(&self, subject: String, id: String, body: Bytes) -> Result<u64, Setback> {
        let message = PublishMessage::build().payload(body).message_id(id);
        let ack = self.jetstream.send_publish(subject, message).await?.await?;
        Ok(ack.sequence)
    }

    /// Marks `signing_key_rotated` and moves the announced key in one step: everything later is under the new key.
    async fn announced(
        &self,
        domain: DomainId,
        draft: &Draft,
        sequence: u64,
        progress: &mut Progress,
    ) -> Result<(), Setback> {
        let rotated: RotatedPayload = serde_json::from_str(&draft.payload)
            .map_err(|_| Setback::Never("signing_key_rotated names no key".to_owned()))?;
        self.mark(progress).await?;
        let mut tx = self.parts.db.begin().await?;
        let batch: Vec<Uuid> = draft.id.map(|id| id.uuid()).into_iter().collect();
        store::mark(&mut *tx, &batch, &[], self.parts.clock.now()).await?;
        self.parts.signer.announced_moved(&mut tx, domain, &rotated.key_id, sequence).await?;
        tx.commit().await.map_err(Fault::from)?;
        progress.kid = None;
        Ok(())
    }

    async fn mark(&self, progress: &mut Progress) -> Result<(), Fault> {
        let (batches, rows) = (std::mem::take(&mut progress.batches), std::mem::take(&mut progress.rows));
        if batches.is_empty() && rows.is_empty() {
            return Ok(());
        }
        store::mark(self.parts.db.pool(), &batches, &rows, self.parts.clock.now()).await
    }

    /// Sets a step aside for an operator, unless the worker to which the shard was handed over has published it. The
    /// Node's version was bumped by the producer already, so its next heartbeat asks for a pull and the state arrives
    /// without the event.
    async fn park(&self, step: &Step, cause: &str) -> Result<(), Fault> {
        let rows = rows_of(step);
        let now = self.parts.clock.now();
        let mut tx = self.parts.db.begin().await?;
        if store::park(&mut tx, rows, cause).await? == 0 {
            tracing::info!(?rows, cause, "an event that could not be published here was published elsewhere");
            return Ok(());
        }
        tracing::error!(?rows, cause, "an event cannot be published and is parked");
        self.metrics.parked.inc();
        let first = rows.first().copied().unwrap_or_default();
        let record = AuditRecord {
            domain: None,
            subject: Subject::System(RELAY_SUBJECT),
            relation: "event_bus.row_parked".to_owned(),
            object: ObjectRef { kind: "outbox_row", id: first.to_string() },
            outcome: Outcome::Granted,
            correlation_id: CorrelationId::mint(now),
            context: RequestContext::default(),
            occurred_at: now,
        };
        self.parts.audit.record(&mut tx, record).await?;
        tx.commit().await?;
        Ok(())
    }

    fn count(&self, progress: &mut Progress, route: &'static str, created_at: plexsphere_wire::Timestamp) {
        progress.published += 1;
        self.metrics.published.get_or_create(&Route { route }).inc();
        self.metrics.seconds.observe(self.parts.clock.now().since(created_at).as_secs_f64());
    }
}

fn rows_of(step: &Step) -> &[Uuid] {
    match step {
        Step::Internal(row) | Step::Unknown(row) => std::slice::from_ref(&row.id),
        Step::Envelope(draft) => &draft.rows,
    }
}
