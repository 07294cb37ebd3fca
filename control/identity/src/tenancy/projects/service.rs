//! Use cases of Projects.

use std::sync::Arc;

use ipnet::IpNet;
use plexsphere_kernel::{Database, Fault, ObjectRef, TupleWriter, Tx};
use plexsphere_wire::{DomainId, ProjectChildCounts, ProjectId};
use serde_json::json;
use uuid::Uuid;

use super::model::{NewProject, Project, ProjectPatch, ProjectRefusal};
use super::store;
use crate::attempts;
use crate::events::EventName;
use crate::journal::{Actor, Journal};
use crate::tenancy::edges;

/// The use cases.
#[derive(Clone)]
pub struct Projects {
    db: Database,
    journal: Journal,
    tuples: Arc<dyn TupleWriter>,
}

impl Projects {
    pub(crate) fn new(db: Database, journal: Journal, tuples: Arc<dyn TupleWriter>) -> Self {
        Self { db, journal, tuples }
    }

    /// Creates a Project and reserves its sub-range, in one transaction.
    ///
    /// # Errors
    /// [`ProjectRefusal`].
    pub async fn create(&self, actor: &Actor, new: NewProject) -> Result<Project, ProjectRefusal> {
        attempts::twice(|| self.create_once(actor, &new)).await
    }

    async fn create_once(&self, actor: &Actor, new: &NewProject) -> Result<Project, ProjectRefusal> {
        let mut tx = self.db.begin().await?;
        let pool = match new.sub_range {
            Some(_) => store::lock_pool(&mut tx, new.domain).await?,
            None => store::share_pool(&mut tx, new.domain).await?,
        };
        new.check_inside(&pool.ok_or(ProjectRefusal::ParentMissing)?)?;
        let project = Project {
            id: ProjectId::mint(actor.now),
            domain: new.domain,
            name: new.name.clone(),
            slug: new.slug.clone(),
            description: new.description.clone(),
            sub_range: new.sub_range,
            created_at: actor.now,
            updated_at: actor.now,
        };
        store::insert(&mut tx, &project).await?;
        let domain = Some(project.domain);
        self.tuples.write(&mut tx, domain, &[edges::project(project.id, project.domain)]).await?;
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

    /// Changes a Project. What the patch says already is changes nothing and announces nothing.
    ///
    /// # Errors
    /// [`ProjectRefusal`].
    pub async fn patch(&self, actor: &Actor, id: ProjectId, patch: &ProjectPatch) -> Result<Project, ProjectRefusal> {
        let mut tx = self.db.begin().await?;
        let before = store::lock(&mut tx, id).await?.ok_or(ProjectRefusal::NotFound)?;
        let mut after = before.patched(patch);
        let changed = before.changes(&after);
        let domain = Some(after.domain);
        if !changed.is_empty() {
            after.updated_at = actor.now;
            if before.sub_range != after.sub_range {
                check_range(&mut tx, &before, after.sub_range).await?;
            }
            store::update(&mut tx, &before, &after).await?;
            let text = |range: Option<IpNet>| range.map(|range| range.to_string());
            let payload = json!({
                "project_id": id,
                "domain_id": after.domain,
                "slug": after.slug,
                "changed": changed,
                "old_sub_range_cidr": text(before.sub_range),
                "new_sub_range_cidr": text(after.sub_range),
            });
            self.journal.announce(&mut tx, actor, domain, EventName::ProjectUpdated, payload).await?;
        }
        self.journal.record(&mut tx, actor.record(domain, "project.update", ObjectRef::project(id))).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(after)
    }

    /// Deletes a Project to which nothing belongs any more, with what ends with it.
    ///
    /// # Errors
    /// [`ProjectRefusal::NotFound`], [`ProjectRefusal::NotEmpty`], or a fault.
    pub async fn delete(&self, actor: &Actor, id: ProjectId) -> Result<(), ProjectRefusal> {
        let mut tx = self.db.begin().await?;
        let project = store::lock(&mut tx, id).await?.ok_or(ProjectRefusal::NotFound)?;
        // Before the count, and with it the Domain's turn at writing tuples: what would be filed meanwhile waits until the
        // end, and finds no Project then.
        self.tuples.remove(&mut tx, Some(project.domain), &[edges::project(id, project.domain)]).await?;
        let counts = self.count(&mut tx, id).await?;
        if [counts.resources, counts.nodes, counts.relation_tuples] != [0; 3] {
            return Err(ProjectRefusal::NotEmpty(counts));
        }
        if !store::delete(&mut tx, id).await? {
            // Somebody was faster than the count; the transaction is void, so the new count is taken in another.
            drop(tx);
            return Err(ProjectRefusal::NotEmpty(self.count(&mut self.db.begin().await?, id).await?));
        }
        self.tuples.forget(&mut tx, &ObjectRef::project(id)).await?;
        let domain = Some(project.domain);
        let payload = json!({ "project_id": id, "domain_id": project.domain, "slug": project.slug });
        self.journal.announce(&mut tx, actor, domain, EventName::ProjectDeleted, payload).await?;
        self.journal.record(&mut tx, actor.record(domain, "project.delete", ObjectRef::project(id))).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(())
    }

    async fn count(&self, tx: &mut Tx, id: ProjectId) -> Result<ProjectChildCounts, Fault> {
        let relation_tuples = self.tuples.filed_under(tx, id).await?;
        Ok(ProjectChildCounts { relation_tuples, ..store::count(&mut **tx, id).await? })
    }
}

/// Judges a new sub-range under a lock on the Domain's pool.
async fn check_range(tx: &mut Tx, before: &Project, range: Option<IpNet>) -> Result<(), ProjectRefusal> {
    let pool = store::lock_pool(tx, before.domain).await?.ok_or(ProjectRefusal::ParentMissing)?;
    let Some(range) = range else { return Ok(()) };
    if !pool.contains(&range) {
        let why = "is not inside the domain's pool";
        return Err(ProjectRefusal::RangeUnfit { why, project: before.id, range });
    }
    if let Some((project, range)) = store::sibling(tx, (before.domain, before.id), range).await? {
        let why = "overlaps that of another project";
        return Err(ProjectRefusal::RangeUnfit { why, project, range });
    }
    if let Some(old) = before.sub_range
        && store::stranded(tx, before.id, old, range).await?
    {
        let why = "would leave addresses of the project's nodes outside";
        return Err(ProjectRefusal::RangeUnfit { why, project: before.id, range });
    }
    Ok(())
}
