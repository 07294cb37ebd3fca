//! Operations on Groups.

use http::header::LOCATION;
use http::{Method, StatusCode};
use plexsphere_kernel::ObjectRef;
use plexsphere_kernel::http::{Call, Gate, KIB, Operation, Reply};
use plexsphere_kernel::paging::CursorCodec;
use plexsphere_wire::{Code, DomainId, GroupId, IdpBindingId, Problem, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{PartialSchema as _, ToSchema};

use super::model::{Draft, Group, GroupRefusal, GroupSource, NewGroup};
use super::service::Groups;
use crate::journal::Actor;
use crate::{pages, scope};

pub(super) const TAG: &str = "admin";
pub(super) const CAP: usize = 16 * KIB;

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum SourceWord {
    Manual,
    Idp,
}

impl From<&GroupSource> for SourceWord {
    fn from(source: &GroupSource) -> Self {
        match source {
            GroupSource::Manual => Self::Manual,
            GroupSource::Idp { .. } => Self::Idp,
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GroupRequest)]
struct Request {
    #[schema(format = "uuid")]
    domain_id: String,
    /// Unique in the Domain, for life.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$")]
    slug: String,
    #[schema(max_length = 128)]
    display_name: String,
    /// `manual`: filled through the API; `idp`: filled at sign-in.
    #[schema(inline, value_type = SourceWord)]
    source: String,
    /// With `idp` alone: a binding of the Domain or of the platform.
    #[schema(format = "uuid")]
    idp_binding_id: Option<String>,
    /// With `idp` alone: the value that a member has among its groups at the provider.
    #[schema(max_length = 4096)]
    idp_claim_value: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GroupUpdateRequest)]
struct UpdateRequest {
    #[schema(max_length = 128)]
    display_name: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = GroupResponse)]
