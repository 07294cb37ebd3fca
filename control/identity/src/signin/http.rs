//! Requests and responses of signing in.

use std::sync::Arc;

use http::header::{ACCEPT, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use plexsphere_kernel::http::pipeline::cookies::cookie;
use plexsphere_kernel::http::{Call, Gate, KIB, Operation, Reply};
use plexsphere_oidc::{Origin, Prompt, ReturnTo, Secret, SpiffeBundles};
use plexsphere_wire::{Code, DomainId, IdpBindingId, PrincipalId, Problem};
use serde::{Deserialize, Serialize};
use utoipa::{PartialSchema as _, ToSchema};

use super::machines::{Grant, Machines};
use super::select::{SelectRefusal, Wanted};
use super::service::{SignInRefusal, SignIns};
use crate::bindings::{BindingOwner, IdpBinding};
use crate::sessions::{is_secure, set_cookies};
use crate::{journal::Actor, text};

const TAG: &str = "auth";

/// Ties a sign-in to the browser that began it; holds the state.
const LOGIN_COOKIE: &str = "plexsphere_login";
const CLEAR_LOGIN: HeaderValue =
    HeaderValue::from_static("plexsphere_login=; Path=/v1/auth/callback; Max-Age=0; HttpOnly; SameSite=Lax");

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const CLIENT_CREDENTIALS: &str = "client_credentials";

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SignInRequest)]
struct SignInRequest {
    /// Of which Domain the person wants to be; absent for a sign-in to the platform.
    #[serde(default)]
    #[schema(value_type = Option<DomainId>)]
    domain_id: Option<String>,
    /// Through which binding.
    #[serde(default)]
    #[schema(value_type = Option<IdpBindingId>)]
    idp_binding_id: Option<String>,
    /// Where the browser goes afterwards: a path of this site, or an allowed origin's address.
    #[serde(default)]
    #[schema(max_length = 4096)]
    return_to: Option<String>,
    /// `login`, `consent`, `select_account` or `none`; others are not forwarded.
    #[serde(default)]
    #[schema(max_length = 4096)]
    prompt: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = SignInResponse)]
struct SignInResponse<'a> {
    /// Where to send the browser.
    #[schema(format = "uri")]
    authorization_url: &'a str,
    /// Comes back with the browser.
    state: &'a str,
    /// Stands for the verifier, which stays on the server.
    code_verifier_handle: &'a str,
    /// Comes back in the id token.
    nonce: &'a str,
}

/// A binding as the chooser shows it.
#[derive(Serialize, ToSchema)]
#[schema(as = DomainIdPBinding)]
struct Choice {
    /// Its id.
    id: IdpBindingId,
    /// Its alias, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    /// What people read.
    label: String,
    /// The host of its issuer.
    issuer_host: String,
    /// Whether it is the Domain's primary one.
    primary: bool,
    /// Whether it is the platform's.
    platform_scoped: bool,
}

#[derive(Serialize, ToSchema)]
#[serde(transparent)]
struct Choices(Vec<Choice>);

#[expect(dead_code, reason = "the document reads it")]
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum ScopeWord {
    Platform,
}

#[expect(dead_code, reason = "the document reads it")]
#[derive(ToSchema)]
enum GrantWord {
    #[schema(rename = "client_credentials")]
    ClientCredentials,
    #[schema(rename = "urn:ietf:params:oauth:grant-type:jwt-bearer")]
    JwtBearer,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ServiceTokenRequest)]
struct ServiceTokenRequest {
    /// `client_credentials` or the JWT-bearer grant.
    #[serde(default)]
    #[schema(value_type = GrantWord, required = true)]
    grant_type: String,
    /// The id of the service identity.
    #[serde(default)]
    #[schema(max_length = 4096)]
    client_id: Option<String>,
    /// Its secret at the Domain's provider.
    #[serde(default)]
    #[schema(max_length = 4096)]
    client_secret: Option<String>,
    /// Its JWT-SVID.
    #[serde(default)]
    #[schema(max_length = 4096)]
    client_assertion: Option<String>,
    /// Accepted and not narrowed.
    #[serde(default, rename = "scope")]
    #[schema(max_length = 4096)]
    _scope: Option<String>,
}

