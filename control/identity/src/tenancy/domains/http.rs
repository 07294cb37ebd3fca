//! Operations of Domains.

use http::header::LOCATION;
use http::{Method, StatusCode};
use plexsphere_kernel::ObjectRef;
use plexsphere_kernel::http::{Call, Gate, KIB, Operation, Reply};
use plexsphere_kernel::paging::CursorCodec;
use plexsphere_wire::{Code, DomainId, Problem, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::DomainRefusal;
use super::model::{Domain, DomainPatch, Draft, Durations, NewDomain, PatchDraft};
use super::service::Domains;
use crate::journal::Actor;
use crate::pages;
use crate::tenancy::durations;

const TAG: &str = "tenancy";

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DomainReachabilityPolicy)]
struct Reachability {
    /// How often agents are asked for a heartbeat: `10s` to `600s`.
    heartbeat_interval: String,
    /// Silence after which a Node is stale: at least three intervals.
    stale_after: String,
    /// Silence after which a Node is unreachable: at least twice `stale_after`, at most `3600s`.
    unreachable_after: String,
}

impl Reachability {
    fn durations(&self) -> Durations<'_> {
        (&self.heartbeat_interval, &self.stale_after, &self.unreachable_after)
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DomainCreateRequest)]
struct CreateRequest {
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    /// Unique over the platform, for life.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9]+(-[a-z0-9]+)*$")]
    slug: String,
    #[schema(max_length = 1024)]
    description: Option<String>,
    #[schema(max_length = 64, pattern = "^[a-z0-9]+(-[a-z0-9]+)*$")]
    region: Option<String>,
    /// The pool of mesh addresses: a canonical prefix that overlaps no other Domain's.
    #[schema(max_length = 49, pattern = "^([0-9]{1,3}\\.){3}[0-9]{1,3}/[0-9]{1,2}$|^[0-9a-fA-F:]+/[0-9]{1,3}$")]
    mesh_cidr: String,
    reachability: Option<Reachability>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DomainPatchRequest)]
struct PatchRequest {
    #[schema(min_length = 1, max_length = 255)]
    name: Option<String>,
    /// `""` clears it.
    #[schema(max_length = 1024)]
    description: Option<String>,
    /// A Domain can be pinned to another region, and not unpinned.
    #[schema(max_length = 64, pattern = "^[a-z0-9]+(-[a-z0-9]+)*$")]
    region: Option<String>,
    #[schema(max_length = 49, pattern = "^([0-9]{1,3}\\.){3}[0-9]{1,3}/[0-9]{1,2}$|^[0-9a-fA-F:]+/[0-9]{1,3}$")]
    mesh_cidr: Option<String>,
    reachability: Option<Reachability>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = DomainResponse)]
struct Response {
    id: DomainId,
    name: String,
    slug: String,
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64, pattern = "^[a-z0-9]+(-[a-z0-9]+)*$")]
    region: Option<String>,
    #[schema(max_length = 49, pattern = "^([0-9]{1,3}\\.){3}[0-9]{1,3}/[0-9]{1,2}$|^[0-9a-fA-F:]+/[0-9]{1,3}$")]
    mesh_cidr: String,
    reachability: Reachability,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Domain> for Response {
    fn from(domain: Domain) -> Self {
        Self {
            id: domain.id,
            name: domain.name,
            slug: domain.slug,
            description: Some(domain.description),
            region: domain.region,
            mesh_cidr: domain.mesh_cidr.to_string(),
            reachability: Reachability {
                heartbeat_interval: durations::render(domain.reachability.heartbeat_interval),
                stale_after: durations::render(domain.reachability.stale_after),
                unreachable_after: durations::render(domain.reachability.unreachable_after),
            },
            created_at: domain.created_at,
            updated_at: domain.updated_at,
        }
    }
}

/// Why a page shows nothing.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EmptyReason {
    /// Rows were read and the caller may see none of them.
    NoRebacMembership,
}

impl EmptyReason {
    /// Set when at least one row was read and none is shown.
    pub(crate) fn of(read: usize, shown: usize) -> Option<Self> {
        (read > 0 && shown == 0).then_some(Self::NoRebacMembership)
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = DomainList)]
struct List {
    items: Vec<Response>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(inline)]
    empty_reason: Option<EmptyReason>,
}

/// The operations of Domains.
pub(crate) fn operations(domains: &Domains, cursors: &CursorCodec) -> Vec<Operation> {
    vec![
        create(domains.clone()),
        list(domains.clone(), cursors.clone()),
        get(domains.clone()),
        patch(domains.clone()),
        delete(domains.clone()),
    ]
}

fn create(domains: Domains) -> Operation {
    Operation::new("CreateDomain", Method::POST, "/v1/domains", Gate::platform("manage"))
        .words(
            TAG,
            "Create a Domain",
            "Makes the top tenancy boundary: its name and slug, its pool of mesh addresses, its reachability thresholds \
             and its first signing key, all in one step. Thresholds that are absent or all zero become 30s, 90s, 300s.",
        )
        .json_body::<CreateRequest>(8 * KIB)
        .creates::<Response>("The new Domain.")
        .problems(&[
            Code::InvalidDomain,
            Code::InvalidReachabilityPolicy,
            Code::DomainSlugConflict,
            Code::MeshCidrOverlap,
        ])
        .handler(move |call| {
            let domains = domains.clone();
            async move {
                let request: CreateRequest = call.json()?;
                let new = NewDomain::check(&draft(&request))?;
                let domain = domains.create(&Actor::of(&call)?, new).await?;
                let location = format!("/v1/domains/{}", domain.id);
                Ok(Reply::json(StatusCode::CREATED, &Response::from(domain))?.header(LOCATION, &location))
            }
        })
}

