//! The transactional outbox: events written in the producer's transaction, relayed afterwards.

use plexsphere_wire::envelope::EventType;
use plexsphere_wire::{DomainId, NodeId, Timestamp};
use serde_json::Value;

use crate::{Fault, Tx};

/// Who hears an event on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventAudience {
    /// Nobody outside: the event stays on the internal bus.
    Internal,
    /// Every Node of the Domain, under this type.
    Domain(EventType),
    /// One Node, under this type.
    Node(EventType, NodeId),
}

/// An event to be. Payloads hold ids, names, versions and public keys; never secret bytes or tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The Domain whose order it keeps; `None` for platform events, which are internal.
    pub domain: Option<DomainId>,
    /// The producing context, such as `identity`.
    pub context: &'static str,
    /// The domain-event name, such as `NodeRegistered`.
    pub name: &'static str,
    /// Who hears it.
    pub audience: EventAudience,
    /// A JSON object.
    pub payload: Value,
}

/// Appends to `kernel.outbox`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outbox;

const APPEND: &str = "INSERT INTO kernel.outbox
    (id, domain_id, context, event_name, wire_type, target_node_id, payload, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

impl Outbox {
    /// Appends an event in the caller's transaction and wakes the relay at its commit.
    ///
    /// # Errors
    /// [`Fault`] when the row cannot be written, or a wire event has no Domain.
    pub async fn append(&self, tx: &mut Tx, event: Event, now: Timestamp) -> Result<(), Fault> {
        let (wire_type, node) = match event.audience {
            EventAudience::Internal => (None, None),
            EventAudience::Domain(wire_type) => (Some(wire_type.as_str()), None),
            EventAudience::Node(wire_type, node) => (Some(wire_type.as_str()), Some(node.uuid())),
        };
        if wire_type.is_some() && event.domain.is_none() {
            return Err(Fault::Invariant("a wire event belongs to a Domain"));
        }
        sqlx::query(APPEND)
            .bind(plexsphere_wire::EnvelopeId::mint(now).uuid())
            .bind(event.domain.map(|domain| domain.uuid()))
            .bind(event.context)
            .bind(event.name)
            .bind(wire_type)
            .bind(node)
            .bind(sqlx::types::Json(event.payload))
            .bind(now.inner())
            .execute(&mut **tx)
            .await?;
        sqlx::query("SELECT pg_notify('plexsphere_outbox', '')").execute(&mut **tx).await?;
        Ok(())
    }
}
