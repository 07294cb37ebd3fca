//! The control role: the contexts put together over one database.

mod handover;
mod listener;
mod probe;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use plexsphere_api::{Api, BuildInfo, Health};
use plexsphere_audit::{Audit, AuditIntakeConsumer, AuditIntakeSweeper, AuditKey, AuditParts, MirrorPlace, PgAuditLog};
use plexsphere_identity::{
    DeliveryFault, Deps, Identity, IdentityConfig, IdpHealthProbe, InvitationExpirySweeper, NodeReader,
    TenancyTupleRepair, TokenPepper,
};
use plexsphere_kernel::custody::{Rewrap, SealedRows, WrapKeyRing};
use plexsphere_kernel::http::pipeline::Throttle;
use plexsphere_kernel::http::pipeline::csrf::AllowedOrigins;
use plexsphere_kernel::http::{Gate, Gates, Operation, Reply};
use plexsphere_kernel::paging::CursorCodec;
use plexsphere_kernel::projector::{self, DirectoryLookup, DirectoryProjector, ProjectorParts};
use plexsphere_kernel::relay::{OutboxSweeper, Relay, RelayParts};
use plexsphere_kernel::seams::{DomainEntries, NodeEntries, SigningKeys};
use plexsphere_kernel::tasks::{Tasks, TasksContext};
use plexsphere_kernel::{
    AuditLog, Authenticated, ChangeListener, Changes, Clock, Database, EnvelopeSigner, KekRing, ObjectRef, Probes,
    SystemClock,
};
use plexsphere_mesh::{
    AllocationSweeper, Blocks, Mesh, MeshConfig, MeshParts, PeerEndpointSweeper, ReachabilitySweeper,
};
use plexsphere_oidc::{Fetch, FetchSettings, Origin, Providers, Reach, SpiffeBundles};
use plexsphere_rebac::{AuthorizerConfig, ChangeSweeper, OrphanSweeper, Rebac, RebacConfig, RebacParts, RelationSync};
use plexsphere_signing::{
    Signing, SigningAnnouncer, SigningConfig, SigningMetrics, SigningParts, SigningRetireSweeper, SigningRotation,
    SigningSelfcheck,
};
use plexsphere_wire::{Code, NodeId, Timestamp};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Started, bus, run_alone};
use crate::client_secrets::SecretReader;
use crate::commands::sentence;
use crate::config::{AuthConfig, Config};
use crate::custody::Keys;
use crate::output::tell;

/// How long a registration waits for the edge directory.
const FLUSH_PATIENCE: Duration = Duration::from_millis(500);
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
    let keys = Keys::load(&config.custody, &config.openbao).await?;
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
    let ended = tokio::spawn(serve(listener, router, config.control.max_streams_per_connection, tasks, cancel.clone()));
    Ok(ControlStarted { started: Started { name: "control", probes: probes.clone(), cancel, ended }, address })
}

/// Everything that the role is made of.
struct Contexts {
    audit: Audit,
    identity: Identity,
    rebac: Rebac,
    mesh: Mesh,
    gates: Arc<Gates>,
    nodes: Arc<dyn NodeEntries>,
    tasks: Tasks,
}

