//! Use cases of Domains.

use std::sync::Arc;

use plexsphere_kernel::seams::{MeshMembership, SigningKeys};
use plexsphere_kernel::{Database, Fault, ObjectRef, directory};
use plexsphere_wire::DomainId;
use serde_json::json;

use super::model::{Domain, DomainRefusal, NewDomain};
use super::store;
use crate::events::EventName;
use crate::journal::{Actor, Journal};

/// The use cases.
#[derive(Clone)]
pub struct Domains {
    db: Database,
    journal: Journal,
    mesh: Arc<dyn MeshMembership>,
    signing: Arc<dyn SigningKeys>,
}

impl Domains {
    pub(crate) fn new(
        db: Database,
        journal: Journal,
        mesh: Arc<dyn MeshMembership>,
        signing: Arc<dyn SigningKeys>,
    ) -> Self {
        Self { db, journal, mesh, signing }
    }

    /// Creates a Domain with its first signing key and its thresholds, in one transaction.
    ///
    /// # Errors
    /// [`DomainRefusal::SlugTaken`], [`DomainRefusal::PoolOverlap`], or a fault.
    pub async fn create(&self, actor: &Actor, new: NewDomain) -> Result<Domain, DomainRefusal> {
        let domain = Domain {
            id: DomainId::mint(actor.now),
            name: new.name,
            slug: new.slug,
            description: new.description,
            region: new.region,
            mesh_cidr: new.mesh_cidr,
            reachability: new.reachability,
            created_at: actor.now,
            updated_at: actor.now,
        };
        let mut tx = self.db.begin().await?;
        store::insert(&mut tx, &domain).await?;
        self.signing.ensure(&mut tx, domain.id, actor.now).await?;
        self.mesh.set_policy(&mut tx, domain.id, domain.reachability).await?;
        directory::mark_domain(&mut tx, domain.id).await?;
        let payload = json!({ "domain_id": domain.id, "slug": domain.slug });
        self.journal.announce(&mut tx, actor, Some(domain.id), EventName::DomainCreated, payload).await?;
        self.journal
            .record(&mut tx, actor.record(Some(domain.id), "domain.create", ObjectRef::domain(domain.id)))
            .await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(domain)
    }

    pub(super) async fn get(&self, actor: &Actor, id: DomainId) -> Result<Domain, DomainRefusal> {
        let domain = store::get(self.db.pool(), id).await?.ok_or(DomainRefusal::NotFound)?;
        self.journal.record_alone(actor.record(Some(id), "domain.read", ObjectRef::domain(id))).await?;
        Ok(domain)
    }

    pub(super) async fn page(&self, actor: &Actor, after: Option<&str>, limit: i64) -> Result<Vec<Domain>, Fault> {
        let rows = store::list(self.db.pool(), after, limit).await?;
        self.journal.record_alone(actor.record(None, "domain.list", ObjectRef::platform())).await?;
        Ok(rows)
    }
}