fn draft(request: &CreateRequest) -> Draft<'_> {
    Draft {
        name: &request.name,
        slug: &request.slug,
        description: request.description.as_deref().unwrap_or(""),
        region: request.region.as_deref().unwrap_or(""),
        mesh_cidr: &request.mesh_cidr,
        reachability: request.reachability.as_ref().map(Reachability::durations),
    }
}

fn list(domains: Domains, cursors: CursorCodec) -> Operation {
    Operation::new("ListDomains", Method::GET, "/v1/domains", Gate::AnyCaller("each row is filtered by `read` on it"))
        .words(
            TAG,
            "List Domains",
            "Pages of the Domains that the caller may read, by slug. A page may be short or empty while `next_cursor` is \
             there; only a missing cursor ends the list.",
        )
        .paged()
        .problems(&[Code::CursorBindingMismatch])
        .answers::<List>(200, "A page.")
        .handler(move |call| {
            let (domains, cursors) = (domains.clone(), cursors.clone());
            async move { do_list(&domains, &cursors, &call).await }
        })
}

async fn do_list(domains: &Domains, cursors: &CursorCodec, call: &Call) -> Result<Reply, Problem> {
    let page = cursors.page::<String>(call, "")?;
    let mut rows = domains.page(&Actor::of(call)?, page.after.as_deref(), page.limit + 1).await?;
    let next_cursor = pages::cut(&mut rows, page.limit, (cursors, call, ""), |domain| domain.slug.clone())?;
    let read = rows.len();
    let rows = pages::readable(call, "read", rows, |domain| ObjectRef::domain(domain.id)).await?;
    let items: Vec<Response> = rows.into_iter().map(Response::from).collect();
    let empty_reason = EmptyReason::of(read, items.len());
    Reply::json(StatusCode::OK, &List { items, next_cursor, empty_reason })
}

fn get(domains: Domains) -> Operation {
    let gate = Gate::on("read", "domain", "id", Code::InvalidDomainId);
    Operation::new("GetDomain", Method::GET, "/v1/domains/{id}", gate)
        .words(TAG, "Read a Domain", "The Domain with its pool and thresholds, as stored.")
        .answers::<Response>(200, "The Domain.")
        .problems(&[Code::InvalidDomainId, Code::DomainNotFound])
        .handler(move |call| {
            let domains = domains.clone();
            async move {
                let id = call.params.id("id", Code::InvalidDomainId)?;
                let domain = domains.get(&Actor::of(&call)?, id).await?;
                Reply::json(StatusCode::OK, &Response::from(domain))
            }
        })
}

fn patch(domains: Domains) -> Operation {
    let gate = Gate::on("manage", "domain", "id", Code::InvalidDomainId);
    Operation::new("PatchDomain", Method::PATCH, "/v1/domains/{id}", gate)
        .words(
            TAG,
            "Change a Domain",
            "Changes the members that are given; the slug never changes. A pool may move or shrink as long as every \
             sub-range and every address of a Node stays inside. What is as asked already stays untouched.",
        )
        .json_body::<PatchRequest>(8 * KIB)
        .answers::<Response>(200, "The Domain as it is now.")
        .problems(&[
            Code::InvalidDomainId,
            Code::InvalidDomain,
            Code::InvalidReachabilityPolicy,
            Code::EmptyPatch,
            Code::SlugImmutable,
            Code::DomainNotFound,
            Code::MeshCidrOverlap,
            Code::MeshCidrInvalidatesSubrange,
        ])
        .handler(move |call| {
            let domains = domains.clone();
            async move { do_patch(&domains, &call).await }
        })
}

async fn do_patch(domains: &Domains, call: &Call) -> Result<Reply, Problem> {
    let id = call.params.id("id", Code::InvalidDomainId)?;
    if call.member_names().iter().any(|name| name == "slug") {
        return Err(DomainRefusal::SlugImmutable.into());
    }
    let request: PatchRequest = call.json()?;
    let patch = DomainPatch::check(&PatchDraft {
        name: request.name.as_deref(),
        description: request.description.as_deref(),
        region: request.region.as_deref(),
        mesh_cidr: request.mesh_cidr.as_deref(),
        reachability: request.reachability.as_ref().map(Reachability::durations),
    })?;
    let domain = domains.patch(&Actor::of(call)?, id, &patch).await?;
    Reply::json(StatusCode::OK, &Response::from(domain))
}

fn delete(domains: Domains) -> Operation {
    let gate = Gate::on("manage", "domain", "id", Code::InvalidDomainId);
    Operation::new("DeleteDomain", Method::DELETE, "/v1/domains/{id}", gate)
        .words(
            TAG,
            "Delete a Domain",
            "Deletes a Domain to which nothing belongs any more; the refusal counts what still does. Its audit chain \
             stays, and its slug and pool are free again.",
        )
        .answers_empty(204, "Deleted.")
        .problems(&[Code::InvalidDomainId, Code::DomainNotFound, Code::DomainNotEmpty])
        .handler(move |call| {
            let domains = domains.clone();
            async move {
                let id = call.params.id("id", Code::InvalidDomainId)?;
                domains.delete(&Actor::of(&call)?, id).await?;
                Ok(Reply::empty(StatusCode::NO_CONTENT))
            }
        })
}
