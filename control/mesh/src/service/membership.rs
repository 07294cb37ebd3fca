//! Joining and leaving the mesh of a Domain.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ipnet::IpNet;
use plexsphere_kernel::seams::{Join, JoinRefusal, Joined, LeaveReason, MeshMembership, ReachabilityPolicy};
use plexsphere_kernel::{Fault, KekRing, Outbox, Tx};
use plexsphere_wire::{DomainId, EnvelopeId, NodeId, PeerId, Timestamp};
use rand::RngCore as _;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::events;
use crate::model::addresses::AddressPlan;
use crate::model::endpoints::FallbackFill;
use crate::store::peers::{InsertRefusal, SealedSeed};
use crate::store::{allocations, domains, endpoints, entries, listing, peers, reachability, rotations};

/// Peers named by one event; an envelope carries no more.
const PEERS_PER_EVENT: usize = 100;

/// The mesh as enrolment and tenancy see it.
pub struct Membership {
    pub(crate) deployment: Uuid,
    pub(crate) cooldown: Duration,
    pub(crate) keks: Arc<KekRing>,
    pub(crate) outbox: Outbox,
    pub(crate) fill: FallbackFill,
}

/// A fresh 32-byte seed, sealed for its place.
pub(crate) fn seal_seed(keks: &KekRing, deployment: Uuid, peer: PeerId, now: Timestamp) -> Result<SealedSeed, Fault> {
    let mut seed = Zeroizing::new([0u8; 32]);
    rand::rng().fill_bytes(seed.as_mut_slice());
    let kid = format!("psk-{}", EnvelopeId::mint(now));
    let (wrap_key_version, sealed) = keks.seal(seed.as_slice(), &psk_aad(deployment, peer, &kid))?;
    Ok(SealedSeed { kid, wrap_key_version, sealed })
}

/// What a sealed seed is bound to: it opens for no other deployment, Peer or name.
#[must_use]
pub fn psk_aad(deployment: Uuid, peer: PeerId, kid: &str) -> String {
    format!("plexsphere/psk/v1|{deployment}|{peer}|{kid}")
}

#[async_trait]
impl MeshMembership for Membership {
    async fn set_policy(
        &self,
        tx: &mut Tx,
        domain: DomainId,
        policy: ReachabilityPolicy,
        pool: IpNet,
    ) -> Result<(), Fault> {
        domains::set_policy(tx, domain, &policy, pool).await
    }

    async fn request_reconcile(&self, tx: &mut Tx, domain: DomainId, now: Timestamp) -> Result<(), Fault> {
        domains::bump(tx, domain, &[], now).await
    }

    async fn forget_domain(&self, tx: &mut Tx, domain: DomainId) -> Result<(), Fault> {
        domains::forget(tx, domain).await
    }

    async fn join(&self, tx: &mut Tx, join: Join) -> Result<Joined, JoinRefusal> {
        allocations::lock(tx, join.domain).await.map_err(|error| {
            if allocations::is_lock_timeout(&error) {
                JoinRefusal::AllocatorContention
            } else {
                JoinRefusal::Fault(error.into())
            }
        })?;
        let plan = AddressPlan::new(join.pool, join.sub_range, &join.reserved);
        let mesh_ip = allocations::allocate(tx, join.domain, join.node, &plan, join.now).await?;
        let mesh_ip = mesh_ip.ok_or(if plan.is_sub_range() {
            JoinRefusal::SubrangeExhausted
        } else {
            JoinRefusal::PoolExhausted
        })?;
        let peer = PeerId::mint(join.now);
        peers::insert(tx, peer, &join, mesh_ip).await.map_err(|refusal| match refusal {
            InsertRefusal::KeyInUse => JoinRefusal::PublicKeyInUse,
            InsertRefusal::AlreadyLive => JoinRefusal::Fault(Fault::Invariant("a node joins once")),
            InsertRefusal::Fault(fault) => JoinRefusal::Fault(fault),
        })?;
        let seed = seal_seed(&self.keks, self.deployment, peer, join.now)?;
        peers::insert_epoch(tx, peer, &seed, join.now).await?;
        reachability::materialise(tx, join.domain, join.node, join.now).await?;
        domains::bump(tx, join.domain, &[peer], join.now).await?;
        let view = listing::peer_view(join.node, (mesh_ip, &join.public_key), None, self.fill);
        self.outbox.append(tx, events::peer_registered(join.domain, &view), join.now).await?;
        let assigned = events::peer_psk_assigned(join.domain, join.node, &seed.kid, seed.wrap_key_version);
        self.outbox.append(tx, assigned, join.now).await?;
        let peers = listing::others(tx, join.domain, join.node, self.fill).await?;
        Ok(Joined { mesh_ip, peers })
    }

    async fn leave(&self, tx: &mut Tx, node: NodeId, reason: LeaveReason, now: Timestamp) -> Result<(), Fault> {
        let Some(domain) = peers::domain_of(tx, node).await? else { return Ok(()) };
        self.leave_many(tx, domain, &[node], reason, now).await
    }

    async fn leave_many(
        &self,
        tx: &mut Tx,
        domain: DomainId,
        nodes: &[NodeId],
        reason: LeaveReason,
        now: Timestamp,
    ) -> Result<(), Fault> {
        if nodes.is_empty() {
            return Ok(());
        }
        allocations::lock(tx, domain).await?;
        let gone = peers::deregister(tx, domain, nodes, (reason, now)).await?;
        if gone.is_empty() {
            return Ok(());
        }
        let peers: Vec<PeerId> = gone.iter().map(|gone| gone.peer).collect();
        let nodes: Vec<NodeId> = gone.iter().map(|gone| gone.node).collect();
        let addresses = gone.iter().map(|gone| gone.mesh_ip).collect();
        peers::drop_epochs(tx, &peers).await?;
        endpoints::forget(tx, &peers).await?;
        rotations::cancel(tx, &peers, now).await?;
        allocations::cool(tx, domain, addresses, now.plus(self.cooldown)).await?;
        reachability::forget(tx, &nodes).await?;
        entries::forget(tx, &nodes).await?;
        domains::bump(tx, domain, &peers, now).await?;
        for told in nodes.chunks(PEERS_PER_EVENT) {
            self.outbox.append(tx, events::peers_deregistered(domain, told, reason), now).await?;
        }
        Ok(())
    }
}
