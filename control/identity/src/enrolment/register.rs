//! Registration: a token becomes a Node.
//!
//! Steps that need no lock run before the transaction opens, so that no lock is held while the slow hash runs. From the
//! token's state on, everything is judged on rows locked in one transaction: a refusal rolls all of it back and leaves
//! the token as it was.

mod admission;
mod refusal;
mod request;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use plexsphere_kernel::http::Call;
use plexsphere_kernel::http::pipeline::Throttle;
use plexsphere_kernel::seams::{
    Join, JoinRefusal, LeaveReason, MeshMembership, PeerView, PublicSigningKey, SigningKeys,
};
use plexsphere_kernel::{Database, Fault, ObjectRef, Outcome, Subject, TupleWriter, Tx, directory};
use plexsphere_wire::nsk::NSK_BYTES;
use plexsphere_wire::{DenialReason, DomainId, NodeId, Timestamp};
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

pub use refusal::RegisterRefusal;
pub(crate) use request::{Demand, Draft as RequestDraft};

use self::admission::Admission;
use super::keys::NskCustodian;
use super::nodes::{DirectoryFlush, NodeLifecycle};
use super::store::{self, NewNode, Place};
use super::token::StoredToken;
use super::tokens::{BootstrapTokens, refuse_ended};
use crate::attempts;
use crate::events::EventName;
use crate::journal::{Actor, Journal};
use crate::principals::Revocation;
use crate::tenancy::edges;

/// How long an answer waits for the edge directory at most.
const FLUSH_PATIENCE: Duration = Duration::from_millis(500);
/// Who a registration without an authentic token is, in the audit log.
const UNPROVEN: Subject = Subject::System(Uuid::from_u128(0x706c_6578_0000_7000_8000_0000_0000_0001));

/// What registration needs.
pub(crate) struct Needs {
    pub(crate) db: Database,
    pub(crate) journal: Journal,
    pub(crate) tokens: BootstrapTokens,
    pub(crate) lifecycle: NodeLifecycle,
    pub(crate) custodian: NskCustodian,
    pub(crate) mesh: Arc<dyn MeshMembership>,
    pub(crate) signing: Arc<dyn SigningKeys>,
    pub(crate) tuples: Arc<dyn TupleWriter>,
    pub(crate) flush: Option<Arc<dyn DirectoryFlush>>,
    /// Kinds of Resource that own one Node at a time.
    pub(crate) single_node_kinds: Vec<String>,
    /// Bounds the audit rows about refusals: one per source, code and minute.
    pub(crate) refusal_rows: Throttle,
}

/// The use case.
#[derive(Clone)]
pub struct Registration {
    needs: Arc<Needs>,
    admission: Arc<Admission>,
}

/// What a new Node is told, once.
pub(crate) struct Enrolled {
    pub(crate) node: NodeId,
    pub(crate) mesh_ip: IpAddr,
    pub(crate) signing: PublicSigningKey,
    pub(crate) nsk: Zeroizing<[u8; NSK_BYTES]>,
    pub(crate) peers: Vec<PeerView>,
    pub(crate) pool: IpNet,
}

impl Registration {
    pub(crate) fn new(needs: Needs) -> Self {
        let connections = needs.db.pool().options().get_max_connections();
        Self { needs: Arc::new(needs), admission: Arc::new(Admission::new(connections)) }
    }

    /// Enrols the Node that `demand` asks for.
    ///
    /// # Errors
    /// [`RegisterRefusal`], in the order of its variants.
    pub(crate) async fn register(&self, call: &Call, demand: &Demand) -> Result<Enrolled, RegisterRefusal> {
        let token = match self.prove(demand).await {
            Ok(token) => token,
            Err(refusal) => return Err(self.refused(call, None, refusal).await),
        };
        let actor = Actor::acting_for(call, Subject::System(token.id.uuid()));
        let enrolled = match self.enrol_in_turn(&actor, &token, demand).await {
            Ok(enrolled) => enrolled,
            Err(refusal) => return Err(self.refused(call, Some(&token), refusal).await),
        };
        if let Some(flush) = &self.needs.flush
            && tokio::time::timeout(FLUSH_PATIENCE, flush.flush(enrolled.node)).await.is_err()
        {
            tracing::debug!(node = %enrolled.node, "the directory was not flushed in time");
        }
        Ok(enrolled)
    }

