//! Nodes of one Domain of a running installation, enrolled as a fleet's are, and events for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use plexsphere_wire::ProjectId;
use url::Url;
use zeroize::Zeroizing;

use super::crew::CrewError;
use super::identity::Identity;
use super::parts::Source;
use crate::api::{EncodingChoice, OperatorApi};
use crate::fleet::{self, Access, FleetConfig, FleetError, Progress};
use crate::transport::{BackoffPolicy, Client, Dialer, Protocol, Trust};

/// Nodes that have enrolled, and the operator under whom more of them do.
pub struct Ground {
    config: Arc<FleetConfig>,
    dialer: Arc<Dialer>,
    ground: fleet::Ground,
    joined: AtomicUsize,
}

impl Ground {
    /// Enrols `nodes` Nodes in a new Domain. A registration costs the platform a password hash.
    ///
    /// # Errors
    /// [`FleetError`].
    pub async fn enrol(url: &Url, trust: Trust, token: &str, nodes: usize) -> Result<Self, FleetError> {
        let (config, dialer, operator) = prepared(url, trust, token, nodes)?;
        let display = Arc::new(config.progress.start());
        let ground = Box::pin(fleet::prepare(&config, &dialer, Some(operator), &display)).await?;
        Ok(Self { config, dialer, ground, joined: AtomicUsize::new(0) })
    }

    /// Stands on a Project whose Domain has its Nodes already.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn of_project(url: &Url, trust: Trust, token: &str, project: ProjectId) -> Result<Self, FleetError> {
        let (config, dialer, operator) = prepared(url, trust, token, 0)?;
        let ground = fleet::Ground::of_project(&config.name, operator, project);
        Ok(Self { config, dialer, ground, joined: AtomicUsize::new(0) })
    }

    /// The Project in which Nodes join.
    #[must_use]
    pub fn project(&self) -> Option<ProjectId> {
        self.ground.projects.first().copied()
    }

    /// The Nodes.
    #[must_use]
    pub fn identities(&self) -> Vec<Identity> {
        self.ground.members.iter().map(|member| Identity::from(&member.registered)).collect()
    }
}

impl Source for Ground {
    /// One more Node joins; all others hear of it.
    async fn emit(&self) -> Result<(), CrewError> {
        let number = self.joined.fetch_add(1, Ordering::Relaxed);
        let joined = fleet::join_one(&self.config, &self.dialer, &self.ground, Protocol::H1, number);
        Box::pin(joined).await.map_err(|error| CrewError::Failed(error.to_string()))
    }

    /// The relay merges joins that follow each other closely.
    fn envelopes(&self, events: u32) -> u64 {
        u64::from(events.min(1))
    }
}

fn prepared(
    url: &Url,
    trust: Trust,
    token: &str,
    nodes: usize,
) -> Result<(Arc<FleetConfig>, Arc<Dialer>, OperatorApi), FleetError> {
    let config = Arc::new(FleetConfig {
        name: "streams".to_owned(),
        url: url.clone(),
        trust: trust.clone(),
        nodes,
        access: Access::Admin { token: Zeroizing::new(token.to_owned()), domains: 1 },
        protocols: vec![Protocol::H1],
        duration: Duration::ZERO,
        interval: Duration::ZERO,
        log_lines: 0,
        audit_events: 0,
        heartbeat: Duration::ZERO,
        encoding: EncodingChoice::Agent,
        events: false,
        cut_streams: None,
        pulls: false,
        joins: 0,
        drain: Duration::ZERO,
        backoff: BackoffPolicy::default(),
        seed: 1,
        out: std::path::PathBuf::new(),
        sink: None,
        progress: Progress::Auto,
    });
    let dialer = Dialer::new(trust);
    let client = Arc::new(Client::new(&dialer, url, Protocol::H1)?);
    let operator = OperatorApi::new(client, token).map_err(|source| FleetError::SetUp { step: "token", source })?;
    Ok((config, dialer, operator))
}
