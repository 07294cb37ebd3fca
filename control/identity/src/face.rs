//! The face of the context: what it is built from and what it offers.

mod ground;

use std::sync::Arc;

use parking_lot::Mutex;
use plexsphere_kernel::custody::{Rewrap, RewrapParts, SealedRows};
use plexsphere_kernel::http::Operation;
use plexsphere_kernel::http::pipeline::Throttle;
use plexsphere_kernel::paging::CursorCodec;
use plexsphere_kernel::seams::{MeshMembership, NodeEntries, SigningKeys};
use plexsphere_kernel::{AuditLog, Authenticator, Changes, Clock, Database, GrantRules, KekRing, TupleWriter};
use plexsphere_oidc::{Origin, Providers, SpiffeBundles};
use uuid::Uuid;

use self::ground::Ground;
use crate::bindings::{self, Bindings, IdpHealthProbe};
use crate::denials::{self, Denials};
use crate::devices::{self, Devices};
use crate::enrolment::{
    self, BootstrapTokens, DirectoryFlush, Hasher, NodeLifecycle, NodeReader, NskCustodian, Registration,
};
use crate::erasure;
use crate::groups::{self, Groups};
use crate::journal;
use crate::pepper::TokenPepper;
use crate::principals::{self, ApiTokens, FirstAdministrator, PgAuthenticator, Verdicts};
use crate::sealed::{self, SealedSecrets};
use crate::sessions::{self, Sessions};
use crate::signin::{self, ClientSecrets, SignIns};
use crate::sweepers::Sweeper;
use crate::tenancy::subjects::Subjects;
use crate::tenancy::{
    Domains, Identities, InvitationAcceptor, InvitationExpirySweeper, Invitations, NodeSummaries, Projects, Resources,
    TenancyTupleRepair, domains, identities, invitations, nodes, projects, repair, resources,
};

/// One row about the same thing per minute.
const ONE_ROW_A_MINUTE_MS: i64 = 60_000;

/// Settings.
#[derive(Clone, Debug)]
pub struct IdentityConfig {
    /// Which installation this is; sealed keys are bound to it.
    pub deployment_id: Uuid,
    /// Kinds of Resource that own one Node at a time, so that a new Node takes the old one's place.
    pub single_node_kinds: Vec<String>,
    /// Milliseconds between two registrations of one source in the long run.
    pub register_interval_ms: i64,
    /// Registrations of one source at once.
    pub register_burst: i64,
    /// Slow hashes computed at once; twice the cores by default.
    pub hashes_at_once: usize,
    /// Whether identity providers may be spoken to by plain http.
    pub allow_insecure_idp: bool,
    /// The word in access tokens that says which installation they are of.
    pub environment: String,
    /// Where browsers reach this installation, without a slash at its end.
    pub public_base_url: String,
    /// Sites besides this one that a sign-in may return to.
    pub return_to: Vec<Origin>,
    /// Whether devices may be signed in through the platform's own bindings.
    pub platform_device_login: bool,
    /// Issuer and subject of people who become platform administrators when they sign in through a platform binding.
    pub platform_admins: Vec<(String, String)>,
}

impl IdentityConfig {
    /// The defaults for an installation: `vm`, `worker` and `bridge` own one Node; 10 registrations a second per source,
    /// burst 50; two slow hashes per core; identity providers by https alone; environment `prod`.
    #[must_use]
    pub fn new(deployment_id: Uuid) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            deployment_id,
            single_node_kinds: ["vm", "worker", "bridge"].map(str::to_owned).to_vec(),
            register_interval_ms: 100,
            register_burst: 50,
            hashes_at_once: cores.saturating_mul(2),
            allow_insecure_idp: false,
            environment: "prod".to_owned(),
            public_base_url: "https://localhost".to_owned(),
            return_to: Vec::new(),
            platform_device_login: false,
            platform_admins: Vec::new(),
        }
    }
}

