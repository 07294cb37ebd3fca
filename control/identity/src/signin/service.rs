//! The browser sign-in: begun, finished, refused.

use std::sync::Arc;

use plexsphere_kernel::{
    Assurance, Database, Fault, KekRing, ObjectRef, Outcome, RelationTuple, SealError, Subject, TupleWriter, Tx,
};
use plexsphere_oidc::{
    Callback, ClaimMappings, Client, FLOW_LIFE, FlowSecrets, Groups as TokenGroups, IdToken, Pending, Prompt,
    Providers, RequiredAssurance, ReturnTo, Secret, SignIn, SignInFailure, Trust, authorization_url, finish,
    same_browser, state_digest,
};
use plexsphere_wire::{Code, DenialReason, DomainId, IdpBindingId, PrincipalId, Problem, Timestamp};
use serde_json::json;
use uuid::Uuid;

use super::client::{ClientSecrets, SecretFault};
use super::flows::{self, Flow};
use super::people;
use super::select::{Candidates, SelectRefusal, Wanted, select};
use crate::bindings::{Bindings, IdpBinding, JitPolicy};
use crate::events::EventName;
use crate::groups::Groups;
use crate::journal::{Actor, Journal};
use crate::principals::{EndedTokens, FirstAdministrator};
use crate::sessions::{Opened, Sessions};
use crate::tenancy::{InvitationAcceptor, Invitee};

/// Who signs in while nobody knows yet who it is.
const SOMEBODY: Subject = Subject::System(Uuid::from_u128(0x706c_6578_0000_7000_8000_0000_0000_0003));

/// Settings of the sign-in.
#[derive(Clone, Debug)]
pub(crate) struct SignInSettings {
    /// Where the browser comes back to: `<public base>/v1/auth/callback`.
    pub(crate) redirect_uri: String,
    /// Issuer and subject of people who become platform administrators when they sign in through a platform binding.
    pub(crate) platform_admins: Vec<(String, String)>,
}

/// What the sign-in needs.
#[derive(Clone)]
pub(crate) struct SignInNeeds {
    pub(crate) db: Database,
    pub(crate) journal: Journal,
    pub(crate) kek: Arc<KekRing>,
    pub(crate) providers: Arc<Providers>,
    pub(crate) client_secrets: Arc<dyn ClientSecrets>,
    pub(crate) bindings: Bindings,
    pub(crate) groups: Groups,
    pub(crate) invitations: Arc<dyn InvitationAcceptor>,
    pub(crate) tuples: Arc<dyn TupleWriter>,
    pub(crate) sessions: Sessions,
    pub(crate) first_administrator: FirstAdministrator,
}

/// The use cases of the browser sign-in.
#[derive(Clone)]
pub struct SignIns {
    needs: Arc<SignInNeeds>,
    settings: Arc<SignInSettings>,
}

/// Why a sign-in fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignInRefusal {
    /// No sign-in of this browser has this state.
    #[error("the answer belongs to no sign-in of this browser")]
    State,
    /// It took too long.
    #[error("the sign-in took longer than ten minutes")]
    Expired,
    /// The binding cannot be used any more.
    #[error("the identity provider's binding is switched off")]
    BindingInactive,
    /// The secret store does not answer.
    #[error("the identity provider cannot be asked")]
    SecretStore,
    /// The person is unknown, and nothing admits them.
    #[error("you are not known here; ask for an invitation")]
    NotProvisioned,
    /// The provider's part failed.
    #[error("the identity provider's answer was not accepted")]
    Provider(#[source] SignInFailure),
    /// Something broke.
    #[error("the sign-in could not be finished")]
    Fault(#[from] Fault),
}

impl SignInRefusal {
    /// The code on the wire.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::State => Code::StateMismatch,
            Self::Expired => Code::VerifierExpired,
            Self::BindingInactive => Code::BindingInactive,
            Self::SecretStore => Code::IdpUnreachable,
            Self::NotProvisioned => Code::UserNotProvisioned,
            Self::Provider(failure) => failure.code(),
            Self::Fault(_) => Code::Internal,
        }
    }
}

impl From<SealError> for SignInRefusal {
    fn from(_: SealError) -> Self {
        Self::Fault(Fault::Invariant("what was sealed here opens here"))
    }
}

/// A sign-in just begun.
pub(super) struct Begun {
    pub(super) authorization_url: String,
    pub(super) secrets: FlowSecrets,
}

/// A sign-in that was finished.
pub(crate) struct SignedIn {
    pub(crate) opened: Opened,
    pub(crate) return_to: String,
}

