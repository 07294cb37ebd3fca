//! Use cases of bindings.

use plexsphere_kernel::{AuditRecord, Database, Fault, ObjectRef, Outcome, PrincipalScope, Tx};
use plexsphere_wire::{DenialReason, DomainId, IdpBindingId};
use serde_json::{Value, json};

use super::model::{BindingOwner, BindingRefusal, Draft, IdpBinding, NewBinding, Patch};
use super::status::{BindingEvent, BindingStatus};
use super::store;
use crate::events::EventName;
use crate::groups::Groups;
use crate::journal::{Actor, Journal};
use crate::sessions::Sessions;
use crate::{devices, signin};

/// The use cases.
#[derive(Clone)]
pub struct Bindings {
    pub(super) db: Database,
    journal: Journal,
    groups: Groups,
    sessions: Sessions,
    /// Whether a provider may be spoken to by plain http.
    insecure: bool,
}

fn object(id: IdpBindingId) -> ObjectRef {
    ObjectRef { kind: "idp_binding", id: id.to_string() }
}

fn ids(binding: &IdpBinding) -> Value {
    match binding.owner.domain() {
        Some(domain) => json!({ "idp_binding_id": binding.id, "domain_id": domain }),
        None => json!({ "idp_binding_id": binding.id }),
    }
}

/// A row about a list of no single owner: where the caller belongs.
fn list_row(actor: &Actor, scope: PrincipalScope) -> AuditRecord {
    match scope {
        PrincipalScope::Platform => actor.record(None, "idp-binding.list", ObjectRef::platform()),
        PrincipalScope::Domain(domain) => actor.record(Some(domain), "idp-binding.list", ObjectRef::domain(domain)),
    }
}

impl Bindings {
    pub(crate) fn new(db: Database, journal: Journal, (groups, sessions): (Groups, Sessions), insecure: bool) -> Self {
        Self { db, journal, groups, sessions, insecure }
    }

    /// Judges a request for a binding, before anybody is asked whether the caller may make it.
    pub(super) fn check(&self, draft: Draft) -> Result<NewBinding, BindingRefusal> {
        NewBinding::check(draft, self.insecure)
    }

    pub(super) async fn create(&self, actor: &Actor, new: NewBinding) -> Result<IdpBinding, BindingRefusal> {
        let binding = IdpBinding {
            id: IdpBindingId::mint(actor.now),
            owner: new.owner,
            issuer: new.issuer,
            client_id: new.client_id,
            client_secret_ref: new.client_secret_ref,
            settings: new.settings,
            // Whether the provider answers is for the probe to say.
            status: BindingStatus::Active,
            version: 1,
            created_at: actor.now,
            updated_at: actor.now,
        };
        let mut tx = self.db.begin().await?;
        store::insert(&mut tx, &binding).await?;
        let (domain, payload) = (binding.owner.domain(), ids(&binding));
        self.journal.announce(&mut tx, actor, domain, EventName::IdpBindingCreated, payload).await?;
        self.journal.record(&mut tx, actor.record(domain, "idp-binding.create", object(binding.id))).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(binding)
    }

    /// The binding, not yet gated: its owner names the gate.
    pub(super) async fn find(&self, id: IdpBindingId) -> Result<IdpBinding, BindingRefusal> {
        store::get(self.db.pool(), id).await?.ok_or(BindingRefusal::NotFound)
    }

    pub(super) async fn note_read(&self, actor: &Actor, binding: &IdpBinding) -> Result<(), Fault> {
        self.journal.record_alone(actor.record(binding.owner.domain(), "idp-binding.read", object(binding.id))).await
    }

    /// Every binding of the platform.
    pub(super) async fn of_platform(&self, actor: &Actor) -> Result<Vec<IdpBinding>, Fault> {
        let rows = store::of(self.db.pool(), BindingOwner::Platform).await?;
        self.journal.record_alone(actor.record(None, "idp-binding.list", ObjectRef::platform())).await?;
        Ok(rows)
    }

    /// Every binding of a Domain, and when none of them is usable those of the platform, by which its people then sign
    /// in.
    pub(super) async fn of_domain(&self, actor: &Actor, domain: DomainId) -> Result<Vec<IdpBinding>, Fault> {
        let mut rows = store::of(self.db.pool(), BindingOwner::Domain(domain)).await?;
        if !rows.iter().any(|binding| binding.status.is_usable()) {
            rows.extend(store::of(self.db.pool(), BindingOwner::Platform).await?);
        }
        self.journal.record_alone(actor.record(Some(domain), "idp-binding.list", ObjectRef::domain(domain))).await?;
        Ok(rows)
    }

    /// Every binding there is; the caller of the operation sees those of owners that it may read.
    pub(super) async fn all(&self, actor: &Actor, scope: PrincipalScope) -> Result<Vec<IdpBinding>, Fault> {
        let rows = store::all(self.db.pool()).await?;
        self.journal.record_alone(list_row(actor, scope)).await?;
        Ok(rows)
    }

    /// Records that a caller named a Domain that cannot be.
    pub(super) async fn note_refused_list(&self, actor: &Actor, scope: PrincipalScope) -> Result<(), Fault> {
        let mut record = list_row(actor, scope);
        record.outcome = Outcome::Denied(DenialReason::OutOfScope);
        self.journal.record_alone(record).await
    }