/// An access token of the service or device flow.
#[derive(Serialize, ToSchema)]
#[schema(as = ServiceTokenResponse)]
pub(crate) struct AccessTokenResponse<'a> {
    /// The token's text, shown this once.
    pub(crate) access_token: &'a str,
    /// Always `Bearer`.
    pub(crate) token_type: &'static str,
    /// Its life, in seconds.
    #[schema(minimum = 1)]
    pub(crate) expires_in: u64,
    /// Absent: the token is not narrowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<&'a str>,
}

/// What the operations of this module need.
pub(crate) struct Parts {
    /// The use cases.
    pub(crate) sign_ins: SignIns,
    /// Sites besides this one that a sign-in may return to.
    pub(crate) return_to: Vec<Origin>,
    /// Verifies assertions; `None` where that is switched off.
    pub(crate) bundles: Option<Arc<SpiffeBundles>>,
}

/// The operations of this module.
pub(crate) fn operations(parts: Parts) -> Vec<Operation> {
    let Parts { sign_ins, return_to, bundles } = parts;
    let machines = Machines { sign_ins: sign_ins.clone(), bundles };
    vec![sign_in(&sign_ins, return_to), chooser(&sign_ins), callback(&sign_ins), service_token(machines)]
}

fn sign_in(sign_ins: &SignIns, return_to: Vec<Origin>) -> Operation {
    let (sign_ins, return_to) = (sign_ins.clone(), Arc::new(return_to));
    let gate = Gate::Open("nobody is signed in yet");
    Operation::new("PostAuthSignIn", Method::POST, "/v1/auth/sign-in", gate)
        .words(
            TAG,
            "Begin a sign-in",
            "Finds the binding, and answers where to send the browser. The answer's cookie ties the sign-in to this \
             browser for ten minutes.",
        )
        .throttled()
        .json_body::<SignInRequest>(16 * KIB)
        .answers::<SignInResponse<'static>>(200, "Where to send the browser.")
        .problems(&[Code::InvalidSignInRequest, Code::InvalidReturnTo, Code::BindingNotFound])
        .handler(move |call| {
            let (sign_ins, return_to) = (sign_ins.clone(), Arc::clone(&return_to));
            async move { do_sign_in(&sign_ins, &return_to, &call).await }
        })
}

async fn do_sign_in(sign_ins: &SignIns, allowed: &[Origin], call: &Call) -> Result<Reply, Problem> {
    let request: SignInRequest = call.json()?;
    let return_to = match &request.return_to {
        Some(text) => ReturnTo::parse(text, allowed)
            .map_err(|refused| Problem::new(refused.code(), "`return_to` leads elsewhere."))?,
        None => ReturnTo::home(),
    };
    let invalid = |what: &str| Problem::new(Code::InvalidSignInRequest, format!("{what}."));
    let id = |text: &Option<String>, name: &str| -> Result<Option<PrincipalId>, Problem> {
        text.as_deref().map(str::parse).transpose().map_err(|_| invalid(&format!("`{name}` is no id")))
    };
    let domain: Option<DomainId> = id(&request.domain_id, "domain_id")?.map(|id| DomainId::from_uuid(id.uuid()));
    let binding: Option<IdpBindingId> =
        id(&request.idp_binding_id, "idp_binding_id")?.map(|id| IdpBindingId::from_uuid(id.uuid()));
    let wanted = Wanted { domain, binding, alias: None };
    let binding = sign_ins.binding(&wanted).await?.map_err(|refusal| match refusal {
        SelectRefusal::Ambiguous => invalid("The request selects no single identity provider"),
        SelectRefusal::NotFound => Problem::new(Code::BindingNotFound, "There is no usable identity provider."),
    })?;
    let prompt = request.prompt.as_deref().and_then(Prompt::parse);
    let begun = sign_ins.begin(&binding, wanted.domain, (&return_to, prompt), call.now).await?;
    let state = begun.secrets.state.expose();
    let body = SignInResponse {
        authorization_url: &begun.authorization_url,
        state,
        code_verifier_handle: begun.secrets.handle.expose(),
        nonce: begun.secrets.nonce.expose(),
    };
    let secure = if is_secure(&call.headers) { "; Secure" } else { "" };
    let cookie = format!("{LOGIN_COOKIE}={state}; Path=/v1/auth/callback; Max-Age=600; HttpOnly; SameSite=Lax{secure}");
    Ok(Reply::json(StatusCode::OK, &body)?.no_store().header(SET_COOKIE, &cookie))
}

