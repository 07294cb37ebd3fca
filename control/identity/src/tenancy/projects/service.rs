//! Use cases of Projects.

use plexsphere_kernel::{Database, Fault, ObjectRef};
use plexsphere_wire::{DomainId, ProjectId};
use serde_json::json;
use uuid::Uuid;

use super::model::{NewProject, Project, ProjectRefusal};
use super::store;
use crate::events::EventName;
use crate::journal::{Actor, Journal};

/// The use cases.
#[derive(Clone)]
pub struct Projects {
    db: Database,
    journal: Journal,
}

impl Projects {
    pub(crate) fn new(db: Database, journal: Journal) -> Self {
        Self { db, journal }
    }

    /// Creates a Project and reserves its sub-range, in one transaction.
    ///
    /// # Errors
    /// [`ProjectRefusal`].
    pub async fn create(&self, actor: &Actor, new: NewProject) -> Result<Project, ProjectRefusal> {
        let mut tx = self.db.begin().await?;
        let pool = store::share_pool(&mut tx, new.domain).await?.ok_or(ProjectRefusal::ParentMissing)?;
        new.check_inside(&pool)?;
        let project = Project {
            id: ProjectId::mint(actor.now),
            domain: new.domain,
            name: new.name,
            slug: new.slug,
            description: new.description,
            sub_range: new.sub_range,
            created_at: actor.now,
            updated_at: actor.now,
        };
        store::insert(&mut tx, &project).await?;
        let domain = Some(project.domain);
        let payload = json!({ "project_id": project.id, "domain_id": project.domain, "slug": project.slug });
        self.journal.announce(&mut tx, actor, domain, EventName::ProjectCreated, payload).await?;
        self.journal.record(&mut tx, actor.record(domain, "project.create", ObjectRef::project(project.id))).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(project)
    }

    pub(super) async fn get(&self, actor: &Actor, id: ProjectId) -> Result<Project, ProjectRefusal> {
        let project = store::get(self.db.pool(), id).await?.ok_or(ProjectRefusal::NotFound)?;
        let record = actor.record(Some(project.domain), "project.read", ObjectRef::project(id));
        self.journal.record_alone(record).await?;
        Ok(project)
    }

    pub(super) async fn page(
        &self,
        actor: &Actor,
        domain: Option<DomainId>,
        after: Option<&(String, Uuid)>,
        limit: i64,
    ) -> Result<Vec<Project>, Fault> {
        let rows = store::list(self.db.pool(), domain, after, limit).await?;
        let object = domain.map_or_else(ObjectRef::platform, ObjectRef::domain);
        // A Domain that does not exist has no chain.
        let chain = match domain {
            Some(domain) if store::knows_domain(self.db.pool(), domain).await? => Some(domain),
            Some(_) | None => None,
        };
        self.journal.record_alone(actor.record(chain, "project.list", object)).await?;
        Ok(rows)
    }
}
