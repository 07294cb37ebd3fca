//! What requests and answers about bindings look like.

use std::collections::BTreeMap;

use http::StatusCode;
use plexsphere_kernel::http::Reply;
use plexsphere_wire::{DomainId, IdpBindingId, Problem, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::model::{IdpBinding, JitPolicy, Patch};
use super::super::status::BindingStatus;

type Mappings = BTreeMap<String, String>;

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum PolicyWord {
    Allow,
    Deny,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum StatusWord {
    Active,
    Inactive,
    Degraded,
    Deactivated,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "stands in the document only: the aggregate judges the word")]
enum WantedStatus {
    Active,
    Deactivated,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PlatformIdPBindingRequest)]
pub(super) struct PlatformRequest {
    /// Compared byte for byte with `iss`.
    #[schema(format = "uri")]
    pub(super) issuer: String,
    #[schema(max_length = 4096)]
    pub(super) client_id: String,
    /// `env:NAME` or `file:/path`.
    #[schema(max_length = 4096)]
    pub(super) client_secret_ref: String,
    #[schema(format = "uri")]
    pub(super) discovery_url: String,
    /// Our name (`email`, `display_name`, `groups`) onto the provider's.
    pub(super) claim_mappings: Option<Mappings>,
    #[schema(max_items = 16)]
    pub(super) required_acr: Option<Vec<String>>,
    #[schema(max_items = 16)]
    pub(super) required_amr: Option<Vec<String>>,
    /// `allow` or `deny`: whether a sign-in makes a User that is not known yet.
    #[schema(max_length = 4096)]
    pub(super) jit_policy: String,
    /// Brought into lower-case kebab-case.
    #[schema(max_length = 4096)]
    pub(super) alias: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = IdPBindingRequest)]
pub(super) struct Request {
    #[schema(format = "uuid")]
    pub(super) domain_id: String,
    /// Compared byte for byte with `iss`.
    #[schema(format = "uri")]
    pub(super) issuer: String,
    #[schema(max_length = 4096)]
    pub(super) client_id: String,
    /// `secret:<domain_id>/<path>`: a Domain's binding reaches secrets of that Domain alone.
    #[schema(max_length = 4096)]
    pub(super) client_secret_ref: String,
    #[schema(format = "uri")]
    pub(super) discovery_url: String,
    /// Our name (`email`, `display_name`, `groups`) onto the provider's.
    pub(super) claim_mappings: Option<Mappings>,
    #[schema(max_items = 16)]
    pub(super) required_acr: Option<Vec<String>>,
    #[schema(max_items = 16)]
    pub(super) required_amr: Option<Vec<String>>,
    /// Whether a sign-in makes a User that is not known yet.
    #[schema(inline, value_type = PolicyWord)]
    pub(super) jit_policy: String,
    /// Brought into lower-case kebab-case.
    #[schema(max_length = 4096)]
    pub(super) alias: Option<String>,
    /// The one that a sign-in takes when none is named; at most one of a Domain.
    pub(super) primary: Option<bool>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = IdPBindingPatchRequest)]
pub(super) struct PatchRequest {
    #[schema(format = "uri")]
    discovery_url: Option<String>,
    /// All of them; an empty map clears.
    claim_mappings: Option<Mappings>,
    #[schema(max_items = 16)]
    required_acr: Option<Vec<String>>,
    #[schema(max_items = 16)]
    required_amr: Option<Vec<String>>,
    #[schema(inline, value_type = Option<PolicyWord>)]
    jit_policy: Option<String>,
    /// The empty text clears.
    #[schema(max_length = 4096)]
    alias: Option<String>,
    primary: Option<bool>,
}

impl From<PatchRequest> for Patch {
    fn from(request: PatchRequest) -> Self {
        Self {
            discovery_url: request.discovery_url,
            claim_mappings: request.claim_mappings,
            required_acr: request.required_acr,
            required_amr: request.required_amr,
            jit_policy: request.jit_policy,
            alias: request.alias,
            primary: request.primary,
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = IdPBindingStatusRequest)]
pub(super) struct StatusRequest {
    #[schema(inline, value_type = WantedStatus)]
    pub(super) status: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = IdPBindingResponse)]
pub(super) struct Response {
    id: IdpBindingId,
    /// Absent for a binding of the platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    domain_id: Option<DomainId>,
    #[schema(format = "uri")]
    issuer: String,
    client_id: String,
    /// The reference; the secret itself is never shown.
    client_secret_ref: String,
    #[schema(format = "uri")]
    discovery_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim_mappings: Option<Mappings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 16)]
    required_acr: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 16)]
    required_amr: Option<Vec<String>>,
    #[schema(inline)]
    jit_policy: PolicyWord,
    /// People sign in through `active` and `degraded` ones.
    #[schema(inline)]
    status: StatusWord,
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    primary: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<IdpBinding> for Response {
    fn from(binding: IdpBinding) -> Self {
        let settings = binding.settings;
        Self {
            id: binding.id,
            domain_id: binding.owner.domain(),
            issuer: binding.issuer,
            client_id: binding.client_id,
            client_secret_ref: binding.client_secret_ref,
            discovery_url: settings.discovery_url,
            claim_mappings: (!settings.claim_mappings.is_empty()).then_some(settings.claim_mappings),
            required_acr: (!settings.required_acr.is_empty()).then_some(settings.required_acr),
            required_amr: (!settings.required_amr.is_empty()).then_some(settings.required_amr),
            jit_policy: match settings.jit_policy {
                JitPolicy::Allow => PolicyWord::Allow,
                JitPolicy::Deny => PolicyWord::Deny,
            },
            status: match binding.status {
                BindingStatus::Active => StatusWord::Active,
                BindingStatus::Degraded => StatusWord::Degraded,
                BindingStatus::Inactive => StatusWord::Inactive,
                BindingStatus::Deactivated => StatusWord::Deactivated,
            },
            alias: settings.alias,
            primary: settings.primary,
            created_at: binding.created_at,
            updated_at: binding.updated_at,
        }
    }
}

/// The whole list: an owner has few enough bindings.
#[derive(Serialize, ToSchema)]
#[schema(as = IdPBindingResponseList)]
pub(super) struct List(Vec<Response>);

impl List {
    pub(super) fn reply(bindings: impl IntoIterator<Item = IdpBinding>) -> Result<Reply, Problem> {
        Reply::json(StatusCode::OK, &Self(bindings.into_iter().map(Response::from).collect()))
    }
}
