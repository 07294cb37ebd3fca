//! Background work of the signing context.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ed25519_dalek::{Signature, VerifyingKey};
use plexsphere_kernel::tasks::{Health, Progress, Schedule, Task, TaskKind};
use plexsphere_kernel::{Fault, SignerFault, Subject};
use plexsphere_wire::{CorrelationId, DomainId, Timestamp};

use crate::model::Custody;
use crate::service::{RotateError, Rotation, SIGNING_SUBJECT, Signing};
use crate::store::{self, upkeep};

/// Keys that are unwrapped by one check.
const SAMPLE: i64 = 8;

/// Keys rotated by schedule within [`ROTATION_PERIOD`], on all replicas together: a fleet is not re-keyed at once.
const ROTATIONS: i64 = 20;
const ROTATION_PERIOD: Duration = Duration::from_secs(3_600);

/// Opens a random sample of keys, signs and verifies with each, and compares the stored public halves. Keys of an OpenBao
/// that cannot be asked are passed over: registration goes on without it.
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

impl SigningSelfcheck {
    /// Whether a key signs what its stored public half verifies.
    async fn fits(&self, domain: DomainId, kid: &str) -> Result<bool, Fault> {
        let hand = match self.0.fresh_hand(domain, kid).await {
            // It was destroyed since the sample was taken.
            Err(SignerFault::Destroyed | SignerFault::NoKey) => return Ok(true),
            hand => hand.map_err(Fault::Signer)?,
        };
        let probe = format!("plexsphere/signing/selfcheck|{kid}");
        let signature = match hand.sign_unseen(probe.as_bytes()).await {
            Err(cause) if hand.custody() == Custody::Transit => {
                tracing::warn!(%domain, kid, %cause, "openbao did not sign with a key that rests there");
                return Ok(true);
            }
            signature => signature.map_err(Fault::Signer)?,
        };
        let line = store::line(self.0.db().pool(), domain).await?;
        let stored = line.as_ref().and_then(|line| line.key(kid)).map(|key| key.public_key);
        let verifies = VerifyingKey::from_bytes(&hand.public_key())
            .is_ok_and(|key| key.verify_strict(probe.as_bytes(), &Signature::from_bytes(&signature)).is_ok());
        Ok(verifies && stored == Some(hand.public_key()))
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
        for (domain, kid) in upkeep::sample(self.0.db(), SAMPLE).await? {
            let domain = DomainId::from_uuid(domain);
            if !self.fits(domain, &kid).await? {
                tracing::error!(%domain, kid, "a signing key does not fit its public half");
                progress.health = Health::Bad("a signing key does not fit its public half");
            }
            progress.done += 1;
        }
        Ok(progress)
    }
}

/// Rotates keys that have reached their greatest age, never inside a transition.
pub struct SigningRotation(Arc<Signing>);

impl SigningRotation {
    /// A rotation; run it by [`Self::schedule`].
    #[must_use]
    pub const fn new(signing: Arc<Signing>) -> Self {
        Self(signing)
    }

    /// Every hour.
    #[must_use]
    pub const fn schedule() -> Schedule {
        Schedule::every(ROTATION_PERIOD)
    }

    /// One Domain; whether its key was rotated.
    async fn rotate(&self, domain: DomainId, now: Timestamp) -> Result<bool, Fault> {
        let rotation = Rotation {
            domain,
            actor: Subject::System(SIGNING_SUBJECT),
            correlation_id: CorrelationId::mint(now),
            force: false,
            // Nothing issues sessions yet.
            longest_session: Duration::ZERO,
        };
        match self.0.rotate(rotation).await {
            Ok(rotated) => {
                tracing::info!(%domain, kid = rotated.kid, "a signing key reached its greatest age and was rotated");
                Ok(true)
            }
            // Somebody rotated it, or the Domain went, since it was looked up.
            Err(RotateError::InTransition { .. } | RotateError::NoKey | RotateError::State(_)) => Ok(false),
            Err(RotateError::Fault(fault)) => Err(fault),
        }
    }
}

#[async_trait]
impl Task for SigningRotation {
    fn kind(&self) -> TaskKind {
        TaskKind::SigningRotation
    }

    async fn run(&self) -> Result<Progress, Fault> {
        let (now, max_age) = (self.0.now(), self.0.max_age());
        if max_age.is_zero() {
            return Ok(Progress::default());
        }
        // Every replica has its own hour; the keys say how many were made in the last one.
        let made = upkeep::minted_since(self.0.db(), SIGNING_SUBJECT, now.minus(ROTATION_PERIOD)).await?;
        let due = upkeep::old(self.0.db(), now.minus(max_age), now, (ROTATIONS - made).max(0)).await?;
        let (mut progress, mut failed) = (Progress::default(), None);
        for domain in due {
            match self.rotate(domain, now).await {
                Ok(rotated) => progress.done += u64::from(rotated),
                // One Domain's trouble is not the others'.
                Err(fault) => failed = Some(fault),
            }
        }
        failed.map_or(Ok(progress), Err)
    }
}

/// Retires previous keys whose transition is over, destroys retired ones that no Node pins, and has OpenBao forget those.
pub struct SigningRetireSweeper(Arc<Signing>);

impl SigningRetireSweeper {
    /// A sweeper; run it by [`Self::schedule`].
    #[must_use]
    pub const fn new(signing: Arc<Signing>) -> Self {
        Self(signing)
    }

    /// Every minute, on every replica: each shows how many Nodes cannot be reached by an announcement.
    #[must_use]
    pub const fn schedule() -> Schedule {
        Schedule::every(Duration::from_secs(60)).per_replica()
    }
}

#[async_trait]
impl Task for SigningRetireSweeper {
    fn kind(&self) -> TaskKind {
        TaskKind::SigningRetireSweeper
    }

    async fn run(&self) -> Result<Progress, Fault> {
        let (retired, more_expired) = self.0.retire_expired().await?;
        let (looked_at, more_retired) = self.0.destroy_unpinned().await?;
        let trimmed = self.0.trim_destroyed().await?;
        self.0.metrics().unannounceable(self.0.unannounceable().await?);
        Ok(Progress::done(retired + looked_at + trimmed).and_more(more_expired || more_retired))
    }
}
