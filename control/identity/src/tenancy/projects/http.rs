//! Operations of Projects.

use http::header::LOCATION;
use http::{Method, StatusCode};
use plexsphere_kernel::ObjectRef;
use plexsphere_kernel::http::{Call, Gate, KIB, Operation, Reply};
use plexsphere_kernel::paging::CursorCodec;
use plexsphere_wire::{Code, DomainId, Problem, ProjectId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{PartialSchema as _, ToSchema};
use uuid::Uuid;

use super::ProjectRefusal;
use super::model::{NewProject, Project, ProjectPatch};
use super::service::Projects;
use crate::journal::Actor;
use crate::pages;
use crate::tenancy::domains::EmptyReason;

const TAG: &str = "tenancy";

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ProjectCreateRequest)]
struct CreateRequest {
    #[schema(value_type = DomainId)]
    domain_id: String,
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    /// Unique in the Domain, for life.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9]+(-[a-z0-9]+)*$")]
    slug: String,
    #[schema(max_length = 1024)]
    description: Option<String>,
    /// A slice of the Domain's pool that this Project's Nodes alone draw from.
    #[schema(max_length = 49, pattern = "^([0-9]{1,3}\\.){3}[0-9]{1,3}/[0-9]{1,2}$|^[0-9a-fA-F:]+/[0-9]{1,3}$")]
    sub_range_cidr: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ProjectPatchRequest)]
struct PatchRequest {
    #[schema(min_length = 1, max_length = 255)]
    name: Option<String>,
    /// `""` clears it.
    #[schema(max_length = 1024)]
    description: Option<String>,
    /// Another slice of the pool, that takes in every address drawn from the old one.
    #[schema(max_length = 49, pattern = "^([0-9]{1,3}\\.){3}[0-9]{1,3}/[0-9]{1,2}$|^[0-9a-fA-F:]+/[0-9]{1,3}$")]
    sub_range_cidr: Option<String>,
    /// Gives the slice back; addresses drawn from it stay.
    release_sub_range: Option<bool>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ProjectResponse)]
struct Response {
    id: ProjectId,
    domain_id: DomainId,
    name: String,
    slug: String,
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 49, pattern = "^([0-9]{1,3}\\.){3}[0-9]{1,3}/[0-9]{1,2}$|^[0-9a-fA-F:]+/[0-9]{1,3}$")]
    sub_range_cidr: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Project> for Response {
    fn from(project: Project) -> Self {
        Self {
            id: project.id,
            domain_id: project.domain,
            name: project.name,
            slug: project.slug,
            description: Some(project.description),
            sub_range_cidr: project.sub_range.map(|range| range.to_string()),
            created_at: project.created_at,
            updated_at: project.updated_at,
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = ProjectList)]
struct List {
    items: Vec<Response>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(inline)]
    empty_reason: Option<EmptyReason>,
}

/// The operations of Projects.
pub(crate) fn operations(projects: &Projects, cursors: &CursorCodec) -> Vec<Operation> {
    vec![
        create(projects.clone()),
        list(projects.clone(), cursors.clone()),
        get(projects.clone()),
        patch(projects.clone()),
        delete(projects.clone()),
    ]
}

fn create(projects: Projects) -> Operation {
    let gate = Gate::AfterRead { relation: "manage", kind: "domain" };
    Operation::new("CreateProject", Method::POST, "/v1/projects", gate)
        .words(
            TAG,
            "Create a Project",
            "Makes a Project in the Domain that the body names, and reserves its slice of the pool if one is asked for.",
        )
        .json_body::<CreateRequest>(8 * KIB)
        .creates::<Response>("The new Project.")
        .problems(&[
            Code::InvalidProject,
            Code::ProjectSlugConflict,
            Code::SubRangeOverlap,
            Code::ParentDomainMissing,
        ])
        .handler(move |call| {
            let projects = projects.clone();
            async move { do_create(&projects, &call).await }
        })
}

async fn do_create(projects: &Projects, call: &Call) -> Result<Reply, Problem> {
    let request: CreateRequest = call.json()?;
    let description = request.description.as_deref().unwrap_or("");
    let range = request.sub_range_cidr.as_deref();
    let domain = request.domain_id.parse().map_err(|_| ProjectRefusal::Invalid("domain_id"))?;
    let new = NewProject::check(domain, (&request.name, &request.slug), description, range)?;
    call.authorize("manage", &ObjectRef::domain(domain)).await?;
    let project = projects.create(&Actor::of(call)?, new).await?;
    let location = format!("/v1/projects/{}", project.id);
    Ok(Reply::json(StatusCode::CREATED, &Response::from(project))?.header(LOCATION, &location))
}

