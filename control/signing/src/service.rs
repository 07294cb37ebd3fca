//! The signing keys of all Domains: made, rotated, announced and lent out.

mod destroy;
mod hand;
mod keys;
mod lend;
mod rewrap;
mod rotate;
mod session;
mod upkeep;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use moka::sync::Cache;
use plexsphere_kernel::custody::SealedRows;
use plexsphere_kernel::custody::openbao::Transit;
use plexsphere_kernel::installation;
use plexsphere_kernel::probes::Probe;
use plexsphere_kernel::seams::{DomainEntries, PinnedKeys, PublicSigningKey, SigningKeys};
use plexsphere_kernel::{AuditLog, Clock, Database, Fault, KekRing, Probes, SealError, SignerFault, Tx};
use plexsphere_wire::directory::{DomainEntry, DomainKey};
use plexsphere_wire::{DomainId, Timestamp};
use uuid::Uuid;

use crate::metrics::SigningMetrics;
use crate::model::{Custody, KeyLine, KeyState, PublicHalf, kid_for};
use crate::store;

pub use destroy::{DestroyError, Destruction};
use hand::Hand;

pub use rotate::{RotateError, Rotated, Rotation};
pub use session::Disbelief;

/// The signing context as the subject of audit rows.
pub(crate) const SIGNING_SUBJECT: Uuid = Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0102);

/// Opened keys kept in memory, and for how long. They are wiped when dropped.
const HANDS: u64 = 10_000;
const HAND_TTL: Duration = Duration::from_secs(600);
/// How old a key line may be when something is signed.
const LINE_TTL: Duration = Duration::from_secs(5);
const ANNOUNCEMENT_TTL: Duration = Duration::from_secs(60);

/// Settings of the signer.
#[derive(Clone, Debug)]
pub struct SigningConfig {
    /// This installation. Recorded in the database by the first process; part of what binds each wrapped seed.
    pub deployment: Uuid,
    /// The host in kids, such as `cp.example.org`.
    pub issuer_host: String,
    /// How long a superseded key is believed: 1 h to 7 d.
    pub transition: Duration,
    /// The age at which a key is rotated by schedule; zero: never.
    pub max_age: Duration,
    /// Where the private halves of new keys rest.
    pub custody: Custody,
    /// Whether retired keys are kept while Nodes pin them, to announce later ones to them.
    pub keep_retired: bool,
}

/// What the signer stands on.
pub struct SigningParts {
    /// Where the keys are.
    pub db: Database,
    /// The wrap keys of signing seeds, and of nothing else.
    pub ring: Arc<KekRing>,
    /// OpenBao's transit engine; needed for keys in [`Custody::Transit`].
    pub transit: Option<Transit>,
    /// Which keys Nodes pin.
    pub pins: Arc<dyn PinnedKeys>,
    /// The audit log.
    pub audit: Arc<dyn AuditLog>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where `signing-deployment` is registered.
    pub probes: Probes,
    /// What is counted.
    pub metrics: SigningMetrics,
}

/// A key of a Domain, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its name.
    pub kid: String,
    /// Its place in the Domain's line, from 1.
    pub version: i32,
    /// The public half, base64.
    pub public_key: String,
    /// Where its private half rests, or rested.
    pub custody: Custody,
    /// Its state.
    pub state: KeyState,
    /// Whether events are signed with it now.
    pub is_announced: bool,
    /// Until when it is believed, once it has a successor.
    pub transition_expires: Option<Timestamp>,
}

/// The signing keys. Implements `SigningKeys`, `DomainEntries` and `EnvelopeSigner`.
pub struct Signing {
    config: SigningConfig,
    parts: SigningParts,
    hands: Cache<String, Arc<Hand>>,
    lines: Cache<DomainId, Arc<KeyLine>>,
    announcements: Cache<(DomainId, String, String), Arc<Vec<u8>>>,
    /// Whether the database belongs to this deployment.
    at_home: AtomicBool,
    deployment: Probe,
}

impl Signing {
    /// Opens the signer and records or compares the deployment. A database of another deployment is no error: the
    /// probe fails and nothing is signed.
    ///
    /// # Errors
    /// [`Fault`] when the database does not answer, or the issuer host cannot stand in a kid.
    pub async fn open(config: SigningConfig, parts: SigningParts) -> Result<Arc<Self>, Fault> {
        kid_for(&config.issuer_host, DomainId::from_uuid(Uuid::max()), i32::MAX)
            .map_err(|_| Fault::Invariant("the issuer host can stand in a key id"))?;
        let signing = Arc::new(Self {
            deployment: parts.probes.register("signing-deployment"),
            config,
            parts,
            hands: Cache::builder().max_capacity(HANDS).time_to_live(HAND_TTL).build(),
            lines: Cache::builder().max_capacity(HANDS).time_to_live(LINE_TTL).build(),
            announcements: Cache::builder().max_capacity(HANDS).time_to_live(ANNOUNCEMENT_TTL).build(),
            at_home: AtomicBool::new(false),
        });
        signing.check_deployment().await?;
        Ok(signing)
    }

