//! Replacing a Node's mesh key: the operators' request and its preview, and the Node's answer.

use std::sync::Arc;

use http::{Method, StatusCode};
use plexsphere_kernel::Authenticated;
use plexsphere_kernel::http::{Call, Gate, KIB, Operation, Reply, Scheme};
use plexsphere_wire::{Code, NodeId, PeerId, Problem, RotationId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ID, node};
use crate::model::rotation::Receipt;
use crate::service::rotation::{Preview, Rotations};

/// Operators' gate: asked before anybody learns whether there is such a Node.
const OPERATE: Gate = Gate::on("node-operate", "node", ID, Code::NodeNotFound);
/// The most bytes of a Node's answer.
const BODY_CAP: usize = 4 * KIB;

/// The operations of rotation.
pub(crate) fn operations(rotations: &Arc<Rotations>) -> Vec<Operation> {
    vec![
        post_node_keys_rotate(Arc::clone(rotations)),
        get_node_keys_rotate_preview(Arc::clone(rotations)),
        post_keys_rotate(Arc::clone(rotations)),
    ]
}

/// A Node was asked for a new key.
#[derive(Serialize, ToSchema)]
struct RotationTriggerResponse {
    /// The rotation.
    rotation_id: RotationId,
    /// The Node's Peer.
    peer_id: PeerId,
    /// Whether the Node had been asked before; then the rotation is that of the first request.
    already_pending: bool,
}

fn post_node_keys_rotate(rotations: Arc<Rotations>) -> Operation {
    Operation::new("PostNodeKeysRotate", Method::POST, "/v1/nodes/{id}/keys/rotate", OPERATE)
        .words(
            "mesh",
            "Ask a Node for a new mesh key",
            "The Node is told by a signed `rotate_keys` event and by every heartbeat until it has offered a new key; there \
             is no expiry. A Node that is asked already is not told again: the answer names the pending rotation.",
        )
        .answers::<RotationTriggerResponse>(200, "The Node is asked.")
        .problems(&[Code::NodeNotFound])
        .handler(move |call: Call| {
            let rotations = Arc::clone(&rotations);
            async move {
                let requested = rotations.request(&call, node(&call)?).await?;
                let answer = RotationTriggerResponse {
                    rotation_id: requested.rotation,
                    peer_id: requested.peer,
                    already_pending: requested.is_repeated,
                };
                Reply::json(StatusCode::OK, &answer)
            }
        })
}

/// One pair of Nodes whose pre-shared key would change.
#[derive(Serialize, ToSchema)]
struct RotationImpactEdge<'p> {
    /// The Node at the other end.
    peer_node_id: NodeId,
    /// The name of the rotated Node's present seed.
    #[schema(min_length = 1)]
    current_kid: &'p str,
    /// The version of the key that sealed it.
    #[schema(minimum = 0)]
    current_wrap_key_version: i32,
}

/// What a rotation would touch.
#[derive(Serialize, ToSchema)]
struct RotationImpactPreview<'p> {
    /// The Node.
    node_id: NodeId,
    /// Its Peer.
    peer_id: PeerId,
    /// How many Nodes take up the new key.
    #[schema(minimum = 0)]
    affected_peer_count: usize,
    /// One for every other live Node of the Domain, by Node id.
    affected_edges: Vec<RotationImpactEdge<'p>>,
    /// Whether the Node is asked already.
    already_pending: bool,
    /// How long it may take, in seconds.
    #[schema(minimum = 0)]
    estimated_duration_seconds: u64,
}

impl<'p> RotationImpactPreview<'p> {
    fn of(node_id: NodeId, preview: &'p Preview) -> Self {
        let outlook = &preview.outlook;
        let edge = |peer_node_id: &NodeId| RotationImpactEdge {
            peer_node_id: *peer_node_id,
            current_kid: &outlook.kid,
            current_wrap_key_version: outlook.wrap_key_version,
        };
        Self {
            node_id,
            peer_id: outlook.peer,
            affected_peer_count: preview.others.len(),
            affected_edges: preview.others.iter().map(edge).collect(),
            already_pending: outlook.is_pending,
            estimated_duration_seconds: preview.estimated_seconds,
        }
    }
}

fn get_node_keys_rotate_preview(rotations: Arc<Rotations>) -> Operation {
    Operation::new("GetNodeKeysRotatePreview", Method::GET, "/v1/nodes/{id}/keys/rotate/preview", OPERATE)
        .words(
            "mesh",
            "See what a new mesh key of a Node would touch",
            "Every other live Node of the Domain, with the name under which it knows the Node's seed now. The estimate is \
             one heartbeat interval, by which the Node has heard at the latest, and a second for each begun thousand of \
             Nodes. Nothing changes.",
        )
        .answers::<RotationImpactPreview<'_>>(200, "What a rotation would touch.")
        .problems(&[Code::NodeNotFound])
        .handler(move |call: Call| {
            let rotations = Arc::clone(&rotations);
            async move {
                let node = node(&call)?;
                let preview = rotations.preview(node).await?;
                Reply::json(StatusCode::OK, &RotationImpactPreview::of(node, &preview))
            }
        })
}

/// A Node's new key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct KeysRotateRequest {
    /// Standard-padded base64 of the 32 bytes of a Curve25519 public key.
    #[schema(format = Byte)]
    new_public_key: String,
}

/// What came of it. A key that is offered again after a lost answer gets the same words.
#[derive(Serialize, ToSchema)]
struct KeysRotateResponse {
    /// The rotation that took the key.
    rotation_id: RotationId,
    /// The name of the Node's new seed.
    #[schema(min_length = 1)]
    kid: String,
    /// The version of the key that sealed it.
    #[schema(minimum = 0)]
    wrap_key_version: i32,
}

impl From<Receipt> for KeysRotateResponse {
    fn from(receipt: Receipt) -> Self {
        Self { rotation_id: receipt.rotation, kid: receipt.kid, wrap_key_version: receipt.wrap_key_version }
    }
}

fn post_keys_rotate(rotations: Arc<Rotations>) -> Operation {
    Operation::new("PostKeysRotate", Method::POST, "/v1/keys/rotate", Gate::AnyCaller("a Node replaces its own key"))
        .scheme(Scheme::Node)
        .words(
            "mesh",
            "Offer a new mesh key",
            "The Node that calls has made a new key because it was asked to. The key is installed, the Node's seed is \
             replaced, and every Node of the Domain is told. A key that was installed already is answered with the receipt of \
             that time and changes nothing, so a lost answer is asked for again with the same key.",
        )
        .json_body::<KeysRotateRequest>(BODY_CAP)
        .body_rules(|rules| {
            rules.too_large = Code::KeysRotateBodyTooLarge;
            rules.malformed = Code::MalformedKeysRotateRequest;
            rules.gzip = true;
        })
        .answers::<KeysRotateResponse>(200, "The key is installed.")
        .problems(&[
            Code::KeysRotatePublicKeyInvalid,
            Code::KeysRotatePublicKeyUnchanged,
            Code::KeysRotateNoPendingRotation,
            Code::KeysRotatePeerNotFound,
        ])
        .handler(move |call: Call| {
            let rotations = Arc::clone(&rotations);
            async move {
                let Authenticated::Node(place) = call.caller()?.clone() else { return Err(Problem::internal()) };
                let body: KeysRotateRequest = call.json()?;
                let receipt = rotations.submit(&call, &place, &body.new_public_key).await?;
                Reply::json(StatusCode::OK, &KeysRotateResponse::from(receipt))
            }
        })
}