fn chooser(sign_ins: &SignIns) -> Operation {
    let sign_ins = sign_ins.clone();
    let gate = Gate::Open("people choose before they sign in");
    Operation::new("GetAuthIdPBindings", Method::GET, "/v1/auth/idp-bindings", gate)
        .words(
            TAG,
            "List the identity providers to choose from",
            "The usable ones of a Domain, or the platform's where it owns none; the primary one first. A Domain that \
             does not exist reads as one that owns none.",
        )
        .throttled()
        .query("domain_id", "Whose.", DomainId::schema())
        .query("scope", "`platform` for those of the platform; it wins over `domain_id`.", ScopeWord::schema())
        .answers::<Choices>(200, "The providers.")
        .problems(&[Code::InvalidDomainId])
        .handler(move |call| {
            let sign_ins = sign_ins.clone();
            async move { do_choose(&sign_ins, &call).await }
        })
}

async fn do_choose(sign_ins: &SignIns, call: &Call) -> Result<Reply, Problem> {
    let platform = call.query.one("scope", Code::InvalidDomainId)? == Some("platform");
    let domain = call.query.one("domain_id", Code::InvalidDomainId)?.filter(|_| !platform);
    let invalid = |_| Problem::new(Code::InvalidDomainId, "`domain_id` is no id.");
    let domain: Option<DomainId> = domain.map(str::parse).transpose().map_err(invalid)?;
    if domain.is_none() && !platform {
        return Ok(Reply::json(StatusCode::OK, &Choices(Vec::new()))?.no_store());
    }
    let candidates = sign_ins.candidates(domain).await?;
    let mut choices: Vec<Choice> = candidates.usable().map(choice).collect();
    choices.sort_by(|a, b| b.primary.cmp(&a.primary).then_with(|| a.label.cmp(&b.label)));
    Ok(Reply::json(StatusCode::OK, &Choices(choices))?.no_store())
}

fn choice(binding: &IdpBinding) -> Choice {
    let host = url::Url::parse(&binding.issuer).ok().and_then(|url| url.host_str().map(str::to_owned));
    let issuer_host = host.unwrap_or_default();
    let alias = binding.settings.alias.clone();
    Choice {
        id: binding.id,
        label: alias.clone().unwrap_or_else(|| issuer_host.clone()),
        alias,
        issuer_host,
        primary: binding.settings.primary,
        platform_scoped: binding.owner == BindingOwner::Platform,
    }
}

fn callback(sign_ins: &SignIns) -> Operation {
    let sign_ins = sign_ins.clone();
    let gate = Gate::Open("the browser comes back from the identity provider");
    Operation::new("GetAuthCallback", Method::GET, "/v1/auth/callback", gate)
        .words(
            TAG,
            "Finish a sign-in",
            "Where the identity provider sends the browser. Success opens a session and leads on; a refusal leads to `/` \
             with `auth_error_kind`, `auth_error_status` and `auth_error_detail`, or is a problem for a client that asks \
             for JSON.",
        )
        .throttled()
        .required_query("code", "What the provider gave.", String::schema())
        .required_query("state", "Which sign-in it is.", String::schema())
        .answers_empty(303, "The sign-in is over, for good or for bad.")
        .problems(&[
            Code::StateMismatch,
            Code::VerifierExpired,
            Code::IdpDenied,
            Code::BindingInactive,
            Code::TokenExchangeRejected,
            Code::IdpUnreachable,
            Code::IdTokenInvalid,
            Code::NonceMismatch,
            Code::AssuranceNotMet,
            Code::UserNotProvisioned,
        ])
        .always_sets(SET_COOKIE, CLEAR_LOGIN)
        .handler(move |call| {
            let sign_ins = sign_ins.clone();
            async move { do_callback(&sign_ins, &call).await }
        })
}

