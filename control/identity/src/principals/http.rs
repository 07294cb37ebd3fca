//! Operations on the caller's own tokens, and who the caller is.

use http::{HeaderName, Method, StatusCode};
use plexsphere_kernel::http::{Call, Gate, KIB, Operation, Reply};
use plexsphere_kernel::{Authenticated, Credential, Principal, PrincipalScope, Subject};
use plexsphere_wire::{Code, DomainId, Problem, Timestamp, TokenId};
use serde::{Deserialize, Serialize};
use time::macros::format_description;
use utoipa::ToSchema;

use super::model::{StoredToken, TokenRefusal};
use super::service::{ApiTokens, Minted, Wanted};
use crate::journal::Actor;

const TAG: &str = "auth";
const SUNSET: HeaderName = HeaderName::from_static("sunset");

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = APITokenIssueRequest)]
pub(super) struct IssueRequest {
    /// `user:<uuid>` or `service:<uuid>`.
    #[schema(max_length = 44, pattern = "^(user|service):[0-9a-fA-F-]{36}$")]
    pub(super) identity_ref: String,
    /// The env segment of the token's text.
    #[schema(inline, value_type = EnvPrefix)]
    pub(super) env_prefix: String,
    /// The lifetime in seconds; 90 days when absent.
    #[schema(minimum = 1, maximum = 31_536_000)]
    pub(super) ttl_seconds: Option<i64>,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "stands in the document only: the aggregate judges the word")]
enum EnvPrefix {
    Dev,
    Stage,
    Prod,
}

#[derive(Serialize, ToSchema)]
#[schema(as = APITokenIssueResponse)]
pub(super) struct IssueResponse<'a> {
    id: TokenId,
    /// The token's text, shown this once.
    plaintext: &'a str,
    env_prefix: String,
    expires_at: Timestamp,
}

#[derive(Serialize, ToSchema)]
#[schema(as = APITokenRotateResponse)]
pub(super) struct RotateResponse<'a> {
    id: TokenId,
    /// The token's new text, shown this once.
    plaintext: &'a str,
    env_prefix: String,
    expires_at: Timestamp,
    /// Until when the old secret is good.
    rotation_deadline: Timestamp,
}

#[derive(Serialize, ToSchema)]
#[schema(as = APITokenSummary)]
struct Summary {
    id: TokenId,
    env_prefix: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<Timestamp>,
    created_at: Timestamp,
    expires_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotated_at: Option<Timestamp>,
}

/// The whole list: an identity has few enough tokens.
#[derive(Serialize, ToSchema)]
#[schema(as = APITokenSummaryList)]
pub(super) struct Summaries(Vec<Summary>);

impl From<StoredToken> for Summary {
    fn from(token: StoredToken) -> Self {
        Self {
            id: token.id,
            env_prefix: token.env_prefix,
            last_used_at: token.last_used_at,
            created_at: token.created_at,
            expires_at: token.expires_at,
            rotated_at: token.rotated_at,
        }
    }
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum PrincipalType {
    User,
    Service,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = PrincipalScope)]
enum ScopeWord {
    Domain,
    Platform,
}

#[derive(Serialize, ToSchema)]
struct Whoami {
    #[schema(inline)]
    principal_type: PrincipalType,
    #[schema(inline, required = false)]
    principal_scope: ScopeWord,
    /// The principal's UUID.
    subject: String,
    /// Absent for platform scope.
    #[serde(skip_serializing_if = "Option::is_none")]
    domain_id: Option<DomainId>,
    /// Absent for services, and where none is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    /// The assurance class of an interactive sign-in; absent for API tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    acr: Option<String>,
    /// The methods of an interactive sign-in; absent for API tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 16)]
    amr: Option<Vec<String>>,
}

/// The operations of this module.
pub(crate) fn operations(tokens: &ApiTokens) -> Vec<Operation> {
    vec![issue(tokens), list(tokens), revoke(tokens), rotate(tokens), whoami(tokens)]
}

