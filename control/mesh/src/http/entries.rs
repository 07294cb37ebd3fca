//! What Nodes report.

use std::sync::Arc;

use http::{Method, StatusCode};
use plexsphere_kernel::http::{Call, KIB, Operation, OperationBuilder, Reply, Scheme};
use plexsphere_wire::{Code, Problem, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{OWN_NODE, node};
use crate::model::entries::{KEY_PATTERN, Report};
use crate::service::entries::Entries;

const PATH: &str = "/v1/nodes/{id}/state/reports/{key}";
/// The path parameter with the report's key.
const KEY: &str = "key";

/// What a Node reports under a key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NodeStateReportRequest {
    /// At most 4096 bytes.
    #[schema(max_length = 4096)]
    value: String,
    /// Which workload it is of, at most 4096 bytes; kept as it is.
    #[serde(default)]
    #[schema(max_length = 4096)]
    workload_tag: String,
}

/// The report is kept.
#[derive(Serialize, ToSchema)]
struct NodeStateReportResponse {
    /// When it was taken.
    accepted_at: Timestamp,
    /// Its key.
    key: String,
}

/// The operations on reports.
pub(crate) fn operations(entries: &Arc<Entries>) -> Vec<Operation> {
    vec![put(Arc::clone(entries)), delete(Arc::clone(entries))]
}

fn on_report(id: &'static str, method: Method) -> OperationBuilder {
    Operation::new(id, method, PATH, OWN_NODE).scheme(Scheme::Node).path_pattern(KEY, KEY_PATTERN)
}

fn put(entries: Arc<Entries>) -> Operation {
    on_report("PutNodeStateReport", Method::PUT)
        .words(
            "mesh",
            "Report a value under a key",
            "The Node's own entry, which its next pull shows among `state.reports`. The last writer wins; a report that \
             is there already is not written again. A Node keeps at most 256, so a new key may be refused where another \
             value of an old one is not. The body may be gzip.",
        )
        .json_body::<NodeStateReportRequest>(32 * KIB)
        .body_rules(|rules| {
            rules.too_large = Code::PayloadTooLarge;
            rules.malformed = Code::InvalidReport;
            rules.gzip = true;
        })
        .answers::<NodeStateReportResponse>(200, "The report is kept.")
        .problems(&[Code::NodeNotFound, Code::ReportQuotaExceeded])
        .handler(move |call| {
            let entries = Arc::clone(&entries);
            async move { do_put(&entries, &call).await }
        })
}

async fn do_put(entries: &Entries, call: &Call) -> Result<Reply, Problem> {
    let body: NodeStateReportRequest = call.json()?;
    let key = call.params.text(KEY);
    let report = Report { key, value: &body.value, workload_tag: &body.workload_tag };
    entries.put_report(node(call)?, report, call.now).await?;
    Reply::json(StatusCode::OK, &NodeStateReportResponse { accepted_at: call.now, key: key.to_owned() })
}

fn delete(entries: Arc<Entries>) -> Operation {
    on_report("DeleteNodeStateReport", Method::DELETE)
        .words("mesh", "Take a report away", "The Node's next pull goes without it.")
        .answers_empty(204, "The report is gone.")
        .problems(&[Code::ReportNotFound])
        .handler(move |call| {
            let entries = Arc::clone(&entries);
            async move {
                entries.delete_report(call.params.id("id", Code::ReportNotFound)?, call.params.text(KEY)).await?;
                Ok(Reply::empty(StatusCode::NO_CONTENT))
            }
        })
}
