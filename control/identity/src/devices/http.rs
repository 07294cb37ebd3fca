//! Requests and responses of the device flow.

use http::{Method, StatusCode};
use plexsphere_kernel::http::pipeline::{SESSION_COOKIE, cookies};
use plexsphere_kernel::http::{Call, Gate, KIB, Operation, Reply};
use plexsphere_kernel::{Assurance, Authenticated};
use plexsphere_oidc::UserCode;
use plexsphere_wire::{Code, DomainId, IdpBindingId, Problem};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::service::{Approval, Devices};
use crate::journal::Actor;
use crate::sessions::interactive;
use crate::signin::{AccessTokenResponse, SelectRefusal, SignIns, Wanted};

const TAG: &str = "auth";

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DeviceCodeRequest)]
struct DeviceCodeRequest {
    /// Of which Domain the device wants to be; absent for the platform.
    #[serde(default)]
    #[schema(value_type = Option<DomainId>)]
    domain_id: Option<String>,
    /// Through which binding.
    #[serde(default)]
    #[schema(value_type = Option<IdpBindingId>)]
    idp_binding_id: Option<String>,
    /// Or by its alias.
    #[serde(default)]
    #[schema(max_length = 4096)]
    idp_binding_alias: Option<String>,
    /// The binding's client id, if given.
    #[serde(default)]
    #[schema(max_length = 4096)]
    client_id: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = DeviceCodeResponse)]
struct DeviceCodeResponse<'a> {
    /// What the device polls with.
    device_code: &'a str,
    /// What the person types.
    user_code: &'a str,
    /// Where the person goes.
    #[schema(format = "uri")]
    verification_uri: &'a str,
    /// The same with the code filled in.
    #[schema(format = "uri")]
    verification_uri_complete: &'a str,
    /// The life of the codes, in seconds.
    #[schema(minimum = 1)]
    expires_in: u64,
    /// The least pause between two polls, in seconds.
    #[schema(minimum = 1)]
    interval: i32,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DeviceTokenRequest)]
struct DeviceTokenRequest {
    /// What the device was given.
    #[schema(max_length = 4096)]
    device_code: String,
    /// Ignored: the code says enough.
    #[serde(default, rename = "client_id")]
    #[schema(max_length = 4096)]
    _client_id: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DeviceApproveRequest)]
