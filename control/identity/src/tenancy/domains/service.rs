//! Use cases of Domains.

use std::sync::Arc;

use plexsphere_kernel::seams::{MeshMembership, SigningKeys};
use plexsphere_kernel::{Database, Fault, ObjectRef, TupleWriter, Tx, directory};
use plexsphere_wire::DomainId;
use serde_json::json;

use super::model::{Domain, DomainPatch, DomainRefusal, NewDomain};
use super::store;
use crate::attempts;
use crate::events::EventName;
use crate::journal::{Actor, Journal};
use crate::tenancy::edges;

/// The use cases.
#[derive(Clone)]
pub struct Domains {
    db: Database,
    journal: Journal,
    mesh: Arc<dyn MeshMembership>,
    signing: Arc<dyn SigningKeys>,
    tuples: Arc<dyn TupleWriter>,
}

impl Domains {
    pub(crate) fn new(
        db: Database,
        journal: Journal,
        mesh: Arc<dyn MeshMembership>,
        signing: Arc<dyn SigningKeys>,
        tuples: Arc<dyn TupleWriter>,
    ) -> Self {
        Self { db, journal, mesh, signing, tuples }
    }

    /// Creates a Domain with its first signing key, its thresholds and its creator's rights, in one transaction.
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
        attempts::twice(|| self.found(actor, &domain)).await?;
        Ok(domain)
    }

    async fn found(&self, actor: &Actor, domain: &Domain) -> Result<(), DomainRefusal> {
        let mut tx = self.db.begin().await?;
        store::insert(&mut tx, domain).await?;
        self.signing.ensure(&mut tx, domain.id, actor.now).await?;
        self.mesh.set_policy(&mut tx, domain.id, domain.reachability, domain.mesh_cidr).await?;
        directory::mark_domain(&mut tx, domain.id).await?;
        self.tuples.write(&mut tx, Some(domain.id), &edges::domain(domain.id, &actor.subject)).await?;
        self.tuples.write(&mut tx, None, &[edges::tenant(domain.id)]).await?;
        let payload = json!({ "domain_id": domain.id, "slug": domain.slug });
        self.journal.announce(&mut tx, actor, Some(domain.id), EventName::DomainCreated, payload).await?;
        self.journal
            .record(&mut tx, actor.record(Some(domain.id), "domain.create", ObjectRef::domain(domain.id)))
            .await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(())
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

    /// Changes a Domain. What the patch says already is changes nothing and announces nothing.
    ///
    /// # Errors
    /// [`DomainRefusal`].
    pub async fn patch(&self, actor: &Actor, id: DomainId, patch: &DomainPatch) -> Result<Domain, DomainRefusal> {
        attempts::twice(|| self.patch_once(actor, id, patch)).await
    }

    async fn patch_once(&self, actor: &Actor, id: DomainId, patch: &DomainPatch) -> Result<Domain, DomainRefusal> {
        let mut tx = self.db.begin().await?;
        let before = store::lock(&mut tx, id).await?.ok_or(DomainRefusal::NotFound)?;
        let mut after = before.patched(patch);
        if !before.changes(&after).is_empty() {
            after.updated_at = actor.now;
            self.change(&mut tx, actor, &before, &after).await?;
        }
        self.journal.record(&mut tx, actor.record(Some(id), "domain.update", ObjectRef::domain(id))).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(after)
    }

    async fn change(&self, tx: &mut Tx, actor: &Actor, before: &Domain, after: &Domain) -> Result<(), DomainRefusal> {
        let id = after.id;
        let moved = before.mesh_cidr != after.mesh_cidr;
        if moved {
            if let Some((project, range)) = store::sub_range_outside(tx, id, after.mesh_cidr).await? {
                return Err(DomainRefusal::SubRangeOutside { project, range });
            }
            let outside = store::nodes_outside(tx, id, after.mesh_cidr).await?;
            if outside > 0 {
                return Err(DomainRefusal::AddressesOutside(outside));
            }
        }
        store::update(tx, after).await?;
        let retimed = before.reachability != after.reachability;
        if moved || retimed {
            self.mesh.set_policy(tx, id, after.reachability, after.mesh_cidr).await?;
            self.mesh.request_reconcile(tx, id, actor.now).await?;
        }
        let payload = json!({
            "domain_id": id,
            "slug": after.slug,
            "changed": before.changes(after),
            "old_mesh_cidr": before.mesh_cidr.to_string(),
            "new_mesh_cidr": after.mesh_cidr.to_string(),
        });
        self.journal.announce(tx, actor, Some(id), EventName::DomainUpdated, payload).await?;
        Ok(())
    }

    /// Deletes a Domain to which nothing belongs any more, with what ends with it.
    ///
    /// # Errors
    /// [`DomainRefusal::NotFound`], [`DomainRefusal::NotEmpty`], or a fault.
    pub async fn delete(&self, actor: &Actor, id: DomainId) -> Result<(), DomainRefusal> {
        let mut tx = self.db.begin().await?;
        let domain = store::lock(&mut tx, id).await?.ok_or(DomainRefusal::NotFound)?;
        let counts = store::count(&mut *tx, id).await?;
        if [counts.projects, counts.groups, counts.identities, counts.idp_bindings, counts.nodes] != [0; 5] {
            return Err(DomainRefusal::NotEmpty(counts));
        }
        if !store::delete(&mut tx, id).await? {
            // Somebody was faster than the count; the transaction is void, so the new count is taken outside.
            drop(tx);
            return Err(DomainRefusal::NotEmpty(store::count(self.db.pool(), id).await?));
        }
        self.mesh.forget_domain(&mut tx, id).await?;
        self.signing.forget(&mut tx, id, actor.now).await?;
        self.tuples.forget(&mut tx, &ObjectRef::domain(id)).await?;
        directory::mark_domain(&mut tx, id).await?;
        let payload = json!({ "domain_id": id, "slug": domain.slug });
        self.journal.announce(&mut tx, actor, Some(id), EventName::DomainDeleted, payload).await?;
        // The Domain's own chain outlives it; the platform's says that there was one.
        for chain in [Some(id), None] {
            self.journal.record(&mut tx, actor.record(chain, "domain.delete", ObjectRef::domain(id))).await?;
        }
        tx.commit().await.map_err(Fault::from)?;
        Ok(())
    }
}
