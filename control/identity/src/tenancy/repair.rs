//! Writing the edges of the tree anew where they are missing, as after a restore or in data older than the edges.
//!
//! Nothing is locked: a row that goes while its edge is written is looked for again before the commit. What is left over
//! without a row is the relation engine's to clear away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plexsphere_kernel::tasks::{Progress, Schedule, Task, TaskKind};
use plexsphere_kernel::{Database, Fault, ObjectRef, RelationTuple, TupleWriter};
use plexsphere_wire::{DomainId, GroupId, NodeId, PrincipalId, ProjectId, ResourceId};
use uuid::Uuid;

use super::edges;
use crate::groups;

/// How many rows are gone through in one transaction.
const BATCH: i64 = 500;

pub(crate) const STATEMENTS: &[&str] = &[
    DOMAINS,
    DOMAINS_LEFT,
    PROJECTS,
    PROJECTS_LEFT,
    RESOURCES,
    RESOURCES_LEFT,
    NODES,
    NODES_OF_PROJECTS,
    NODES_LEFT,
    SERVICES,
    SERVICES_LEFT,
    USERS,
    USERS_LEFT,
    GROUPS,
    GROUPS_LEFT,
];

/// Every page with the index that it walks.
pub(crate) const PAGES: &[(&str, &str)] = &[
    (DOMAINS, "domains_pkey"),
    (PROJECTS, "projects_pkey"),
    (RESOURCES, "resources_pkey"),
    (NODES, "nodes_pkey"),
    (NODES_OF_PROJECTS, "nodes_pkey"),
    (SERVICES, "service_identities_pkey"),
    (USERS, "users_pkey"),
    (GROUPS, "groups_pkey"),
];

// A page is: whose edge, to what, in which Domain.
const DOMAINS: &str = "SELECT id, id, id FROM identity.domains WHERE id > $1 ORDER BY id LIMIT $2";
const DOMAINS_LEFT: &str = "SELECT id FROM identity.domains WHERE id = ANY($1)";
const PROJECTS: &str = "SELECT id, domain_id, domain_id FROM identity.projects WHERE id > $1 ORDER BY id LIMIT $2";
const PROJECTS_LEFT: &str = "SELECT id FROM identity.projects WHERE id = ANY($1)";
const RESOURCES: &str = "SELECT id, project_id, domain_id FROM identity.resources WHERE id > $1 ORDER BY id LIMIT $2";
const RESOURCES_LEFT: &str = "SELECT id FROM identity.resources WHERE id = ANY($1)";
const NODES: &str = "SELECT id, resource_id, domain_id FROM identity.nodes
    WHERE id > $1 AND deregistered_at IS NULL ORDER BY id LIMIT $2";
const NODES_OF_PROJECTS: &str = "SELECT id, project_id, domain_id FROM identity.nodes
    WHERE id > $1 AND deregistered_at IS NULL ORDER BY id LIMIT $2";
const NODES_LEFT: &str = "SELECT id FROM identity.nodes WHERE id = ANY($1) AND deregistered_at IS NULL";
const SERVICES: &str =
    "SELECT id, domain_id, domain_id FROM identity.service_identities WHERE id > $1 ORDER BY id LIMIT $2";
const SERVICES_LEFT: &str = "SELECT id FROM identity.service_identities WHERE id = ANY($1)";
// People of the platform belong to it.
const USERS: &str = "SELECT id, domain_id, domain_id FROM identity.users WHERE id > $1 ORDER BY id LIMIT $2";
const USERS_LEFT: &str = "SELECT id FROM identity.users WHERE id = ANY($1)";
const GROUPS: &str = "SELECT id, domain_id, domain_id FROM identity.groups WHERE id > $1 ORDER BY id LIMIT $2";
const GROUPS_LEFT: &str = "SELECT id FROM identity.groups WHERE id = ANY($1)";

/// One kind of edge: where its rows are, which of them are left, and what it looks like.
struct Edge {
    page: &'static str,
    left: &'static str,
    tuple: fn(Uuid, Option<Uuid>) -> RelationTuple,
}

