//! The operations of the mesh and what they answer.

mod endpoints;
pub(crate) mod entries;
pub(crate) mod rotation;
mod schemas;
pub(crate) mod topology;

use std::sync::Arc;

use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, VARY};
use http::{HeaderMap, Method};
use plexsphere_kernel::Authenticated;
use plexsphere_kernel::http::{Call, Gate, Operation, Reply};
use plexsphere_wire::{Code, NodeId, Problem};

use crate::service::endpoints::Endpoints;
use crate::service::node_state::{NodeStates, Puller};

pub(crate) use schemas::ReachabilityView;

/// The path parameter of the Node.
const ID: &str = "id";

const OWN_NODE: Gate = Gate::OwnNode {
    param: ID,
    relation: "node-agent",
    mismatch: Code::NodeIdMismatch,
    denied: Code::InsufficientRelation,
};

/// The operations of this context.
pub(crate) fn operations(states: &Arc<NodeStates>, endpoints: &Arc<Endpoints>) -> Vec<Operation> {
    vec![
        get_node_state(Arc::clone(states)),
        get_node_reachability(Arc::clone(states)),
        endpoints::put_node_endpoint(Arc::clone(endpoints)),
    ]
}

fn get_node_state(states: Arc<NodeStates>) -> Operation {
    Operation::new("GetNodeState", Method::GET, "/v1/nodes/{id}/state", OWN_NODE)
        .words(
            "mesh",
            "Pull all desired state of a Node",
            "Everything the Node shall be, in one consistent read: its peers, its own reachability, its policy, its \
             bridge duties, its state entries, its executions and its sessions. Every member is always present, in \
             this order, and two pulls over one state are byte-equal. The answer is compressed when the caller takes \
             gzip, unless it exceeds 9 MiB. While the database cannot be reached, the last good state answers for at \
             most ten minutes, with `sessions: null`.",
        )
        .answers::<schemas::NodeStateSnapshot>(200, "The Node's state.")
        .schema::<schemas::NodeStatePolicy>()
        .schema::<schemas::NodeStateReports>()
        .schema::<schemas::bridge::NodeStateBridge>()
        .problems(&[Code::NodeNotFound, Code::NodeIdMismatch, Code::InsufficientRelation, Code::DatastoreUnavailable])
        .handler(move |call: Call| {
            let states = Arc::clone(&states);
            async move {
                let pull = states.pull(node(&call)?, puller(&call)?, takes_gzip(&call.headers)).await?;
                let reply = Reply::bytes("application/json", pull.body).header(VARY, "Accept-Encoding");
                Ok(if pull.gzip { reply.header(CONTENT_ENCODING, "gzip") } else { reply })
            }
        })
}

fn get_node_reachability(states: Arc<NodeStates>) -> Operation {
    Operation::new("GetNodeReachability", Method::GET, "/v1/nodes/{id}/reachability", OWN_NODE)
        .words(
            "mesh",
            "Read whether a Node is alive",
            "Judged on the silence since the Node's last heartbeat against the thresholds of its Domain, at the \
             moment of the read.",
        )
        .answers::<ReachabilityView>(200, "The Node's reachability.")
        .problems(&[Code::NodeNotFound, Code::NodeIdMismatch, Code::InsufficientRelation])
        .handler(move |call: Call| {
            let states = Arc::clone(&states);
            async move {
                let reachability = states.reachability(node(&call)?).await?;
                Reply::json(http::StatusCode::OK, &ReachabilityView::from(reachability))
            }
        })
}

/// The Node that the path names; the gate has read it before.
fn node(call: &Call) -> Result<NodeId, Problem> {
    call.params.id(ID, Code::NodeNotFound)
}

/// Who pulls; of Nodes, the gate lets only the named one through.
fn puller(call: &Call) -> Result<Puller, Problem> {
    Ok(match call.caller()? {
        Authenticated::Node(_) => Puller::Node,
        Authenticated::Operator { .. } => Puller::Operator,
    })
}

/// Whether the caller takes gzip (RFC 9110, section 12.5.3): named, or covered by `*`, with a weight above zero.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let mut star = false;
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    for item in values.flat_map(|value| value.split(',')) {
        let mut parts = item.split(';').map(str::trim);
        let coding = parts.next().unwrap_or("");
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let wanted = weight.is_none_or(|weight| weight.parse::<f32>().is_ok_and(|weight| weight > 0.0));
        if coding.eq_ignore_ascii_case("gzip") {
            return wanted;
        }
        star |= coding == "*" && wanted;
    }
    star
}

#[cfg(test)]
mod tests;
