//! Who acts, and the two ledgers a change is written to beside its own rows: audit and outbox.

use std::sync::Arc;

use plexsphere_kernel::audit::RequestContext;
use plexsphere_kernel::http::Call;
use plexsphere_kernel::{AuditLog, AuditRecord, Event, EventAudience, Fault, ObjectRef, Outbox, Outcome, Subject, Tx};
use plexsphere_wire::{CorrelationId, DomainId, EnvelopeId, PrincipalId, Problem, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::events::EventName;

/// This context's name in the outbox.
const CONTEXT: &str = "identity";

pub(crate) const STATEMENTS: &[&str] = &[APPEND_MANY, NUDGE];

// What `Outbox::append` writes for an internal event, for many.
const APPEND_MANY: &str = "INSERT INTO kernel.outbox (id, domain_id, context, event_name, payload, created_at)
    SELECT event.id, $3, $4, $5, event.payload::json, $6
    FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS event (id, payload, position) ORDER BY event.position";
const NUDGE: &str = "SELECT pg_notify('plexsphere_outbox', '')";

/// Who acts, when, and by which request.
#[derive(Clone, Debug)]
pub struct Actor {
    /// Who.
    pub subject: Subject,
    /// The request.
    pub correlation_id: CorrelationId,
    /// Where the request came from.
    pub context: RequestContext,
    /// When.
    pub now: Timestamp,
}

impl Actor {
    /// The caller of an operation.
    ///
    /// # Errors
    /// 500 when the operation has no caller.
    pub fn of(call: &Call) -> Result<Self, Problem> {
        Ok(Self {
            subject: call.principal()?.subject,
            correlation_id: call.correlation_id.clone(),
            context: call.request_context(),
            now: call.now,
        })
    }

    /// Somebody else than the caller of `call`, such as the token that a registration presents.
    #[must_use]
    pub fn acting_for(call: &Call, subject: Subject) -> Self {
        Self { subject, correlation_id: call.correlation_id.clone(), context: call.request_context(), now: call.now }
    }

    /// A part of this system, without a request.
    #[must_use]
    pub fn background(subject: Subject, now: Timestamp) -> Self {
        Self { subject, correlation_id: CorrelationId::mint(now), context: RequestContext::default(), now }
    }

    /// The actor's id as a principal's.
    #[must_use]
    pub const fn principal_id(&self) -> PrincipalId {
        PrincipalId::from_uuid(self.subject.uuid())
    }

    /// An audit row about what this actor did.
    #[must_use]
    pub fn record(&self, domain: Option<DomainId>, action: &str, object: ObjectRef) -> AuditRecord {
        AuditRecord {
            domain,
            subject: self.subject,
            relation: action.to_owned(),
            object,
            outcome: Outcome::Granted,
            correlation_id: self.correlation_id.clone(),
            context: self.context.clone(),
            occurred_at: self.now,
        }
    }
}

/// The ledgers.
#[derive(Clone)]
pub struct Journal {
    audit: Arc<dyn AuditLog>,
    outbox: Outbox,
}

impl Journal {
    /// A journal over the audit log.
    #[must_use]
    pub const fn new(audit: Arc<dyn AuditLog>) -> Self {
        Self { audit, outbox: Outbox }
    }

    /// Writes a row in the caller's transaction.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn record(&self, tx: &mut Tx, record: AuditRecord) -> Result<(), Fault> {
        self.audit.record(tx, record).await
    }

    /// Writes many rows in the caller's transaction.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn record_many(&self, tx: &mut Tx, records: Vec<AuditRecord>) -> Result<(), Fault> {
        self.audit.record_many(tx, records).await
    }

    /// Writes a row about a read or a refusal, in a transaction of its own.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn record_alone(&self, record: AuditRecord) -> Result<(), Fault> {
        self.audit.record_alone(record).await
    }

    /// Appends an internal event in the caller's transaction. `occurred_at` and `correlation_id` are added to `payload`,
    /// a JSON object of ids, slugs and public values.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn announce(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        domain: Option<DomainId>,
        name: EventName,
        payload: Value,
    ) -> Result<(), Fault> {
        let payload = stamp(payload, actor);
        let event = Event { domain, context: CONTEXT, name: name.as_str(), audience: EventAudience::Internal, payload };
        self.outbox.append(tx, event, actor.now).await
    }

    /// [`Self::announce`] for many events of one name, in one statement.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn announce_many(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        domain: Option<DomainId>,
        name: EventName,
        payloads: Vec<Value>,
    ) -> Result<(), Fault> {
        let ids: Vec<Uuid> = payloads.iter().map(|_| EnvelopeId::mint(actor.now).uuid()).collect();
        let payloads: Vec<String> = payloads.into_iter().map(|payload| stamp(payload, actor).to_string()).collect();
        sqlx::query(APPEND_MANY)
            .bind(ids)
            .bind(payloads)
            .bind(domain.map(|domain| domain.uuid()))
            .bind(CONTEXT)
            .bind(name.as_str())
            .bind(actor.now.inner())
            .execute(&mut **tx)
            .await?;
        sqlx::query(NUDGE).execute(&mut **tx).await?;
        Ok(())
    }
}

fn stamp(mut payload: Value, actor: &Actor) -> Value {
    if let Some(members) = payload.as_object_mut() {
        members.insert("occurred_at".to_owned(), json!(actor.now));
        members.insert("correlation_id".to_owned(), json!(actor.correlation_id));
    }
    payload
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Journal")
    }
}