    /// Changes the binding that was `seen`. No lock was taken when it was read: of two that read one version, one wins.
    pub(super) async fn patch(
        &self,
        actor: &Actor,
        seen: IdpBinding,
        patch: Patch,
    ) -> Result<IdpBinding, BindingRefusal> {
        if patch.is_empty() {
            return Err(BindingRefusal::EmptyPatch);
        }
        let settings = patch.apply(seen.settings, seen.owner, self.insecure)?;
        let mut tx = self.db.begin().await?;
        let key = (seen.id, seen.version);
        let binding = store::update(&mut tx, key, &settings, actor.now).await?.ok_or(BindingRefusal::Stale)?;
        let (domain, payload) = (binding.owner.domain(), ids(&binding));
        self.journal.announce(&mut tx, actor, domain, EventName::IdpBindingUpdated, payload).await?;
        self.journal.record(&mut tx, actor.record(domain, "idp-binding.update", object(binding.id))).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(binding)
    }

    /// Switches a binding on or off. One that is there already stays as it is, and nothing is announced.
    pub(super) async fn set_status(
        &self,
        actor: &Actor,
        id: IdpBindingId,
        word: &str,
    ) -> Result<IdpBinding, BindingRefusal> {
        let (wanted, event) = match BindingStatus::parse(word) {
            Some(BindingStatus::Active) => (BindingStatus::Active, BindingEvent::Activate),
            Some(BindingStatus::Deactivated) => (BindingStatus::Deactivated, BindingEvent::Deactivate),
            Some(BindingStatus::Degraded | BindingStatus::Inactive) | None => return Err(BindingRefusal::Status),
        };
        let mut tx = self.db.begin().await?;
        let old = store::lock(&mut tx, id).await?.ok_or(BindingRefusal::NotFound)?;
        if old.status == wanted {
            self.journal.record(&mut tx, actor.record(old.owner.domain(), "idp-binding.status", object(id))).await?;
            tx.commit().await.map_err(Fault::from)?;
            return Ok(old);
        }
        let status = old.status.transition(event).ok_or(BindingRefusal::NotDeactivated(old.status))?;
        let binding = self.shift(&mut tx, actor, &old, status).await?;
        if status == BindingStatus::Deactivated {
            self.end_what_came_through(&mut tx, id, actor).await?;
        }
        tx.commit().await.map_err(Fault::from)?;
        self.sessions.forget_all();
        Ok(binding)
    }

    /// Takes note of what the health probe found, and says where the binding stands now. A finding that leads nowhere
    /// from where it stands changes nothing and is not recorded; so is one that an operator's word has overtaken.
    ///
    /// # Errors
    /// [`BindingRefusal::Status`] for what operators do, [`BindingRefusal::NotFound`], or a fault.
    pub async fn observe(
        &self,
        actor: &Actor,
        id: IdpBindingId,
        finding: BindingEvent,
    ) -> Result<BindingStatus, BindingRefusal> {
        match finding {
            BindingEvent::Activate | BindingEvent::Deactivate => return Err(BindingRefusal::Status),
            BindingEvent::ProbeFailed | BindingEvent::ProbeFoundFault | BindingEvent::ProbeSucceeded => {}
        }
        let mut tx = self.db.begin().await?;
        let old = store::lock(&mut tx, id).await?.ok_or(BindingRefusal::NotFound)?;
        let Some(status) = old.status.transition(finding) else { return Ok(old.status) };
        self.shift(&mut tx, actor, &old, status).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(status)
    }

    /// Writes a new status of a locked binding with its event and its row.
    async fn shift(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        old: &IdpBinding,
        status: BindingStatus,
    ) -> Result<IdpBinding, BindingRefusal> {
        let binding = store::set_status(tx, old.id, status, actor.now).await?;
        let (domain, mut payload) = (binding.owner.domain(), ids(&binding));
        if let Some(members) = payload.as_object_mut() {
            members.insert("from".to_owned(), json!(old.status.as_str()));
            members.insert("to".to_owned(), json!(status.as_str()));
        }
        self.journal.announce(tx, actor, domain, EventName::IdpBindingStatusChanged, payload).await?;
        self.journal.record(tx, actor.record(domain, "idp-binding.status", object(binding.id))).await?;
        Ok(binding)
    }

    /// Deletes a binding with the Groups that it fills, their memberships and their tuples, in one transaction. Users
    /// stay: they are known by issuer, and a binding that is made again finds them.
    pub(super) async fn delete(&self, actor: &Actor, id: IdpBindingId) -> Result<(), BindingRefusal> {
        let mut tx = self.db.begin().await?;
        let binding = store::lock(&mut tx, id).await?.ok_or(BindingRefusal::NotFound)?;
        self.groups.end_all_of(&mut tx, actor, id).await?;
        self.end_what_came_through(&mut tx, id, actor).await?;
        store::delete(&mut tx, id).await?;
        let (domain, payload) = (binding.owner.domain(), ids(&binding));
        self.journal.announce(&mut tx, actor, domain, EventName::IdpBindingDeleted, payload).await?;
        self.journal.record(&mut tx, actor.record(domain, "idp-binding.delete", object(id))).await?;
        tx.commit().await.map_err(Fault::from)?;
        self.sessions.forget_all();
        Ok(())
    }

    /// Ends sessions, access tokens, devices and sign-ins that came through a binding.
    async fn end_what_came_through(&self, tx: &mut Tx, id: IdpBindingId, actor: &Actor) -> Result<(), Fault> {
        self.sessions.end_of_binding(tx, id.uuid(), actor.now).await?;
        signin::drop_of_binding(tx, id).await?;
        devices::drop_of_binding(tx, id).await
    }
}