/// What the contexts share.
struct Ground {
    db: Database,
    clock: Arc<dyn Clock>,
    bus: async_nats::Client,
    audit: Arc<PgAuditLog>,
    keks: Arc<KekRing>,
    replicas: usize,
    deployment: Uuid,
    changes: Arc<Changes>,
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
        probe::watch(&db, probes, cancel.clone());
        let context = TasksContext { db: db.clone(), clock: Arc::clone(&clock), probes: probes.clone() };
        let mut tasks = Tasks::new(context, registry, cancel.clone());
        let audit_key = AuditKey::parse(&data_encoding::HEXLOWER.encode(keys.derive("audit").as_slice()))
            .map_err(|error| error.to_string())?;
        let secrets = (TokenPepper::new(*keys.derive("token")), CursorCodec::new(*keys.derive("cursor"), None));
        let audit_cursors = keys.derive("audit-cursor");
        let deployment = deployment(&keys);
        let ground = Ground {
            audit: Arc::new(PgAuditLog::new(db.clone(), audit_key, Arc::clone(&clock))),
            bus: bus::connect(&config.nats.url, "control").await?,
            keks: Arc::new(keys.nsk_ring),
            replicas: config.nats.replicas,
            db,
            clock,
            deployment,
            changes: Changes::new(),
        };
        tasks.serve(Arc::new(ChangeListener::new(Arc::clone(&ground.changes), ground.db.clone())));
        let signing = ground.signing(config, keys.signing_ring, (probes, registry)).await?;
        let mut audit = ground.audit(config, audit_cursors, &signing, registry)?;
        audit.add_tasks(&mut tasks);
        let mesh = ground.mesh(config);
        let flush = ground.projection(&signing, &mut tasks);
        let rebac = ground.rebac(config, secrets.1.clone()).await?;
        tasks.add(Arc::new(rebac.sync()), RelationSync::schedule());
        tasks.add(Arc::new(rebac.sweeper()), ChangeSweeper::SCHEDULE);
        tasks.add(Arc::new(rebac.orphan_sweeper()), OrphanSweeper::SCHEDULE);
        let identity = ground.identity(config, (&mesh, &signing), (secrets, &rebac), flush)?;
        ground.relay(&signing, &mut tasks, registry);
        tasks.add(Arc::new(mesh.reachability_sweeper()), ReachabilitySweeper::SCHEDULE);
        tasks.add(Arc::new(mesh.endpoint_sweeper()), PeerEndpointSweeper::SCHEDULE);
        tasks.add(Arc::new(mesh.allocation_sweeper()), AllocationSweeper::SCHEDULE);
        let sealed = vec![Arc::clone(&signing) as Arc<dyn SealedRows>, mesh.sealed_rows(), identity.sealed_rows()];
        tasks.add(Arc::new(WrapKeyRing::new(sealed)), WrapKeyRing::schedule());
        tasks.add(Arc::new(mesh.psk_rewrap()), Rewrap::SCHEDULE);
        tasks.add(Arc::new(identity.nsk_rewrap()), Rewrap::SCHEDULE);
        tasks.serve(Arc::new(mesh.heartbeat_responder(ground.bus.clone())));
        tasks.add(Arc::new(identity.invitation_sweeper()), InvitationExpirySweeper::SCHEDULE);
        tasks.add(Arc::new(identity.idp_health_probe()), IdpHealthProbe::SCHEDULE);
        tasks.add(Arc::new(identity.tuple_repair()), TenancyTupleRepair::SCHEDULE);
        for sweeper in identity.sweepers() {
            let schedule = sweeper.schedule();
            tasks.add(Arc::new(sweeper), schedule);
        }
        let nodes = Arc::new(NodeReader::new(ground.db.clone()));
        let gates = Arc::new(Gates {
            authenticator: identity.authenticator(),
            authorizer: rebac.authorizer(),
            audit: identity.denials(),
            clock: ground.clock,
            throttle: Throttle::default(),
            origins: AllowedOrigins::parse(config.auth.csrf_allowed_origins.iter().map(String::as_str))
                .map_err(|error| format!("auth.csrf_allowed_origins: {error}"))?,
        });
        Ok(Self { audit, identity, rebac, mesh, gates, nodes, tasks })
    }

    fn router(&self, probes: &Probes) -> Result<Router, String> {
        let mut operations = self.identity.operations();
        operations.extend(self.mesh.operations());
        operations.extend(self.audit.operations());
        operations.extend(self.rebac.operations());
        self.rebac.admit(&operations).map_err(|unknown| unknown.to_string())?;
        let health = Health::new(probes.clone(), &["database", "migrations"]);
        let api = Api::new(operations, &self.gates, health, build_info()).map_err(|error| error.to_string())?;
        let internal =
            plexsphere_kernel::http::serve(vec![authorize_node_events(&self.nodes, &self.gates)], &self.gates);
        Ok(Router::new().nest_service("/internal", internal).fallback_service(api.router()))
    }
}

impl Ground {
    /// The relation tuples in memory, and who may do what by them.
    async fn rebac(&self, config: &Config, cursors: CursorCodec) -> Result<Rebac, String> {
        let parts = RebacParts {
            db: self.db.clone(),
            clock: Arc::clone(&self.clock),
            audit: Arc::clone(&self.audit) as Arc<dyn AuditLog>,
            cursors,
        };
        let stale_ttl = Duration::from_secs(u64::from(config.control.authz_stale_seconds));
        let config = RebacConfig { authorizer: AuthorizerConfig { stale_ttl }, clamp: config.control.authz_clamp };
        let opened = Rebac::open(config, parts).await;
        opened.map_err(|fault| format!("the relation tuples cannot be read: {}", sentence(&fault)))
    }

