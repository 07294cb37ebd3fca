//! Operations of enrolment.

mod body;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::LOCATION;
use http::{Method, StatusCode};
use plexsphere_kernel::http::pipeline::Throttle;
use plexsphere_kernel::http::{Call, Gate, KIB, Operation, Reply};
use plexsphere_kernel::paging::CursorCodec;
use plexsphere_kernel::seams::PeerView;
use plexsphere_wire::{Code, NodeId, PrincipalId, Problem, ProjectId, Timestamp, TokenId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;
use zeroize::Zeroizing;

use self::body::{NULLABLE, RegisterBody};
use super::register::{Demand, RequestDraft};
use super::token::StoredToken;
use super::{BootstrapTokenRefusal, BootstrapTokens, Registration};
use crate::journal::Actor;
use crate::pages;

const TAG: &str = "bootstrap-tokens";

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "stands in the document only: the aggregate judges the word")]
enum KindWord {
    Node,
    Bridge,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BootstrapTokenIssueRequest)]
struct IssueRequest {
    /// `bridge` for a Resource of kind `bridge`, `node` for every other.
    #[schema(inline, value_type = KindWord)]
    kind: String,
    #[schema(min_length = 1, max_length = 32, pattern = "^[a-z]+$")]
    env_prefix: String,
    /// The lifetime in seconds.
    #[schema(minimum = 300, maximum = 86_400)]
    ttl_seconds: i64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = BootstrapTokenIssueResponse)]
struct IssueResponse<'a> {
    token_id: TokenId,
    /// The token's text, shown this once.
    token: &'a str,
    issued_at: Timestamp,
    expires_at: Timestamp,
}

#[derive(Serialize, ToSchema)]
#[schema(as = BootstrapTokenMetadata)]
struct Metadata {
    id: TokenId,
    project_id: ProjectId,
    #[schema(inline, value_type = KindWord)]
    kind: &'static str,
    env_prefix: String,
    issued_at: Timestamp,
    expires_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Timestamp>,
    /// Who issued it.
    issued_by_user_id: PrincipalId,
}

impl From<StoredToken> for Metadata {
    fn from(token: StoredToken) -> Self {
        Self {
            id: token.id,
            project_id: token.project,
            kind: token.kind.as_str(),
            env_prefix: token.env_prefix,
            issued_at: token.issued_at,
            expires_at: token.expires_at,
            consumed_at: token.consumed_at,
            revoked_at: token.revoked_at,
            issued_by_user_id: token.issued_by,
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = BootstrapTokenList)]
struct List {
    items: Vec<Metadata>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = RegisterResponse)]
struct RegisterReply<'a> {
    node_id: NodeId,
    #[schema(min_length = 1)]
    mesh_ip: String,
    /// The Domain's signing key: base64 of the raw 32 bytes.
    #[schema(min_length = 1)]
    signing_public_key: String,
    #[schema(min_length = 1)]
    signing_key_id: String,
    /// The Node's secret key: base64 of 32 bytes, shown this once.
    #[schema(min_length = 1)]
    nsk: &'a str,
    /// Every other live Peer of the Domain.
    peer_snapshot: Vec<PeerView>,
    #[schema(
        min_length = 1,
        max_length = 49,
        pattern = "^([0-9]{1,3}\\.){3}[0-9]{1,3}/[0-9]{1,2}$|^[0-9a-fA-F:]+/[0-9]{1,3}$"
    )]
    domain_mesh_cidr: String,
}

/// The operations of enrolment. `throttle` bounds registrations per source.
pub(crate) fn operations(
    tokens: &BootstrapTokens,
    registration: &Registration,
    cursors: &CursorCodec,
    throttle: Arc<Throttle>,
) -> Vec<Operation> {
    vec![
        issue(tokens.clone()),
        list(tokens.clone(), cursors.clone()),
        get(tokens.clone()),
        revoke(tokens.clone()),
        register(registration.clone(), throttle),
    ]
}

