//! Operations of Invitations.

use http::header::LOCATION;
use http::{Method, StatusCode};
use plexsphere_kernel::http::{Call, Gate, KIB, Operation, Reply};
use plexsphere_kernel::paging::CursorCodec;
use plexsphere_wire::{Code, DomainId, InvitationId, PrincipalId, Problem, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::{PartialSchema as _, ToSchema};
use uuid::Uuid;

use super::model::{Invitation, InvitationStatus, NewInvitation, StagedTuple, TupleDraft};
use super::service::Invitations;
use crate::journal::Actor;
use crate::pages;
use crate::tenancy::subjects;

const TAG: &str = "tenancy";

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = InvitationInitialTuple)]
struct InitialTuple {
    /// A relation that can be granted on the object.
    #[schema(min_length = 1)]
    relation: String,
    /// `domain:<this id>`, `project:<id>` or `group:<id>` of the same Domain.
    #[schema(min_length = 1)]
    object: String,
    /// What the condition stores; which condition it is, its members say.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, additional_properties = true)]
    caveat_context: Option<Map<String, Value>>,
}

/// A context that is there is an object: `null` would read as a grant without its condition.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Map<String, Value>>, D::Error> {
    Map::deserialize(deserializer).map(Some)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = InvitationCreateRequest)]
struct CreateRequest {
    /// The `sub` claim or the verified address that the person will sign in with.
    #[schema(min_length = 1, max_length = 255)]
    external_subject: String,
    #[schema(minimum = 60, maximum = 604_800, default = 86_400)]
    ttl_seconds: Option<i64>,
    #[schema(max_items = 32)]
    initial_tuples: Option<Vec<InitialTuple>>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = InvitationStatus)]
enum StatusWord {
    Pending,
    Accepted,
    Revoked,
    Expired,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "names the words in the document; the filter is read by hand")]
#[schema(rename_all = "lowercase")]
enum StatusFilter {
    Pending,
    Accepted,
    Revoked,
    Expired,
    All,
}

#[derive(Serialize, ToSchema)]
#[schema(as = InvitationResponse)]
struct Response {
    id: InvitationId,
    domain_id: DomainId,
    #[schema(pattern = "^[0-9a-f]{64}$")]
    external_subject_pseudonym: String,
    status: StatusWord,
    expires_at: Timestamp,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted_user_id: Option<PrincipalId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expired_at: Option<Timestamp>,
    #[schema(required = false, max_items = 32)]
    initial_tuples: Vec<InitialTuple>,
}

impl From<Invitation> for Response {
    fn from(invitation: Invitation) -> Self {
        Self {
            id: invitation.id,
            domain_id: invitation.domain,
            external_subject_pseudonym: subjects::hex(&invitation.pseudonym),
            status: match invitation.status {
                InvitationStatus::Pending => StatusWord::Pending,
                InvitationStatus::Accepted => StatusWord::Accepted,
                InvitationStatus::Revoked => StatusWord::Revoked,
                InvitationStatus::Expired => StatusWord::Expired,
            },
            expires_at: invitation.expires_at,
            created_at: invitation.created_at,
            accepted_at: invitation.accepted.map(|(at, _)| at),
            accepted_user_id: invitation.accepted.map(|(_, user)| user),
            revoked_at: invitation.revoked_at,
            expired_at: invitation.expired_at,
            initial_tuples: invitation.tuples.into_iter().map(InitialTuple::from).collect(),
        }
    }
}

