//! The list of Nodes.

use http::{Method, StatusCode};
use plexsphere_kernel::ObjectRef;
use plexsphere_kernel::http::{Call, Gate, Operation, Reply};
use plexsphere_kernel::paging::CursorCodec;
use plexsphere_wire::{Code, DomainId, NodeId, Problem, Timestamp};
use serde::Serialize;
use utoipa::{PartialSchema as _, ToSchema};
use uuid::Uuid;

use super::service::NodeSummaries;
use super::store::NodeRow;
use crate::journal::Actor;
use crate::pages;

const TAG: &str = "nodes";

#[derive(Serialize, ToSchema)]
#[schema(as = NodeSummary)]
struct Summary {
    id: NodeId,
    /// The `external_ref` of its Resource, where that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    domain_id: DomainId,
    /// The kind of its Resource: an open word.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    created_at: Timestamp,
}

#[derive(Serialize, ToSchema)]
#[schema(as = NodeList)]
struct List {
    items: Vec<Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// The operations on Nodes of the tree.
pub(crate) fn operations(nodes: &NodeSummaries, cursors: &CursorCodec) -> Vec<Operation> {
    vec![list(nodes.clone(), cursors.clone())]
}

fn list(nodes: NodeSummaries, cursors: CursorCodec) -> Operation {
    let gate = Gate::AnyCaller("each row is filtered by `read` on it");
    Operation::new("ListNodes", Method::GET, "/v1/nodes", gate)
        .words(
            TAG,
            "List Nodes",
            "Pages of the live Nodes that the caller may read, in the order of their registration, of one Domain or of \
             all. Only a missing cursor ends the list.",
        )
        .paged()
        .problems(&[Code::CursorBindingMismatch])
        .query("domain_id", "Only the Nodes of this Domain.", DomainId::schema())
        .answers::<List>(200, "A page.")
        .problems(&[Code::InvalidDomainFilter])
        .handler(move |call| {
            let (nodes, cursors) = (nodes.clone(), cursors.clone());
            async move { do_list(&nodes, &cursors, &call).await }
        })
}

async fn do_list(nodes: &NodeSummaries, cursors: &CursorCodec, call: &Call) -> Result<Reply, Problem> {
    let invalid = |_| Problem::new(Code::InvalidDomainFilter, "`domain_id` is not a Domain's id.");
    let named = call.query.one("domain_id", Code::InvalidDomainFilter)?;
    let domain: Option<DomainId> = named.map(str::parse).transpose().map_err(invalid)?;
    let filters = domain.map(|domain| format!("domain_id={domain}")).unwrap_or_default();
    let page = cursors.page::<(Timestamp, Uuid)>(call, &filters)?;
    let mut rows = nodes.page(&Actor::of(call)?, domain, page.after, page.limit + 1).await?;
    let key = |node: &NodeRow| (node.created_at, node.id.uuid());
    let next_cursor = pages::cut(&mut rows, page.limit, (cursors, call, &filters), key)?;
    let rows = pages::readable(call, "read", rows, |node| ObjectRef::node(node.id)).await?;
    let summary = |node: NodeRow| Summary {
        id: node.id,
        name: node.name,
        domain_id: node.domain,
        kind: node.kind,
        created_at: node.created_at,
    };
    let items = rows.into_iter().map(summary).collect();
    Reply::json(StatusCode::OK, &List { items, next_cursor })
}
