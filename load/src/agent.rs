//! One Node that is this machine: it enrols, proves that it lives, pulls its state, follows its events, and sends this
//! machine's metrics and the lines of real files, until it is stopped.

mod identity;
mod lines;
mod rotation;
mod say;
mod telemetry;

pub use identity::{IdentityError, StateDir};
pub use say::Happening;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use plexsphere_wire::ProjectId;
use plexsphere_wire::envelope::EventType;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use url::Url;
use zeroize::Zeroizing;

use self::rotation::Wish;
use crate::api::{ApiError, EncodingChoice, HeartbeatBody, NodeApi, Registered, Registration, register};
use crate::clock;
use crate::events::{FollowOptions, Follower, KeyRing, StreamEvent};
use crate::transport::{BackoffPolicy, Client, Dialer, Protocol, TransportError, Trust};

/// How often an agent pulls when nothing makes it pull earlier.
const PULL_EVERY: Duration = Duration::from_secs(60);
/// How long the last batches may take when the agent is stopped.
pub(crate) const LAST_FLUSH: Duration = Duration::from_secs(5);

/// How an agent waits before it offers the same new mesh key again: 5 s doubling to 2 min.
pub const ROTATION_BACKOFF: BackoffPolicy =
    BackoffPolicy { first: Duration::from_secs(5), longest: Duration::from_secs(120), jitter_percent: 25 };

/// What an agent is told.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Where the platform is.
    pub url: Url,
    /// How to talk to it.
    pub protocol: Protocol,
    /// Whose certificates are believed.
    pub trust: Trust,
    /// The bootstrap token; not needed when `state_dir` holds an identity.
    pub token: Option<Zeroizing<String>>,
    /// The Project; not needed when `state_dir` holds an identity.
    pub project: Option<ProjectId>,
    /// The Resource's handle; not needed when `state_dir` holds an identity.
    pub resource: Option<String>,
    /// Where the identity is kept, so that a restart does not register again.
    pub state_dir: Option<PathBuf>,
    /// Log files to follow.
    pub logs: Vec<PathBuf>,
    /// Files of the audit daemon to follow.
    pub audit_logs: Vec<PathBuf>,
    /// Metrics are sent this often.
    pub interval: Duration,
    /// Log lines are sent this often, or when 200 wait.
    pub log_interval: Duration,
    /// Audit events are sent this often, or when 500 wait.
    pub audit_interval: Duration,
    /// A heartbeat is sent this often.
    pub heartbeat: Duration,
    /// How bodies are compressed.
    pub encoding: EncodingChoice,
    /// Waits between attempts.
    pub backoff: BackoffPolicy,
    /// Waits between attempts to have a new mesh key taken; agents use [`ROTATION_BACKOFF`].
    pub rotation_backoff: BackoffPolicy,
}

/// Why an agent could not run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Token, Project or Resource are missing and no identity is kept.
    #[error("to register, give a token, a project and a resource")]
    NothingToRegisterWith,
    /// The state folder.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The client could not be built.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Registration was refused.
    #[error("register: {0}")]
    Api(#[from] ApiError),
}

/// What the agent's tasks share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) api: NodeApi,
    pub(crate) say: mpsc::Sender<Happening>,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) reconnects: Arc<AtomicU64>,
    pull: Arc<Notify>,
    rotate: mpsc::Sender<Wish>,
}

impl Shared {
    /// Tells; a listener that is gone is no reason to stop.
    pub(crate) async fn say(&self, happening: Happening) {
        let _ = self.say.send(happening).await;
    }
}

/// Runs until `stop` says `true`. Every happening goes to `say`.
///
/// # Errors
/// [`AgentError`] before the Node has joined; afterwards faults are told and waited out.
pub async fn run(
    config: AgentConfig,
    stop: watch::Receiver<bool>,
    say: mpsc::Sender<Happening>,
) -> Result<(), AgentError> {
    let dialer = Dialer::new(config.trust.clone());
    let client = Arc::new(Client::new(&dialer, &config.url, config.protocol)?);
    let mut stopped = stop.clone();
    let registered = tokio::select! {
        joined = join(&config, &client, &say) => joined?,
        () = until(&mut stopped) => return Ok(()),
    };
    let api = NodeApi::new(client, registered.node, &registered.nsk)?;
    let (rotate, wishes) = mpsc::channel(rotation::WISHES);
    let shared = Shared { api, say, stop, reconnects: Arc::default(), pull: Arc::new(Notify::new()), rotate };
    let keys = KeyRing::new(registered.signing_key_id.clone(), registered.signing_key);
    let options = FollowOptions { backoff: config.backoff, ..FollowOptions::default() };
    let mut background = JoinSet::new();
    background.spawn(heartbeats(shared.clone(), config.heartbeat));
    background.spawn(pulls(shared.clone()));
    background.spawn(rotation::rotations(shared.clone(), wishes, config.rotation_backoff));
    background.spawn(events(shared.clone(), keys, options));
    let mut senders = JoinSet::new();
    senders.spawn(telemetry::metrics(shared.clone(), config.encoding, config.interval));
    senders.spawn(telemetry::logs(shared.clone(), config.encoding, config.log_interval, config.logs));
    senders.spawn(telemetry::audit(shared.clone(), config.encoding, config.audit_interval, config.audit_logs));
    // The senders end by themselves once they have sent what they hold; nothing else has anything to save.
    while senders.join_next().await.is_some() {}
    background.shutdown().await;
    shared.say(Happening::Stopped).await;
    Ok(())
}

