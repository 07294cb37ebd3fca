//! Operations of Resources.

use http::header::LOCATION;
use http::{Method, StatusCode};
use plexsphere_kernel::ObjectRef;
use plexsphere_kernel::http::{Call, Gate, KIB, Operation, Reply};
use plexsphere_kernel::paging::CursorCodec;
use plexsphere_wire::{Code, DomainId, Problem, ProjectId, ResourceId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::model::{Draft, NewResource, Origin, Resource};
use super::service::Resources;
use crate::journal::Actor;
use crate::pages;

const TAG: &str = "resource";

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ResourceOrigin)]
enum OriginWord {
    Adopted,
    Provisioned,
}

/// The members of every origin; the aggregate says which go together.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ResourceCreateRequest)]
struct CreateRequest {
    #[schema(value_type = OriginWord, required = true)]
    origin: Option<String>,
    /// An open word, such as `vm` or `bridge`.
    #[schema(value_type = String, required = true, min_length = 1, max_length = 64)]
    kind: Option<String>,
    /// The handle by which a registration names the Resource; unique in the Project.
    #[schema(min_length = 1, max_length = 256)]
    external_ref: Option<String>,
    #[schema(format = "uuid")]
    blueprint_version_id: Option<String>,
    #[schema(format = "uuid")]
    cloud_credential_id: Option<String>,
    #[schema(value_type = Option<Object>, additional_properties = true)]
    parameters: Option<Map<String, Value>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ResourceResponse)]
