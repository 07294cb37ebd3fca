//! Who acts, and the two ledgers a change is written to beside its own rows: audit and outbox.

use std::sync::Arc;

use plexsphere_kernel::{AuditLog, AuditRecord, Event, EventAudience, Fault, Outbox, Tx};
use plexsphere_wire::{DomainId, EnvelopeId};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::events::EventName;

pub use plexsphere_kernel::Actor;

/// This context's name in the outbox.
const CONTEXT: &str = "identity";

pub(crate) const STATEMENTS: &[&str] = &[APPEND_MANY, NUDGE];

// What `Outbox::append` writes for an internal event, for many.
const APPEND_MANY: &str = "INSERT INTO kernel.outbox (id, domain_id, context, event_name, payload, created_at)
    SELECT event.id, $3, $4, $5, event.payload::json, $6
    FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS event (id, payload, position) ORDER BY event.position";
const NUDGE: &str = "SELECT pg_notify('plexsphere_outbox', '')";

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