    /// Steps 5 to 7: the token is one of ours and good for this Project.
    async fn prove(&self, demand: &Demand) -> Result<StoredToken, RegisterRefusal> {
        let parsed = demand.token_text().ok_or(RegisterRefusal::TokenInvalid)?;
        if parsed.project != demand.project {
            return Err(RegisterRefusal::ProjectMismatch);
        }
        let token = self.needs.tokens.authenticate(&demand.token, &parsed).await?;
        token.ok_or(RegisterRefusal::TokenInvalid)
    }

    /// Steps 8 to 14, when it is this registration's turn.
    async fn enrol_in_turn(
        &self,
        actor: &Actor,
        token: &StoredToken,
        demand: &Demand,
    ) -> Result<Enrolled, RegisterRefusal> {
        let _admitted = self.admission.enter(token.domain).await.ok_or(RegisterRefusal::AllocatorContention)?;
        match attempts::twice(|| self.enrol(actor, token, demand)).await {
            Err(RegisterRefusal::Fault(fault)) if fault.is_contended() => {
                tracing::info!(cause = ?fault, domain = %token.domain, "a registration gave way to others");
                Err(RegisterRefusal::AllocatorContention)
            }
            result => result,
        }
    }

    /// Steps 8 to 14, in one transaction.
    async fn enrol(&self, actor: &Actor, token: &StoredToken, demand: &Demand) -> Result<Enrolled, RegisterRefusal> {
        let needs = &self.needs;
        let now = actor.now;
        let mut tx = needs.db.begin().await?;
        // Locked behind the Project, whose deletion takes its tokens with it, and judged before it.
        let place = store::lock_project(&mut tx, demand.project).await?;
        let locked = store::lock(&mut tx, token.id).await?;
        locked.as_ref().map_or(Ok(()), |token| refuse_ended(token.state(now)))?;
        let place = place.ok_or(RegisterRefusal::ProjectNotFound)?;
        let locked = locked.ok_or(RegisterRefusal::TokenInvalid)?;
        let target = store::lock_resource(&mut tx, demand.project, &demand.handle).await?;
        let target = target.ok_or(RegisterRefusal::ResourceNotFound)?;
        if !locked.kind.fits(&target.kind) {
            return Err(RegisterRefusal::KindMismatch);
        }
        let mut revocation = None;
        if needs.single_node_kinds.contains(&target.kind) {
            revocation = Some(self.supersede(&mut tx, actor, place.domain, &target).await?);
        }
        let node = NodeId::mint(now);
        let join = self.join(&mut tx, node, demand, &place, actor).await?;
        let joined = needs.mesh.join(&mut tx, join).await?;
        let signing = self.signing_key(&mut tx, place.domain, now).await?;
        let key = needs.custodian.mint(node, now)?;
        let new = NewNode {
            node,
            domain: place.domain,
            project: demand.project,
            resource: target.resource,
            public_key: &demand.public_key,
            mesh_ip: joined.mesh_ip,
            signing_kid: &signing.kid,
            key: &key,
        };
        if !store::insert_node(&mut tx, new, now).await? {
            return Err(RegisterRefusal::PublicKeyInUse);
        }
        let edges = edges::node(node, target.resource, demand.project);
        needs.tuples.write(&mut tx, Some(place.domain), &edges).await?;
        if !store::consume(&mut tx, token.id, node, &demand.nonce, now).await? {
            return Err(RegisterRefusal::NonceCollision);
        }
        let facts = json!({
            "node_id": node,
            "resource_id": target.resource,
            "project_id": demand.project,
            "domain_id": place.domain,
            "mesh_ip": joined.mesh_ip.to_string(),
            "public_key": demand.public_key_text,
            "kind": target.kind,
        });
        self.write_ledgers(&mut tx, actor, (place.domain, node), facts).await?;
        tx.commit().await.map_err(Fault::from)?;
        drop(revocation);
        Ok(Enrolled { node, mesh_ip: joined.mesh_ip, signing, nsk: key.key, peers: joined.peers, pool: place.pool })
    }