impl SignIns {
    pub(crate) fn new(needs: SignInNeeds, settings: SignInSettings) -> Self {
        Self { needs: Arc::new(needs), settings: Arc::new(settings) }
    }

    pub(super) fn needs(&self) -> &SignInNeeds {
        &self.needs
    }

    /// The bindings that matter for a Domain, or for the platform.
    pub(crate) async fn candidates(&self, domain: Option<DomainId>) -> Result<Candidates, Fault> {
        let (own, platform) = self.needs.bindings.candidates(domain).await?;
        Ok(Candidates { own, platform })
    }

    /// Selects the binding of a request.
    pub(crate) async fn binding(&self, wanted: &Wanted) -> Result<Result<IdpBinding, SelectRefusal>, Fault> {
        let mut candidates = self.candidates(wanted.domain).await?;
        // A binding that is named without its Domain is no secret: it is refused as ambiguous, not as missing.
        if let (Some(id), None) = (wanted.binding, wanted.domain)
            && let Some(binding) = self.needs.bindings.get(id).await?
            && binding.owner.domain().is_some()
        {
            candidates.own.push(binding);
        }
        Ok(select(wanted, &candidates))
    }

    /// Begins a sign-in through a binding. Nothing of the verifier leaves the server.
    ///
    /// # Errors
    /// 500 when the provider cannot be found, which no other status of the operation says.
    pub(super) async fn begin(
        &self,
        binding: &IdpBinding,
        domain: Option<DomainId>,
        (return_to, prompt): (&ReturnTo, Option<Prompt>),
        now: Timestamp,
    ) -> Result<Begun, Problem> {
        let trust = trust(binding);
        let unreachable = |error: plexsphere_oidc::ProviderError| {
            tracing::info!(binding = %binding.id, cause = %error, "an identity provider cannot be used");
            Problem::internal()
        };
        let discovery = self.needs.providers.discover(&trust, now).await.map_err(unreachable)?;
        let secrets = FlowSecrets::random();
        let required = required(binding);
        let sign_in = SignIn {
            client_id: &binding.client_id,
            redirect_uri: &self.settings.redirect_uri,
            required: &required,
            prompt,
        };
        let authorization_url = authorization_url(&discovery, &sign_in, &secrets).map_err(unreachable)?;
        let state = state_digest(secrets.state.expose());
        let sealed = self.needs.kek.seal(secrets.verifier.expose().as_bytes(), &place(&state));
        let flow = Flow {
            binding: binding.id,
            domain,
            nonce: secrets.nonce.expose().to_owned(),
            verifier: sealed.map_err(|_| Problem::internal())?,
            return_to: return_to.as_str().to_owned(),
            prompted_login: prompt == Some(Prompt::Login),
            created_at: now,
            expires_at: now.plus(FLOW_LIFE),
        };
        let mut tx = self.needs.db.begin().await?;
        flows::insert(&mut tx, &state, &flow).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(Begun { authorization_url, secrets })
    }

    /// Finishes a sign-in. The flow is spent whatever comes of it.
    pub(super) async fn finish(
        &self,
        query: &str,
        cookie: Option<&str>,
        actor: impl Fn(Subject) -> Actor + Send + Sync,
    ) -> Result<SignedIn, SignInRefusal> {
        let callback = Callback::parse(query).map_err(|_| SignInRefusal::State)?;
        let now = actor(SOMEBODY).now;
        let state = state_digest(callback.state.expose());
        let mut tx = self.needs.db.begin().await?;
        let flow = flows::take(&mut tx, &state).await?;
        tx.commit().await.map_err(Fault::from)?;
        let flow = flow.ok_or(SignInRefusal::State)?;
        let own = same_browser(callback.state.expose(), cookie);
        let result = match self.verify(&flow, (&callback, &state, own), now).await {
            Ok((binding, token)) => {
                let admitted = self.admit(&flow, (&binding, &token), &actor, now).await;
                admitted.map_err(|refusal| (refusal, somebody(&token)))
            }
            Err(refusal) => Err((refusal, object(flow.binding))),
        };
        match result {
            Ok(opened) => Ok(SignedIn { opened, return_to: flow.return_to }),
            Err((refusal, about)) => {
                self.note_refusal(&flow, (&refusal, about), &actor(SOMEBODY)).await?;
                Err(refusal)
            }
        }
    }

