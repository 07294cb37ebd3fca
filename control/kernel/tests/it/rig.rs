use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use ed25519_dalek::{Signer as _, SigningKey};
use parking_lot::Mutex;
use plexsphere_kernel::audit::CaveatNames;
use plexsphere_kernel::relay::{OutboxSweeper, Relay, RelayParts};
use plexsphere_kernel::tasks::{TaskHandle, Tasks, TasksContext};
use plexsphere_kernel::{
    AuditLog, AuditRecord, Clock as _, Database, EnvelopeSigner, Event, EventAudience, Fault, Outbox, Probes,
    SignerFault, SystemClock, Tx,
};
use plexsphere_testkit::{TestDatabase, TestNats, eventually};
use plexsphere_wire::envelope::{Envelope, EventType};
use plexsphere_wire::subjects::EVENTS_STREAM;
use plexsphere_wire::{DomainId, Timestamp};
use prometheus_client::registry::Registry;
use serde_json::Value;
use sqlx::migrate::Migrator;
use tokio_util::sync::CancellationToken;

/// The kernel's own schema: its tests do not depend on what the contexts lay over it.
pub static SCHEMA: LazyLock<Migrator> = LazyLock::new(|| {
    let own = plexsphere_kernel::MIGRATOR.iter().filter(|migration| migration.version == 1).cloned().collect();
    Migrator { migrations: Cow::Owned(own), ..Migrator::DEFAULT }
});

/// A signer with one key for all Domains.
#[derive(Default)]
pub struct OneKey {
    pub refuses: Mutex<HashSet<DomainId>>,
    /// What the next requests to sign are answered instead.
    pub setbacks: Mutex<Vec<SignerFault>>,
    /// Another worker, which publishes everything that waits while this one asks.
    pub other_worker: Mutex<Option<sqlx::PgPool>>,
}

impl OneKey {
    pub fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }
}

#[async_trait]
impl EnvelopeSigner for OneKey {
    async fn announced_kid(&self, domain: DomainId) -> Result<String, SignerFault> {
        if self.refuses.lock().contains(&domain) { Err(SignerFault::NoKey) } else { Ok("k-1".to_owned()) }
    }

    async fn sign(&self, _: DomainId, _: &str, canonical: &[u8]) -> Result<[u8; 64], SignerFault> {
        let other_worker = self.other_worker.lock().take();
        if let Some(pool) = other_worker {
            sqlx::query("UPDATE kernel.outbox SET published_at = now()").execute(&pool).await.unwrap();
        }
        match self.setbacks.lock().pop() {
            Some(setback) => Err(setback),
            None => Ok(Self::key().sign(canonical).to_bytes()),
        }
    }

    async fn announced_moved(&self, _: &mut Tx, _: DomainId, _: &str, _: u64) -> Result<(), SignerFault> {
        Ok(())
    }
}

/// Keeps what it is told.
#[derive(Default)]
pub struct Kept(pub Mutex<Vec<AuditRecord>>);

#[async_trait]
impl AuditLog for Kept {
    async fn record(&self, _: &mut Tx, record: AuditRecord) -> Result<(), Fault> {
        self.0.lock().push(record);
        Ok(())
    }

    async fn record_decision(&self, record: AuditRecord, _: CaveatNames) -> Result<(), Fault> {
        self.0.lock().push(record);
        Ok(())
    }
}

pub fn now() -> Timestamp {
    SystemClock.now()
}

/// One replica's driver.
pub fn driver(db: &Database, probes: &Probes) -> Tasks {
    let context = TasksContext { db: db.clone(), clock: Arc::new(SystemClock), probes: probes.clone() };
    Tasks::new(context, &mut Registry::default(), CancellationToken::new())
}

/// A database, a bus, and what a relay needs.
pub struct Rig {
    pub database: TestDatabase,
    pub db: Database,
    pub nats: TestNats,
    pub bus: async_nats::Client,
    pub signer: Arc<OneKey>,
    pub audit: Arc<Kept>,
    pub probes: Probes,
}

impl Rig {
    pub async fn new() -> Self {
        Self::on(plexsphere_testkit::nats().await).await
    }

    pub async fn on(nats: TestNats) -> Self {
        Self::of(TestDatabase::with(&SCHEMA).await, nats).await
    }

    pub async fn of(database: TestDatabase, nats: TestNats) -> Self {
        Self {
            db: Database::new(database.pool()),
            bus: nats.client().await,
            database,
            nats,
            signer: Arc::default(),
            audit: Arc::default(),
            probes: Probes::default(),
        }
    }

    /// Starts a relay as another replica would.
    pub fn relay(&self) -> (Tasks, TaskHandle) {
        let parts = RelayParts {
            db: self.db.clone(),
            bus: self.bus.clone(),
            signer: Arc::clone(&self.signer) as Arc<dyn EnvelopeSigner>,
            audit: Arc::clone(&self.audit) as Arc<dyn AuditLog>,
            clock: Arc::new(SystemClock),
            replicas: 1,
        };
        let mut tasks = driver(&self.db, &self.probes);
        let handle = tasks.add(Arc::new(Relay::new(parts, &mut Registry::default())), Relay::schedule());
        let sweeper = OutboxSweeper::new(self.db.clone(), Arc::new(SystemClock));
        tasks.add(Arc::new(sweeper), OutboxSweeper::schedule());
        tasks.start();
        (tasks, handle)
    }

    pub async fn append(&self, domain: DomainId, event: EventType, payload: Value) {
        let mut tx = self.db.begin().await.unwrap();
        append(&mut tx, domain, event, payload).await;
        tx.commit().await.unwrap();
    }

    /// Everything in the event stream, in order.
    pub async fn published(&self) -> Vec<Envelope> {
        let jetstream = async_nats::jetstream::new(self.bus.clone());
        let Ok(mut stream) = jetstream.get_stream(EVENTS_STREAM).await else { return Vec::new() };
        let last = stream.info().await.map_or(0, |info| info.state.last_sequence);
        let mut all = Vec::new();
        for sequence in 1..=last {
            let message = stream.get_raw_message(sequence).await.unwrap();
            let envelope = Envelope::parse(&message.payload).unwrap();
            envelope.verify(&OneKey::key().verifying_key()).unwrap();
            let id = message.headers.get("Nats-Msg-Id").unwrap().as_str();
            assert_eq!(id, envelope.unsigned.id.to_string());
            all.push(envelope);
        }
        all
    }

    pub async fn until_published(&self, count: usize) -> Vec<Envelope> {
        eventually!(self.published().await.len() >= count, "{count} envelopes are published");
        self.published().await
    }

    pub async fn waiting(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM kernel.outbox WHERE published_at IS NULL")
            .fetch_one(&self.database.pool())
            .await
            .unwrap()
    }
}

pub async fn append(tx: &mut Tx, domain: DomainId, event: EventType, payload: Value) {
    let event = Event {
        domain: Some(domain),
        context: "mesh",
        name: "Happened",
        audience: EventAudience::Domain(event),
        payload,
    };
    Outbox.append(tx, event, now()).await.unwrap();
}

pub fn payloads(envelopes: &[Envelope]) -> Vec<String> {
    envelopes.iter().map(|envelope| envelope.unsigned.payload.clone()).collect()
}

pub const GRACE: Duration = Duration::from_secs(10);