/// Returns when it is time to stop; never, when nobody is left who could say so.
pub(crate) async fn until(stop: &mut watch::Receiver<bool>) {
    // The guard that `wait_for` hands out must not live across an await.
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn join(config: &AgentConfig, client: &Client, say: &mpsc::Sender<Happening>) -> Result<Registered, AgentError> {
    let state = config.state_dir.clone().map(StateDir::open).transpose()?;
    if let Some(known) = state.as_ref().map(StateDir::load).transpose()?.flatten() {
        let _ = say.send(Happening::Resumed { node: known.node, mesh_ip: known.mesh_ip.clone() }).await;
        return Ok(known);
    }
    let (Some(token), Some(project), Some(resource)) = (&config.token, config.project, &config.resource) else {
        return Err(AgentError::NothingToRegisterWith);
    };
    let registration = Registration::new(project, resource, token);
    let registered = register(client, &registration, config.backoff).await?;
    if let Some(state) = &state {
        state.save(&registered)?;
    }
    let happening = Happening::Registered {
        node: registered.node,
        mesh_ip: registered.mesh_ip.clone(),
        domain_mesh_cidr: registered.domain_mesh_cidr.clone(),
        peers: registered.peers,
    };
    let _ = say.send(happening).await;
    Ok(registered)
}

/// The SHA-256 of the running binary, lower-case hex; of nothing when it cannot be read.
pub(crate) fn binary_checksum() -> String {
    let bytes = std::fs::read("/proc/self/exe").unwrap_or_default();
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

/// A heartbeat's body, now.
pub(crate) fn heartbeat_body(binary_checksum: &str) -> HeartbeatBody {
    HeartbeatBody {
        client_now: clock::now(),
        binary_checksum: binary_checksum.to_owned(),
        binary_version: concat!("plexsphere-load/", env!("CARGO_PKG_VERSION")).to_owned(),
        nat_summary: serde_json::Map::new(),
    }
}

async fn heartbeats(shared: Shared, every: Duration) {
    let checksum = tokio::task::spawn_blocking(binary_checksum).await.unwrap_or_default();
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match shared.api.heartbeat(&heartbeat_body(&checksum)).await {
            Ok(answer) => {
                if answer.reconcile {
                    shared.pull.notify_one();
                }
                if answer.rotate_keys {
                    // A full queue holds the same wish already.
                    let _ = shared.rotate.try_send(Wish::Heartbeat);
                }
                let (reconcile, rotate_keys) = (answer.reconcile, answer.rotate_keys);
                shared.say(Happening::Heartbeat { accepted_at: answer.accepted_at, reconcile, rotate_keys }).await;
            }
            Err(error) => shared.say(Happening::failed("heartbeat", &error)).await,
        }
    }
}

async fn pulls(shared: Shared) {
    loop {
        // A wish to pull that comes while one is under way is kept, and many such wishes are one.
        let _ = tokio::time::timeout(PULL_EVERY, shared.pull.notified()).await;
        match shared.api.state().await {
            Ok(snapshot) => shared.say(Happening::state(&snapshot)).await,
            Err(error) => shared.say(Happening::failed("state", &error)).await,
        }
    }
}

async fn events(shared: Shared, keys: KeyRing, options: FollowOptions) {
    let (sender, mut receiver) = mpsc::channel(256);
    let follow = Follower::new(shared.api.clone(), keys, options).run(sender);
    let listen = async {
        let mut opened = 0u64;
        while let Some(event) = receiver.recv().await {
            match &event {
                StreamEvent::Connected { .. } => {
                    opened += 1;
                    shared.reconnects.store(opened.saturating_sub(1), Ordering::Relaxed);
                    shared.pull.notify_one();
                }
                StreamEvent::Event { envelope, .. } if envelope.unsigned.event == EventType::RotateKeys => {
                    let _ = shared.rotate.try_send(Wish::Event);
                }
                StreamEvent::Event { envelope, .. } if envelope.unsigned.event != EventType::SigningKeyRotated => {
                    shared.pull.notify_one();
                }
                _ => {}
            }
            if let Some(happening) = Happening::of_stream(event) {
                shared.say(happening).await;
            }
        }
    };
    tokio::join!(Box::pin(follow), listen);
}
