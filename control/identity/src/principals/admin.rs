//! Operations on the tokens of others, by whoever administers the place where those belong.

use http::{Method, StatusCode};
use plexsphere_kernel::http::{Call, Gate, KIB, Operation, Reply};
use plexsphere_kernel::{ObjectRef, Principal, Subject};
use plexsphere_wire::{Code, DenialReason, Problem, Timestamp, TokenId};

use super::http::{self as own, IssueRequest, IssueResponse, RotateResponse, Summaries};
use super::model::TokenRefusal;
use super::service::{ApiTokens, Wanted};
use crate::journal::Actor;
use crate::scope;

const TAG: &str = "admin";

/// What decides about a principal's tokens: `manage` on where it belongs.
const MANAGE: &str = "manage";

/// The owner belongs to a Domain or to the platform; the table of gates names the common case.
const GATE: Gate = Gate::AfterRead { relation: MANAGE, kind: "domain" };

/// The operations of this module.
pub(super) fn operations(tokens: &ApiTokens) -> Vec<Operation> {
    vec![issue(tokens), list(tokens), revoke(tokens), rotate(tokens)]
}

/// Where a principal belongs, as an object of the relation graph.
fn home(principal: &Principal) -> ObjectRef {
    super::service::chain(principal.scope).map_or_else(ObjectRef::platform, ObjectRef::domain)
}

/// The principal that a reference names, once the caller may manage its tokens. A reference that names nobody is refused
/// as one that the caller has no path to.
async fn owner(tokens: &ApiTokens, call: &Call, subject: Subject) -> Result<Principal, Problem> {
    if let Some(principal) = tokens.principal(subject).await? {
        call.authorize(MANAGE, &home(&principal)).await?;
        return Ok(principal);
    }
    let caller = call.principal()?;
    tokens.note_refusal(&Actor::of(call)?, &caller, subject).await?;
    Err(Problem::denied(Code::PermissionDenied, DenialReason::OutOfScope, Vec::new()))
}

/// The caller's own token and its end, if the new secret is the caller's own: nobody outlives their token by it.
fn bound(call: &Call, owner: &Principal) -> Result<Option<(TokenId, Timestamp)>, Problem> {
    if call.principal()?.subject == owner.subject { own::own_token(call) } else { Ok(None) }
}

fn issue(tokens: &ApiTokens) -> Operation {
    let tokens = tokens.clone();
    Operation::new("PostAdminTokens", Method::POST, "/v1/admin/tokens", GATE)
        .words(
            TAG,
            "Issue an API token for a principal",
            "Makes a long-lived token for a User or a ServiceIdentity of a Domain that the caller manages, or of the \
             platform. Its text is shown in this answer and never again.",
        )
        .json_body::<IssueRequest>(16 * KIB)
        .answers::<IssueResponse<'static>>(201, "The token and its text.")
        .problems(&[Code::InvalidApiToken, Code::InvalidIdentityRef])
        .handler(move |call| {
            let tokens = tokens.clone();
            async move { do_issue(&tokens, &call).await }
        })
}

async fn do_issue(tokens: &ApiTokens, call: &Call) -> Result<Reply, Problem> {
    let request: IssueRequest = call.json()?;
    let subject = own::parse_ref(&request.identity_ref).ok_or(TokenRefusal::Reference)?;
    let mut wanted = Wanted { env_prefix: request.env_prefix, ttl_seconds: request.ttl_seconds, own: None };
    wanted.check()?;
    let owner = owner(tokens, call, subject).await?;
    wanted.own = bound(call, &owner)?;
    own::issued(tokens.issue(&Actor::of(call)?, &owner, wanted).await?)
}

fn list(tokens: &ApiTokens) -> Operation {
    let tokens = tokens.clone();
    Operation::new("GetAdminTokens", Method::GET, "/v1/admin/tokens", GATE)
        .words(
            TAG,
            "List the API tokens of a principal",
            "Live tokens of a User or a ServiceIdentity, newest first, without their texts.",
        )
        .required_query("identity_ref", "`user:<uuid>` or `service:<uuid>`.", plain_text())
        .answers::<Summaries>(200, "The live tokens.")
        .problems(&[Code::InvalidIdentityRef])
        .handler(move |call| {
            let tokens = tokens.clone();
            async move {
                let named = call.query.one("identity_ref", Code::InvalidIdentityRef)?;
                let subject = named.and_then(own::parse_ref).ok_or(TokenRefusal::Reference)?;
                let owner = owner(&tokens, &call, subject).await?;
                own::listed(tokens.list(&Actor::of(&call)?, &owner).await?)
            }
        })
}

fn plain_text() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
    use utoipa::openapi::schema::{ObjectBuilder, Type};
    utoipa::openapi::RefOr::T(ObjectBuilder::new().schema_type(Type::String).build().into())
}

/// The owner of the token that the path names, once the caller may manage its tokens. What is no id, what is missing and
/// what is out of the caller's scope read alike.
async fn found(tokens: &ApiTokens, call: &Call) -> Result<(TokenId, Principal), Problem> {
    let id = own::token_id(call)?;
    let owner = tokens.owner_of(id).await?;
    scope::gate(call, MANAGE, &home(&owner), TokenRefusal::NotFound).await?;
    Ok((id, owner))
}

fn revoke(tokens: &ApiTokens) -> Operation {
    let tokens = tokens.clone();
    Operation::new("DeleteAdminTokenByID", Method::DELETE, "/v1/admin/tokens/{id}", GATE)
        .words(TAG, "Revoke an API token", "The token stops working at once. One that has ended reads as missing.")
        .answers_empty(204, "Revoked.")
        .problems(&[Code::ApiTokenNotFound])
        .handler(move |call| {
            let tokens = tokens.clone();
            async move {
                let (id, owner) = found(&tokens, &call).await?;
                tokens.revoke(&Actor::of(&call)?, &owner, id).await?;
                Ok(Reply::empty(StatusCode::NO_CONTENT).no_store())
            }
        })
}

fn rotate(tokens: &ApiTokens) -> Operation {
    let tokens = tokens.clone();
    Operation::new("PostAdminTokenRotate", Method::POST, "/v1/admin/tokens/{id}/rotate", GATE)
        .words(
            TAG,
            "Rotate an API token",
            "Gives the token a new secret and its full lifetime again. The old secret works until the rotation deadline, \
             at most a day; a second rotation ends it at once.",
        )
        .answers::<RotateResponse<'static>>(200, "The token with its new text; `Sunset` says when the old one ends.")
        .problems(&[Code::ApiTokenNotFound])
        .handler(move |call| {
            let tokens = tokens.clone();
            async move {
                let (id, owner) = found(&tokens, &call).await?;
                let bound = bound(&call, &owner)?.map(|(_, end)| end);
                own::rotated(tokens.rotate(&Actor::of(&call)?, &owner, (id, bound)).await?)
            }
        })
}