    /// Who came back, as the provider says, and through which binding. Nothing is changed.
    async fn verify(
        &self,
        flow: &Flow,
        (callback, state, own_browser): (&Callback, &[u8; 32], bool),
        now: Timestamp,
    ) -> Result<(IdpBinding, IdToken), SignInRefusal> {
        if !own_browser {
            return Err(SignInRefusal::State);
        }
        if now >= flow.expires_at {
            return Err(SignInRefusal::Expired);
        }
        if let Some(denied) = callback.denied() {
            return Err(SignInRefusal::Provider(denied));
        }
        let binding = self.needs.bindings.get(flow.binding).await?;
        let binding = binding.filter(|binding| binding.status.is_usable()).ok_or(SignInRefusal::BindingInactive)?;
        let secret = self.needs.client_secrets.resolve(&binding.client_secret_ref).await;
        let secret = secret.map_err(|fault| match fault {
            SecretFault::Missing => SignInRefusal::BindingInactive,
            SecretFault::Unreachable => SignInRefusal::SecretStore,
        })?;
        let (version, sealed) = &flow.verifier;
        let verifier = self.needs.kek.open(*version, sealed, &place(state))?;
        let verifier = std::str::from_utf8(&verifier).map_err(|_| SealError::DoesNotOpen)?;
        let pending = Pending {
            trust: &trust(&binding),
            client: &Client { id: binding.client_id.clone(), secret },
            redirect_uri: &self.settings.redirect_uri,
            nonce: &Secret::new(flow.nonce.as_str()),
            verifier: &Secret::new(verifier),
            // Judged where the person is known, by the binding as it is then.
            required: &RequiredAssurance::default(),
            mappings: &ClaimMappings::from_map(&binding.settings.claim_mappings),
            authenticated_since: flow.prompted_login.then_some(flow.created_at),
        };
        let token = finish(&self.needs.providers, &pending, callback, now).await.map_err(SignInRefusal::Provider)?;
        Ok((binding, token))
    }

    /// Everything that a sign-in changes, in one transaction: User, invitations, Groups, session, ledgers.
    async fn admit(
        &self,
        flow: &Flow,
        (binding, token): (&IdpBinding, &IdToken),
        actor: &(impl Fn(Subject) -> Actor + Send + Sync),
        now: Timestamp,
    ) -> Result<Opened, SignInRefusal> {
        let mut tx = self.needs.db.begin().await?;
        // The provider took its time, and the binding may have been switched off meanwhile.
        let held = self.needs.bindings.hold(&mut tx, binding.id).await?;
        let binding = held.filter(|binding| binding.status.is_usable()).ok_or(SignInRefusal::BindingInactive)?;
        let met = required(&binding).check(token.acr.as_deref(), &token.amr);
        met.map_err(|unmet| SignInRefusal::Provider(SignInFailure::Assurance(unmet)))?;
        let (user, fresh) = self.user(&mut tx, flow.domain, token, now).await?;
        let actor = actor(Subject::User(user));
        let accepted = self.accept(&mut tx, (flow.domain, user), token, &actor).await?;
        if fresh && binding.settings.jit_policy == JitPolicy::Deny && accepted == 0 {
            return Err(SignInRefusal::NotProvisioned);
        }
        if fresh {
            self.provision(&mut tx, (flow.domain, user), &actor).await?;
        }
        let ended = match flow.domain {
            Some(_) => EndedTokens::default(),
            None => self.appoint(&mut tx, (user, token), &actor).await?,
        };
        if let (Some(domain), TokenGroups::Known(values)) = (flow.domain, &token.groups) {
            let values: Vec<String> = values.iter().cloned().collect();
            self.needs.groups.sync(&mut tx, &actor, (domain, binding.id), user, &values).await?;
        }
        let assurance = Assurance { acr: token.acr.clone(), amr: kept(&token.amr), auth_time: token.auth_time };
        let opened = self.needs.sessions.open(&mut tx, (user, binding.id.uuid()), &assurance, now).await?;
        let payload = json!({ "user_id": user, "idp_binding_id": binding.id });
        self.needs.journal.announce(&mut tx, &actor, flow.domain, EventName::UserSignedIn, payload).await?;
        let record = actor.record(flow.domain, "identity.sign-in", object(binding.id));
        self.needs.journal.record(&mut tx, record).await?;
        tx.commit().await.map_err(Fault::from)?;
        self.needs.first_administrator.forget(&ended);
        Ok(opened)
    }

