//! The graph of a Domain's mesh.

use std::sync::Arc;

use http::Method;
use plexsphere_kernel::http::{Gate, Operation, Reply};
use plexsphere_wire::schema::nullable;
use plexsphere_wire::{Code, DomainId, NodeId, Problem, Timestamp};
use utoipa::ToSchema;

use crate::model::reachability::ReachabilityState;
use crate::service::topology::Topologies;

/// The path parameter of the Domain.
const DOMAIN: &str = "domain_id";

/// A Domain's mesh at one moment.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never built")]
struct MeshTopology {
    domain_id: DomainId,
    /// The moment.
    generated_at: Timestamp,
    /// Every live Node, by id.
    nodes: Vec<MeshTopologyNode>,
    /// Directed edges, by source and target.
    edges: Vec<MeshEdge>,
}

/// A live Node.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never built")]
struct MeshTopologyNode {
    node_id: NodeId,
    /// Its mesh address.
    mesh_ip: String,
    #[schema(inline)]
    reachability: ReachabilityState,
}

/// The way from one Node to another.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never built")]
struct MeshEdge {
    source_node_id: NodeId,
    target_node_id: NodeId,
    #[schema(inline)]
    mode: MeshEdgeMode,
    /// The Node that relays; `null` on a direct edge.
    #[schema(required = true, schema_with = nullable::<NodeId>)]
    relay_node_id: Option<NodeId>,
    #[schema(inline)]
    status: ReachabilityState,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "described, never built")]
enum MeshEdgeMode {
    Direct,
    Relayed,
}

/// The operations on topologies.
pub(crate) fn operations(topologies: Topologies) -> Vec<Operation> {
    let topologies = Arc::new(topologies);
    let gate = Gate::on("domain-view", "domain", DOMAIN, Code::DomainNotFound);
    let operation = Operation::new("GetDomainMeshTopology", Method::GET, "/v1/domains/{domain_id}/mesh/topology", gate)
        .words(
            "mesh",
            "Read the mesh of a Domain as a graph",
            "Every live Node and the edges between them, in one consistent read. The status of an edge is judged on its \
             last handshake, or, where none is known, is that of its worse end. Of more than 500 Nodes only those edges \
             are listed that are relayed or not healthy. The answer is sent while it is made and has no length.",
        )
        .answers::<MeshTopology>(200, "The mesh.")
        .problems(&[Code::DomainNotFound])
        .handler(move |call| {
            let topologies = Arc::clone(&topologies);
            async move {
                let domain = call.params.id(DOMAIN, Code::DomainNotFound)?;
                let pieces = topologies.pieces(domain).await?;
                let none = || Problem::new(Code::DomainNotFound, "There is no such Domain.");
                Ok(Reply::pieces("application/json", pieces.ok_or_else(none)?))
            }
        });
    vec![operation]
}
