//! The face of the context: what it is built from and what it offers.

use std::sync::Arc;

use plexsphere_kernel::http::Operation;
use plexsphere_kernel::http::pipeline::Throttle;
use plexsphere_kernel::paging::CursorCodec;
use plexsphere_kernel::seams::{MeshMembership, NodeEntries, SigningKeys};
use plexsphere_kernel::{AuditLog, Authenticator, Authorizer, Clock, Database, KekRing};
use uuid::Uuid;

use crate::denials::{self, Denials};
use crate::enrolment::{
    self, BootstrapTokens, DirectoryFlush, Hasher, NodeLifecycle, NodeReader, NskCustodian, Registration,
    RegistrationNeeds,
};
use crate::journal::{self, Journal};
use crate::pepper::TokenPepper;
use crate::principals::{self, ApiTokens, Cache, FirstAdministrator, PgAuthenticator, PlatformAuthorizer, Verdicts};
use crate::sweepers::Sweeper;
use crate::tenancy::{Domains, Projects, Resources, domains, projects, resources};

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
}

impl IdentityConfig {
    /// The defaults for an installation: `vm`, `worker` and `bridge` own one Node; 10 registrations a second per source,
    /// burst 50; two slow hashes per core.
    #[must_use]
    pub fn new(deployment_id: Uuid) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            deployment_id,
            single_node_kinds: ["vm", "worker", "bridge"].map(str::to_owned).to_vec(),
            register_interval_ms: 100,
            register_burst: 50,
            hashes_at_once: cores.saturating_mul(2),
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
    /// The audit log.
    pub audit: Arc<dyn AuditLog>,
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
    /// Waits for the edge directory; `None` where there is none.
    pub flush: Option<Arc<dyn DirectoryFlush>>,
}

/// The identity context.
pub struct Identity {
    deps: Deps,
    register_throttle: Arc<Throttle>,
    api_tokens: ApiTokens,
    domains: Domains,
    projects: Projects,
    resources: Resources,
    bootstrap_tokens: BootstrapTokens,
    registration: Registration,
    lifecycle: NodeLifecycle,
    custodian: NskCustodian,
    nodes: NodeReader,
    first_administrator: FirstAdministrator,
    authenticator: Arc<PgAuthenticator>,
    authorizer: Arc<PlatformAuthorizer>,
    denials: Arc<Denials>,
}

impl Identity {
    /// Puts the context together. Nothing is started and nothing is read.
    #[must_use]
    pub fn new(config: &IdentityConfig, deps: Deps) -> Self {
        let Deps { db, clock, mesh, signing, pepper, .. } = deps.clone();
        let journal = Journal::new(Arc::clone(&deps.audit));
        let tokens = Arc::new(Cache::new());
        let nodes = NodeReader::new(db.clone());
        let verdicts = Arc::new(Verdicts::new());
        let lifecycle = NodeLifecycle::new(journal.clone(), Arc::clone(&mesh), Arc::clone(&verdicts));
        let custodian = NskCustodian::new(db.clone(), Arc::clone(&deps.kek), config.deployment_id);
        let hasher = Hasher::new(config.hashes_at_once);
        let bootstrap_tokens = BootstrapTokens::new(db.clone(), journal.clone(), pepper.clone(), hasher);
        let registration = Registration::new(RegistrationNeeds {
            db: db.clone(),
            journal: journal.clone(),
            tokens: bootstrap_tokens.clone(),
            lifecycle: lifecycle.clone(),
            custodian: custodian.clone(),
            mesh: Arc::clone(&mesh),
            signing: Arc::clone(&signing),
            flush: deps.flush.clone(),
            single_node_kinds: config.single_node_kinds.clone(),
            refusal_rows: Throttle::new(ONE_ROW_A_MINUTE_MS, 1),
        });
        let authenticator = PgAuthenticator {
            db: db.clone(),
            clock: Arc::clone(&clock),
            journal: journal.clone(),
            pepper: pepper.clone(),
            cache: Arc::clone(&tokens),
            nodes: Arc::new(nodes.clone()),
            verdicts,
            revoked_rows: Throttle::new(ONE_ROW_A_MINUTE_MS, 1),
        };
        let node_rows = Throttle::new(ONE_ROW_A_MINUTE_MS, 1);
        Self {
            denials: Arc::new(Denials { db: db.clone(), audit: Arc::clone(&deps.audit), node_rows }),
            register_throttle: Arc::new(Throttle::new(config.register_interval_ms, config.register_burst)),
            api_tokens: ApiTokens::new(db.clone(), journal.clone(), pepper.clone(), Arc::clone(&tokens)),
            domains: Domains::new(db.clone(), journal.clone(), mesh, signing),
            projects: Projects::new(db.clone(), journal.clone()),
            resources: Resources::new(db.clone(), journal.clone(), lifecycle.clone()),
            first_administrator: FirstAdministrator { db: db.clone(), journal, pepper, cache: tokens },
            authorizer: Arc::new(PlatformAuthorizer { db, clock, admins: Cache::new() }),
            authenticator: Arc::new(authenticator),
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
        all.extend(domains::operations(&self.domains, cursors));
        all.extend(projects::operations(&self.projects, cursors));
        all.extend(resources::operations(&self.resources, cursors));
        all.extend(enrolment::operations(&self.bootstrap_tokens, &self.registration, cursors, throttle));
        all
    }

    /// Who calls.
    #[must_use]
    pub fn authenticator(&self) -> Arc<dyn Authenticator> {
        Arc::clone(&self.authenticator) as Arc<dyn Authenticator>
    }

    /// Who may do what.
    #[must_use]
    pub fn authorizer(&self) -> Arc<dyn Authorizer> {
        Arc::clone(&self.authorizer) as Arc<dyn Authorizer>
    }

    /// The audit log for the gates: it files a refusal on the chain of the Domain that it concerns, and bounds the rows
    /// about Nodes that present their key on the path of another.
    #[must_use]
    pub fn denials(&self) -> Arc<dyn AuditLog> {
        Arc::clone(&self.denials) as Arc<dyn AuditLog>
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

    /// Makes the first administrator.
    #[must_use]
    pub fn first_administrator(&self) -> FirstAdministrator {
        self.first_administrator.clone()
    }

    /// Background work; each runs by [`Sweeper::schedule`].
    #[must_use]
    pub fn sweepers(&self) -> Vec<Sweeper> {
        let clock = &self.deps.clock;
        vec![
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
        all.extend_from_slice(domains::STATEMENTS);
        all.extend_from_slice(projects::STATEMENTS);
        all.extend_from_slice(resources::STATEMENTS);
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
    enrolment::PAGES.iter().for_each(|list| all.extend_from_slice(list));
    all
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}