    /// Compares the deployment with the database's, which is recorded by the first process that asks.
    pub(crate) async fn check_deployment(&self) -> Result<(), Fault> {
        let recorded = installation::claim(&self.parts.db, self.config.deployment).await?;
        let at_home = recorded == self.config.deployment;
        self.at_home.store(at_home, Ordering::Release);
        if at_home {
            self.deployment.pass("ok");
        } else {
            tracing::error!("the database belongs to another deployment; nothing is signed");
            self.deployment.fail("the database belongs to another deployment");
        }
        Ok(())
    }

    pub(crate) const fn db(&self) -> &Database {
        &self.parts.db
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    pub(crate) const fn metrics(&self) -> &SigningMetrics {
        &self.parts.metrics
    }

    pub(crate) const fn max_age(&self) -> Duration {
        self.config.max_age
    }

    /// All keys of a Domain in version order; none when it has no key.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn keys(&self, domain: DomainId) -> Result<Vec<KeyInfo>, Fault> {
        let Some(line) = store::line(self.parts.db.pool(), domain).await? else { return Ok(Vec::new()) };
        let info = |key: &PublicHalf| KeyInfo {
            kid: key.kid.clone(),
            version: key.version,
            public_key: encoded(&key.public_key),
            custody: key.custody,
            state: key.state,
            is_announced: key.kid == line.announced_kid,
            transition_expires: key.transition_expires,
        };
        Ok(line.keys.iter().map(info).collect())
    }

    /// The Domain's key line, at most [`LINE_TTL`] old.
    async fn line(&self, domain: DomainId) -> Result<Arc<KeyLine>, SignerFault> {
        match self.lines.get(&domain) {
            Some(line) => Ok(line),
            None => self.fresh_line(domain).await,
        }
    }

    async fn fresh_line(&self, domain: DomainId) -> Result<Arc<KeyLine>, SignerFault> {
        let line = store::line(self.parts.db.pool(), domain).await.map_err(unavailable)?;
        let line = Arc::new(line.ok_or(SignerFault::NoKey)?);
        self.lines.insert(domain, Arc::clone(&line));
        Ok(line)
    }

    /// What binds a wrapped seed to its place.
    fn aad(&self, domain: DomainId, kid: &str) -> String {
        format!("plexsphere/signing/v1|{}|{domain}|{kid}", self.config.deployment)
    }
}

fn unavailable(fault: Fault) -> SignerFault {
    SignerFault::Unavailable(format!("{fault:?}"))
}

fn custody(error: SealError) -> SignerFault {
    SignerFault::Unavailable(error.to_string())
}

fn encoded(key: &[u8; 32]) -> String {
    STANDARD.encode(key)
}

#[async_trait]
impl SealedRows for Signing {
    fn what(&self) -> &'static str {
        "signing keys"
    }

    async fn foreign_version(&self) -> Result<Option<i32>, Fault> {
        store::upkeep::foreign_version(&self.parts.db, &self.parts.ring.versions()).await
    }
}

#[async_trait]
impl SigningKeys for Signing {
    async fn ensure(&self, tx: &mut Tx, domain: DomainId, now: Timestamp) -> Result<(), Fault> {
        self.provision(tx, domain, now).await
    }

    async fn forget(&self, tx: &mut Tx, domain: DomainId, now: Timestamp) -> Result<(), Fault> {
        self.forget_keys(tx, domain, now).await
    }

    async fn current(&self, tx: &mut Tx, domain: DomainId) -> Result<PublicSigningKey, Fault> {
        let line = store::line(&mut **tx, domain).await?;
        let key = line.as_ref().and_then(|line| line.in_state(KeyState::Current));
        let key = key.ok_or(Fault::Signer(SignerFault::NoKey))?;
        Ok(PublicSigningKey { kid: key.kid.clone(), public_key: encoded(&key.public_key) })
    }
}

fn entry(line: KeyLine) -> DomainEntry {
    let believed = |key: &&PublicHalf| {
        matches!(key.state, KeyState::Current | KeyState::Previous)
            || (key.kid == line.announced_kid && key.state != KeyState::Destroyed)
    };
    let keys = line.keys.iter().filter(believed).map(|key| DomainKey {
        kid: key.kid.clone(),
        version: key.version,
        public_key: encoded(&key.public_key),
        believed_until: key.transition_expires,
    });
    DomainEntry {
        domain: line.domain,
        keys: keys.collect(),
        announced_kid: line.announced_kid.clone(),
        announced_seq: line.announced_seq,
    }
}

#[async_trait]
impl DomainEntries for Signing {
    async fn domain_entry(&self, domain: DomainId) -> Result<Option<DomainEntry>, Fault> {
        Ok(store::line(self.parts.db.pool(), domain).await?.map(entry))
    }

    async fn domain_entries(&self, after: Option<DomainId>, limit: i64) -> Result<Vec<DomainEntry>, Fault> {
        let page = store::page(&self.parts.db, after, limit).await?;
        Ok(store::lines(self.parts.db.pool(), &page).await?.into_iter().map(entry).collect())
    }
}