/// What the context needs of others.
#[derive(Clone)]
pub struct Deps {
    /// The database.
    pub db: Database,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How it is heard what must be forgotten.
    pub changes: Arc<Changes>,
    /// The audit log.
    pub audit: Arc<dyn AuditLog>,
    /// Where relation tuples are written.
    pub tuples: Arc<dyn TupleWriter>,
    /// What may be granted.
    pub grants: Arc<dyn GrantRules>,
    /// The mesh.
    pub mesh: Arc<dyn MeshMembership>,
    /// The signing keys of Domains.
    pub signing: Arc<dyn SigningKeys>,
    /// The keys under which Node Secret Keys are sealed.
    pub kek: Arc<KekRing>,
    /// The key of token digests.
    pub pepper: TokenPepper,
    /// Makes and reads cursors.
    pub cursors: CursorCodec,
    /// Other people's identity providers.
    pub providers: Arc<Providers>,
    /// Verifies JWT-SVIDs; `None` where that is switched off.
    pub bundles: Option<Arc<SpiffeBundles>>,
    /// Reads the secrets by which this installation proves itself to identity providers.
    pub client_secrets: Arc<dyn ClientSecrets>,
    /// Waits for the edge directory; `None` where there is none.
    pub flush: Option<Arc<dyn DirectoryFlush>>,
}

/// The identity context.
pub struct Identity {
    deps: Deps,
    register_throttle: Arc<Throttle>,
    api_tokens: ApiTokens,
    sessions: Sessions,
    sign_ins: SignIns,
    devices: Devices,
    config: IdentityConfig,
    domains: Domains,
    projects: Projects,
    resources: Resources,
    identities: Identities,
    invitations: Invitations,
    node_summaries: NodeSummaries,
    groups: Groups,
    bindings: Bindings,
    bootstrap_tokens: BootstrapTokens,
    registration: Registration,
    lifecycle: NodeLifecycle,
    custodian: NskCustodian,
    nodes: NodeReader,
    first_administrator: FirstAdministrator,
    authenticator: Arc<PgAuthenticator>,
    denials: Arc<Denials>,
}

impl Identity {
    /// Puts the context together. Nothing is started and nothing is read.
    #[must_use]
    pub fn new(config: &IdentityConfig, deps: Deps) -> Self {
        let ground = Ground::new(config, &deps);
        let Deps { db, mesh, signing, pepper, tuples, .. } = deps.clone();
        let journal = ground.journal.clone();
        let nodes = NodeReader::new(db.clone());
        let verdicts = Verdicts::new(&deps.changes);
        let lifecycle =
            NodeLifecycle::new(journal.clone(), Arc::clone(&mesh), Arc::clone(&verdicts), Arc::clone(&tuples));
        let custodian = NskCustodian::new(db.clone(), Arc::clone(&deps.kek), config.deployment_id);
        let hasher = Hasher::new(config.hashes_at_once);
        let bootstrap_tokens = BootstrapTokens::new(db.clone(), journal.clone(), pepper.clone(), hasher);
        let registration = ground.registration((&bootstrap_tokens, &lifecycle, &custodian));
        let groups = Groups::new(db.clone(), journal.clone(), Arc::clone(&tuples));
        let bindings = ground.bindings(&groups);
        let invitations = ground.invitations(&groups);
        let first_administrator = ground.first_administrator();
        let node_rows = Throttle::new(ONE_ROW_A_MINUTE_MS, 1);
        Self {
            denials: Arc::new(Denials { db: db.clone(), audit: Arc::clone(&deps.audit), node_rows }),
            register_throttle: Arc::new(Throttle::new(config.register_interval_ms, config.register_burst)),
            api_tokens: ApiTokens::new(db.clone(), journal.clone(), pepper.clone(), Arc::clone(&ground.tokens)),
            domains: Domains::new(db.clone(), journal.clone(), mesh, signing, Arc::clone(&tuples)),
            projects: Projects::new(db.clone(), journal.clone(), Arc::clone(&tuples)),
            resources: Resources::new(db.clone(), journal.clone(), lifecycle.clone(), Arc::clone(&tuples)),
            identities: Identities::new(db.clone(), journal.clone(), Subjects::new(pepper), tuples),
            sign_ins: ground.sign_ins(&bindings, (&groups, &invitations), &first_administrator),
            devices: ground.devices(&bindings),
            authenticator: Arc::new(ground.authenticator(&nodes, verdicts)),
            node_summaries: NodeSummaries::new(db, journal),
            sessions: ground.sessions,
            config: config.clone(),
            invitations,
            bindings,
            groups,
            first_administrator,
            bootstrap_tokens,
            registration,
            lifecycle,
            custodian,
            nodes,
            deps,
        }
    }

