//! The task `idp-health-probe`: asks every identity provider for its documents, and moves the status of its bindings.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use plexsphere_kernel::tasks::{Progress, Schedule, Task, TaskKind};
use plexsphere_kernel::{Clock, Fault, Subject};
use plexsphere_oidc::{Providers, Trust};
use plexsphere_wire::{IdpBindingId, Timestamp};
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

/// Probes the providers of all bindings that an operator has not switched off.
pub struct IdpHealthProbe {
    pub(crate) bindings: Bindings,
    pub(crate) providers: Arc<Providers>,
    pub(crate) client_secrets: Arc<dyn ClientSecrets>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Failures in a row, by binding. A restart forgives them.
    pub(crate) failures: Mutex<HashMap<IdpBindingId, u32>>,
}

impl IdpHealthProbe {
    /// Every minute, on one replica at a time.
    pub const SCHEDULE: Schedule = Schedule::every(Duration::from_secs(60));

    /// Asks every provider once; how many bindings were moved.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn probe_once(&self) -> Result<u64, Fault> {
        let now = self.clock.now();
        let bindings = self.bindings.all_to_probe().await?;
        self.failures.lock().retain(|id, _| bindings.iter().any(|binding| binding.id == *id));
        let found = futures_util::stream::iter(bindings.into_iter().map(|binding| async move {
            let finding = self.finding(&binding, now).await;
            (binding, finding)
        }));
        let found: Vec<_> = found.buffer_unordered(AT_ONCE).collect().await;
        let mut moved = 0;
        for (binding, finding) in found {
            let Some(finding) = finding else { continue };
            match self.bindings.observe(&Actor::background(PROBE, now), binding.id, finding).await {
                Ok(status) => moved += u64::from(status != binding.status),
                // Somebody deleted it meanwhile.
                Err(BindingRefusal::Fault(fault)) => return Err(fault),
                Err(_) => {}
            }
        }
        Ok(moved)
    }

    /// What a binding's provider shows today; `None` while a failure may still pass.
    async fn finding(&self, binding: &IdpBinding, now: Timestamp) -> Option<BindingEvent> {
        if self.client_secrets.resolve(&binding.client_secret_ref).await == Err(SecretFault::Missing) {
            return Some(BindingEvent::ProbeFoundFault);
        }
        let trust = Trust { issuer: binding.issuer.clone(), discovery_url: binding.settings.discovery_url.clone() };
        let Err(error) = self.providers.probe(&trust, now).await else {
            self.failures.lock().remove(&binding.id);
            return Some(BindingEvent::ProbeSucceeded);
        };
        tracing::info!(binding = %binding.id, cause = %error, "an identity provider cannot be used");
        if !error.is_transient() {
            return Some(BindingEvent::ProbeFoundFault);
        }
        let mut failures = self.failures.lock();
        let count = failures.entry(binding.id).or_default();
        *count = count.saturating_add(1);
        (*count >= FAILURES).then_some(BindingEvent::ProbeFailed)
    }
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
        Ok(Progress::done(self.probe_once().await?))
    }
}

impl std::fmt::Debug for IdpHealthProbe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdpHealthProbe")
    }
}