    async fn signing(
        &self,
        config: &Config,
        ring: KekRing,
        (probes, registry): (&Probes, &mut Registry),
    ) -> Result<Arc<Signing>, String> {
        let parts = SigningParts {
            db: self.db.clone(),
            ring: Arc::new(ring),
            transit: crate::openbao::transit(&config.openbao)?,
            pins: Arc::new(NodeReader::new(self.db.clone())),
            audit: Arc::clone(&self.audit) as Arc<dyn AuditLog>,
            clock: Arc::clone(&self.clock),
            probes: probes.clone(),
            metrics: SigningMetrics::register(registry),
        };
        Signing::open(signing_config(config, self.deployment), parts)
            .await
            .map_err(|error| format!("signing cannot start: {}", sentence(&error)))
    }

    fn audit(
        &self,
        config: &Config,
        cursor_key: Zeroizing<[u8; 32]>,
        signing: &Arc<Signing>,
        registry: &mut Registry,
    ) -> Result<Audit, String> {
        let mirror = config.control.audit_mirror.as_deref().map(MirrorPlace::parse).transpose();
        let parts = AuditParts {
            log: Arc::clone(&self.audit),
            domains: Arc::clone(signing) as Arc<dyn DomainEntries>,
            cursor_key,
            mirror: mirror.map_err(|error| format!("`control.audit_mirror` is not usable: {error}"))?,
        };
        Ok(Audit::new(parts, registry))
    }

    fn mesh(&self, config: &Config) -> Mesh {
        let parts = MeshParts {
            db: self.db.clone(),
            clock: Arc::clone(&self.clock),
            keks: Arc::clone(&self.keks),
            changes: Arc::clone(&self.changes),
            audit: Arc::clone(&self.audit) as Arc<dyn AuditLog>,
            blocks: Blocks::default(),
            handshakes: None,
        };
        let fallback_fill = config.mesh.fallback_fill;
        Mesh::new(MeshConfig { fallback_fill, ..MeshConfig::new(self.deployment) }, parts)
    }

    /// The edge directory: the projector and its responder.
    fn projection(&self, signing: &Arc<Signing>, tasks: &mut Tasks) -> projector::DirectoryFlush {
        let nodes: Arc<dyn NodeEntries> = Arc::new(NodeReader::new(self.db.clone()));
        let projector = DirectoryProjector::new(ProjectorParts {
            db: self.db.clone(),
            bus: self.bus.clone(),
            nodes: Arc::clone(&nodes),
            domains: Arc::clone(signing) as Arc<dyn DomainEntries>,
            replicas: self.replicas,
        });
        let flush = projector.flush();
        tasks.add(Arc::new(projector), DirectoryProjector::schedule());
        tasks.serve(Arc::new(DirectoryLookup::new(self.bus.clone(), nodes)));
        flush
    }

    fn identity(
        &self,
        config: &Config,
        (mesh, signing): (&Mesh, &Arc<Signing>),
        ((pepper, cursors), rebac): ((TokenPepper, CursorCodec), &Rebac),
        flush: projector::DirectoryFlush,
    ) -> Result<Identity, String> {
        let fetch = fetch(config)?;
        let deps = Deps {
            providers: Arc::new(Providers::new(fetch.clone())),
            bundles: config.auth.spiffe_svid.then(|| Arc::new(SpiffeBundles::new(fetch))),
            client_secrets: Arc::new(SecretReader::new(&config.openbao)?),
            db: self.db.clone(),
            clock: Arc::clone(&self.clock),
            changes: Arc::clone(&self.changes),
            audit: Arc::clone(&self.audit) as Arc<dyn AuditLog>,
            tuples: rebac.tuple_writer(),
            grants: rebac.grant_rules(),
            mesh: mesh.membership(),
            signing: Arc::clone(signing) as Arc<dyn SigningKeys>,
            kek: Arc::clone(&self.keks),
            pepper,
            cursors,
            flush: Some(Arc::new(Flush(flush))),
        };
        Ok(Identity::new(&identity_config(config, self.deployment)?, deps))
    }

