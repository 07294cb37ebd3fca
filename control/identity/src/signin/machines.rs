//! Tokens of service identities: a secret redeemed at the Domain's provider, or a JWT-SVID.

use plexsphere_kernel::{Assurance, Fault, ObjectRef, Outcome, Subject};
use plexsphere_oidc::{
    CLOCK_SKEW, ClaimMappings, Client, ExpectedSvid, GrantFailure, Secret, SpiffeBundles, SvidFailure,
    client_credentials,
};
use plexsphere_wire::{Code, DenialReason, DomainId, PrincipalId, Problem, Timestamp};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;
use std::sync::Arc;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::flows;
use super::select::Wanted;
use super::service::{SignIns, trust};
use crate::bindings::IdpBinding;
use crate::events::EventName;
use crate::journal::Actor;
use crate::sessions::{Bearer, NewAccess};
use crate::text;

pub(super) const STATEMENTS: &[&str] = &[FIND, STANDS];

const FIND: &str = "SELECT domain_id, subject, audience, federation_kind FROM identity.service_identities
    WHERE id = $1 AND suspended_at IS NULL";

const STANDS: &str = "SELECT id FROM identity.service_identities WHERE id = $1 AND suspended_at IS NULL FOR SHARE";

/// How a service identity proves itself.
pub(super) enum Grant {
    /// Its own client secret at the Domain's provider.
    ClientCredentials(Secret),
    /// A JWT-SVID.
    Assertion(Secret),
}