struct Response {
    id: GroupId,
    domain_id: DomainId,
    slug: String,
    display_name: String,
    #[schema(inline)]
    source: SourceWord,
    #[serde(skip_serializing_if = "Option::is_none")]
    idp_binding_id: Option<IdpBindingId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idp_claim_value: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Group> for Response {
    fn from(group: Group) -> Self {
        let source = SourceWord::from(&group.source);
        let (idp_binding_id, idp_claim_value) = match group.source {
            GroupSource::Manual => (None, None),
            GroupSource::Idp { binding, claim_value } => (Some(binding), Some(claim_value)),
        };
        Self {
            id: group.id,
            domain_id: group.domain,
            slug: group.slug,
            display_name: group.display_name,
            source,
            idp_binding_id,
            idp_claim_value,
            created_at: group.created_at,
            updated_at: group.updated_at,
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = GroupList)]
struct List {
    items: Vec<Response>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// The operations of Groups.
pub(super) fn operations(groups: &Groups, cursors: &CursorCodec) -> Vec<Operation> {
    vec![
        create(groups.clone()),
        list(groups.clone(), cursors.clone()),
        get(groups.clone()),
        update(groups.clone()),
        delete(groups.clone()),
    ]
}

/// Reads the Group that the path names and asks its gate. What is no id, what is missing and what is out of the caller's
/// scope read alike: a Group's id does not say in which Domain it lies.
pub(super) async fn found(groups: &Groups, call: &Call, relation: &str) -> Result<Group, Problem> {
    let id: GroupId = call.params.text("id").parse().map_err(|_| GroupRefusal::NotFound)?;
    let group = groups.find(id).await?;
    scope::gate(call, relation, &group.object(), GroupRefusal::NotFound).await?;
    Ok(group)
}

/// `relation` on the Group, once it was found.
pub(super) const fn on_group(relation: &'static str) -> Gate {
    Gate::AfterRead { relation, kind: "group" }
}

fn create(groups: Groups) -> Operation {
    let gate = Gate::AfterRead { relation: "manage", kind: "domain" };
    Operation::new("PostAdminGroup", Method::POST, "/v1/admin/groups", gate)
        .words(
            TAG,
            "Create a Group",
            "Makes a Group in the Domain that the body names. One of an identity provider names a binding of that Domain \
             or of the platform, and the value by which its members are told.",
        )
        .json_body::<Request>(CAP)
        .creates::<Response>("The new Group.")
        .problems(&[Code::InvalidGroup, Code::GroupSlugConflict])
        .handler(move |call| {
            let groups = groups.clone();
            async move { do_create(&groups, &call).await }
        })
}

async fn do_create(groups: &Groups, call: &Call) -> Result<Reply, Problem> {
    let request: Request = call.json()?;
    let new = NewGroup::check(Draft {
        domain_id: request.domain_id,
        slug: request.slug,
        display_name: request.display_name,
        source: request.source,
        idp_binding_id: request.idp_binding_id,
        idp_claim_value: request.idp_claim_value,
    })?;
    call.authorize("manage", &ObjectRef::domain(new.domain)).await?;
    let group = groups.create(&Actor::of(call)?, new).await?;
    let location = format!("/v1/admin/groups/{}", group.id);
    Ok(Reply::json(StatusCode::CREATED, &Response::from(group))?.header(LOCATION, &location))
}

fn list(groups: Groups, cursors: CursorCodec) -> Operation {
    let gate = Gate::AfterRead { relation: "read", kind: "domain" };
    Operation::new("GetAdminGroupList", Method::GET, "/v1/admin/groups", gate)
        .words(TAG, "List the Groups of a Domain", "Pages by slug; only a missing cursor ends the list.")
        .paged()
        .required_query("domain_id", "The Domain.", DomainId::schema())
        .answers::<List>(200, "A page.")
        .problems(&[Code::InvalidDomainId])
        .handler(move |call| {
            let (groups, cursors) = (groups.clone(), cursors.clone());
            async move { do_list(&groups, &cursors, &call).await }
        })
}

async fn do_list(groups: &Groups, cursors: &CursorCodec, call: &Call) -> Result<Reply, Problem> {
    let invalid = || Problem::new(Code::InvalidDomainId, "`domain_id` must be a Domain's id.");
    let named = call.query.one("domain_id", Code::InvalidDomainId)?.ok_or_else(invalid)?;
    let domain: DomainId = named.parse().map_err(|_| invalid())?;
    let filters = format!("domain_id={domain}");
    let page = cursors.page::<String>(call, &filters)?;
    call.authorize("read", &ObjectRef::domain(domain)).await?;
    let mut rows = groups.page(&Actor::of(call)?, domain, page.after.as_deref(), page.limit + 1).await?;
    let next_cursor = pages::cut(&mut rows, page.limit, (cursors, call, &filters), |group| group.slug.clone())?;
    let items = rows.into_iter().map(Response::from).collect();
    Reply::json(StatusCode::OK, &List { items, next_cursor })
}

fn get(groups: Groups) -> Operation {
    Operation::new("GetAdminGroupByID", Method::GET, "/v1/admin/groups/{id}", on_group("read"))
        .words(
            TAG,
            "Read a Group",
            "The Group as stored, to its members and to who may read its Domain. A missing one and one out of the \
             caller's scope read alike.",
        )
        .answers::<Response>(200, "The Group.")
        .problems(&[Code::GroupNotFound])
        .handler(move |call| {
            let groups = groups.clone();
            async move {
                let group = found(&groups, &call, "read").await?;
                groups.note_read(&Actor::of(&call)?, &group).await?;
                Reply::json(StatusCode::OK, &Response::from(group))
            }
        })
}

fn update(groups: Groups) -> Operation {
    Operation::new("PatchAdminGroup", Method::PATCH, "/v1/admin/groups/{id}", on_group("manage"))
        .words(TAG, "Rename a Group", "Changes the display name. Domain, slug and source are for life.")
        .json_body::<UpdateRequest>(CAP)
        .answers::<Response>(200, "The Group as it is now.")
        .problems(&[Code::InvalidGroup, Code::GroupNotFound])
        .handler(move |call| {
            let groups = groups.clone();
            async move {
                let group = found(&groups, &call, "manage").await?;
                let request: UpdateRequest = call.json()?;
                let group = groups.rename(&Actor::of(&call)?, group.id, &request.display_name).await?;
                Reply::json(StatusCode::OK, &Response::from(group))
            }
        })
}

fn delete(groups: Groups) -> Operation {
    Operation::new("DeleteAdminGroupByID", Method::DELETE, "/v1/admin/groups/{id}", on_group("manage"))
        .words(
            TAG,
            "Delete a Group",
            "Deletes the Group with its memberships, those in other Groups among them, and every right that was given to \
             its members as such. The Group stays through which the last administrator of the Domain is one.",
        )
        .answers_empty(204, "Deleted.")
        .problems(&[Code::GroupNotFound])
        .handler(move |call| {
            let groups = groups.clone();
            async move {
                let group = found(&groups, &call, "manage").await?;
                groups.delete(&Actor::of(&call)?, group.id).await?;
                Ok(Reply::empty(StatusCode::NO_CONTENT))
            }
        })
}