fn list(projects: Projects, cursors: CursorCodec) -> Operation {
    let gate = Gate::AnyCaller("each row is filtered by `read` on it");
    Operation::new("ListProjects", Method::GET, "/v1/projects", gate)
        .words(
            TAG,
            "List Projects",
            "Pages of the Projects that the caller may read, by slug, of one Domain or of all. Only a missing cursor ends \
             the list.",
        )
        .paged()
        .problems(&[Code::CursorBindingMismatch])
        .query("domain_id", "Only the Projects of this Domain.", DomainId::schema())
        .answers::<List>(200, "A page.")
        .problems(&[Code::InvalidDomainFilter])
        .handler(move |call| {
            let (projects, cursors) = (projects.clone(), cursors.clone());
            async move { do_list(&projects, &cursors, &call).await }
        })
}

async fn do_list(projects: &Projects, cursors: &CursorCodec, call: &Call) -> Result<Reply, Problem> {
    let invalid = |_| Problem::new(Code::InvalidDomainFilter, "`domain_id` is not a Domain's id.");
    let named = call.query.one("domain_id", Code::InvalidDomainFilter)?;
    let domain: Option<DomainId> = named.map(str::parse).transpose().map_err(invalid)?;
    let filters = domain.map(|domain| format!("domain_id={domain}")).unwrap_or_default();
    let page = cursors.page::<(String, Uuid)>(call, &filters)?;
    let mut rows = projects.page(&Actor::of(call)?, domain, page.after.as_ref(), page.limit + 1).await?;
    let key = |project: &Project| (project.slug.clone(), project.id.uuid());
    let next_cursor = pages::cut(&mut rows, page.limit, (cursors, call, &filters), key)?;
    let read = rows.len();
    let rows = pages::readable(call, "read", rows, |project| ObjectRef::project(project.id)).await?;
    let items: Vec<Response> = rows.into_iter().map(Response::from).collect();
    let empty_reason = EmptyReason::of(read, items.len());
    Reply::json(StatusCode::OK, &List { items, next_cursor, empty_reason })
}

fn get(projects: Projects) -> Operation {
    let gate = Gate::on("read", "project", "id", Code::InvalidProjectId);
    Operation::new("GetProject", Method::GET, "/v1/projects/{id}", gate)
        .words(TAG, "Read a Project", "The Project with its slice of the pool, as stored.")
        .answers::<Response>(200, "The Project.")
        .problems(&[Code::InvalidProjectId, Code::ProjectNotFound])
        .handler(move |call| {
            let projects = projects.clone();
            async move {
                let id = call.params.id("id", Code::InvalidProjectId)?;
                let project = projects.get(&Actor::of(&call)?, id).await?;
                Reply::json(StatusCode::OK, &Response::from(project))
            }
        })
}

fn patch(projects: Projects) -> Operation {
    let gate = Gate::on("manage", "project", "id", Code::InvalidProjectId);
    Operation::new("PatchProject", Method::PATCH, "/v1/projects/{id}", gate)
        .words(
            TAG,
            "Change a Project",
            "Changes the members that are given; the slug never changes. A slice of the pool may be moved as long as the \
             addresses drawn from it stay inside, or given back.",
        )
        .json_body::<PatchRequest>(8 * KIB)
        .answers::<Response>(200, "The Project as it is now.")
        .problems(&[
            Code::InvalidProjectId,
            Code::InvalidProject,
            Code::EmptyPatch,
            Code::SlugImmutable,
            Code::ProjectNotFound,
            Code::SubRangeOverlap,
            Code::SubRangeInvalidatesAllocation,
        ])
        .handler(move |call| {
            let projects = projects.clone();
            async move { do_patch(&projects, &call).await }
        })
}

async fn do_patch(projects: &Projects, call: &Call) -> Result<Reply, Problem> {
    let id = call.params.id("id", Code::InvalidProjectId)?;
    if call.member_names().iter().any(|name| name == "slug") {
        return Err(ProjectRefusal::SlugImmutable.into());
    }
    let request: PatchRequest = call.json()?;
    let range = (request.sub_range_cidr.as_deref(), request.release_sub_range == Some(true));
    let patch = ProjectPatch::check(request.name.as_deref(), request.description.as_deref(), range)?;
    let project = projects.patch(&Actor::of(call)?, id, &patch).await?;
    Reply::json(StatusCode::OK, &Response::from(project))
}

fn delete(projects: Projects) -> Operation {
    let gate = Gate::on("manage", "project", "id", Code::InvalidProjectId);
    Operation::new("DeleteProject", Method::DELETE, "/v1/projects/{id}", gate)
        .words(
            TAG,
            "Delete a Project",
            "Deletes a Project to which nothing belongs any more; the refusal counts what still does. Its bootstrap \
             tokens and its slice of the pool end with it.",
        )
        .answers_empty(204, "Deleted.")
        .problems(&[Code::InvalidProjectId, Code::ProjectNotFound, Code::ProjectNotEmpty])
        .handler(move |call| {
            let projects = projects.clone();
            async move {
                let id = call.params.id("id", Code::InvalidProjectId)?;
                projects.delete(&Actor::of(&call)?, id).await?;
                Ok(Reply::empty(StatusCode::NO_CONTENT))
            }
        })
}
