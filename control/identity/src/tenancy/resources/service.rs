//! Use cases of Resources.

use std::sync::Arc;

use plexsphere_kernel::seams::LeaveReason;
use plexsphere_kernel::{Database, Fault, ObjectRef, TupleWriter};
use plexsphere_wire::{ProjectId, ResourceId, Timestamp};
use serde_json::json;
use uuid::Uuid;

use super::model::{NewResource, Origin, Resource, ResourceRefusal};
use super::store;
use crate::enrolment::NodeLifecycle;
use crate::events::EventName;
use crate::journal::{Actor, Journal};
use crate::tenancy::edges;

/// The use cases.
#[derive(Clone)]
pub struct Resources {
    db: Database,
    journal: Journal,
    nodes: NodeLifecycle,
    tuples: Arc<dyn TupleWriter>,
}

impl Resources {
    pub(crate) fn new(db: Database, journal: Journal, nodes: NodeLifecycle, tuples: Arc<dyn TupleWriter>) -> Self {
        Self { db, journal, nodes, tuples }
    }

    /// Adopts a Resource into a Project.
    ///
    /// # Errors
    /// [`ResourceRefusal`].
    pub async fn adopt(
        &self,
        actor: &Actor,
        project: ProjectId,
        new: NewResource,
    ) -> Result<Resource, ResourceRefusal> {
        let mut tx = self.db.begin().await?;
        let domain = store::parent(&mut tx, project).await?.ok_or(ResourceRefusal::ProjectNotFound)?;
        let resource = Resource {
            id: ResourceId::mint(actor.now),
            project,
            domain,
            kind: new.kind,
            origin: Origin::Adopted,
            external_ref: new.external_ref,
            created_at: actor.now,
            updated_at: actor.now,
        };
        store::insert(&mut tx, &resource).await?;
        self.tuples.write(&mut tx, Some(domain), &[edges::resource(resource.id, project)]).await?;
        let payload = json!({ "resource_id": resource.id, "project_id": project, "domain_id": domain });
        self.journal.announce(&mut tx, actor, Some(domain), EventName::ResourceCreated, payload).await?;
        let record = actor.record(Some(domain), "resource.create", ObjectRef::resource(resource.id));
        self.journal.record(&mut tx, record).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(resource)
    }

    /// The Resource, not yet gated: its Project names the gate.
    pub(super) async fn find(&self, id: ResourceId) -> Result<Resource, ResourceRefusal> {
        store::get(self.db.pool(), id).await?.ok_or(ResourceRefusal::NotFound)
    }

    pub(super) async fn note_read(&self, actor: &Actor, resource: &Resource) -> Result<(), Fault> {
        let object = ObjectRef::resource(resource.id);
        self.journal.record_alone(actor.record(Some(resource.domain), "resource.read", object)).await
    }

    pub(super) async fn page(
        &self,
        actor: &Actor,
        project: ProjectId,
        after: Option<(Timestamp, Uuid)>,
        limit: i64,
    ) -> Result<Vec<Resource>, Fault> {
        let rows = store::list(self.db.pool(), project, after, limit).await?;
        let domain = match rows.first() {
            Some(resource) => Some(resource.domain),
            None => store::home(self.db.pool(), project).await?,
        };
        self.journal.record_alone(actor.record(domain, "resource.list", ObjectRef::project(project))).await?;
        Ok(rows)
    }

    /// Ends an adopted Resource's Nodes and deletes it, in one transaction.
    ///
    /// # Errors
    /// [`ResourceRefusal`].
    pub async fn delete(&self, actor: &Actor, id: ResourceId) -> Result<(), ResourceRefusal> {
        let mut tx = self.db.begin().await?;
        let resource = store::lock(&mut tx, id).await?.ok_or(ResourceRefusal::NotFound)?;
        match resource.origin {
            Origin::Adopted => {}
            // Its row alone would go, and what was provisioned would stay behind, unknown to anybody.
            Origin::Provisioned => return Err(Fault::Invariant("nothing takes down what was provisioned").into()),
        }
        let (_, revocation) = self.nodes.deregister_all_of(&mut tx, actor, id, LeaveReason::ResourceDeleted).await?;
        store::delete(&mut tx, id).await?;
        self.tuples.forget(&mut tx, &ObjectRef::resource(id)).await?;
        let domain = Some(resource.domain);
        let payload = json!({ "resource_id": id, "project_id": resource.project, "domain_id": resource.domain });
        self.journal.announce(&mut tx, actor, domain, EventName::ResourceDeleted, payload).await?;
        self.journal.record(&mut tx, actor.record(domain, "resource.delete", ObjectRef::resource(id))).await?;
        tx.commit().await.map_err(Fault::from)?;
        drop(revocation);
        Ok(())
    }
}