fn issue(tokens: &ApiTokens) -> Operation {
    let tokens = tokens.clone();
    Operation::new("PostAuthTokens", Method::POST, "/v1/auth/tokens", Gate::AnyCaller("tokens are the caller's own"))
        .words(
            TAG,
            "Issue an API token for the caller",
            "Makes a long-lived token for the calling identity. Its text is shown in this answer and never again. A \
             caller that came by an API token gets at most that token's remaining lifetime.",
        )
        .json_body::<IssueRequest>(16 * KIB)
        .answers::<IssueResponse<'static>>(201, "The token and its text.")
        .problems(&[Code::InvalidApiToken, Code::IdentityRefNotSelf])
        .handler(move |call| {
            let tokens = tokens.clone();
            async move { do_issue(&tokens, &call).await }
        })
}

async fn do_issue(tokens: &ApiTokens, call: &Call) -> Result<Reply, Problem> {
    let request: IssueRequest = call.json()?;
    let principal = call.principal()?;
    check_ref(&request.identity_ref, &principal)?;
    let wanted = Wanted { env_prefix: request.env_prefix, ttl_seconds: request.ttl_seconds, own: own_token(call)? };
    issued(tokens.issue(&Actor::of(call)?, &principal, wanted).await?)
}

pub(super) fn issued(minted: Minted) -> Result<Reply, Problem> {
    let Minted { id, plaintext, env_prefix, expires_at, .. } = minted;
    let body = IssueResponse { id, plaintext: &plaintext, env_prefix, expires_at };
    Ok(Reply::json(StatusCode::CREATED, &body)?.no_store())
}

/// The token that the caller came by and when its secret ends, if it came by one.
pub(super) fn own_token(call: &Call) -> Result<Option<(TokenId, Timestamp)>, Problem> {
    Ok(match call.caller()? {
        Authenticated::Operator { credential: Credential::ApiToken { id, expires_at }, .. } => Some((*id, *expires_at)),
        Authenticated::Operator { .. } | Authenticated::Node(_) => None,
    })
}

/// Reads `user:<uuid>` or `service:<uuid>`.
pub(super) fn parse_ref(text: &str) -> Option<Subject> {
    let (kind, id) = text.split_once(':')?;
    let id = id.parse().ok()?;
    match kind {
        "user" => Some(Subject::User(id)),
        "service" => Some(Subject::Service(id)),
        _ => None,
    }
}

/// `identity_ref` must name the caller.
fn check_ref(text: &str, principal: &Principal) -> Result<(), TokenRefusal> {
    let named = parse_ref(text).ok_or(TokenRefusal::Invalid("identity_ref"))?;
    if named == principal.subject { Ok(()) } else { Err(TokenRefusal::NotSelf) }
}

fn list(tokens: &ApiTokens) -> Operation {
    let tokens = tokens.clone();
    Operation::new("GetAuthTokens", Method::GET, "/v1/auth/tokens", Gate::AnyCaller("tokens are the caller's own"))
        .words(
            TAG,
            "List the caller's API tokens",
            "Live tokens of the calling identity, newest first, without their texts.",
        )
        .answers::<Summaries>(200, "The live tokens.")
        .handler(move |call| {
            let tokens = tokens.clone();
            async move { listed(tokens.list(&Actor::of(&call)?, &call.principal()?).await?) }
        })
}

pub(super) fn listed(tokens: Vec<StoredToken>) -> Result<Reply, Problem> {
    let body = Summaries(tokens.into_iter().map(Summary::from).collect());
    Ok(Reply::json(StatusCode::OK, &body)?.no_store())
}

fn revoke(tokens: &ApiTokens) -> Operation {
    let tokens = tokens.clone();
    let gate = Gate::AnyCaller("tokens are the caller's own");
    Operation::new("DeleteAuthTokenByID", Method::DELETE, "/v1/auth/tokens/{id}", gate)
        .words(
            TAG,
            "Revoke one of the caller's API tokens",
            "The token stops working at once. A token of somebody else, an unknown id and a malformed id read alike.",
        )
        .answers_empty(204, "Revoked.")
        .problems(&[Code::ApiTokenNotFound])
        .handler(move |call| {
            let tokens = tokens.clone();
            async move {
                let id = token_id(&call)?;
                tokens.revoke(&Actor::of(&call)?, &call.principal()?, id).await?;
                Ok(Reply::empty(StatusCode::NO_CONTENT).no_store())
            }
        })
}