    /// Events out of the outbox, their keys, and the audit rows that arise at edges.
    fn relay(&self, signing: &Arc<Signing>, tasks: &mut Tasks, registry: &mut Registry) {
        let parts = RelayParts {
            db: self.db.clone(),
            bus: self.bus.clone(),
            signer: Arc::clone(signing) as Arc<dyn EnvelopeSigner>,
            audit: Arc::clone(&self.audit) as Arc<dyn AuditLog>,
            clock: Arc::clone(&self.clock),
            replicas: self.replicas,
        };
        tasks.add(Arc::new(Relay::new(parts, registry)), Relay::schedule());
        let sweeper = OutboxSweeper::new(self.db.clone(), Arc::clone(&self.clock));
        tasks.add(Arc::new(sweeper), OutboxSweeper::schedule());
        tasks.add(Arc::new(SigningSelfcheck::new(Arc::clone(signing))), SigningSelfcheck::schedule());
        tasks.add(Arc::new(SigningRotation::new(Arc::clone(signing))), SigningRotation::schedule());
        tasks.add(Arc::new(SigningRetireSweeper::new(Arc::clone(signing))), SigningRetireSweeper::schedule());
        tasks.add(Arc::new(signing.rewrap()), Rewrap::SCHEDULE);
        tasks.serve(Arc::new(SigningAnnouncer::new(self.bus.clone(), Arc::clone(signing))));
        let intake = AuditIntakeConsumer::new(self.bus.clone(), Arc::clone(&self.audit), self.replicas, registry);
        tasks.serve(Arc::new(intake));
        tasks.add(Arc::new(AuditIntakeSweeper::new(Arc::clone(&self.audit))), AuditIntakeSweeper::schedule());
    }
}

/// Registration waits for the edge directory through this.
struct Flush(projector::DirectoryFlush);

#[async_trait]
impl plexsphere_identity::DirectoryFlush for Flush {
    async fn flush(&self, node: NodeId) {
        match tokio::time::timeout(FLUSH_PATIENCE, self.0.node(node)).await {
            Ok(Ok(true)) => {}
            // The edges ask for a Node that they do not know, so a late entry costs one question.
            Ok(Ok(false)) | Err(_) => tracing::info!(%node, "the directory is late for a new node"),
            Ok(Err(fault)) => tracing::info!(%node, cause = ?fault, "the directory could not be waited for"),
        }
    }
}

/// What an edge asks before it lets an operator follow a Node's events. Not described, and never proxied.
fn authorize_node_events(nodes: &Arc<dyn NodeEntries>, gates: &Arc<Gates>) -> Operation {
    let gate = Gate::OwnNode {
        param: "id",
        relation: "node-agent",
        mismatch: Code::NodeIdMismatch,
        denied: Code::InsufficientRelation,
    };
    let (nodes, audit) = (Arc::clone(nodes), Arc::clone(&gates.audit));
    Operation::new("AuthorizeNodeEvents", http::Method::GET, "/v1/authorize/node-events/{id}", gate).handler(
        move |call| {
            let (nodes, audit) = (Arc::clone(&nodes), Arc::clone(&audit));
            async move {
                // A Node follows its own events all day; an operator who does is worth a row.
                if matches!(call.caller()?, Authenticated::Operator { .. }) {
                    let node: NodeId = call.params.id("id", Code::NodeIdMismatch)?;
                    let domain = nodes.node_entry(node).await?.map(|entry| entry.domain);
                    let object = ObjectRef { kind: "node", id: node.to_string() };
                    audit.record_alone(call.audit(domain, "node.events.subscribe", object)?).await?;
                }
                Ok(Reply::empty(http::StatusCode::NO_CONTENT))
            }
        },
    )
}

/// Where identity providers may lie and whether they need TLS: two questions with two answers.
fn fetch_settings(auth: &AuthConfig) -> FetchSettings {
    let reach = match (auth.allow_loopback_idp, auth.allow_private_idp) {
        (true, _) => Reach::Loopback,
        (false, true) => Reach::Private,
        (false, false) => Reach::Public,
    };
    FetchSettings { plain_http: auth.allow_insecure_idp, reach, ..FetchSettings::default() }
}

/// How identity providers are spoken to.
fn fetch(config: &Config) -> Result<Fetch, String> {
    Fetch::new(fetch_settings(&config.auth))
        .map_err(|error| format!("identity providers cannot be spoken to: {}", sentence(&error)))
}

