//! The control role: the contexts put together over one database.

mod probe;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use plexsphere_api::{Api, BuildInfo, Health};
use plexsphere_audit::{AuditIntakeConsumer, PgAuditLog};
use plexsphere_identity::{Identity, IdentityConfig, IdentityParts};
use plexsphere_kernel::http::pipeline::Throttle;
use plexsphere_kernel::http::{Gates, Operation};
use plexsphere_kernel::paging::CursorCodec;
use plexsphere_kernel::projector::{DirectoryLookup, DirectoryProjector, ProjectorParts};
use plexsphere_kernel::relay::{OutboxSweeper, Relay, RelayParts};
use plexsphere_kernel::tasks::{Tasks, TasksContext};
use plexsphere_kernel::{AuditLog, Clock, Database, Probes, SystemClock};
use plexsphere_mesh::{Blocks, Mesh, MeshConfig, MeshParts};
use plexsphere_signing::{Signing, SigningConfig, SigningParts};
use plexsphere_wire::Timestamp;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Started, bus, run_alone};
use crate::commands::sentence;
use crate::config::Config;
use crate::custody::Keys;
use crate::output::tell;

/// How long requests under way may finish after the end was asked for.
const DRAIN: Duration = Duration::from_secs(20);

/// The control role at work, and where it listens.
pub(crate) struct ControlStarted {
    pub(crate) started: Started,
    pub(crate) address: SocketAddr,
}

/// Runs the role by itself until it is asked to end.
pub(crate) async fn run(config: Config) -> Result<(), String> {
    let mut registry = Registry::default();
    let control = start(&config, &Probes::default(), &mut registry, false).await?;
    run_alone(&config, control.started, registry).await
}

/// Starts the role; with `migrate`, missing migrations are applied first.
///
/// # Errors
/// One sentence.
pub(crate) async fn start(
    config: &Config,
    probes: &Probes,
    registry: &mut Registry,
    migrate: bool,
) -> Result<ControlStarted, String> {
    let listener = TcpListener::bind(config.control.listen)
        .await
        .map_err(|error| format!("control cannot listen on {}: {error}", config.control.listen))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let keys = Keys::load(&config.custody)?;
    let db = Database::connect(&config.database.url, config.database.max_connections)
        .await
        .map_err(|error| format!("the database cannot be reached: {}", sentence(&error)))?;
    if migrate {
        db.migrate().await.map_err(|error| format!("the migrations cannot be applied: {error}"))?;
    }
    let cancel = CancellationToken::new();
    let contexts = Contexts::build(config, keys, db, probes, registry, &cancel).await?;
    first_administrator(config, &contexts).await?;
    let router = contexts.router(probes)?;
    let mut tasks = contexts.tasks;
    tasks.start();
    let ended = tokio::spawn(serve(listener, router, tasks, cancel.clone()));
    Ok(ControlStarted { started: Started { name: "control", probes: probes.clone(), cancel, ended }, address })
}

/// Everything that the role is made of.
struct Contexts {
    identity: Identity,
    mesh: Mesh,
    audit: Arc<dyn AuditLog>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
}

impl Contexts {
    async fn build(
        config: &Config,
        keys: Keys,
        db: Database,
        probes: &Probes,
        registry: &mut Registry,
        cancel: &CancellationToken,
    ) -> Result<Self, String> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let client = bus::connect(&config.nats.url, "control").await?;
        let context = TasksContext { db: db.clone(), clock: Arc::clone(&clock), probes: probes.clone() };
        let mut tasks = Tasks::new(context, registry, cancel.clone());
        probe::watch(&db, probes, cancel.clone());
        let deployment = deployment(&keys);
        let audit_key = AuditKey::parse(&data_encoding::HEXLOWER.encode(keys.derive("audit").as_slice()))
            .map_err(|error| error.to_string())?;
        let audit = Arc::new(PgAuditLog::new(db.clone(), audit_key, Arc::clone(&clock)));
        let signing = Signing::open(
            SigningConfig { deployment, issuer_host: config.issuer_host(), transition: KEY_TRANSITION },
            SigningParts {
                db: db.clone(),
                ring: keys.signing_ring,
                audit: Arc::clone(&audit) as Arc<dyn AuditLog>,
                clock: Arc::clone(&clock),
                probes: probes.clone(),
            },
        )
        .await
        .map_err(|error| sentence(&error))?;
        let keks = Arc::new(keys.nsk_ring);
        let mesh = Mesh::new(
            MeshConfig::new(deployment),
            MeshParts {
                db: db.clone(),
                clock: Arc::clone(&clock),
                keks: Arc::clone(&keks),
                blocks: Blocks::default(),
            },
        );
        let _ = (signing, mesh, client);
        Err("unfinished".to_owned())
    }
}

/// The installation that the root key stands for. A database that another root key has written to is not ours to sign for.
fn deployment(keys: &Keys) -> Uuid {
    let bytes = keys.derive("deployment");
    let mut id = [0u8; 16];
    id.copy_from_slice(bytes.first_chunk::<16>().unwrap_or(&[1; 16]));
    uuid::Builder::from_custom_bytes(id).into_uuid()
}