    /// Every operation of the context.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        let cursors = &self.deps.cursors;
        let throttle = Arc::clone(&self.register_throttle);
        let mut all = principals::operations(&self.api_tokens);
        all.extend(sessions::operations(&self.sessions));
        all.extend(signin::operations(signin::Parts {
            sign_ins: self.sign_ins.clone(),
            return_to: self.config.return_to.clone(),
            bundles: self.deps.bundles.clone(),
        }));
        all.extend(devices::operations(&devices::Parts {
            devices: self.devices.clone(),
            sign_ins: self.sign_ins.clone(),
            verification_uri: format!("{}/device", self.config.public_base_url),
            platform: self.config.platform_device_login,
        }));
        all.extend(domains::operations(&self.domains, cursors));
        all.extend(projects::operations(&self.projects, cursors));
        all.extend(resources::operations(&self.resources, cursors));
        all.extend(identities::operations(&self.identities, cursors));
        all.extend(invitations::operations(&self.invitations, cursors));
        all.extend(nodes::operations(&self.node_summaries, cursors));
        all.extend(bindings::operations(&self.bindings));
        all.extend(groups::operations(&self.groups, cursors));
        all.extend(enrolment::operations(&self.bootstrap_tokens, &self.registration, cursors, throttle));
        all
    }

    /// Who calls.
    #[must_use]
    pub fn authenticator(&self) -> Arc<dyn Authenticator> {
        Arc::clone(&self.authenticator) as Arc<dyn Authenticator>
    }

    /// The audit log for the gates: it files a refusal on the chain of the Domain that it concerns, and bounds the rows
    /// about Nodes that present their key on the path of another.
    #[must_use]
    pub fn denials(&self) -> Arc<dyn AuditLog> {
        Arc::clone(&self.denials) as Arc<dyn AuditLog>
    }

    /// Bindings, for the health probe.
    #[must_use]
    pub fn bindings(&self) -> Bindings {
        self.bindings.clone()
    }

    /// Groups, for sign-in, which brings memberships in line, and for Invitations, which give them.
    #[must_use]
    pub fn groups(&self) -> Groups {
        self.groups.clone()
    }

    /// ServiceIdentities, for whoever authenticates them.
    #[must_use]
    pub fn identities(&self) -> Identities {
        self.identities.clone()
    }

    /// Keeps the promises of Invitations, for sign-in.
    #[must_use]
    pub fn invitation_acceptor(&self) -> Arc<dyn InvitationAcceptor> {
        Arc::new(self.invitations.clone())
    }

    /// Writes edges of the tree that are missing; runs by [`TenancyTupleRepair::SCHEDULE`].
    #[must_use]
    pub fn tuple_repair(&self) -> TenancyTupleRepair {
        TenancyTupleRepair::new(self.deps.db.clone(), Arc::clone(&self.deps.tuples))
    }

    /// Ends Invitations whose time is over; runs by [`InvitationExpirySweeper::SCHEDULE`].
    #[must_use]
    pub fn invitation_sweeper(&self) -> InvitationExpirySweeper {
        InvitationExpirySweeper::new(self.invitations.clone(), Arc::clone(&self.deps.clock))
    }

    /// What edges know of Nodes.
    #[must_use]
    pub fn node_entries(&self) -> Arc<dyn NodeEntries> {
        Arc::new(self.nodes.clone())
    }

    /// Ends Nodes, for contexts that take their substrate down.
    #[must_use]
    pub fn node_lifecycle(&self) -> NodeLifecycle {
        self.lifecycle.clone()
    }

    /// Opens Node Secret Keys, for the rewrap of secrets.
    #[must_use]
    pub fn nsk_custodian(&self) -> NskCustodian {
        self.custodian.clone()
    }

    /// Seals Node Secret Keys under the newest wrap key, on [`Rewrap::SCHEDULE`].
    #[must_use]
    pub fn nsk_rewrap(&self) -> Rewrap {
        let parts = RewrapParts {
            db: self.deps.db.clone(),
            clock: Arc::clone(&self.deps.clock),
            audit: Arc::clone(&self.deps.audit),
            ring: Arc::clone(&self.deps.kek),
        };
        Rewrap::new(Arc::new(self.custodian.clone()), parts)
    }

    /// Makes the first administrator.
    #[must_use]
    pub fn first_administrator(&self) -> FirstAdministrator {
        self.first_administrator.clone()
    }

    /// Looks after the status of bindings; runs by [`IdpHealthProbe::SCHEDULE`].
    #[must_use]
    pub fn idp_health_probe(&self) -> IdpHealthProbe {
        IdpHealthProbe {
            bindings: self.bindings.clone(),
            providers: Arc::clone(&self.deps.providers),
            client_secrets: Arc::clone(&self.deps.client_secrets),
            clock: Arc::clone(&self.deps.clock),
            seen: Mutex::default(),
        }
    }

    /// What rests sealed, for the probe that compares it with the ring.
    #[must_use]
    pub fn sealed_rows(&self) -> Arc<dyn SealedRows> {
        Arc::new(SealedSecrets { db: self.deps.db.clone(), kek: Arc::clone(&self.deps.kek) })
    }

    /// Background work; each runs by [`Sweeper::schedule`].
    #[must_use]
    pub fn sweepers(&self) -> Vec<Sweeper> {
        let clock = &self.deps.clock;
        vec![
            Sweeper::flows(self.sign_ins.clone(), self.devices.clone(), Arc::clone(clock)),
            Sweeper::sessions(self.sessions.clone(), Arc::clone(clock)),
            Sweeper::api_tokens(self.api_tokens.clone(), Arc::clone(clock)),
            Sweeper::bootstrap_tokens(self.bootstrap_tokens.clone(), Arc::clone(clock)),
            Sweeper::revoked_keys(self.nodes.clone(), Arc::clone(clock)),
        ]
    }

    /// Every statement of the context, for the test that prepares them.
    #[must_use]
    pub fn statements() -> Vec<&'static str> {
        let mut all = principals::STATEMENTS.to_vec();
        all.extend_from_slice(journal::STATEMENTS);
        all.extend_from_slice(denials::STATEMENTS);
        all.extend_from_slice(sealed::STATEMENTS);
        all.extend_from_slice(erasure::STATEMENTS);
        all.extend_from_slice(sessions::STATEMENTS);
        all.extend_from_slice(devices::STATEMENTS);
        signin::STATEMENTS.iter().for_each(|list| all.extend_from_slice(list));
        all.extend_from_slice(domains::STATEMENTS);
        all.extend_from_slice(projects::STATEMENTS);
        all.extend_from_slice(resources::STATEMENTS);
        all.extend_from_slice(identities::STATEMENTS);
        all.extend_from_slice(invitations::STATEMENTS);
        all.extend_from_slice(nodes::STATEMENTS);
        all.extend_from_slice(repair::STATEMENTS);
        all.extend_from_slice(bindings::STATEMENTS);
        groups::STATEMENTS.iter().for_each(|list| all.extend_from_slice(list));
        enrolment::STATEMENTS.iter().for_each(|list| all.extend_from_slice(list));
        all
    }
}

/// Every page and look-up that grows with the fleet, and the index that it walks, for the test that explains them.
#[doc(hidden)]
#[must_use]
pub fn indexed_statements() -> Vec<(&'static str, &'static str)> {
    let mut all = domains::PAGES.to_vec();
    all.extend_from_slice(projects::PAGES);
    all.extend_from_slice(resources::PAGES);
    all.extend_from_slice(identities::PAGES);
    all.extend_from_slice(invitations::PAGES);
    all.extend_from_slice(nodes::PAGES);
    all.extend_from_slice(repair::PAGES);
    all.extend_from_slice(principals::PAGES);
    all.extend_from_slice(bindings::PAGES);
    groups::PAGES.iter().for_each(|list| all.extend_from_slice(list));
    enrolment::PAGES.iter().for_each(|list| all.extend_from_slice(list));
    all
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}