impl From<StagedTuple> for InitialTuple {
    fn from(tuple: StagedTuple) -> Self {
        Self {
            relation: tuple.relation,
            object: tuple.object.object().to_string(),
            caveat_context: tuple.caveat.map(|caveat| caveat.context.into_iter().collect()),
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = InvitationList)]
struct List {
    items: Vec<Response>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// The operations of Invitations.
pub(crate) fn operations(invitations: &Invitations, cursors: &CursorCodec) -> Vec<Operation> {
    vec![
        create(invitations.clone()),
        list(invitations.clone(), cursors.clone()),
        get(invitations.clone()),
        revoke(invitations.clone()),
    ]
}

fn create(invitations: Invitations) -> Operation {
    let gate = Gate::on("manage", "domain", "id", Code::InvalidDomainId);
    Operation::new("CreateInvitation", Method::POST, "/v1/domains/{id}/invitations", gate)
        .words(
            TAG,
            "Invite somebody",
            "Stages rights for one external subject; its next sign-in to the Domain takes them. There is one pending \
             invitation per subject. Whom it is for is stored sealed and never shown again.",
        )
        .json_body::<CreateRequest>(8 * KIB)
        .body_rules(|rules| rules.free_form = &["initial_tuples"])
        .creates::<Response>("The new invitation.")
        .problems(&[
            Code::InvalidDomainId,
            Code::InvalidTtl,
            Code::DomainNotFound,
            Code::InvitationAlreadyPending,
            Code::TooManyInitialTuples,
            Code::InvitationObjectOutOfScope,
            Code::InvalidCaveatContext,
        ])
        .handler(move |call| {
            let invitations = invitations.clone();
            async move { do_create(&invitations, &call).await }
        })
}

async fn do_create(invitations: &Invitations, call: &Call) -> Result<Reply, Problem> {
    let domain: DomainId = call.params.id("id", Code::InvalidDomainId)?;
    let request: CreateRequest = call.json()?;
    let drafts: Vec<TupleDraft<'_>> = request
        .initial_tuples
        .iter()
        .flatten()
        .map(|tuple| TupleDraft {
            relation: &tuple.relation,
            object: &tuple.object,
            caveat_context: tuple.caveat_context.as_ref(),
        })
        .collect();
    let subject = &request.external_subject;
    let new = NewInvitation::check(domain, subject, request.ttl_seconds, &drafts, invitations.grants())?;
    let invitation = invitations.create(&Actor::of(call)?, domain, new).await?;
    let location = format!("/v1/domains/{domain}/invitations/{}", invitation.id);
    Ok(Reply::json(StatusCode::CREATED, &Response::from(invitation))?.header(LOCATION, &location))
}

fn list(invitations: Invitations, cursors: CursorCodec) -> Operation {
    let gate = Gate::on("read", "domain", "id", Code::InvalidDomainId);
    Operation::new("ListInvitations", Method::GET, "/v1/domains/{id}/invitations", gate)
        .words(
            TAG,
            "List invitations",
            "Pages of the Domain's invitations, newest first, of one status or of all. Only a missing cursor ends the \
             list.",
        )
        .paged()
        .problems(&[Code::CursorBindingMismatch])
        .query("status", "Only invitations in this status; `all` by default.", StatusFilter::schema())
        .answers::<List>(200, "A page.")
        .problems(&[Code::InvalidDomainId, Code::InvalidStatus, Code::DomainNotFound])
        .handler(move |call| {
            let (invitations, cursors) = (invitations.clone(), cursors.clone());
            async move { do_list(&invitations, &cursors, &call).await }
        })
}

async fn do_list(invitations: &Invitations, cursors: &CursorCodec, call: &Call) -> Result<Reply, Problem> {
    let domain: DomainId = call.params.id("id", Code::InvalidDomainId)?;
    let status = match call.query.one("status", Code::InvalidStatus)? {
        None | Some("all") => None,
        Some(word) => Some(InvitationStatus::parse(word).ok_or_else(|| {
            Problem::new(Code::InvalidStatus, "`status` must be `pending`, `accepted`, `revoked`, `expired` or `all`.")
        })?),
    };
    let filters = format!("domain={domain} status={}", status.map_or("all", InvitationStatus::as_str));
    let page = cursors.page::<(Timestamp, Uuid)>(call, &filters)?;
    let mut rows = invitations.page(&Actor::of(call)?, (domain, status), page.after, page.limit + 1).await?;
    let key = |invitation: &Invitation| (invitation.created_at, invitation.id.uuid());
    let next_cursor = pages::cut(&mut rows, page.limit, (cursors, call, &filters), key)?;
    Reply::json(StatusCode::OK, &List { items: rows.into_iter().map(Response::from).collect(), next_cursor })
}

fn get(invitations: Invitations) -> Operation {
    let gate = Gate::on("read", "domain", "id", Code::InvalidDomainId);
    Operation::new("GetInvitation", Method::GET, "/v1/domains/{id}/invitations/{invitation_id}", gate)
        .words(TAG, "Read an invitation", "The invitation as it stands. One of another Domain reads as missing.")
        .answers::<Response>(200, "The invitation.")
        .path_id("invitation_id", Code::InvalidInvitationId)
        .problems(&[Code::InvalidDomainId, Code::InvalidInvitationId, Code::InvitationNotFound])
        .handler(move |call| {
            let invitations = invitations.clone();
            async move {
                let domain = call.params.id("id", Code::InvalidDomainId)?;
                let id = call.params.id("invitation_id", Code::InvalidInvitationId)?;
                let invitation = invitations.get(&Actor::of(&call)?, domain, id).await?;
                Reply::json(StatusCode::OK, &Response::from(invitation))
            }
        })
}

fn revoke(invitations: Invitations) -> Operation {
    let gate = Gate::on("manage", "domain", "id", Code::InvalidDomainId);
    Operation::new("RevokeInvitation", Method::DELETE, "/v1/domains/{id}/invitations/{invitation_id}", gate)
        .words(
            TAG,
            "Take an invitation back",
            "Ends a pending invitation. Repeating it changes nothing; one that was accepted or has expired says so.",
        )
        .answers_empty(204, "Revoked, now or before.")
        .path_id("invitation_id", Code::InvalidInvitationId)
        .problems(&[
            Code::InvalidDomainId,
            Code::InvalidInvitationId,
            Code::InvitationNotFound,
            Code::InvitationAlreadyAccepted,
            Code::InvitationAlreadyExpired,
        ])
        .handler(move |call| {
            let invitations = invitations.clone();
            async move {
                let domain = call.params.id("id", Code::InvalidDomainId)?;
                let id = call.params.id("invitation_id", Code::InvalidInvitationId)?;
                invitations.revoke(&Actor::of(&call)?, domain, id).await?;
                Ok(Reply::empty(StatusCode::NO_CONTENT))
            }
        })
}