const EDGES: [Edge; 9] = [
    Edge { page: DOMAINS, left: DOMAINS_LEFT, tuple: |id, _| edges::place(DomainId::from_uuid(id)) },
    Edge { page: DOMAINS, left: DOMAINS_LEFT, tuple: |id, _| edges::tenant(DomainId::from_uuid(id)) },
    Edge {
        page: PROJECTS,
        left: PROJECTS_LEFT,
        tuple: |id, domain| edges::project(ProjectId::from_uuid(id), DomainId::from_uuid(domain.unwrap_or_default())),
    },
    Edge {
        page: RESOURCES,
        left: RESOURCES_LEFT,
        tuple: |id, project| {
            edges::resource(ResourceId::from_uuid(id), ProjectId::from_uuid(project.unwrap_or_default()))
        },
    },
    Edge {
        page: NODES,
        left: NODES_LEFT,
        tuple: |id, resource| {
            let resource = ResourceId::from_uuid(resource.unwrap_or_default());
            RelationTuple::parent(ObjectRef::node(NodeId::from_uuid(id)), ObjectRef::resource(resource))
        },
    },
    Edge {
        page: NODES_OF_PROJECTS,
        left: NODES_LEFT,
        tuple: |id, project| {
            let project = ProjectId::from_uuid(project.unwrap_or_default());
            RelationTuple::new(ObjectRef::project(project), "node", ObjectRef::node(NodeId::from_uuid(id)))
        },
    },
    Edge {
        page: SERVICES,
        left: SERVICES_LEFT,
        tuple: |id, domain| {
            let domain = DomainId::from_uuid(domain.unwrap_or_default());
            edges::service_identity(PrincipalId::from_uuid(id), domain)
        },
    },
    Edge {
        page: USERS,
        left: USERS_LEFT,
        tuple: |id, domain| {
            let home = domain.map_or_else(ObjectRef::platform, |domain| ObjectRef::domain(DomainId::from_uuid(domain)));
            RelationTuple::parent(edges::user(PrincipalId::from_uuid(id)), home)
        },
    },
    Edge {
        page: GROUPS,
        left: GROUPS_LEFT,
        tuple: |id, domain| {
            let domain = DomainId::from_uuid(domain.unwrap_or_default());
            RelationTuple::parent(groups::object(GroupId::from_uuid(id)), ObjectRef::domain(domain))
        },
    },
];

/// The task.
pub struct TenancyTupleRepair {
    db: Database,
    tuples: Arc<dyn TupleWriter>,
}

impl TenancyTupleRepair {
    /// Every ten minutes, on one replica at a time.
    pub const SCHEDULE: Schedule = Schedule::every(Duration::from_secs(600)).within(Duration::from_secs(300));

    pub(crate) fn new(db: Database, tuples: Arc<dyn TupleWriter>) -> Self {
        Self { db, tuples }
    }

    /// Goes through the whole tree and the members of its Groups once. How many edges were looked after, missing or not.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn repair_once(&self) -> Result<u64, Fault> {
        let mut count = 0;
        for edge in &EDGES {
            let mut after = Uuid::nil();
            while let Some((last, rows)) = self.batch(edge, after).await? {
                after = last;
                count += rows;
            }
        }
        count += groups::repair_members(&self.db, self.tuples.as_ref()).await?;
        Ok(count)
    }

    /// One batch behind `after`: its last row and its size; `None` behind the end.
    async fn batch(&self, edge: &Edge, after: Uuid) -> Result<Option<(Uuid, u64)>, Fault> {
        let mut tx = self.db.begin().await?;
        let page = sqlx::query_as(edge.page).bind(after).bind(BATCH);
        let rows: Vec<(Uuid, Option<Uuid>, Option<Uuid>)> = page.fetch_all(&mut *tx).await?;
        let Some((last, ..)) = rows.last() else { return Ok(None) };
        let mut homes: BTreeMap<Option<DomainId>, Vec<(Uuid, RelationTuple)>> = BTreeMap::new();
        for (id, parent, domain) in &rows {
            let tuple = (edge.tuple)(*id, *parent);
            // What stands on the platform's object is the platform's.
            let home = domain.filter(|_| tuple.object.kind != "platform").map(DomainId::from_uuid);
            homes.entry(home).or_default().push((*id, tuple));
        }
        for (home, owned) in &homes {
            let tuples: Vec<RelationTuple> = owned.iter().map(|(_, tuple)| tuple.clone()).collect();
            self.tuples.write(&mut tx, *home, &tuples).await?;
        }
        let ids: Vec<Uuid> = rows.iter().map(|(id, ..)| *id).collect();
        let left: Vec<Uuid> = sqlx::query_scalar(edge.left).bind(ids).fetch_all(&mut *tx).await?;
        for (home, owned) in homes {
            let gone = owned.into_iter().filter(|(id, _)| !left.contains(id)).map(|(_, tuple)| tuple);
            let gone: Vec<RelationTuple> = gone.collect();
            if !gone.is_empty() {
                self.tuples.remove(&mut tx, home, &gone).await?;
            }
        }
        tx.commit().await?;
        Ok(Some((*last, u64::try_from(rows.len()).unwrap_or(u64::MAX))))
    }
}

#[async_trait]
impl Task for TenancyTupleRepair {
    fn kind(&self) -> TaskKind {
        TaskKind::TenancyTupleRepair
    }

    async fn run(&self) -> Result<Progress, Fault> {
        Ok(Progress::done(self.repair_once().await?))
    }
}
