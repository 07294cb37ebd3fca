//! The operations that the edge serves itself, as the document needs them. A test of the program compares this list with
//! the edge's routes.

use http::Method;
use plexsphere_kernel::http::{Gate, KIB, Operation, OperationBuilder, Scheme};
use plexsphere_wire::{Code, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Ref, Schema, SchemaFormat, Type};

/// What a Node says of itself, at the pace its Domain asks for.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct HeartbeatRequest {
    /// The Node's clock; at most 60 s off.
    pub(crate) client_now: Timestamp,
    /// SHA-256 of the agent's binary: 64 lower-case hex digits, or standard base64.
    #[schema(format = Byte, min_length = 32, max_length = 64)]
    pub(crate) binary_checksum: String,
    /// The agent's version.
    #[schema(min_length = 1, max_length = 4096)]
    pub(crate) binary_version: String,
    /// What the agent found out about its NAT.
    #[schema(value_type = Object, additional_properties = true)]
    pub(crate) nat_summary: serde_json::Map<String, serde_json::Value>,
}

/// What the Node is told in return.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct HeartbeatResponse {
    /// When the heartbeat was committed.
    pub(crate) accepted_at: Timestamp,
    /// Whether the Node should pull its state.
    pub(crate) reconcile: bool,
    /// Whether a key rotation waits for the Node.
    pub(crate) rotate_keys: bool,
}

/// The answer that a batch is durable.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct IngestReceipt {
    /// When the buffer acknowledged the batch.
    pub(crate) accepted_at: Timestamp,
    /// How many records the batch had.
    #[schema(minimum = 1)]
    pub(crate) records: i64,
}

/// The group of a sample.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MetricGroup {
    /// The machine.
    NodeResources,
    /// The tunnels to other Nodes.
    TunnelHealth,
    /// Round trips to other Nodes.
    PeerLatency,
    /// The agent itself.
    AgentStats,
}

/// One sample.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct MetricSample {
    /// What it is about.
    #[schema(inline)]
    pub(crate) group: MetricGroup,
    /// Its name, at most 256 bytes.
    pub(crate) name: String,
    /// A finite number.
    pub(crate) value: f64,
    /// At most 20 labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) labels: Option<std::collections::BTreeMap<String, String>>,
    /// When it was taken.
    pub(crate) timestamp: Timestamp,
}

/// The severity of a log line, as syslog has it.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogSeverity {
    /// The system is unusable.
    Emerg,
    /// Must be acted on at once.
    Alert,
    /// Critical.
    Crit,
    /// An error.
    Err,
    /// A warning.
    Warning,
    /// Normal but significant.
    Notice,
    /// Informational.
    Info,
    /// For debugging.
    Debug,
}

/// One log line.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct LogLine {
    /// How severe it is.
    #[schema(inline)]
    pub(crate) severity: LogSeverity,
    /// The unit or file it came from, at most 512 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<String>,
    /// The machine's own name, at most 512 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hostname: Option<String>,
    /// The text; cut at 65,536 bytes.
    pub(crate) message: String,
    /// When it was written.
    pub(crate) timestamp: Timestamp,
}

/// Where an audit record came from.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AuditSource {
    /// The Linux audit daemon.
    Auditd,
    /// A Kubernetes API server.
    K8s,
}

/// One audit record of the Node's system.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct AuditEvent {
    /// Where it came from.
    #[schema(inline)]
    pub(crate) source: AuditSource,
    /// What was done, at most 512 bytes.
    pub(crate) action: String,
    /// How it ended, at most 512 bytes.
    pub(crate) outcome: String,
    /// When.
    pub(crate) timestamp: Timestamp,
}

/// One record per line in the body; in the document, as the contract has it, an array.
fn records(name: &str) -> RefOr<Schema> {
    RefOr::T(ArrayBuilder::new().items(RefOr::Ref(Ref::from_schema_name(name))).build().into())
}

fn text() -> RefOr<Schema> {
    RefOr::T(ObjectBuilder::new().schema_type(Type::String).build().into())
}

