//! Asking a Node for a new key, and taking it.

use std::sync::Arc;

use plexsphere_kernel::http::Call;
use plexsphere_kernel::principal::NodePlace;
use plexsphere_kernel::{AuditLog, Database, Fault, KekRing, ObjectRef, Outbox, Tx};
use plexsphere_wire::mesh_key::parse_mesh_key;
use plexsphere_wire::{Code, NodeId, PeerId, Problem, RotationId};
use uuid::Uuid;

use crate::events;
use crate::model::rotation::{Offer, Receipt, estimated_seconds};
use crate::service::membership::seal_seed;
use crate::store::peers::{Held, Hold};
use crate::store::rotations::Outlook;
use crate::store::{domains, peers, rotations};

/// Replaces the keys of Nodes.
pub(crate) struct Rotations {
    pub(crate) db: Database,
    pub(crate) audit: Arc<dyn AuditLog>,
    pub(crate) keks: Arc<KekRing>,
    pub(crate) deployment: Uuid,
    pub(crate) outbox: Outbox,
}

/// A Node was asked for a new key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Requested {
    /// The rotation.
    pub(crate) rotation: RotationId,
    /// The Node's Peer.
    pub(crate) peer: PeerId,
    /// Whether it had been asked before.
    pub(crate) is_repeated: bool,
}

/// What a rotation would touch.
pub(crate) struct Preview {
    /// The Node's own part.
    pub(crate) outlook: Outlook,
    /// Every other Node of the Domain, in order.
    pub(crate) others: Vec<NodeId>,
    /// How long it may take.
    pub(crate) estimated_seconds: u64,
}

/// Why no new key is asked for or taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotationRefusal {
    /// The Node is unknown or has ended.
    #[error("There is no such Node.")]
    NodeNotFound,
    /// The caller's own Peer has ended.
    #[error("This Node has no live Peer.")]
    PeerNotFound,
    /// The key is malformed, all zero, or another Node's.
    #[error("`new_public_key` is not a fresh key: canonical base64 of 32 bytes, not all zero, and no other Node's.")]
    KeyInvalid,
    /// The key is the present one.
    #[error("`new_public_key` is the present key.")]
    KeyUnchanged,
    /// Nobody asked for a new key.
    #[error("No rotation is pending for this Node.")]
    NothingPending,
    /// Something broke, or the gates said no.
    #[error("the rotation failed")]
    Other(Problem),
}

impl From<Fault> for RotationRefusal {
    fn from(fault: Fault) -> Self {
        Self::Other(fault.into())
    }
}

impl From<RotationRefusal> for Problem {
    fn from(refusal: RotationRefusal) -> Self {
        let code = match refusal {
            RotationRefusal::Other(problem) => return problem,
            RotationRefusal::NodeNotFound => Code::NodeNotFound,
            RotationRefusal::PeerNotFound => Code::KeysRotatePeerNotFound,
            RotationRefusal::KeyInvalid => Code::KeysRotatePublicKeyInvalid,
            RotationRefusal::KeyUnchanged => Code::KeysRotatePublicKeyUnchanged,
            RotationRefusal::NothingPending => Code::KeysRotateNoPendingRotation,
        };
        Problem::new(code, refusal.to_string())
    }
}

impl Rotations {
    /// Asks a Node for a new key, unless it is asked already.
    ///
    /// # Errors
    /// [`RotationRefusal::NodeNotFound`], or a fault.
    pub(crate) async fn request(&self, call: &Call, node: NodeId) -> Result<Requested, RotationRefusal> {
        let mut tx = self.db.begin().await?;
        let held = peers::hold(&mut tx, node, Hold::Shared).await?.ok_or(RotationRefusal::NodeNotFound)?;
        let rotation = RotationId::mint(call.now);
        let is_new = rotations::request(&mut tx, rotation, held.peer, call.now).await?;
        let rotation = if is_new {
            self.outbox.append(&mut tx, events::rotate_keys(held.domain, node, rotation, call.now), call.now).await?;
            rotation
        } else {
            let known = rotations::pending(&mut tx, held.peer).await?;
            known.ok_or(Fault::Invariant("a rotation stays pending while its peer is held"))?
        };
        self.record(&mut tx, call, "node.keys.rotate.request", (&held, node)).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(Requested { rotation, peer: held.peer, is_repeated: !is_new })
    }

