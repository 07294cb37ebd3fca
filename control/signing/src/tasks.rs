//! Background work of the signing context.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ed25519_dalek::Signer as _;
use plexsphere_kernel::directory::mark_domain;
use plexsphere_kernel::tasks::{Health, Progress, Schedule, Task, TaskKind};
use plexsphere_kernel::{Event, EventAudience, Fault, Outbox};
use plexsphere_wire::DomainId;
use serde_json::json;

use crate::service::Signing;
use crate::store;

/// Keys that are unwrapped by one check.
const SAMPLE: i64 = 8;
/// Keys retired by one run.
const RETIRE: i64 = 200;

/// Unwraps a sample of keys, signs and verifies with each, and compares the stored public halves.
pub struct SigningSelfcheck(Arc<Signing>);

impl SigningSelfcheck {
    /// A check; run it by [`Self::schedule`].
    #[must_use]
    pub const fn new(signing: Arc<Signing>) -> Self {
        Self(signing)
    }

    /// At the start and every hour, on every replica: each has its own ring.
    #[must_use]
    pub const fn schedule() -> Schedule {
        Schedule::every(Duration::from_secs(3_600)).per_replica()
    }
}

#[async_trait]
impl Task for SigningSelfcheck {
    fn kind(&self) -> TaskKind {
        TaskKind::SigningSelfcheck
    }

    async fn run(&self) -> Result<Progress, Fault> {
        self.0.check_deployment().await?;
        let mut progress = Progress::default();
        for (domain, kid) in store::sample(self.0.db(), SAMPLE).await? {
            let domain = DomainId::from_uuid(domain);
            let key = self.0.unwrap(domain, &kid).await.map_err(Fault::Signer)?;
            let line = store::line(self.0.db().pool(), domain).await?;
            let stored = line.as_ref().and_then(|line| line.key(&kid)).map(|key| key.public_key);
            let probe = format!("plexsphere/signing/selfcheck|{kid}");
            let signature = key.sign(probe.as_bytes());
            let verifies = key.verifying_key().verify_strict(probe.as_bytes(), &signature).is_ok();
            if !verifies || stored != Some(key.verifying_key().to_bytes()) {
                tracing::error!(%domain, kid, "a signing key does not fit its public half");
                progress.health = Health::Bad("a signing key does not fit its public half");
            }
            progress.done += 1;
        }
        Ok(progress)
    }
}

/// Retires previous keys whose transition is over.
pub struct SigningRetireSweeper(Arc<Signing>);

impl SigningRetireSweeper {
    /// A sweeper; run it by [`Self::schedule`].
    #[must_use]
    pub const fn new(signing: Arc<Signing>) -> Self {
        Self(signing)
    }

    /// Every minute.
    #[must_use]
    pub const fn schedule() -> Schedule {
        Schedule::every(Duration::from_secs(60))
    }
}

#[async_trait]
impl Task for SigningRetireSweeper {
    fn kind(&self) -> TaskKind {
        TaskKind::SigningRetireSweeper
    }

    async fn run(&self) -> Result<Progress, Fault> {
        let now = self.0.now();
        let mut tx = self.0.db().begin().await?;
        let expired = store::expired(&mut tx, now, RETIRE).await?;
        let done = u64::try_from(expired.len()).unwrap_or(u64::MAX);
        for (domain, kid) in expired {
            let domain = DomainId::from_uuid(domain);
            store::retire(&mut tx, domain, &kid, now).await?;
            mark_domain(&mut tx, domain).await?;
            let event = Event {
                domain: Some(domain),
                context: "signing",
                name: "SigningKeyRetired",
                audience: EventAudience::Internal,
                payload: json!({ "key_id": kid }),
            };
            Outbox.append(&mut tx, event, now).await?;
            self.0.record_retirement(&mut tx, domain, kid, now).await?;
        }
        tx.commit().await?;
        Ok(Progress::done(done).and_more(i64::try_from(done).is_ok_and(|done| done == RETIRE)))
    }
}