    async fn join(
        &self,
        tx: &mut Tx,
        node: NodeId,
        demand: &Demand,
        place: &Place,
        actor: &Actor,
    ) -> Result<Join, Fault> {
        let reserved = if place.sub_range.is_some() { Vec::new() } else { store::reserved(tx, place.domain).await? };
        Ok(Join {
            node,
            domain: place.domain,
            project: demand.project,
            public_key: demand.public_key,
            pool: place.pool,
            sub_range: place.sub_range,
            reserved,
            now: actor.now,
        })
    }

    /// The key that the Node pins: the Domain's current one, made here for a Domain that has none yet.
    async fn signing_key(
        &self,
        tx: &mut Tx,
        domain: DomainId,
        now: Timestamp,
    ) -> Result<PublicSigningKey, RegisterRefusal> {
        let signing = &self.needs.signing;
        let key = match signing.ensure(tx, domain, now).await {
            Ok(()) => signing.current(tx, domain).await,
            Err(fault) => Err(fault),
        };
        key.map_err(|fault| {
            if fault.is_contended() {
                return RegisterRefusal::Fault(fault);
            }
            tracing::error!(cause = ?fault, %domain, "the signing key cannot be read");
            RegisterRefusal::SigningUnavailable
        })
    }

    /// A re-imaged machine takes the place of what it was; otherwise a ghost of it would stay in the mesh.
    async fn supersede(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        domain: DomainId,
        target: &store::Target,
    ) -> Result<Revocation, Fault> {
        let needs = &self.needs;
        let (ended, revocation) =
            needs.lifecycle.deregister_all_of(tx, actor, target.resource, LeaveReason::Superseded).await?;
        let row = |node: &NodeId| actor.record(Some(domain), "node.supersede", ObjectRef::node(*node));
        needs.journal.record_many(tx, ended.iter().map(row).collect()).await?;
        Ok(revocation)
    }

    async fn write_ledgers(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        (domain, node): (DomainId, NodeId),
        facts: serde_json::Value,
    ) -> Result<(), Fault> {
        let journal = &self.needs.journal;
        directory::mark_node(tx, node).await?;
        let consumed = json!({
            "token_id": actor.subject.uuid(),
            "project_id": facts.get("project_id"),
            "domain_id": domain,
            "node_id": node,
        });
        journal.announce(tx, actor, Some(domain), EventName::BootstrapTokenConsumed, consumed).await?;
        journal.announce(tx, actor, Some(domain), EventName::NodeRegistered, facts).await?;
        journal.record(tx, actor.record(Some(domain), "node.register", ObjectRef::node(node))).await
    }

    /// Audits a refusal, at most once per source, code and minute, and hands it back.
    async fn refused(&self, call: &Call, token: Option<&StoredToken>, refusal: RegisterRefusal) -> RegisterRefusal {
        let code = refusal.code();
        let source = format!("{}|{}", call.client.ip.as_deref().unwrap_or(""), code.as_str());
        if code.status_u16() == 500 || self.needs.refusal_rows.admit(&source, call.now).is_err() {
            return refusal;
        }
        let subject = token.map_or(UNPROVEN, |token| Subject::System(token.id.uuid()));
        let object = token.map_or_else(ObjectRef::platform, |token| ObjectRef::project(token.project));
        let action = format!("node.register.{}", code.as_str());
        let mut record = Actor::acting_for(call, subject).record(token.map(|token| token.domain), &action, object);
        record.outcome = Outcome::Denied(match token {
            Some(_) => DenialReason::InsufficientRelation,
            None => DenialReason::OutOfScope,
        });
        match self.needs.journal.record_alone(record).await {
            Ok(()) => refusal,
            Err(fault) => fault.into(),
        }
    }
}

impl From<JoinRefusal> for RegisterRefusal {
    fn from(refusal: JoinRefusal) -> Self {
        match refusal {
            JoinRefusal::PoolExhausted => Self::PoolExhausted,
            JoinRefusal::SubrangeExhausted => Self::SubrangeExhausted,
            JoinRefusal::AllocatorContention => Self::AllocatorContention,
            JoinRefusal::PublicKeyInUse => Self::PublicKeyInUse,
            JoinRefusal::Fault(fault) => Self::Fault(fault),
        }
    }
}
