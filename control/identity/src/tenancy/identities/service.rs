//! Use cases of a Domain's principals.

use std::sync::Arc;

use plexsphere_kernel::{Database, Fault, ObjectRef, TupleWriter};
use plexsphere_wire::{DomainId, PrincipalId, Timestamp};
use serde_json::json;
use uuid::Uuid;

use super::model::{IdentityKind, IdentityRefusal, NewServiceIdentity, Principal, ServiceIdentity};
use super::store;
use crate::events::EventName;
use crate::journal::{Actor, Journal};
use crate::tenancy::edges;
use crate::tenancy::subjects::{self, Subjects};

/// The use cases.
#[derive(Clone)]
pub struct Identities {
    db: Database,
    journal: Journal,
    subjects: Subjects,
    tuples: Arc<dyn TupleWriter>,
}

impl Identities {
    pub(crate) fn new(db: Database, journal: Journal, subjects: Subjects, tuples: Arc<dyn TupleWriter>) -> Self {
        Self { db, journal, subjects, tuples }
    }

    /// Makes a machine principal of a Domain.
    ///
    /// # Errors
    /// [`IdentityRefusal`].
    pub async fn create_service(
        &self,
        actor: &Actor,
        domain: DomainId,
        new: NewServiceIdentity,
    ) -> Result<ServiceIdentity, IdentityRefusal> {
        let service = ServiceIdentity {
            id: PrincipalId::mint(actor.now),
            domain,
            display_name: new.display_name,
            subject: new.subject,
            audience: new.audience,
            federation_kind: new.federation_kind,
            created_at: actor.now,
        };
        let mut tx = self.db.begin().await?;
        store::insert(&mut tx, &service).await?;
        self.tuples.write(&mut tx, Some(domain), &[edges::service_identity(service.id, domain)]).await?;
        let payload = json!({ "service_identity_id": service.id, "domain_id": domain });
        self.journal.announce(&mut tx, actor, Some(domain), EventName::ServiceIdentityProvisioned, payload).await?;
        let object = edges::service_account(service.id);
        self.journal.record(&mut tx, actor.record(Some(domain), "service-identity.create", object)).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(service)
    }

    /// A ServiceIdentity, for whoever authenticates it.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn service_identity(&self, id: PrincipalId) -> Result<Option<ServiceIdentity>, Fault> {
        store::service(self.db.pool(), id).await
    }

    /// What readers of the Domain see in place of an external subject: 64 hex digits.
    pub(super) fn pseudonym(&self, domain: DomainId, external_subject: &str) -> String {
        subjects::hex(&self.subjects.pseudonym(domain, external_subject))
    }

    pub(super) async fn page(
        &self,
        (domain, kind): (DomainId, Option<IdentityKind>),
        before: Option<(Timestamp, Uuid)>,
        limit: i64,
    ) -> Result<Vec<Principal>, IdentityRefusal> {
        let rows = store::list(self.db.pool(), domain, kind, before, limit).await?;
        if rows.is_empty() && !store::knows_domain(self.db.pool(), domain).await? {
            return Err(IdentityRefusal::DomainNotFound);
        }
        Ok(rows)
    }

    /// Records that a page was served.
    pub(super) async fn note_listed(&self, actor: &Actor, domain: DomainId) -> Result<(), Fault> {
        self.journal.record_alone(actor.record(Some(domain), "identity.list", ObjectRef::domain(domain))).await
    }

    pub(super) async fn get(
        &self,
        actor: &Actor,
        domain: DomainId,
        id: PrincipalId,
    ) -> Result<Principal, IdentityRefusal> {
        let principal = store::find(self.db.pool(), domain, id).await?.ok_or(IdentityRefusal::NotFound)?;
        self.journal.record_alone(actor.record(Some(domain), "identity.read", principal.object())).await?;
        Ok(principal)
    }
}