fn date_time() -> RefOr<Schema> {
    let format = SchemaFormat::Custom("date-time".to_owned());
    RefOr::T(ObjectBuilder::new().schema_type(Type::String).format(Some(format)).build().into())
}

fn node_operation(id: &'static str, method: Method, path: &'static str) -> OperationBuilder {
    let gate = Gate::OwnNode {
        param: "id",
        relation: "node-agent",
        mismatch: Code::NodeIdMismatch,
        denied: Code::InsufficientRelation,
    };
    Operation::new(id, method, path, gate)
}

fn ingest(id: &'static str, path: &'static str, summary: &'static str) -> OperationBuilder {
    node_operation(id, Method::POST, path)
        .scheme(Scheme::Node)
        .words(
            "mesh",
            summary,
            "Takes a batch whole or not at all. A 202 is sent only after the buffer has acknowledged the batch; from then \
             on every sink receives it at least once. The body may be gzip, zstd or identity; at most 1 MiB as sent, \
             10 MiB inflated and 5,000 records. The byte budget of the Node and of its Domain is charged with the bytes \
             as sent.",
        )
        .header_parameter("X-Plexsphere-Sent-At", "When the agent sent the batch; must be there.", date_time())
        .answers::<IngestReceipt>(202, "The batch is durable.")
        .problems(&[
            Code::IngestSentAtInvalid,
            Code::IngestEncodingInvalid,
            Code::IngestBatchMalformed,
            Code::NodeIdMismatch,
            Code::IngestBodyTooLarge,
            Code::IngestBatchTooManyRecords,
            Code::IngestEncodingUnsupported,
            Code::PerNodeRateLimited,
            Code::CapacityExceeded,
            Code::IngestBufferUnavailable,
            Code::ObservabilityIngestNotProvisioned,
        ])
}

/// Every operation that the edge serves itself.
#[must_use]
pub fn edge_operations() -> Vec<Operation> {
    vec![
        node_operation("PostNodeHeartbeat", Method::POST, "/v1/nodes/{id}/heartbeat")
            .scheme(Scheme::Node)
            .words("mesh", "Report that a Node lives", "Commits the heartbeat and says what the Node should do next.")
            .json_body::<HeartbeatRequest>(8 * KIB)
            .body_rules(|rules| rules.malformed = Code::MalformedHeartbeatRequest)
            .answers::<HeartbeatResponse>(200, "The heartbeat is committed.")
            .problems(&[Code::ClockSkew, Code::BinaryChecksumEmpty, Code::BinaryVersionEmpty, Code::NodeIdMismatch])
            .described(),
        node_operation("GetNodeEvents", Method::GET, "/v1/nodes/{id}/events")
            .words(
                "mesh",
                "Follow a Node's signed events",
                "An endless stream of signed envelopes. Without `Last-Event-ID` it begins now; with it, behind that \
                 sequence. A comment is sent every 25 s. A stream ends by a clean close; come back with the last `id`.",
            )
            .header_parameter("Last-Event-ID", "The sequence of the last event that was read.", text())
            .answers_media(200, "text/event-stream", "The stream.")
            .problems(&[
                Code::InvalidLastEventId,
                Code::NodeIdMismatch,
                Code::NodeNotFound,
                Code::EventStreamUnavailable,
                Code::SignedEventBusNotProvisioned,
            ])
            .described(),
        ingest("PostNodeMetrics", "/v1/nodes/{id}/metrics", "Send metric samples")
            .documented_body("application/json", records("MetricSample"))
            .schema::<MetricSample>()
            .described(),
        ingest("PostNodeLogs", "/v1/nodes/{id}/logs", "Send log lines")
            .documented_body("application/x-ndjson", records("LogLine"))
            .schema::<LogLine>()
            .described(),
        ingest("PostNodeAudit", "/v1/nodes/{id}/audit", "Send audit records of the Node's system")
            .documented_body("application/x-ndjson", records("AuditEvent"))
            .schema::<AuditEvent>()
            .described(),
    ]
}
