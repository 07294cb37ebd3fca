//! A context's side of the outbox: one transaction per event, each with its number and the moment of its writing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use plexsphere_kernel::{Database, Event, EventAudience, Outbox};
use plexsphere_load::clock;
use plexsphere_load::streams::{CrewError, STAMP, Source};
use plexsphere_wire::envelope::EventType;
use plexsphere_wire::{DomainId, NodeId};
use serde_json::json;

use crate::installation::{EnrolledNode, Installation};

/// Bytes of the payload of an event that concerns every Node: an envelope around it has some 400 more.
const PAYLOAD_BYTES: usize = 256;

/// Writes events.
pub(super) struct Producer {
    db: Database,
    domain: DomainId,
    written: AtomicU64,
}

impl Producer {
    /// A producer in the Domain of a Node.
    pub(super) async fn beside(installation: &Installation, node: &EnrolledNode) -> Self {
        let db = Database::connect(&installation.database_url, 8).await.unwrap();
        let domain = sqlx::query_scalar("SELECT domain_id FROM identity.nodes WHERE id = $1");
        let domain: uuid::Uuid = domain.bind(node.node.uuid()).fetch_one(db.pool()).await.unwrap();
        Self { db, domain: DomainId::from_uuid(domain), written: AtomicU64::new(0) }
    }

    /// How many events were written.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Writes an event that concerns every Node. It is no list of peers, so the relay merges it with nothing.
    pub(super) async fn broadcast(&self) {
        self.write(EventAudience::Domain(EventType::PeerEndpointChanged), PAYLOAD_BYTES, 1).await;
    }

    /// Writes `count` events for one Node in one transaction.
    pub(super) async fn tell(&self, node: NodeId, bytes: usize, count: usize) {
        self.write(EventAudience::Node(EventType::NodeStateUpdated, node), bytes, count).await;
    }

    async fn write(&self, audience: EventAudience, bytes: usize, count: usize) {
        let mut tx = self.db.begin().await.unwrap();
        for _ in 0..count {
            let number = self.written.fetch_add(1, Ordering::Relaxed);
            let bare = json!({ "number": number, STAMP: clock::unix_micros(), "fill": "" });
            let fill = "x".repeat(bytes.saturating_sub(bare.to_string().len()));
            let payload = json!({ "number": number, STAMP: clock::unix_micros(), "fill": fill });
            let event = Event { domain: Some(self.domain), context: "rig", name: "RigEvent", audience, payload };
            Outbox.append(&mut tx, event, clock::now()).await.unwrap();
        }
        tx.commit().await.unwrap();
    }

    /// Waits until the relay has published everything.
    pub(super) async fn published(&self, patience: Duration) {
        let deadline = std::time::Instant::now() + patience;
        let left = "SELECT count(*) FROM kernel.outbox WHERE published_at IS NULL AND wire_type IS NOT NULL";
        while sqlx::query_scalar::<_, i64>(left).fetch_one(self.db.pool()).await.unwrap() > 0 {
            assert!(std::time::Instant::now() < deadline, "the relay is behind");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The database's time.
    pub(super) async fn database_time(&self) -> time::OffsetDateTime {
        sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(self.db.pool()).await.unwrap()
    }

    /// Clients of the database, this one aside, that have begun a statement since.
    pub(super) async fn asking_since(&self, moment: time::OffsetDateTime) -> i64 {
        let sql = "SELECT count(*) FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND query_start > $1";
        sqlx::query_scalar(sql).bind(moment).fetch_one(self.db.pool()).await.unwrap()
    }
}

impl Source for Producer {
    async fn emit(&self) -> Result<(), CrewError> {
        self.broadcast().await;
        Ok(())
    }

    fn envelopes(&self, events: u32) -> u64 {
        u64::from(events)
    }
}