/// Why a service identity gets no token.
#[derive(Debug, thiserror::Error)]
pub(super) enum MachineRefusal {
    /// There is no such service identity.
    #[error("there is no such client")]
    Unknown,
    /// It may not use this grant.
    #[error("the client may not use this grant")]
    WrongGrant,
    /// Its Domain has no usable provider.
    #[error("the domain has no usable identity provider")]
    NoProvider,
    /// The verifier of assertions is switched off here.
    #[error("assertions are not verified in this installation")]
    NoVerifier,
    /// The assertion was used before.
    #[error("the assertion was used before")]
    Replayed,
    /// The provider's part failed.
    #[error("the client's credentials were not accepted")]
    Grant(#[source] GrantFailure),
    /// The assertion failed verification.
    #[error("the assertion was not accepted")]
    Svid(#[source] SvidFailure),
    /// Something broke.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl MachineRefusal {
    fn code(&self) -> Code {
        match self {
            Self::Unknown => Code::InvalidClient,
            Self::WrongGrant => Code::FederationKindMismatch,
            Self::NoProvider => Code::IdpUnreachable,
            Self::NoVerifier => Code::NotProvisioned,
            Self::Replayed => Code::SpiffeVerificationFailed,
            Self::Grant(failure) => failure.code(),
            Self::Svid(failure) => failure.code(),
            Self::Fault(_) => Code::Internal,
        }
    }
}

impl From<MachineRefusal> for Problem {
    fn from(refusal: MachineRefusal) -> Self {
        match refusal {
            MachineRefusal::Fault(fault) => fault.into(),
            other => Self::new(other.code(), text::sentence(&other)),
        }
    }
}

/// A service identity, as far as its tokens need it.
struct Machine {
    id: PrincipalId,
    domain: DomainId,
    subject: String,
    audience: String,
    federation_kind: String,
}

/// A token for a service identity.
pub(super) struct MachineGrant {
    pub(super) access_token: Zeroizing<String>,
    pub(super) expires_in: u64,
}

/// The use cases of service tokens.
#[derive(Clone)]
pub(super) struct Machines {
    pub(super) sign_ins: SignIns,
    /// `None` where assertions are not verified.
    pub(super) bundles: Option<Arc<SpiffeBundles>>,
}

impl Machines {
    /// Judges a grant and makes an access token. The grant must fit the identity before any secret is looked at.
    pub(super) async fn redeem(
        &self,
        client_id: &str,
        grant: Grant,
        acting: impl Fn(Subject) -> Actor + Send + Sync,
    ) -> Result<MachineGrant, MachineRefusal> {
        let machine = self.find(client_id).await?;
        let actor = acting(Subject::Service(machine.id));
        let result = self.judge(&machine, grant, &actor).await;
        if let Err(refusal) = &result {
            tracing::info!(service_identity = %machine.id, cause = ?refusal, "a service identity was refused");
            let mut record = actor.record(Some(machine.domain), "service-token.issue", object(machine.id));
            record.outcome = Outcome::Denied(DenialReason::InsufficientRelation);
            self.sign_ins.needs().journal.record_alone(record).await?;
        }
        result
    }

    async fn judge(&self, machine: &Machine, grant: Grant, actor: &Actor) -> Result<MachineGrant, MachineRefusal> {
        let used = match (machine.federation_kind.as_str(), grant) {
            ("oidc_cc", Grant::ClientCredentials(secret)) => {
                self.by_secret(machine, secret, actor.now).await?;
                None
            }
            ("spiffe_svid", Grant::Assertion(assertion)) => self.by_svid(machine, &assertion, actor.now).await?,
            _ => return Err(MachineRefusal::WrongGrant),
        };
        self.mint(machine, used, actor).await
    }

    async fn by_secret(&self, machine: &Machine, secret: Secret, now: Timestamp) -> Result<(), MachineRefusal> {
        let binding = self.provider_of(machine).await?;
        let client = Client { id: machine.subject.clone(), secret };
        let providers = &self.sign_ins.needs().providers;
        let granted = client_credentials(providers, &trust(&binding), &client, &machine.audience, now).await;
        granted.map(drop).map_err(MachineRefusal::Grant)
    }

    /// The digest of the assertion's own id and until when it is accepted, for an assertion that has one.
    async fn by_svid(
        &self,
        machine: &Machine,
        assertion: &Secret,
        now: Timestamp,
    ) -> Result<Option<([u8; 32], Timestamp)>, MachineRefusal> {
        let bundles = self.bundles.as_ref().ok_or(MachineRefusal::NoVerifier)?;
        let binding = self.provider_of(machine).await?;
        let mappings = ClaimMappings::from_map(&binding.settings.claim_mappings);
        let expected = ExpectedSvid {
            bundle_url: mappings.spiffe_bundle_url.as_deref(),
            issuer: &binding.issuer,
            audience: &machine.audience,
            subject: &machine.subject,
        };
        let svid = bundles.verify(assertion.expose(), &expected, now).await.map_err(MachineRefusal::Svid)?;
        let digest = |jti: &str| Sha256::new().chain_update(machine.id.as_bytes()).chain_update(jti).finalize().into();
        Ok(svid.jti.as_deref().map(|jti| (digest(jti), svid.expires.plus(CLOCK_SKEW))))
    }

    async fn provider_of(&self, machine: &Machine) -> Result<IdpBinding, MachineRefusal> {
        let wanted = Wanted { domain: Some(machine.domain), ..Wanted::default() };
        self.sign_ins.binding(&wanted).await?.map_err(|_| MachineRefusal::NoProvider)
    }

    async fn mint(
        &self,
        machine: &Machine,
        used: Option<([u8; 32], Timestamp)>,
        actor: &Actor,
    ) -> Result<MachineGrant, MachineRefusal> {
        let needs = self.sign_ins.needs();
        let mut tx = needs.db.begin().await?;
        // The provider took its time; whoever was suspended or purged meanwhile gets nothing.
        let stands = sqlx::query(STANDS).bind(machine.id.uuid()).fetch_optional(&mut *tx).await.map_err(Fault::from)?;
        if stands.is_none() {
            return Err(MachineRefusal::Unknown);
        }
        if let Some((digest, until)) = used
            && !flows::use_assertion(&mut tx, &digest, until).await?
        {
            return Err(MachineRefusal::Replayed);
        }
        let (domain, assurance) = (Some(machine.domain), &Assurance::default());
        let new = NewAccess { bearer: Bearer::Service(machine.id), domain, binding: None, assurance };
        let (access_token, expires_at) = needs.sessions.mint(&mut tx, new, actor.now).await?;
        let payload = json!({ "service_identity_id": machine.id });
        needs.journal.announce(&mut tx, actor, domain, EventName::ServiceIdentityAuthenticated, payload).await?;
        let record = actor.record(domain, "service-token.issue", object(machine.id));
        needs.journal.record(&mut tx, record).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(MachineGrant { access_token, expires_in: expires_at.since(actor.now).as_secs() })
    }

    async fn find(&self, client_id: &str) -> Result<Machine, MachineRefusal> {
        let id: PrincipalId = client_id.parse().map_err(|_| MachineRefusal::Unknown)?;
        let query = sqlx::query(FIND).bind(id.uuid());
        let row = query.fetch_optional(self.sign_ins.needs().db.pool()).await.map_err(Fault::from)?;
        let row = row.ok_or(MachineRefusal::Unknown)?;
        let read = || -> Result<Machine, sqlx::Error> {
            Ok(Machine {
                id,
                domain: DomainId::from_uuid(row.try_get::<Uuid, _>("domain_id")?),
                subject: row.try_get("subject")?,
                audience: row.try_get("audience")?,
                federation_kind: row.try_get("federation_kind")?,
            })
        };
        Ok(read().map_err(Fault::from)?)
    }
}

fn object(machine: PrincipalId) -> ObjectRef {
    ObjectRef { kind: "serviceaccount", id: machine.to_string() }
}