struct Response {
    id: ResourceId,
    project_id: ProjectId,
    domain_id: DomainId,
    #[schema(min_length = 1, max_length = 64)]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_ref: Option<String>,
    origin: OriginWord,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Resource> for Response {
    fn from(resource: Resource) -> Self {
        Self {
            id: resource.id,
            project_id: resource.project,
            domain_id: resource.domain,
            kind: resource.kind,
            external_ref: resource.external_ref,
            origin: match resource.origin {
                Origin::Adopted => OriginWord::Adopted,
                Origin::Provisioned => OriginWord::Provisioned,
            },
            created_at: resource.created_at,
            updated_at: resource.updated_at,
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = ResourceList)]
struct List {
    items: Vec<Response>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// The operations of Resources.
pub(crate) fn operations(resources: &Resources, cursors: &CursorCodec) -> Vec<Operation> {
    vec![
        create(resources.clone()),
        list(resources.clone(), cursors.clone()),
        get(resources.clone()),
        delete(resources.clone()),
    ]
}

fn create(resources: Resources) -> Operation {
    let gate = Gate::on("deploy", "project", "project_id", Code::InvalidProjectId);
    Operation::new("CreateResource", Method::POST, "/v1/projects/{project_id}/resources", gate)
        .words(
            TAG,
            "Create a Resource",
            "Adopts something that exists into the Project. Its `external_ref` is the handle that a machine presents when \
             it registers.",
        )
        .json_body::<CreateRequest>(8 * KIB)
        .body_rules(|rules| rules.free_form = &["parameters"])
        .creates::<Response>("The adopted Resource.")
        .problems(&[
            Code::InvalidProjectId,
            Code::InvalidResourceOrigin,
            Code::ProjectNotFound,
            Code::ExternalRefConflict,
            Code::BlueprintNotFoundUnprocessable,
        ])
        .handler(move |call| {
            let resources = resources.clone();
            async move { do_create(&resources, &call).await }
        })
}

async fn do_create(resources: &Resources, call: &Call) -> Result<Reply, Problem> {
    let project = call.params.id("project_id", Code::InvalidProjectId)?;
    // The origin is judged before the rest of the body, also when the rest does not decode.
    let origin = serde_json::from_slice::<Value>(&call.body).ok();
    if let Some(Value::Object(members)) = &origin
        && members.get("origin").and_then(Value::as_str).and_then(Origin::parse).is_none()
    {
        return Err(super::ResourceRefusal::Origin.into());
    }
    let request: CreateRequest = call.json()?;
    let new = NewResource::check(&Draft {
        origin: request.origin.as_deref(),
        kind: request.kind.as_deref(),
        external_ref: request.external_ref.as_deref(),
        blueprint_version_id: request.blueprint_version_id.as_deref(),
        cloud_credential_id: request.cloud_credential_id.as_deref(),
        has_parameters: request.parameters.is_some(),
    })?;
    let resource = resources.adopt(&Actor::of(call)?, project, new).await?;
    let location = format!("/v1/resources/{}", resource.id);
    Ok(Reply::json(StatusCode::CREATED, &Response::from(resource))?.header(LOCATION, &location))
}

fn list(resources: Resources, cursors: CursorCodec) -> Operation {
    let gate = Gate::on("observe", "project", "project_id", Code::InvalidProjectId);
    Operation::new("ListProjectResources", Method::GET, "/v1/projects/{project_id}/resources", gate)
        .words(
            TAG,
            "List the Resources of a Project",
            "Pages in the order of creation; only a missing cursor ends the list.",
        )
        .paged()
        .problems(&[Code::CursorBindingMismatch])
        .answers::<List>(200, "A page.")
        .problems(&[Code::InvalidProjectId])
        .handler(move |call| {
            let (resources, cursors) = (resources.clone(), cursors.clone());
            async move { do_list(&resources, &cursors, &call).await }
        })
}

async fn do_list(resources: &Resources, cursors: &CursorCodec, call: &Call) -> Result<Reply, Problem> {
    let project: ProjectId = call.params.id("project_id", Code::InvalidProjectId)?;
    let filters = format!("project_id={project}");
    let page = cursors.page::<(Timestamp, Uuid)>(call, &filters)?;
    let mut rows = resources.page(&Actor::of(call)?, project, page.after, page.limit + 1).await?;
    let key = |resource: &Resource| (resource.created_at, resource.id.uuid());
    let next_cursor = pages::cut(&mut rows, page.limit, (cursors, call, &filters), key)?;
    let rows = pages::readable(call, "observe", rows, |resource| ObjectRef::resource(resource.id)).await?;
    let items = rows.into_iter().map(Response::from).collect();
    Reply::json(StatusCode::OK, &List { items, next_cursor })
}

fn get(resources: Resources) -> Operation {
    let gate = Gate::AfterRead { relation: "observe", kind: "project" };
    Operation::new("GetResource", Method::GET, "/v1/resources/{id}", gate)
        .words(
            TAG,
            "Read a Resource",
            "The Resource as stored. A missing one and one out of the caller's scope read alike.",
        )
        .answers::<Response>(200, "The Resource.")
        .problems(&[Code::ResourceNotFound])
        .handler(move |call| {
            let resources = resources.clone();
            async move {
                // No 400 is declared here: an id that is none names nothing.
                let resource = found(&resources, &call, "observe", Code::ResourceNotFound).await?;
                resources.note_read(&Actor::of(&call)?, &resource).await?;
                Reply::json(StatusCode::OK, &Response::from(resource))
            }
        })
}

/// Reads the Resource that the path names and asks its Project's gate. Out of scope reads as missing.
async fn found(resources: &Resources, call: &Call, relation: &str, bad_id: Code) -> Result<Resource, Problem> {
    let id = call.params.id("id", bad_id)?;
    let resource = resources.find(id).await?;
    match call.authorize(relation, &ObjectRef::project(resource.project)).await {
        Ok(()) => Ok(resource),
        Err(problem) => match problem.denial() {
            Some(denial) if denial.reason == plexsphere_wire::DenialReason::OutOfScope => {
                Err(super::ResourceRefusal::NotFound.into())
            }
            _ => Err(problem),
        },
    }
}

fn delete(resources: Resources) -> Operation {
    let gate = Gate::AfterRead { relation: "deploy", kind: "project" };
    Operation::new("DeleteResource", Method::DELETE, "/v1/resources/{id}", gate)
        .words(
            TAG,
            "Delete a Resource",
            "Ends the Nodes that are bound to it, so that their keys are revoked and their peers hear of it, and deletes \
             the Resource.",
        )
        .answers_empty(204, "Deleted.")
        .problems(&[Code::InvalidResourceId, Code::ResourceNotFound])
        .handler(move |call| {
            let resources = resources.clone();
            async move {
                let resource = found(&resources, &call, "deploy", Code::InvalidResourceId).await?;
                resources.delete(&Actor::of(&call)?, resource.id).await?;
                Ok(Reply::empty(StatusCode::NO_CONTENT))
            }
        })
}