    /// The User of a token, and whether they were made just now.
    async fn user(
        &self,
        tx: &mut Tx,
        domain: Option<DomainId>,
        token: &IdToken,
        now: Timestamp,
    ) -> Result<(PrincipalId, bool), SignInRefusal> {
        if let Some(domain) = domain
            && !people::domain_stands(tx, domain).await?
        {
            return Err(SignInRefusal::NotProvisioned);
        }
        if let Some(known) = people::find(tx, domain, token).await? {
            if known.suspended {
                return Err(SignInRefusal::NotProvisioned);
            }
            people::seen(tx, known.id, token, now).await?;
            return Ok((known.id, false));
        }
        if let Some(made) = people::insert(tx, (PrincipalId::mint(now), domain), token, now).await? {
            return Ok((made, true));
        }
        let raced = people::find(tx, domain, token).await?;
        Ok((raced.ok_or(Fault::Invariant("a user that cannot be made is there"))?.id, false))
    }

    async fn accept(
        &self,
        tx: &mut Tx,
        (domain, user): (Option<DomainId>, PrincipalId),
        token: &IdToken,
        actor: &Actor,
    ) -> Result<usize, Fault> {
        let Some(domain) = domain else { return Ok(0) };
        let invitee = Invitee {
            domain,
            subject: &token.subject,
            email: token.email.as_deref(),
            email_verified: token.email_verified,
        };
        Ok(self.needs.invitations.accept(tx, actor, &invitee, user).await?.len())
    }

    async fn provision(
        &self,
        tx: &mut Tx,
        (domain, user): (Option<DomainId>, PrincipalId),
        actor: &Actor,
    ) -> Result<(), Fault> {
        let parent = domain.map_or_else(ObjectRef::platform, ObjectRef::domain);
        self.needs.tuples.write(tx, domain, &[RelationTuple::parent(person(user), parent)]).await?;
        let payload = json!({ "user_id": user });
        self.needs.journal.announce(tx, actor, domain, EventName::UserProvisioned, payload).await
    }

    /// Makes a platform administrator of a person whom the configuration names.
    async fn appoint(
        &self,
        tx: &mut Tx,
        (user, token): (PrincipalId, &IdToken),
        actor: &Actor,
    ) -> Result<EndedTokens, Fault> {
        let named = |(issuer, subject): &(String, String)| *issuer == token.issuer && *subject == token.subject;
        if !self.settings.platform_admins.iter().any(named) {
            return Ok(EndedTokens::default());
        }
        self.needs.first_administrator.succeed(tx, user, actor).await
    }

    /// A refused sign-in leaves a row on the chain of the Domain that was to be entered.
    async fn note_refusal(
        &self,
        flow: &Flow,
        (refusal, about): (&SignInRefusal, ObjectRef),
        actor: &Actor,
    ) -> Result<(), Fault> {
        tracing::info!(binding = %flow.binding, code = refusal.code().as_str(), cause = ?refusal, "a sign-in was refused");
        let mut record = actor.record(flow.domain, "identity.sign-in-denied", about);
        record.outcome = Outcome::Denied(DenialReason::InsufficientRelation);
        self.needs.journal.record_alone(record).await
    }

    /// Removes sign-ins and assertions that ended. Returns how many rows went.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn sweep_once(&self, now: Timestamp) -> Result<u64, Fault> {
        let mut tx = self.needs.db.begin().await?;
        let count = flows::sweep(&mut tx, now).await?;
        tx.commit().await?;
        Ok(count)
    }
}

/// Whom a binding trusts.
pub(super) fn trust(binding: &IdpBinding) -> Trust {
    Trust { issuer: binding.issuer.clone(), discovery_url: binding.settings.discovery_url.clone() }
}

fn required(binding: &IdpBinding) -> RequiredAssurance {
    RequiredAssurance { acr: binding.settings.required_acr.clone(), amr: binding.settings.required_amr.clone() }
}

/// Methods beyond the most that are kept say nothing more.
fn kept(amr: &[String]) -> Vec<String> {
    amr.iter().take(plexsphere_oidc::MAX_REQUIRED).cloned().collect()
}

/// The place that a sealed verifier is bound to.
fn place(state: &[u8; 32]) -> String {
    format!("plexsphere/auth-flow/v1/{}", data_encoding::HEXLOWER.encode(state))
}

fn object(binding: IdpBindingId) -> ObjectRef {
    ObjectRef { kind: "idp_binding", id: binding.to_string() }
}

/// Whom a provider vouched for, who may be no User: the audit log keeps a pseudonym of the name.
fn somebody(token: &IdToken) -> ObjectRef {
    ObjectRef { kind: "identity", id: format!("{}|{}", token.issuer, token.subject) }
}

fn person(user: PrincipalId) -> ObjectRef {
    ObjectRef { kind: "user", id: user.to_string() }
}

impl std::fmt::Debug for SignIns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignIns")
    }
}
