//! What the parts of the context stand on together, and the parts that need much of it.

use std::sync::Arc;

use plexsphere_kernel::http::pipeline::Throttle;

use super::{Deps, IdentityConfig, ONE_ROW_A_MINUTE_MS};
use crate::bindings::Bindings;
use crate::devices::{Devices, DevicesNeeds};
use crate::enrolment::{BootstrapTokens, NodeLifecycle, NodeReader, NskCustodian, Registration, RegistrationNeeds};
use crate::groups::Groups;
use crate::journal::Journal;
use crate::principals::{Cache, FirstAdministrator, PgAuthenticator, TokenCache, Verdicts};
use crate::sessions::Sessions;
use crate::signin::{SignInNeeds, SignInSettings, SignIns};
use crate::tenancy::Invitations;
use crate::tenancy::invitations::InvitationNeeds;
use crate::tenancy::subjects::Subjects;

/// A person may try ten device codes a minute.
const TRIES_A_MINUTE: i64 = 10;
const TRY_EVERY_MS: i64 = 6_000;

/// What the parts share.
pub(super) struct Ground<'d> {
    config: &'d IdentityConfig,
    deps: &'d Deps,
    pub(super) journal: Journal,
    /// What was read of API tokens; whoever ends one forgets it here.
    pub(super) tokens: TokenCache,
    pub(super) sessions: Sessions,
}

impl<'d> Ground<'d> {
    pub(super) fn new(config: &'d IdentityConfig, deps: &'d Deps) -> Self {
        let journal = Journal::new(Arc::clone(&deps.audit));
        let texts = (deps.pepper.clone(), config.environment.clone());
        let sessions = Sessions::new(deps.db.clone(), Arc::clone(&deps.clock), journal.clone(), texts);
        Self { config, deps, journal, tokens: Arc::new(Cache::new()), sessions }
    }

    pub(super) fn registration(
        &self,
        (tokens, lifecycle, custodian): (&BootstrapTokens, &NodeLifecycle, &NskCustodian),
    ) -> Registration {
        Registration::new(RegistrationNeeds {
            db: self.deps.db.clone(),
            journal: self.journal.clone(),
            tokens: tokens.clone(),
            lifecycle: lifecycle.clone(),
            custodian: custodian.clone(),
            mesh: Arc::clone(&self.deps.mesh),
            signing: Arc::clone(&self.deps.signing),
            tuples: Arc::clone(&self.deps.tuples),
            flush: self.deps.flush.clone(),
            single_node_kinds: self.config.single_node_kinds.clone(),
            refusal_rows: Throttle::new(ONE_ROW_A_MINUTE_MS, 1),
        })
    }

    pub(super) fn authenticator(&self, nodes: &NodeReader, verdicts: Arc<Verdicts>) -> PgAuthenticator {
        PgAuthenticator {
            db: self.deps.db.clone(),
            clock: Arc::clone(&self.deps.clock),
            journal: self.journal.clone(),
            pepper: self.deps.pepper.clone(),
            cache: Arc::clone(&self.tokens),
            sessions: self.sessions.clone(),
            nodes: Arc::new(nodes.clone()),
            verdicts,
            revoked_rows: Throttle::new(ONE_ROW_A_MINUTE_MS, 1),
        }
    }

    pub(super) fn bindings(&self, groups: &Groups) -> Bindings {
        let ends_with_them = (groups.clone(), self.sessions.clone());
        Bindings::new(self.deps.db.clone(), self.journal.clone(), ends_with_them, self.config.allow_insecure_idp)
    }

    pub(super) fn invitations(&self, groups: &Groups) -> Invitations {
        Invitations::new(InvitationNeeds {
            db: self.deps.db.clone(),
            journal: self.journal.clone(),
            subjects: Subjects::new(self.deps.pepper.clone()),
            tuples: Arc::clone(&self.deps.tuples),
            grants: Arc::clone(&self.deps.grants),
            groups: groups.clone(),
            kek: Arc::clone(&self.deps.kek),
            deployment: self.config.deployment_id,
        })
    }

    pub(super) fn first_administrator(&self) -> FirstAdministrator {
        FirstAdministrator {
            db: self.deps.db.clone(),
            journal: self.journal.clone(),
            pepper: self.deps.pepper.clone(),
            cache: Arc::clone(&self.tokens),
            tuples: Arc::clone(&self.deps.tuples),
        }
    }

    pub(super) fn sign_ins(
        &self,
        bindings: &Bindings,
        (groups, invitations): (&Groups, &Invitations),
        first_administrator: &FirstAdministrator,
    ) -> SignIns {
        let needs = SignInNeeds {
            db: self.deps.db.clone(),
            journal: self.journal.clone(),
            kek: Arc::clone(&self.deps.kek),
            providers: Arc::clone(&self.deps.providers),
            client_secrets: Arc::clone(&self.deps.client_secrets),
            bindings: bindings.clone(),
            groups: groups.clone(),
            invitations: Arc::new(invitations.clone()),
            tuples: Arc::clone(&self.deps.tuples),
            sessions: self.sessions.clone(),
            first_administrator: first_administrator.clone(),
        };
        let settings = SignInSettings {
            redirect_uri: format!("{}/v1/auth/callback", self.config.public_base_url),
            platform_admins: self.config.platform_admins.clone(),
        };
        SignIns::new(needs, settings)
    }

    pub(super) fn devices(&self, bindings: &Bindings) -> Devices {
        Devices::new(DevicesNeeds {
            db: self.deps.db.clone(),
            journal: self.journal.clone(),
            sessions: self.sessions.clone(),
            bindings: bindings.clone(),
            tries: Arc::new(Throttle::new(TRY_EVERY_MS, TRIES_A_MINUTE)),
        })
    }
}
