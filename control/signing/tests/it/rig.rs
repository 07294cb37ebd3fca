use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use plexsphere_kernel::audit::CaveatNames;
use plexsphere_kernel::seams::SigningKeys as _;
use plexsphere_kernel::{
    AuditLog, AuditRecord, Clock, Database, EnvelopeSigner as _, Fault, KekRing, Probes, Subject, SystemClock, Tx,
};
use plexsphere_signing::{RotateError, Rotated, Rotation, Signing, SigningConfig, SigningParts};
use plexsphere_testkit::TestDatabase;
use plexsphere_wire::envelope::{EventType, Unsigned};
use plexsphere_wire::{CorrelationId, DomainId, EnvelopeId, Timestamp};
use sqlx::migrate::Migrator;
use uuid::Uuid;

/// The kernel's and the signing context's own schemas.
pub static SCHEMA: LazyLock<Migrator> = LazyLock::new(|| {
    let own = plexsphere_kernel::MIGRATOR.iter().filter(|migration| migration.version <= 2).cloned().collect();
    Migrator { migrations: Cow::Owned(own), ..Migrator::DEFAULT }
});

/// Keeps the names of the actions it is told.
#[derive(Default)]
pub struct Kept(pub std::sync::Mutex<Vec<String>>);

#[async_trait]
impl AuditLog for Kept {
    async fn record(&self, _: &mut Tx, record: AuditRecord) -> Result<(), Fault> {
        self.record_decision(record, CaveatNames::default()).await
    }

    async fn record_decision(&self, record: AuditRecord, _: CaveatNames) -> Result<(), Fault> {
        self.0.lock().unwrap().push(record.relation);
        Ok(())
    }
}

pub fn now() -> Timestamp {
    SystemClock.now()
}

pub struct Rig {
    pub database: TestDatabase,
    pub db: Database,
    pub audit: Arc<Kept>,
    pub probes: Probes,
    pub signing: Arc<Signing>,
    pub ring: String,
    pub deployment: Uuid,
}

pub async fn open(db: &Database, audit: &Arc<Kept>, probes: &Probes, ring: &str, deployment: Uuid) -> Arc<Signing> {
    let config = SigningConfig {
        deployment,
        issuer_host: "cp.example.org".to_owned(),
        transition: Duration::from_secs(24 * 3_600),
        max_age: Duration::from_secs(90 * 24 * 3_600),
    };
    let parts = SigningParts {
        db: db.clone(),
        ring: KekRing::parse(ring).unwrap(),
        audit: Arc::clone(audit) as Arc<dyn AuditLog>,
        clock: Arc::new(SystemClock),
        probes: probes.clone(),
    };
    Signing::open(config, parts).await.unwrap()
}

impl Rig {
    pub async fn new() -> Self {
        let database = TestDatabase::with(&SCHEMA).await;
        let db = Database::new(database.pool());
        let (audit, probes) = (Arc::new(Kept::default()), Probes::default());
        let (ring, deployment) = (KekRing::generate().to_string(), Uuid::from_u128(77));
        let signing = open(&db, &audit, &probes, &ring, deployment).await;
        Self { database, db, audit, probes, signing, ring, deployment }
    }

    /// Another process of the same deployment, with nothing in memory.
    pub async fn another(&self) -> Arc<Signing> {
        open(&self.db, &self.audit, &self.probes, &self.ring, self.deployment).await
    }

    pub async fn domain(&self) -> DomainId {
        let domain = DomainId::mint(now());
        let mut tx = self.db.begin().await.unwrap();
        self.signing.ensure(&mut tx, domain, now()).await.unwrap();
        tx.commit().await.unwrap();
        domain
    }

    pub async fn kid(&self, domain: DomainId) -> String {
        self.signing.announced_kid(domain).await.unwrap()
    }
}

pub async fn rotate(rig: &Rig, domain: DomainId, force: bool) -> Result<Rotated, RotateError> {
    let rotation = Rotation {
        domain,
        actor: Subject::System(Uuid::from_u128(1)),
        correlation_id: CorrelationId::mint(now()),
        force,
        longest_session: Duration::ZERO,
    };
    rig.signing.rotate(rotation).await
}

pub fn unsigned(domain: DomainId, kid: &str) -> Unsigned {
    Unsigned {
        id: EnvelopeId::mint(now()),
        event: EventType::NodeStateUpdated,
        domain,
        key_id: kid.to_owned(),
        issued_at: now(),
        payload: "{}".to_owned(),
    }
}
