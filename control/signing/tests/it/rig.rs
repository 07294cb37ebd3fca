use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use plexsphere_kernel::audit::CaveatNames;
use plexsphere_kernel::custody::openbao::Transit;
use plexsphere_kernel::seams::{PinnedKeys, SigningKeys as _};
use plexsphere_kernel::{
    AuditLog, AuditRecord, Clock, Database, EnvelopeSigner as _, Fault, KekRing, Probes, Subject, SystemClock, Tx,
};
use plexsphere_signing::{
    Custody, DestroyError, Destruction, KeyState, RotateError, Rotated, Rotation, Signing, SigningConfig,
    SigningMetrics, SigningParts,
};
use plexsphere_testkit::TestDatabase;
use plexsphere_wire::envelope::{EventType, Unsigned};
use plexsphere_wire::{CorrelationId, DomainId, EnvelopeId, Timestamp};
use sqlx::migrate::Migrator;
use uuid::Uuid;

/// The kernel's and the signing context's own schemas.
pub static SCHEMA: LazyLock<Migrator> = LazyLock::new(|| {
    let own = plexsphere_kernel::MIGRATOR
        .iter()
        .filter(|migration| matches!(migration.version, 1 | 2 | 22))
        .cloned()
        .collect();
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

/// Pins that a test sets: live Nodes by kid.
#[derive(Default)]
pub struct Pins(pub std::sync::Mutex<HashMap<String, u64>>);

#[async_trait]
impl PinnedKeys for Pins {
    async fn pinned(&self, keys: &[(DomainId, String)]) -> Result<HashMap<String, u64>, Fault> {
        let pins = self.0.lock().unwrap();
        Ok(keys.iter().filter_map(|(_, kid)| Some((kid.clone(), *pins.get(kid)?))).collect())
    }
}

/// A time that a test moves on.
#[derive(Default)]
pub struct Hands(pub std::sync::Mutex<Duration>);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus(*self.0.lock().unwrap())
    }
}

pub struct Rig {
    pub database: TestDatabase,
    pub db: Database,
    pub audit: Arc<Kept>,
    pub probes: Probes,
    pub pins: Arc<Pins>,
    pub clock: Arc<Hands>,
    pub metrics: SigningMetrics,
    pub signing: Arc<Signing>,
    pub ring: String,
    pub deployment: Uuid,
}

/// A signer over `db` with what a test changes; the rest is a plain installation's.
pub struct Opening<'r> {
    pub db: &'r Database,
    pub audit: &'r Arc<Kept>,
    pub probes: &'r Probes,
    pub ring: String,
    pub deployment: Uuid,
    pub custody: Custody,
    pub transit: Option<Transit>,
    pub keep_retired: bool,
    pub pins: Arc<Pins>,
    pub clock: Arc<Hands>,
    pub metrics: SigningMetrics,
}

impl Opening<'_> {
    pub async fn open(self) -> Arc<Signing> {
        let config = SigningConfig {
            deployment: self.deployment,
            issuer_host: "cp.example.org".to_owned(),
            transition: Duration::from_secs(24 * 3_600),
            max_age: Duration::from_secs(90 * 24 * 3_600),
            custody: self.custody,
            keep_retired: self.keep_retired,
        };
        let parts = SigningParts {
            db: self.db.clone(),
            ring: Arc::new(KekRing::parse(&self.ring).unwrap()),
            transit: self.transit,
            pins: self.pins,
            audit: Arc::clone(self.audit) as Arc<dyn AuditLog>,
            clock: self.clock,
            probes: self.probes.clone(),
            metrics: self.metrics,
        };
        Signing::open(config, parts).await.unwrap()
    }
}

pub async fn open(db: &Database, audit: &Arc<Kept>, probes: &Probes, ring: &str, deployment: Uuid) -> Arc<Signing> {
    let (ring, custody, transit, keep_retired) = (ring.to_owned(), Custody::Wrapped, None, true);
    let (pins, clock, metrics) = (Arc::default(), Arc::default(), SigningMetrics::default());
    let opening = Opening { db, audit, probes, ring, deployment, custody, transit, keep_retired, pins, clock, metrics };
    opening.open().await
}

impl Rig {
    pub async fn new() -> Self {
        Self::of(|_| {}).await
    }

    /// With a signer that `change` has had a hand in.
    pub async fn of(change: impl FnOnce(&mut Opening<'_>)) -> Self {
        let database = TestDatabase::with(&SCHEMA).await;
        let db = Database::new(database.pool());
        let (audit, probes) = (Arc::new(Kept::default()), Probes::default());
        let (ring, deployment) = (KekRing::generate().to_string(), Uuid::from_u128(77));
        let (pins, clock, metrics) = (Arc::<Pins>::default(), Arc::<Hands>::default(), SigningMetrics::default());
        let mut opening = Opening {
            db: &db,
            audit: &audit,
            probes: &probes,
            ring: ring.clone(),
            deployment,
            custody: Custody::Wrapped,
            transit: None,
            keep_retired: true,
            pins: Arc::clone(&pins),
            clock: Arc::clone(&clock),
            metrics: metrics.clone(),
        };
        change(&mut opening);
        let signing = opening.open().await;
        Self { database, db, audit, probes, pins, clock, metrics, signing, ring, deployment }
    }

    /// Another process of the same deployment, with `change` made to how it is opened.
    pub async fn another_of(&self, change: impl FnOnce(&mut Opening<'_>)) -> Arc<Signing> {
        let mut opening = Opening {
            db: &self.db,
            audit: &self.audit,
            probes: &self.probes,
            ring: self.ring.clone(),
            deployment: self.deployment,
            custody: Custody::Wrapped,
            transit: None,
            keep_retired: true,
            pins: Arc::clone(&self.pins),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
        };
        change(&mut opening);
        opening.open().await
    }

    /// Moves the signer's time on.
    pub fn wait(&self, time: Duration) {
        *self.clock.0.lock().unwrap() += time;
    }

    pub async fn states(&self, domain: DomainId) -> Vec<KeyState> {
        self.signing.keys(domain).await.unwrap().iter().map(|key| key.state).collect()
    }

    /// What the relay does when it has put the rotation to `kid` on the stream.
    pub async fn announce(&self, domain: DomainId, kid: &str, sequence: u64) {
        let mut tx = self.db.begin().await.unwrap();
        self.signing.announced_moved(&mut tx, domain, kid, sequence).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Another process of the same deployment, with nothing in memory.
    pub async fn another(&self) -> Arc<Signing> {
        self.another_of(|_| {}).await
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

pub async fn destroy(rig: &Rig, domain: DomainId, kid: &str) -> Result<Option<String>, DestroyError> {
    let destruction = Destruction {
        domain,
        kid: kid.to_owned(),
        actor: Subject::System(Uuid::from_u128(1)),
        correlation_id: CorrelationId::mint(now()),
    };
    rig.signing.destroy(destruction).await
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