fn project(call: &Call) -> Result<ProjectId, Problem> {
    call.params.id("project_id", Code::InvalidProjectId)
}

/// No 400 is declared where the path names a token, so a malformed id, the Project's too, reads as an unknown one.
fn token_id(call: &Call) -> Result<TokenId, BootstrapTokenRefusal> {
    call.params.text("id").parse().map_err(|_| BootstrapTokenRefusal::NotFound)
}

fn issue(tokens: BootstrapTokens) -> Operation {
    let gate = Gate::on("deploy", "project", "project_id", Code::InvalidProjectId);
    Operation::new("IssueBootstrapToken", Method::POST, "/v1/projects/{project_id}/bootstrap-tokens", gate)
        .words(
            TAG,
            "Issue a bootstrap token",
            "Makes a one-shot token with which one machine enrols into the Project. Its text is shown in this answer and \
             never again. Each call makes a new one.",
        )
        .json_body::<IssueRequest>(64 * KIB)
        .creates::<IssueResponse<'static>>("The token and its text.")
        .problems(&[
            Code::InvalidProjectId,
            Code::InvalidKind,
            Code::InvalidEnvPrefix,
            Code::TtlOutOfRange,
            Code::ProjectNotFound,
        ])
        .handler(move |call| {
            let tokens = tokens.clone();
            async move {
                let (project, request) = (project(&call)?, call.json::<IssueRequest>()?);
                let words = (request.kind.as_str(), request.env_prefix.as_str());
                let (token, text) = tokens.issue(&Actor::of(&call)?, project, words, request.ttl_seconds).await?;
                let body = IssueResponse {
                    token_id: token.id,
                    token: &text,
                    issued_at: token.issued_at,
                    expires_at: token.expires_at,
                };
                let location = format!("/v1/projects/{project}/bootstrap-tokens/{}", token.id);
                Ok(Reply::json(StatusCode::CREATED, &body)?.header(LOCATION, &location).no_store())
            }
        })
}

fn list(tokens: BootstrapTokens, cursors: CursorCodec) -> Operation {
    let gate = Gate::on("observe", "project", "project_id", Code::InvalidProjectId);
    Operation::new("ListBootstrapTokens", Method::GET, "/v1/projects/{project_id}/bootstrap-tokens", gate)
        .words(
            TAG,
            "List bootstrap tokens",
            "Pages of a Project's tokens in the order of issue, without their texts; those that ended stay until they are \
             swept, 90 days later.",
        )
        .paged()
        .answers::<List>(200, "A page.")
        .problems(&[Code::InvalidProjectId, Code::ProjectNotFound])
        .handler(move |call| {
            let (tokens, cursors) = (tokens.clone(), cursors.clone());
            async move { do_list(&tokens, &cursors, &call).await }
        })
}

async fn do_list(tokens: &BootstrapTokens, cursors: &CursorCodec, call: &Call) -> Result<Reply, Problem> {
    let project = project(call)?;
    let filters = format!("project_id={project}");
    let page = cursors.page::<(Timestamp, Uuid)>(call, &filters)?;
    let mut rows = tokens.page(project, page.after, page.limit + 1).await?;
    let key = |token: &StoredToken| (token.issued_at, token.id.uuid());
    let next_cursor = pages::cut(&mut rows, page.limit, (cursors, call, &filters), key)?;
    let items = rows.into_iter().map(Metadata::from).collect();
    Reply::json(StatusCode::OK, &List { items, next_cursor })
}

fn get(tokens: BootstrapTokens) -> Operation {
    let gate = Gate::on("observe", "project", "project_id", Code::ProjectNotFound);
    Operation::new("GetBootstrapTokenMetadata", Method::GET, "/v1/projects/{project_id}/bootstrap-tokens/{id}", gate)
        .words(TAG, "Read a bootstrap token", "What is known of a token, without its text.")
        .answers::<Metadata>(200, "The token.")
        .problems(&[Code::ProjectNotFound, Code::BootstrapTokenNotFound])
        .handler(move |call| {
            let tokens = tokens.clone();
            async move {
                let token = tokens.get(project(&call)?, token_id(&call)?).await?;
                Reply::json(StatusCode::OK, &Metadata::from(token))
            }
        })
}