async fn do_callback(sign_ins: &SignIns, call: &Call) -> Result<Reply, Problem> {
    let login = cookie(&call.headers, LOGIN_COOKIE);
    match sign_ins.finish(call.query.raw(), login, |subject| Actor::acting_for(call, subject)).await {
        Ok(signed_in) => {
            let mut reply = Reply::empty(StatusCode::SEE_OTHER).no_store().header(LOCATION, &signed_in.return_to);
            for line in set_cookies(&signed_in.opened, is_secure(&call.headers))? {
                reply.headers.append(SET_COOKIE, line);
            }
            Ok(reply)
        }
        Err(refusal) => refuse(refusal, &call.headers),
    }
}

/// A refusal for whoever asked: a redirect for a browser, a problem for a program.
fn refuse(refusal: SignInRefusal, headers: &HeaderMap) -> Result<Reply, Problem> {
    let code = refusal.code();
    let detail = text::sentence(&refusal);
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
    let program = accept.contains("application/json") || accept.contains("application/problem+json");
    if program && !accept.contains("text/html") {
        return Err(match refusal {
            SignInRefusal::Fault(fault) => fault.into(),
            _ => Problem::new(code, detail),
        });
    }
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("auth_error_kind", code.as_str())
        .append_pair("auth_error_status", &code.status_u16().to_string())
        .append_pair("auth_error_detail", &detail)
        .finish();
    Ok(Reply::empty(StatusCode::SEE_OTHER).no_store().header(LOCATION, &format!("/?{query}")))
}

fn service_token(machines: Machines) -> Operation {
    let gate = Gate::Open("the credential is in the body");
    Operation::new("PostAuthServiceToken", Method::POST, "/v1/auth/service/token", gate)
        .words(
            TAG,
            "Exchange a service identity's credential for an access token",
            "A client secret is redeemed at the Domain's identity provider; a JWT-SVID is verified against its bundle. \
             The grant must fit the identity's federation kind.",
        )
        .throttled()
        .json_body::<ServiceTokenRequest>(16 * KIB)
        .answers::<AccessTokenResponse<'static>>(200, "The token.")
        .problems(&[
            Code::UnsupportedGrantType,
            Code::InvalidRequest,
            Code::InvalidClient,
            Code::InvalidClientBadGateway,
            Code::FederationKindMismatch,
            Code::IdpUnreachable,
            Code::SpiffeBundleUnconfigured,
            Code::SpiffeBundleUnreachable,
            Code::SpiffeVerificationFailed,
            Code::NotProvisioned,
        ])
        .handler(move |call| {
            let machines = machines.clone();
            async move { do_service_token(&machines, &call).await }
        })
}

async fn do_service_token(machines: &Machines, call: &Call) -> Result<Reply, Problem> {
    let request: ServiceTokenRequest = call.json()?;
    let (client, grant) = read_grant(request)?;
    let granted = machines.redeem(&client, grant, |subject| Actor::acting_for(call, subject)).await?;
    let body = AccessTokenResponse {
        access_token: &granted.access_token,
        token_type: "Bearer",
        expires_in: granted.expires_in,
        scope: None,
    };
    Ok(Reply::json(StatusCode::OK, &body)?.no_store())
}

fn read_grant(request: ServiceTokenRequest) -> Result<(String, Grant), Problem> {
    let ServiceTokenRequest { grant_type, client_id, client_secret, client_assertion, .. } = request;
    let invalid = |detail: &str| Problem::new(Code::InvalidRequest, detail);
    let filled = |member: Option<String>| member.filter(|text| !text.is_empty() && text.len() <= 4_096);
    if ![CLIENT_CREDENTIALS, JWT_BEARER].contains(&grant_type.as_str()) {
        return Err(Problem::new(Code::UnsupportedGrantType, "`grant_type` is not one that is taken here."));
    }
    let client = filled(client_id).ok_or_else(|| invalid("`client_id` is missing."))?;
    match (grant_type == CLIENT_CREDENTIALS, client_secret, client_assertion) {
        (true, secret, None) => {
            let secret = filled(secret).ok_or_else(|| invalid("`client_secret` is missing."))?;
            Ok((client, Grant::ClientCredentials(Secret::new(secret))))
        }
        (false, None, assertion) => {
            let assertion = filled(assertion).ok_or_else(|| invalid("`client_assertion` is missing."))?;
            Ok((client, Grant::Assertion(Secret::new(assertion))))
        }
        _ => Err(invalid("The request has a member of the other grant type.")),
    }
}