pub(super) fn token_id(call: &Call) -> Result<TokenId, TokenRefusal> {
    call.params.text("id").parse().map_err(|_| TokenRefusal::NotFound)
}

fn rotate(tokens: &ApiTokens) -> Operation {
    let tokens = tokens.clone();
    let gate = Gate::AnyCaller("tokens are the caller's own");
    Operation::new("PostAuthTokenRotate", Method::POST, "/v1/auth/tokens/{id}/rotate", gate)
        .words(
            TAG,
            "Rotate one of the caller's API tokens",
            "Gives the token a new secret and its full lifetime again, but to a caller that came by an API token at most \
             that token's remaining lifetime. The old secret works until the rotation deadline, at most a day; a second \
             rotation ends it at once.",
        )
        .answers::<RotateResponse<'static>>(200, "The token with its new text; `Sunset` says when the old one ends.")
        .problems(&[Code::ApiTokenNotFound])
        .handler(move |call| {
            let tokens = tokens.clone();
            async move { do_rotate(&tokens, &call).await }
        })
}

async fn do_rotate(tokens: &ApiTokens, call: &Call) -> Result<Reply, Problem> {
    let id = token_id(call)?;
    rotated(tokens.rotate(&Actor::of(call)?, &call.principal()?, (id, own_token(call)?.map(|(_, end)| end))).await?)
}

pub(super) fn rotated(minted: Minted) -> Result<Reply, Problem> {
    let Minted { id, plaintext, env_prefix, expires_at, rotation_deadline } = minted;
    let rotation_deadline = rotation_deadline.unwrap_or(expires_at);
    let body = RotateResponse { id, plaintext: &plaintext, env_prefix, expires_at, rotation_deadline };
    Ok(Reply::json(StatusCode::OK, &body)?.no_store().header(SUNSET, &http_date(rotation_deadline)?))
}

/// The IMF-fixdate of RFC 9110.
fn http_date(at: Timestamp) -> Result<String, Problem> {
    let form =
        format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    at.inner().format(form).map_err(|_| Problem::internal())
}

fn whoami(tokens: &ApiTokens) -> Operation {
    let tokens = tokens.clone();
    let gate = Gate::AnyCaller("it says who the caller is");
    Operation::new("GetAuthWhoami", Method::GET, "/v1/auth/whoami", gate)
        .words(TAG, "Say who the caller is", "The calling principal as the server understands it.")
        .answers::<Whoami>(200, "The caller.")
        .handler(move |call| {
            let tokens = tokens.clone();
            async move { do_whoami(&tokens, &call).await }
        })
}

async fn do_whoami(tokens: &ApiTokens, call: &Call) -> Result<Reply, Problem> {
    let principal = call.principal()?;
    let (principal_type, email) = match principal.subject {
        Subject::User(user) => (PrincipalType::User, tokens.email(user).await?),
        Subject::Service(_) | Subject::Node(_) | Subject::System(_) => (PrincipalType::Service, None),
    };
    let (principal_scope, domain_id) = match principal.scope {
        PrincipalScope::Platform => (ScopeWord::Platform, None),
        PrincipalScope::Domain(domain) => (ScopeWord::Domain, Some(domain)),
    };
    let subject = principal.subject.uuid().to_string();
    let assurance = match call.caller()? {
        Authenticated::Operator { credential, .. } => credential.assurance(),
        Authenticated::Node(_) => None,
    };
    let acr = assurance.and_then(|assurance| assurance.acr.clone());
    let amr = assurance.map(|assurance| assurance.amr.clone()).filter(|methods| !methods.is_empty());
    let body = Whoami { principal_type, principal_scope, subject, domain_id, email, acr, amr };
    Ok(Reply::json(StatusCode::OK, &body)?.no_store())
}
