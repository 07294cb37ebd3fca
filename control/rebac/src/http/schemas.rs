//! Requests and responses.

use plexsphere_wire::{CorrelationId, DenialReason, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RebacCheckRequest)]
pub(super) struct CheckRequest {
    /// `<kind>:<id>`, or a userset `<kind>:<id>#<name>`.
    #[schema(min_length = 1, max_length = 4096)]
    pub(super) subject: String,
    /// A relation or permission of the resource's kind.
    #[schema(min_length = 1, max_length = 4096)]
    pub(super) relation: String,
    /// `<kind>:<id>`.
    #[schema(min_length = 1, max_length = 4096)]
    pub(super) resource: String,
    /// What conditions on grants are compared with.
    #[schema(value_type = Option<Object>, additional_properties = true)]
    pub(super) caveat_context: Option<Map<String, Value>>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum DecisionWord {
    Allowed,
    Denied,
}

#[derive(Serialize, ToSchema)]
#[schema(as = RebacCheckResponse)]
pub(super) struct CheckResponse {
    #[schema(inline)]
    pub(super) decision: DecisionWord,
    /// From the grant to the resource, `<kind>:<id>#<relation>` each; empty for a direct grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) relation_path: Option<Vec<String>>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(inline, value_type = Option<ReasonWord>)]
    pub(super) reason: Option<DenialReason>,
    #[schema(value_type = String)]
    pub(super) correlation_id: CorrelationId,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "stands in the document only; `unknown` is reserved and never sent")]
pub(super) enum ReasonWord {
    OutOfScope,
    InsufficientRelation,
    CaveatViolation,
    Unknown,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LookupResourcesRequest {
    /// `<kind>:<id>`, or a userset `<kind>:<id>#<name>`.
    #[schema(min_length = 1, max_length = 4096)]
    pub(super) subject: String,
    /// A relation or permission of the kind.
    #[schema(min_length = 1, max_length = 4096)]
    pub(super) relation: String,
    /// The kind of the objects to find.
    #[schema(min_length = 1, max_length = 4096)]
    pub(super) resource_type: String,
    /// What conditions on grants are compared with.
    #[schema(value_type = Option<Object>, additional_properties = true)]
    pub(super) caveat_context: Option<Map<String, Value>>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LookupSubjectsRequest {
    /// The kind of the subjects to find; `group` yields the Groups themselves.
    #[schema(min_length = 1, max_length = 4096)]
    pub(super) subject_type: String,
    /// A relation or permission of the resource's kind.
    #[schema(min_length = 1, max_length = 4096)]
    pub(super) relation: String,
    /// `<kind>:<id>`.
    #[schema(min_length = 1, max_length = 4096)]
    pub(super) resource: String,
    /// What conditions on grants are compared with.
    #[schema(value_type = Option<Object>, additional_properties = true)]
    pub(super) caveat_context: Option<Map<String, Value>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = RebacLookupResponse)]
pub(super) struct LookupResponse {
    /// Every one of them, in no promised order.
    pub(super) items: Vec<String>,
    #[schema(value_type = String)]
    pub(super) correlation_id: CorrelationId,
}

/// What a tuple is to be. The document names it once for creating and once for replacing.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RelationTupleCreateRequest)]
pub(super) struct CreateRequest {
    /// `<kind>:<id>`, or a userset `<kind>:<id>#<name>`.
    #[schema(min_length = 1, max_length = 4096)]
    pub(super) subject: String,
    /// A relation that may be assigned on the resource's kind.
    #[schema(min_length = 1, max_length = 4096)]
    pub(super) relation: String,
    /// `<kind>:<id>`: the Project, something in it, or its Domain.
    #[schema(min_length = 1, max_length = 4096)]
    pub(super) resource: String,
    /// The condition under which the grant holds.
    #[schema(max_length = 4096)]
    pub(super) caveat_name: Option<String>,
    /// What the condition stores.
    #[schema(value_type = Option<Object>, additional_properties = true)]
    pub(super) caveat_context: Option<Map<String, Value>>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RelationTuplePatchRequest)]
pub(super) struct PatchRequest {
    /// `<kind>:<id>`, or a userset `<kind>:<id>#<name>`.
    #[schema(min_length = 1, max_length = 4096)]
    subject: String,
    /// A relation that may be assigned on the resource's kind.
    #[schema(min_length = 1, max_length = 4096)]
    relation: String,
    /// `<kind>:<id>`: the Project, something in it, or its Domain.
    #[schema(min_length = 1, max_length = 4096)]
    resource: String,
    /// The condition under which the grant holds.
    #[schema(max_length = 4096)]
    caveat_name: Option<String>,
    /// What the condition stores.
    #[schema(value_type = Option<Object>, additional_properties = true)]
    caveat_context: Option<Map<String, Value>>,
}

impl From<PatchRequest> for CreateRequest {
    fn from(request: PatchRequest) -> Self {
        let PatchRequest { subject, relation, resource, caveat_name, caveat_context } = request;
        Self { subject, relation, resource, caveat_name, caveat_context }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = RelationTuple)]
pub(super) struct TupleResponse {
    pub(super) id: Uuid,
    pub(super) subject: String,
    pub(super) relation: String,
    pub(super) resource: String,
    /// What the grant's condition stores.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, additional_properties = true)]
    pub(super) caveat_context: Option<Map<String, Value>>,
    pub(super) created_at: Timestamp,
}

#[derive(Serialize, ToSchema)]
#[schema(as = RelationTupleList)]
pub(super) struct TupleList {
    pub(super) items: Vec<TupleResponse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_cursor: Option<String>,
}
