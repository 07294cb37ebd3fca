//! The tuple administration of Projects.

use std::sync::Arc;

use http::{Method, StatusCode};
use plexsphere_kernel::http::{Call, Gate, KIB, Operation, Reply};
use plexsphere_kernel::{ObjectRef, Outcome};
use plexsphere_wire::{Code, EnvelopeId, Problem, ProjectId, Timestamp};
use utoipa::openapi::schema::{ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{KnownFormat, RefOr};
use uuid::Uuid;

use super::schemas::{CreateRequest, PatchRequest, TupleList, TupleResponse};
use super::words::{Reader, respell};
use super::{Parts, TAG, circumstances, reference};
use crate::model::caveat::{Caveat, CaveatProblem};
use crate::model::graph::{Graph, Tuple};
use crate::model::schema::Schema;
use crate::service::administration::{Authority, Filed, Filing, TupleRefusal, authority, filing, judge};

/// How often a change of a tuple is tried that others replace at the same time.
const ATTEMPTS: usize = 8;

pub(super) fn operations(parts: &Arc<Parts>) -> Vec<Operation> {
    vec![list(parts), create(parts), replace(parts), delete(parts)]
}

const MANAGE: Gate = Gate::AfterRead { relation: "manage", kind: "project" };

fn project_parameter() -> RefOr<utoipa::openapi::Schema> {
    let format = SchemaFormat::KnownFormat(KnownFormat::Uuid);
    RefOr::T(ObjectBuilder::new().schema_type(Type::String).format(Some(format)).build().into())
}

fn list(parts: &Arc<Parts>) -> Operation {
    let parts = Arc::clone(parts);
    let gate = Gate::AfterRead { relation: "read", kind: "project" };
    Operation::new("ListRelationTuples", Method::GET, "/v1/authz/relation-tuples", gate)
        .words(
            TAG,
            "List the grants of a Project",
            "The tuples filed under the Project in the order of their writing, those on objects that the caller cannot \
             read left out.",
        )
        .required_query("project_id", "The Project.", project_parameter())
        .paged()
        .problems(&[Code::InvalidProjectId])
        .answers::<TupleList>(200, "A page.")
        .handler(move |call| {
            let parts = Arc::clone(&parts);
            async move { do_list(&parts, &call).await }
        })
}

async fn do_list(parts: &Parts, call: &Call) -> Result<Reply, Problem> {
    let project = project_of(call)?;
    let filters = format!("project_id={project}");
    let page = parts.cursors.page::<(Timestamp, Uuid)>(call, &filters)?;
    call.authorize("read", &ObjectRef::project(project)).await?;
    let mut rows = parts.administration.page(project, page.after, page.limit + 1).await?;
    let limit = usize::try_from(page.limit).unwrap_or(0);
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next_cursor = match rows.last().filter(|_| more) {
        Some(last) => Some(parts.cursors.next(call, &filters, &(last.created_at, last.id))?),
        None => None,
    };
    let schema = parts.schema();
    let graph = parts.graph().await?;
    let (mut items, principal, context) = (Vec::with_capacity(rows.len()), call.principal()?, circumstances(call));
    for row in rows {
        let object = reference(schema, row.tuple.object);
        if parts.authorizer.judge_in(&graph, &principal, ("read", &object), &context)?.is_allowed() {
            items.push(shown(schema, row));
        }
    }
    let domain = filing(&graph, project).map(|filing| filing.domain);
    let what = ("relation-tuple.list", ObjectRef::project(project));
    parts.record(call, what, (domain, Outcome::Granted), Default::default()).await?;
    Reply::json(StatusCode::OK, &TupleList { items, next_cursor })
}

fn create(parts: &Arc<Parts>) -> Operation {
    let parts = Arc::clone(parts);
    Operation::new("CreateRelationTuple", Method::POST, "/v1/authz/relation-tuples", MANAGE)
        .words(
            TAG,
            "Grant a relation",
            "Writes a tuple on the Project, on something in it, or on its Domain; for the last, `manage` on the Domain is \
             needed too. The same grant again answers with the stored one. The next check sees it.",
        )
        .required_query("project_id", "The Project that the tuple is filed under.", project_parameter())
        .json_body::<CreateRequest>(8 * KIB)
        .body_rules(|rules| rules.free_form = &["caveat_context"])
        .answers::<TupleResponse>(201, "The tuple.")
        .problems(&[Code::InvalidProjectId, Code::ProjectNotFound, Code::InvalidRelationTuple])
        .handler(move |call| {
            let parts = Arc::clone(&parts);
            async move { do_create(&parts, &call).await }
        })
}

async fn do_create(parts: &Parts, call: &Call) -> Result<Reply, Problem> {
    let project = project_of(call)?;
    call.authorize("manage", &ObjectRef::project(project)).await?;
    let graph = parts.graph().await?;
    let missing = || Problem::new(Code::ProjectNotFound, "There is no such Project.");
    let filing = filing(&graph, project).ok_or_else(missing)?;
    let request: CreateRequest = call.json()?;
    let tuple = wanted(parts.schema(), &request)?;
    allow(call, judge(&graph, filing, &tuple)?).await?;
    let object = reference(parts.schema(), tuple.object);
    let record = call.audit(Some(filing.domain), "relation-tuple.create", object)?;
    let stored = parts.administration.create(filing, &tuple, record).await?;
    let mut response = shown(parts.schema(), stored);
    response.subject = respell(&request.subject, response.subject);
    Reply::json(StatusCode::CREATED, &response)
}

fn replace(parts: &Arc<Parts>) -> Operation {
    let parts = Arc::clone(parts);
    Operation::new("PatchRelationTuple", Method::PATCH, "/v1/authz/relation-tuples/{id}", MANAGE)
        .words(
            TAG,
            "Replace a grant",
            "Puts another tuple in its place in one step: a reader sees the old or the new one. The id stays.",
        )
        .json_body::<PatchRequest>(8 * KIB)
        .body_rules(|rules| rules.free_form = &["caveat_context"])
        .answers::<TupleResponse>(200, "The tuple.")
        .problems(&[Code::InvalidRelationTupleId, Code::RelationTupleNotFound, Code::InvalidRelationTuple])
        .handler(move |call| {
            let parts = Arc::clone(&parts);
            async move { do_replace(&parts, &call).await }
        })
}

async fn do_replace(parts: &Parts, call: &Call) -> Result<Reply, Problem> {
    let (asked, stored) = overtaking(|| async {
        let (graph, filing, old) = stored(parts, call).await?;
        let request: CreateRequest = call.json::<PatchRequest>()?.into();
        let tuple = wanted(parts.schema(), &request)?;
        allow_old(call, &graph, filing, &old).await?;
        allow(call, judge(&graph, filing, &tuple)?).await?;
        let object = reference(parts.schema(), tuple.object);
        let record = call.audit(Some(filing.domain), "relation-tuple.replace", object)?;
        let replaced = parts.administration.replace(filing, &old, &tuple, record).await;
        Ok(replaced.map(|stored| (request.subject, stored)))
    })
    .await?;
    let mut response = shown(parts.schema(), stored);
    response.subject = respell(&asked, response.subject);
    Reply::json(StatusCode::OK, &response)
}

fn delete(parts: &Arc<Parts>) -> Operation {
    let parts = Arc::clone(parts);
    Operation::new("DeleteRelationTuple", Method::DELETE, "/v1/authz/relation-tuples/{id}", MANAGE)
        .words(TAG, "Take a grant away", "The next check sees it. The last administrator of a Domain stays.")
        .answers_empty(204, "It is gone.")
        .problems(&[Code::InvalidRelationTupleId, Code::RelationTupleNotFound, Code::InvalidRelationTuple])
        .handler(move |call| {
            let parts = Arc::clone(&parts);
            async move { do_delete(&parts, &call).await }
        })
}

async fn do_delete(parts: &Parts, call: &Call) -> Result<Reply, Problem> {
    overtaking(|| async {
        let (graph, filing, old) = stored(parts, call).await?;
        allow_old(call, &graph, filing, &old).await?;
        let object = reference(parts.schema(), old.tuple.object);
        let record = call.audit(Some(filing.domain), "relation-tuple.delete", object)?;
        Ok(parts.administration.delete(filing, &old, record).await)
    })
    .await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

/// Tries again, from the reading of the tuple and the caller's authority over it on, as long as somebody else replaced it
/// in between.
async fn overtaking<T, F>(attempt: impl Fn() -> F) -> Result<T, Problem>
where
    F: Future<Output = Result<Result<T, TupleRefusal>, Problem>>,
{
    for _ in 1..ATTEMPTS {
        match attempt().await? {
            Err(TupleRefusal::Overtaken) => {}
            done => return Ok(done?),
        }
    }
    Ok(attempt().await??)
}

/// The tuple that the path names, for a caller who manages its Project. To one who cannot even read the Project it does
/// not exist.
async fn stored(parts: &Parts, call: &Call) -> Result<(Arc<Graph>, Filing, Filed), Problem> {
    let missing = || Problem::new(Code::RelationTupleNotFound, "There is no such tuple.");
    let id: EnvelopeId = call.params.id("id", Code::InvalidRelationTupleId)?;
    let old = parts.administration.get(id.uuid()).await?.ok_or_else(missing)?;
    let project = old.project.ok_or_else(missing)?;
    match call.authorize("read", &ObjectRef::project(project)).await {
        Err(refusal) if refusal.code() == Code::PermissionDenied => return Err(missing()),
        other => other?,
    }
    call.authorize("manage", &ObjectRef::project(project)).await?;
    let graph = parts.graph().await?;
    let filing = filing(&graph, project).ok_or_else(missing)?;
    Ok((graph, filing, old))
}

/// The authority over what stands there. An object that is gone needs none, so that its tuples can be cleared away.
async fn allow_old(call: &Call, graph: &Graph, filing: Filing, old: &Filed) -> Result<(), Problem> {
    allow(call, authority(graph, filing, old.tuple.object).unwrap_or(Authority::Project)).await
}

async fn allow(call: &Call, authority: Authority) -> Result<(), Problem> {
    match authority {
        Authority::Project => Ok(()),
        Authority::Domain(domain) => call.authorize("manage", &ObjectRef::domain(domain)).await,
    }
}

fn project_of(call: &Call) -> Result<ProjectId, Problem> {
    let text = call.query.one("project_id", Code::InvalidProjectId)?.unwrap_or("");
    text.parse().map_err(|error| {
        Problem::new(Code::InvalidProjectId, format!("The query parameter `project_id` is invalid: {error}."))
    })
}

/// The tuple that a body says, in the words of the schema.
fn wanted(schema: &'static Schema, request: &CreateRequest) -> Result<Tuple, Problem> {
    let reader = Reader { schema, code: Code::InvalidRelationTuple };
    let subject = reader.subject(&request.subject)?;
    let object = reader.resource(&request.resource)?;
    let relation = reader.relation(object.kind, &request.relation)?;
    let caveat = match (&request.caveat_name, &request.caveat_context) {
        (None, None) => Ok(None),
        (None, Some(context)) if context.is_empty() => Ok(None),
        (None, Some(_)) => Err(CaveatProblem::ContextWithoutName),
        (Some(name), context) => {
            Caveat::parse(name, context.as_ref().unwrap_or(&serde_json::Map::new())).map(Arc::new).map(Some)
        }
    };
    let caveat = caveat
        .map_err(|problem| Problem::new(Code::InvalidRelationTuple, format!("The caveat is invalid: {problem}.")))?;
    Ok(Tuple { object, relation, subject, caveat })
}

fn shown(schema: &Schema, filed: Filed) -> TupleResponse {
    TupleResponse {
        id: filed.id,
        subject: filed.tuple.subject.text(schema),
        relation: schema.name(filed.tuple.relation).to_owned(),
        resource: filed.tuple.object.text(schema),
        caveat_context: filed.tuple.caveat.as_ref().map(|caveat| caveat.context()),
        created_at: filed.created_at,
    }
}
