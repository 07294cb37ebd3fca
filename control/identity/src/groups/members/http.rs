//! Operations on members.

use http::{Method, StatusCode};
use plexsphere_kernel::http::{Call, Operation, Reply};
use plexsphere_wire::{Code, GroupId, PrincipalId, Problem, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{PartialSchema as _, ToSchema};

use super::super::http::{CAP, SourceWord, TAG, found, on_group};
use super::super::model::{Group, GroupRefusal};
use super::super::service::Groups;
use super::model::{MemberKind, Membership, NewMember};
use crate::journal::Actor;

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum KindWord {
    User,
    ServiceIdentity,
    Group,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GroupMembershipRequest)]
struct Request {
    /// A principal of the Group's Domain.
    #[schema(format = "uuid")]
    principal_id: String,
    #[schema(inline, value_type = KindWord)]
    principal_kind: String,
    /// That of the Group.
    #[schema(inline, value_type = SourceWord)]
    source: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = GroupMembershipResponse)]
struct Response {
    group_id: GroupId,
    principal_id: PrincipalId,
    #[schema(inline)]
    principal_kind: KindWord,
    #[schema(inline)]
    source: SourceWord,
    created_at: Timestamp,
}

impl Response {
    fn new(group: &Group, membership: &Membership) -> Self {
        Self {
            group_id: membership.group,
            principal_id: membership.principal,
            principal_kind: match membership.kind {
                MemberKind::User => KindWord::User,
                MemberKind::ServiceIdentity => KindWord::ServiceIdentity,
                MemberKind::Group => KindWord::Group,
            },
            source: SourceWord::from(&group.source),
            created_at: membership.created_at,
        }
    }
}

/// The whole list, without pages.
#[derive(Serialize, ToSchema)]
#[schema(as = GroupMembershipList)]
struct List {
    items: Vec<Response>,
}

/// The operations of members.
pub(in crate::groups) fn operations(groups: &Groups) -> Vec<Operation> {
    vec![add(groups.clone()), list(groups.clone()), remove(groups.clone())]
}

fn add(groups: Groups) -> Operation {
    Operation::new("PostAdminGroupMember", Method::POST, "/v1/admin/groups/{id}/members", on_group("manage"))
        .words(
            TAG,
            "Add a member to a Group",
            "Makes a User, a ServiceIdentity or another Group of the same Domain a member. Groups may lie one inside the \
             other, ten at most, and never within themselves.",
        )
        .json_body::<Request>(CAP)
        .answers::<Response>(201, "The new membership.")
        .problems(&[
            Code::InvalidMembership,
            Code::GroupNotFound,
            Code::SourceConflict,
            Code::MembershipConflict,
        ])
        .handler(move |call| {
            let groups = groups.clone();
            async move { do_add(&groups, &call).await }
        })
}

async fn do_add(groups: &Groups, call: &Call) -> Result<Reply, Problem> {
    let group = found(groups, call, "manage").await?;
    let request: Request = call.json()?;
    let new = NewMember::check(&group, &request.principal_id, &request.principal_kind, &request.source)?;
    let membership = groups.add(&Actor::of(call)?, &group, new).await?;
    Reply::json(StatusCode::CREATED, &Response::new(&group, &membership))
}

fn list(groups: Groups) -> Operation {
    Operation::new("GetAdminGroupMembers", Method::GET, "/v1/admin/groups/{id}/members", on_group("read"))
        .words(
            TAG,
            "List the members of a Group",
            "Every direct member, in the order in which they came. Members of a Group in it are not listed here.",
        )
        .answers::<List>(200, "The members.")
        .problems(&[Code::GroupNotFound])
        .handler(move |call| {
            let groups = groups.clone();
            async move {
                let group = found(&groups, &call, "read").await?;
                let members = groups.members(&Actor::of(&call)?, &group).await?;
                let items = members.iter().map(|membership| Response::new(&group, membership)).collect();
                Reply::json(StatusCode::OK, &List { items })
            }
        })
}

fn remove(groups: Groups) -> Operation {
    let path = "/v1/admin/groups/{id}/members/{principal_id}";
    Operation::new("DeleteAdminGroupMember", Method::DELETE, path, on_group("manage"))
        .words(
            TAG,
            "Remove a member from a Group",
            "Ends a membership; rights that came by it end with it. One that makes the last administrator of the Domain \
             stays. The kind is asked for because ids of different kinds are not told apart by themselves.",
        )
        .required_query("kind", "What the member is.", KindWord::schema())
        .answers_empty(204, "Removed.")
        .problems(&[Code::InvalidKind, Code::InvalidMembership, Code::GroupNotFound, Code::MembershipNotFound])
        .handler(move |call| {
            let groups = groups.clone();
            async move { do_remove(&groups, &call).await }
        })
}

async fn do_remove(groups: &Groups, call: &Call) -> Result<Reply, Problem> {
    let kind = call.query.one("kind", Code::InvalidKind)?.and_then(MemberKind::parse).ok_or(GroupRefusal::Kind)?;
    let group = found(groups, call, "manage").await?;
    let principal: PrincipalId = call.params.text("principal_id").parse().map_err(|_| GroupRefusal::NoMember)?;
    groups.remove(&Actor::of(call)?, &group, (kind, principal)).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}
