//! `PutNodeEndpoint`.

use std::sync::Arc;

use http::{Method, StatusCode};
use plexsphere_kernel::Authenticated;
use plexsphere_kernel::http::{Call, KIB, Operation, Reply, Scheme};
use plexsphere_kernel::principal::NodePlace;
use plexsphere_wire::{Code, Problem, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::OWN_NODE;
use crate::model::endpoints::NatType;
use crate::service::endpoints::{Endpoints, Told};

/// What a Node saw of itself through its NAT.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EndpointRequest {
    /// `host:port`: a literal IPv4 address, or an IPv6 address in brackets.
    #[schema(min_length = 1, max_length = 4096)]
    endpoint: String,
    // The document describes the enumeration at its type: words here would wrap it in an `allOf`.
    #[schema(inline)]
    nat_type: NatType,
    /// When it was seen.
    reported_at: Timestamp,
}

/// How long the others count on it.
#[derive(Serialize, ToSchema)]
struct EndpointResponse {
    /// When it was taken.
    accepted_at: Timestamp,
    /// When it goes stale unless it is reported again.
    stale_after: Timestamp,
}

/// The operation.
pub(super) fn put_node_endpoint(endpoints: Arc<Endpoints>) -> Operation {
    Operation::new("PutNodeEndpoint", Method::PUT, "/v1/nodes/{id}/endpoint", OWN_NODE)
        .scheme(Scheme::Node)
        .words(
            "mesh",
            "Report where a Node is reached from outside",
            "The Node's own observation through its NAT. The others are told when it is another than before, or was \
             stale; the same again only keeps it fresh, and one older than the last is passed over. Hosts that lead \
             nowhere from another machine, and those of the Domain's own mesh, are refused.",
        )
        .json_body::<EndpointRequest>(4 * KIB)
        .body_rules(|rules| {
            rules.too_large = Code::EndpointBodyTooLarge;
            rules.malformed = Code::MalformedEndpointRequest;
            rules.gzip = true;
        })
        .answers::<EndpointResponse>(200, "How long the endpoint is fresh.")
        .problems(&[
            Code::NodeIdMismatch,
            Code::EndpointBodyTooLarge,
            Code::MalformedEndpointRequest,
            Code::EndpointClockSkew,
            Code::EndpointUnparseable,
            Code::EndpointPeerNotFound,
            Code::EndpointPeerGone,
        ])
        .handler(move |call: Call| {
            let endpoints = Arc::clone(&endpoints);
            async move {
                let request: EndpointRequest = call.json()?;
                let EndpointRequest { endpoint, nat_type, reported_at } = request;
                let told = Told { endpoint, nat_type, reported_at };
                let freshness = endpoints.report(&call, &place(&call)?, &told).await?;
                let answer =
                    EndpointResponse { accepted_at: freshness.accepted_at, stale_after: freshness.stale_after };
                Reply::json(StatusCode::OK, &answer)
            }
        })
}

/// The calling Node; the scheme admits nobody else.
fn place(call: &Call) -> Result<NodePlace, Problem> {
    match call.caller()? {
        Authenticated::Node(place) => Ok(place.clone()),
        Authenticated::Operator { .. } => Err(Problem::internal()),
    }
}