fn revoke(tokens: BootstrapTokens) -> Operation {
    let gate = Gate::on("deploy", "project", "project_id", Code::ProjectNotFound);
    Operation::new("RevokeBootstrapToken", Method::DELETE, "/v1/projects/{project_id}/bootstrap-tokens/{id}", gate)
        .words(
            TAG,
            "Revoke a bootstrap token",
            "Ends a token that is not redeemed, also an expired one. A token that ended says how and when.",
        )
        .answers_empty(204, "Revoked.")
        .problems(&[
            Code::ProjectNotFound,
            Code::BootstrapTokenNotFound,
            Code::TokenConsumedConflict,
            Code::TokenRevokedConflict,
        ])
        .handler(move |call| {
            let tokens = tokens.clone();
            async move {
                tokens.revoke(&Actor::of(&call)?, project(&call)?, token_id(&call)?).await?;
                Ok(Reply::empty(StatusCode::NO_CONTENT))
            }
        })
}

fn register(registration: Registration, throttle: Arc<Throttle>) -> Operation {
    let gate = Gate::Open("the bootstrap token in the body is the credential");
    Operation::new("PostRegister", Method::POST, "/v1/register", gate)
        .words(
            TAG,
            "Register a Node",
            "Redeems a bootstrap token: binds the machine to its Resource, gives it a mesh address, its secret key, the \
             Domain's signing key and its peers. The token is spent only by a 201; every refusal leaves it as it was. On \
             a Resource of a single-machine kind the new Node takes the place of the old one.",
        )
        .throttled_by(throttle)
        .json_body::<RegisterBody>(32 * KIB)
        .body_rules(|rules| {
            rules.gzip = true;
            rules.malformed = Code::MalformedRegisterRequest;
            rules.nullable = NULLABLE;
        })
        .answers::<RegisterReply<'static>>(201, "What the Node needs to join.")
        .problems(&[
            Code::RateLimited,
            Code::InvalidRegisterRequest,
            Code::PublicKeyInvalid,
            Code::TokenInvalid,
            Code::ProjectMismatch,
            Code::TokenConsumed,
            Code::TokenExpired,
            Code::TokenRevoked,
            Code::ProjectNotFound,
            Code::ResourceNotFound,
            Code::KindMismatch,
            Code::PoolExhausted,
            Code::SubrangeExhausted,
            Code::AllocatorContention,
            Code::SigningUnavailable,
            Code::NonceCollision,
            Code::PublicKeyInUse,
        ])
        .handler(move |call| {
            let registration = registration.clone();
            async move { do_register(&registration, &call).await }
        })
}

async fn do_register(registration: &Registration, call: &Call) -> Result<Reply, Problem> {
    let body = body::decode(&call.body)?;
    let bootstrap_token = Zeroizing::new(body.bootstrap_token);
    let demand = Demand::check(&RequestDraft {
        project_id: &body.project_id,
        resource_handle: &body.resource_handle,
        bootstrap_token: &bootstrap_token,
        nonce: &body.nonce,
        public_key: &body.public_key,
        requested_resource_id: body.requested_resource_id.as_deref().unwrap_or(""),
    })?;
    let enrolled = registration.register(call, &demand).await?;
    let nsk = Zeroizing::new(STANDARD.encode(enrolled.nsk.as_slice()));
    let reply = RegisterReply {
        node_id: enrolled.node,
        mesh_ip: enrolled.mesh_ip.to_string(),
        signing_public_key: enrolled.signing.public_key,
        signing_key_id: enrolled.signing.kid,
        nsk: &nsk,
        peer_snapshot: enrolled.peers,
        domain_mesh_cidr: enrolled.pool.to_string(),
    };
    Ok(Reply::json(StatusCode::CREATED, &reply)?.no_store())
}
