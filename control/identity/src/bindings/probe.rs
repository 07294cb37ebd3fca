//! The task `idp-health-probe`: asks every identity provider for its documents, and moves the status of its bindings.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use plexsphere_kernel::tasks::{Progress, Schedule, Task, TaskKind};
use plexsphere_kernel::{Clock, Fault, Subject};
use plexsphere_oidc::{Providers, Trust};
use plexsphere_wire::{IdpBindingId, Timestamp};
use rand::Rng as _;
use uuid::Uuid;

use super::model::{BindingRefusal, IdpBinding};
use super::service::Bindings;
use super::status::{BindingEvent, BindingStatus};
use crate::journal::Actor;
use crate::signin::{ClientSecrets, SecretFault};

/// Who moves a status.
const PROBE: Subject = Subject::System(Uuid::from_u128(0x706c_6578_0000_7000_8000_0000_0000_0004));
/// Failures in a row that count as one.
const FAILURES: u32 = 3;
/// Providers asked at a time.
const AT_ONCE: usize = 8;
/// The mean pause between two runs, in seconds; each is up to a tenth longer or shorter.
const PAUSE_SECONDS: u64 = 60;
/// How long a run begins with further providers. What is left goes first in the next one.
const BEGINS_WITHIN: Duration = Duration::from_secs(60);
/// How long a run may take: the last providers begun may take two fetches, and a secret be waited for.
const RUN_WITHIN: Duration = Duration::from_secs(120);

/// Probes the providers of all bindings that an operator has not switched off.
pub struct IdpHealthProbe {
    pub(crate) bindings: Bindings,
    pub(crate) providers: Arc<Providers>,
    pub(crate) client_secrets: Arc<dyn ClientSecrets>,
    pub(crate) clock: Arc<dyn Clock>,
    /// By binding. A restart forgives everything.
    pub(crate) seen: Mutex<HashMap<IdpBindingId, Seen>>,
}

/// What is remembered of a binding's provider.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// When it was last begun with.
    pub(super) at: Option<Timestamp>,
    /// Failures in a row.
    pub(super) failures: u32,
}

/// What a run did.
struct Round {
    moved: u64,
    /// Whether time ran out before every provider was begun with.
    unfinished: bool,
}

impl IdpHealthProbe {
    /// About every minute, on one replica at a time: at the latest after the longest pause that a run may wish for.
    pub const SCHEDULE: Schedule = Schedule::every(Duration::from_secs(PAUSE_SECONDS * 11 / 10)).within(RUN_WITHIN);

    /// Asks every provider once, as far as time allows; how many bindings were moved.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn probe_once(&self) -> Result<u64, Fault> {
        Ok(self.round().await?.moved)
    }

    /// The providers that were not asked for longest come first, and what one shows is recorded without waiting for the
    /// others: a slow one holds up itself and nobody else.
    async fn round(&self) -> Result<Round, Fault> {
        let (now, begun) = (self.clock.now(), Instant::now());
        let mut bindings = self.bindings.all_to_probe().await?;
        {
            let mut seen = self.seen.lock();
            seen.retain(|id, _| bindings.iter().any(|binding| binding.id == *id));
            longest_unseen_first(&mut bindings, &seen);
        }
        let mut round = Round { moved: 0, unfinished: false };
        let mut found = futures_util::stream::iter(bindings)
            .map(|binding| async move {
                if begun.elapsed() >= BEGINS_WITHIN {
                    return None;
                }
                self.seen.lock().entry(binding.id).or_default().at = Some(now);
                let finding = self.finding(&binding, now).await;
                Some((binding, finding))
            })
            .buffer_unordered(AT_ONCE);
        while let Some(answer) = found.next().await {
            match answer {
                Some((binding, Some(finding))) => {
                    round.moved += u64::from(self.record(&binding, finding, now).await?);
                }
                Some((_, None)) => {}
                None => round.unfinished = true,
            }
        }
        Ok(round)
    }

    /// Takes note of a finding; whether the binding was moved.
    async fn record(&self, binding: &IdpBinding, finding: BindingEvent, now: Timestamp) -> Result<bool, Fault> {
        match self.bindings.observe(&Actor::background(PROBE, now), binding.id, finding).await {
            Ok(status) => Ok(status != binding.status),
            Err(BindingRefusal::Fault(fault)) => Err(fault),
            // Somebody deleted it meanwhile.
            Err(_) => Ok(false),
        }
    }

    /// What a binding's provider shows today; `None` while a failure may still pass.
    async fn finding(&self, binding: &IdpBinding, now: Timestamp) -> Option<BindingEvent> {
        if self.client_secrets.resolve(&binding.client_secret_ref).await == Err(SecretFault::Missing) {
            return Some(BindingEvent::ProbeFoundFault);
        }
        let trust = Trust { issuer: binding.issuer.clone(), discovery_url: binding.settings.discovery_url.clone() };
        let Err(error) = self.providers.probe(&trust, now).await else {
            self.seen.lock().entry(binding.id).or_default().failures = 0;
            return Some(BindingEvent::ProbeSucceeded);
        };
        tracing::info!(binding = %binding.id, cause = %error, "an identity provider cannot be used");
        if !error.is_transient() {
            return Some(BindingEvent::ProbeFoundFault);
        }
        let mut seen = self.seen.lock();
        let failures = &mut seen.entry(binding.id).or_default().failures;
        *failures = failures.saturating_add(1);
        (*failures >= FAILURES).then_some(BindingEvent::ProbeFailed)
    }
}

/// Bindings never seen first, and the others by when that was.
pub(super) fn longest_unseen_first(bindings: &mut [IdpBinding], seen: &HashMap<IdpBindingId, Seen>) {
    bindings.sort_by_key(|binding| seen.get(&binding.id).and_then(|seen| seen.at));
}

/// Installations that were started at once do not ask a provider at once for ever.
fn pause() -> Duration {
    const MEAN_MS: u64 = PAUSE_SECONDS * 1_000;
    Duration::from_millis(rand::rng().random_range(MEAN_MS * 9 / 10..=MEAN_MS * 11 / 10))
}

impl Bindings {
    async fn all_to_probe(&self) -> Result<Vec<IdpBinding>, Fault> {
        let all = super::store::all(self.db.pool()).await?;
        Ok(all.into_iter().filter(|binding| binding.status != BindingStatus::Deactivated).collect())
    }
}

#[async_trait]
impl Task for IdpHealthProbe {
    fn kind(&self) -> TaskKind {
        TaskKind::IdpHealthProbe
    }

    async fn run(&self) -> Result<Progress, Fault> {
        let Round { moved, unfinished } = self.round().await?;
        let again_in = if unfinished { Duration::ZERO } else { pause() };
        Ok(Progress { again_in: Some(again_in), ..Progress::done(moved) })
    }
}

impl std::fmt::Debug for IdpHealthProbe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdpHealthProbe")
    }
}