fn identity_config(config: &Config, deployment: Uuid) -> Result<IdentityConfig, String> {
    let auth = &config.auth;
    let origin = |text: &String| Origin::parse(text).map_err(|error| format!("auth.return_to_origins: {error}"));
    let admin = |text: &String| {
        let (issuer, subject) = text.split_once('|').ok_or("auth.platform_admins: an entry is `<issuer>|<subject>`")?;
        Ok::<_, String>((issuer.to_owned(), subject.to_owned()))
    };
    Ok(IdentityConfig {
        allow_insecure_idp: auth.allow_insecure_idp,
        environment: config.control.environment.clone(),
        public_base_url: config.control.public_base_url.trim_end_matches('/').to_owned(),
        return_to: auth.return_to_origins.iter().map(origin).collect::<Result<_, _>>()?,
        platform_device_login: auth.platform_device_login,
        platform_admins: auth.platform_admins.iter().map(admin).collect::<Result<_, _>>()?,
        ..IdentityConfig::new(deployment)
    })
}

/// How this installation signs.
pub(crate) fn signing_config(config: &Config, deployment: Uuid) -> SigningConfig {
    const HOUR_SECONDS: u64 = 3_600;
    SigningConfig {
        deployment,
        issuer_host: config.issuer_host(),
        transition: Duration::from_secs(u64::from(config.control.signing_transition_hours) * HOUR_SECONDS),
        max_age: Duration::from_secs(u64::from(config.control.signing_max_age_days) * 24 * HOUR_SECONDS),
        custody: config.control.signing_custody,
        keep_retired: config.control.signing_keep_retired,
    }
}

/// The installation that the root key stands for. A database that another root key has written to is not ours to sign for.
pub(crate) fn deployment(keys: &Keys) -> Uuid {
    let bytes = keys.derive("deployment");
    let mut id = [0u8; 16];
    id.copy_from_slice(bytes.first_chunk::<16>().unwrap_or(&[1; 16]));
    uuid::Builder::from_custom_bytes(id).into_uuid()
}

fn build_info() -> BuildInfo {
    let date = Timestamp::parse(env!("BUILD_DATE")).unwrap_or(Timestamp::UNIX_EPOCH);
    BuildInfo { version: "dev", commit: env!("BUILD_COMMIT"), date }
}

/// Hands the first administrator's token over, once, and before it exists: one that cannot be handed over is made anew
/// at the next start.
async fn first_administrator(config: &Config, contexts: &Contexts) -> Result<(), String> {
    let ttl = Duration::from_secs(u64::from(config.control.bootstrap_token_ttl_seconds));
    let deliver = |token: &Zeroizing<String>| match &config.control.bootstrap_token_file {
        Some(path) => handover::write_new(path, token),
        None => {
            tell("The first administrator's token, shown this once:");
            tell(token.as_str());
            Ok(())
        }
    };
    let first = contexts.identity.first_administrator();
    match first.ensure_delivered(&config.control.environment, ttl, SystemClock.now(), deliver).await {
        Ok(_) => Ok(()),
        Err(DeliveryFault::Undelivered(error)) => {
            Err(format!("the first administrator's token cannot be written: {error}"))
        }
        Err(DeliveryFault::Fault(fault)) => {
            Err(format!("the first administrator cannot be made: {}", sentence(&fault)))
        }
    }
}

/// Serves the internal listener until cancelled, then ends the background work.
async fn serve(
    listener: TcpListener,
    router: Router,
    max_streams: u32,
    tasks: Tasks,
    cancel: CancellationToken,
) -> Result<(), String> {
    listener::serve(listener, router, max_streams, cancel, DRAIN).await;
    if !tasks.drain(DRAIN).await {
        tracing::info!("background work did not end in time");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_opens_no_network_and_no_network_opens_plain_http() {
        let settings = |change: fn(&mut AuthConfig)| {
            let mut auth = AuthConfig::default();
            change(&mut auth);
            let settings = fetch_settings(&auth);
            (settings.plain_http, settings.reach)
        };
        assert_eq!(settings(|_| {}), (false, Reach::Public));
        assert_eq!(settings(|auth| auth.allow_insecure_idp = true), (true, Reach::Public));
        assert_eq!(settings(|auth| auth.allow_private_idp = true), (false, Reach::Private));
        assert_eq!(settings(|auth| auth.allow_loopback_idp = true), (false, Reach::Loopback));
    }
}