    /// What a rotation of a Node would touch, at one moment.
    ///
    /// # Errors
    /// [`RotationRefusal::NodeNotFound`], or a fault.
    pub(crate) async fn preview(&self, node: NodeId) -> Result<Preview, RotationRefusal> {
        let mut tx = self.db.snapshot().await?;
        let outlook = rotations::outlook(&mut tx, node).await?.ok_or(RotationRefusal::NodeNotFound)?;
        let others = rotations::other_nodes(&mut tx, outlook.domain, node).await?;
        let peers = u64::try_from(others.len()).unwrap_or(u64::MAX);
        let estimated_seconds = estimated_seconds(outlook.heartbeat_interval, peers);
        Ok(Preview { outlook, others, estimated_seconds })
    }

    /// Takes the new key of the calling Node.
    ///
    /// # Errors
    /// [`RotationRefusal`]; nothing has changed then.
    pub(crate) async fn submit(
        &self,
        call: &Call,
        place: &NodePlace,
        offered: &str,
    ) -> Result<Receipt, RotationRefusal> {
        let key = parse_mesh_key(offered).ok_or(RotationRefusal::KeyInvalid)?;
        let mut tx = self.db.begin().await?;
        if rotations::key_elsewhere(&mut tx, place.domain, &key, place.node).await? {
            return Err(RotationRefusal::KeyInvalid);
        }
        let held = peers::hold(&mut tx, place.node, Hold::Alone).await?.ok_or(RotationRefusal::PeerNotFound)?;
        let pending = rotations::pending(&mut tx, held.peer).await?;
        let installed = rotations::installed_by(&mut tx, held.peer, &key).await?;
        let rotation = match (Offer::judge(&key, &held.public_key, installed, pending.is_some()), pending) {
            (Offer::Repeated(receipt), _) => return Ok(receipt),
            (Offer::Unchanged, _) => return Err(RotationRefusal::KeyUnchanged),
            (Offer::NothingPending, _) | (Offer::Fresh, None) => return Err(RotationRefusal::NothingPending),
            (Offer::Fresh, Some(rotation)) => rotation,
        };
        let receipt = self.complete(&mut tx, call, (&held, place.node), (rotation, &key)).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(receipt)
    }

    /// The old seed goes at once: no operation reads it, and what is not there cannot be stolen.
    async fn complete(
        &self,
        tx: &mut Tx,
        call: &Call,
        (held, node): (&Held, NodeId),
        (rotation, key): (RotationId, &[u8; 32]),
    ) -> Result<Receipt, RotationRefusal> {
        let now = call.now;
        if !rotations::install(tx, held.peer, key).await? {
            return Err(RotationRefusal::KeyInvalid);
        }
        let seed = seal_seed(&self.keks, self.deployment, held.peer, now)?;
        peers::drop_epochs(tx, &[held.peer]).await?;
        peers::insert_epoch(tx, held.peer, &seed, now).await?;
        rotations::complete(tx, rotation, key, (&seed, now)).await?;
        domains::bump(tx, held.domain, &[held.peer], now).await?;
        let receipt = Receipt { rotation, kid: seed.kid, wrap_key_version: seed.wrap_key_version };
        self.outbox.append(tx, events::peer_key_rotated(held.domain, node, key, &receipt), now).await?;
        let assigned = events::peer_psk_assigned(held.domain, node, &receipt.kid, receipt.wrap_key_version);
        self.outbox.append(tx, assigned, now).await?;
        self.record(tx, call, "node.keys.rotate.complete", (held, node)).await?;
        Ok(receipt)
    }

    async fn record(
        &self,
        tx: &mut Tx,
        call: &Call,
        action: &str,
        (held, node): (&Held, NodeId),
    ) -> Result<(), RotationRefusal> {
        let record = call.audit(Some(held.domain), action, ObjectRef::node(node)).map_err(RotationRefusal::Other)?;
        Ok(self.audit.record(tx, record).await?)
    }
}
