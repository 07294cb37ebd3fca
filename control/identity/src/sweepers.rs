//! Background work of this context. Expiry is also judged at use, so a sweeper that stands still extends nothing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plexsphere_kernel::tasks::{Progress, Schedule, Task, TaskKind};
use plexsphere_kernel::{Clock, Fault};

use crate::devices::Devices;
use crate::enrolment::{BootstrapTokens, NodeReader};
use crate::principals::ApiTokens;
use crate::sessions::Sessions;
use crate::signin::SignIns;

/// What is swept.
#[derive(Clone)]
enum What {
    ApiTokens(ApiTokens),
    Sessions(Sessions),
    Flows(SignIns, Devices),
    BootstrapTokens(BootstrapTokens),
    RevokedKeys(NodeReader),
}

/// Removes what ended long ago.
#[derive(Clone)]
pub struct Sweeper {
    what: What,
    clock: Arc<dyn Clock>,
}

impl Sweeper {
    /// Retires rotated secrets, and removes API tokens 30 days past their end.
    pub(crate) fn api_tokens(tokens: ApiTokens, clock: Arc<dyn Clock>) -> Self {
        Self { what: What::ApiTokens(tokens), clock }
    }

    /// Removes sign-ins and device flows that ended.
    pub(crate) fn flows(sign_ins: SignIns, devices: Devices, clock: Arc<dyn Clock>) -> Self {
        Self { what: What::Flows(sign_ins, devices), clock }
    }

    /// Removes sessions and access tokens that ended.
    pub(crate) fn sessions(sessions: Sessions, clock: Arc<dyn Clock>) -> Self {
        Self { what: What::Sessions(sessions), clock }
    }

    /// Removes bootstrap tokens 90 days past their end.
    pub(crate) fn bootstrap_tokens(tokens: BootstrapTokens, clock: Arc<dyn Clock>) -> Self {
        Self { what: What::BootstrapTokens(tokens), clock }
    }

    /// Removes revoked Node Secret Keys after 30 days.
    pub(crate) fn revoked_keys(nodes: NodeReader, clock: Arc<dyn Clock>) -> Self {
        Self { what: What::RevokedKeys(nodes), clock }
    }

    /// When it runs, on one replica at a time: flows each minute, sessions every five, what ended long ago each hour.
    #[must_use]
    pub const fn schedule(&self) -> Schedule {
        let minutes = match self.what {
            What::Flows(..) => 1,
            What::Sessions(_) => 5,
            What::ApiTokens(_) | What::BootstrapTokens(_) | What::RevokedKeys(_) => 60,
        };
        Schedule::every(Duration::from_secs(minutes * 60))
    }

    /// One sweep; how many rows changed.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn sweep_once(&self) -> Result<u64, Fault> {
        let now = self.clock.now();
        match &self.what {
            What::ApiTokens(tokens) => tokens.sweep_once(now).await,
            What::Sessions(sessions) => sessions.sweep_once(now).await,
            What::Flows(sign_ins, devices) => Ok(sign_ins.sweep_once(now).await? + devices.sweep_once(now).await?),
            What::BootstrapTokens(tokens) => tokens.sweep_once(now).await,
            What::RevokedKeys(nodes) => nodes.sweep_once(now).await,
        }
    }
}

#[async_trait]
impl Task for Sweeper {
    fn kind(&self) -> TaskKind {
        match self.what {
            What::ApiTokens(_) => TaskKind::ApiTokenSweeper,
            What::Sessions(_) => TaskKind::SessionSweeper,
            What::Flows(..) => TaskKind::AuthFlowSweeper,
            What::BootstrapTokens(_) => TaskKind::BootstrapTokenSweeper,
            What::RevokedKeys(_) => TaskKind::NskRevokedSweeper,
        }
    }

    async fn run(&self) -> Result<Progress, Fault> {
        Ok(Progress::done(self.sweep_once().await?))
    }
}