struct DeviceApproveRequest {
    /// What the device shows; with or without its dash.
    #[schema(pattern = "^[A-Z2-7]{4}-?[A-Z2-7]{4}$")]
    user_code: String,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Approved {
    Approved,
}

#[derive(Serialize, ToSchema)]
#[schema(as = DeviceApproveResponse)]
struct DeviceApproveResponse {
    /// Always `approved`.
    #[schema(inline)]
    status: Approved,
}

/// What the operations of this module need.
#[derive(Clone)]
pub(crate) struct Parts {
    /// The use cases.
    pub(crate) devices: Devices,
    /// Finds bindings.
    pub(crate) sign_ins: SignIns,
    /// `<public base>/device`.
    pub(crate) verification_uri: String,
    /// Whether devices may be signed in through the platform's own bindings.
    pub(crate) platform: bool,
}

/// The operations of this module.
pub(crate) fn operations(parts: &Parts) -> Vec<Operation> {
    vec![code(parts), token(parts), approve(parts)]
}

fn code(parts: &Parts) -> Operation {
    let parts = parts.clone();
    let gate = Gate::Open("a device has no credential yet");
    Operation::new("PostAuthDeviceCode", Method::POST, "/v1/auth/device-code", gate)
        .words(
            TAG,
            "Begin a device flow",
            "Gives a device the code that it polls with, and the code that a person types (RFC 8628). Both are good for \
             ten minutes.",
        )
        .throttled()
        .json_body::<DeviceCodeRequest>(16 * KIB)
        .answers::<DeviceCodeResponse<'static>>(200, "The codes.")
        .problems(&[Code::InvalidDeviceCodeRequest, Code::BindingNotFound])
        .handler(move |call| {
            let parts = parts.clone();
            async move { do_code(&parts, &call).await }
        })
}

async fn do_code(parts: &Parts, call: &Call) -> Result<Reply, Problem> {
    let request: DeviceCodeRequest = call.json()?;
    let invalid = |detail: &str| Problem::new(Code::InvalidDeviceCodeRequest, detail);
    let malformed = |_| invalid("An id is malformed.");
    let domain: Option<DomainId> = request.domain_id.as_deref().map(str::parse).transpose().map_err(malformed)?;
    let binding: Option<IdpBindingId> =
        request.idp_binding_id.as_deref().map(str::parse).transpose().map_err(malformed)?;
    let alias = request.idp_binding_alias.filter(|alias| !alias.is_empty());
    if binding.is_some() && alias.is_some() {
        return Err(invalid("Name the binding by id or by alias, not by both."));
    }
    if domain.is_none() && (!parts.platform || (binding.is_none() && alias.is_none())) {
        return Err(invalid("A device of the platform needs a binding, and an installation that allows it."));
    }
    let wanted = Wanted { domain, binding, alias };
    let binding = parts.sign_ins.binding(&wanted).await?.map_err(|refusal| match refusal {
        SelectRefusal::Ambiguous => invalid("The request selects no single identity provider."),
        SelectRefusal::NotFound => Problem::new(Code::BindingNotFound, "There is no usable identity provider."),
    })?;
    if request.client_id.is_some_and(|client| client != binding.client_id) {
        return Err(invalid("`client_id` is not the binding's."));
    }
    let asked = parts.devices.ask(binding.id.uuid(), domain, call.now).await?;
    let complete = format!("{}?user_code={}", parts.verification_uri, asked.user_code);
    let body = DeviceCodeResponse {
        device_code: &asked.device_code,
        user_code: &asked.user_code,
        verification_uri: &parts.verification_uri,
        verification_uri_complete: &complete,
        expires_in: asked.expires_in,
        interval: asked.interval,
    };
    Ok(Reply::json(StatusCode::OK, &body)?.no_store())
}

fn token(parts: &Parts) -> Operation {
    let devices = parts.devices.clone();
    let gate = Gate::Open("the device code is the credential");
    Operation::new("PostAuthDeviceToken", Method::POST, "/v1/auth/device-token", gate)
        .words(
            TAG,
            "Ask whether a device was approved",
            "Success comes once: an access token of the person who approved. A device that asks sooner than its interval \
             must wait longer.",
        )
        .throttled()
        .json_body::<DeviceTokenRequest>(16 * KIB)
        .answers::<AccessTokenResponse<'static>>(200, "The token.")
        .problems(&[
            Code::AuthorizationPending,
            Code::SlowDown,
            Code::AccessDenied,
            Code::ExpiredToken,
            Code::InvalidGrant,
        ])
        .handler(move |call| {
            let devices = devices.clone();
            async move {
                let DeviceTokenRequest { device_code, .. } = call.json()?;
                let acting = |subject| Actor::acting_for(&call, subject);
                let granted = devices.poll(&device_code, call.now, acting).await?;
                let body = AccessTokenResponse {
                    access_token: &granted.access_token,
                    token_type: "Bearer",
                    expires_in: granted.expires_in,
                    scope: None,
                };
                Ok(Reply::json(StatusCode::OK, &body)?.no_store())
            }
        })
}

fn approve(parts: &Parts) -> Operation {
    let devices = parts.devices.clone();
    let gate = Gate::AnyCaller("a person lends a device their own sign-in");
    Operation::new("PostAuthDeviceApprove", Method::POST, "/v1/auth/device/approve", gate)
        .words(
            TAG,
            "Approve a device",
            "For people with a browser session of the device's Domain: the device gets an access token of theirs. Ten \
             tries a minute.",
        )
        .json_body::<DeviceApproveRequest>(16 * KIB)
        .answers::<DeviceApproveResponse>(200, "Approved.")
        .problems(&[
            Code::InvalidUserCode,
            Code::ApiTokenNotAllowed,
            Code::DeviceCodeNotFound,
            Code::DeviceCodeExpired,
            Code::DeviceCodeAlreadyApproved,
            Code::RateLimited,
        ])
        .handler(move |call| {
            let devices = devices.clone();
            async move { do_approve(&devices, &call).await }
        })
}

async fn do_approve(devices: &Devices, call: &Call) -> Result<Reply, Problem> {
    interactive(call)?;
    let request: DeviceApproveRequest = call.json()?;
    let invalid = |_| Problem::new(Code::InvalidUserCode, "`user_code` is no code that a device shows.");
    let code = UserCode::parse(&request.user_code).map_err(invalid)?;
    let principal = call.principal()?;
    devices.tries().admit(&principal.subject.to_string(), call.now)?;
    let assurance = match call.caller()? {
        Authenticated::Operator { credential, .. } => credential.assurance().cloned().unwrap_or_default(),
        Authenticated::Node(_) => Assurance::default(),
    };
    let cookie = cookies::cookie(&call.headers, SESSION_COOKIE).unwrap_or_default();
    let approval = Approval { cookie, assurance: &assurance };
    devices.approve(&Actor::of(call)?, principal.scope, (&code, approval)).await?;
    Reply::json(StatusCode::OK, &DeviceApproveResponse { status: Approved::Approved })
}
