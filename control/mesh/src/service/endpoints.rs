//! Reports of where Nodes saw themselves from outside, and their end.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plexsphere_kernel::audit::CaveatNames;
use plexsphere_kernel::database::is_transient;
use plexsphere_kernel::http::Call;
use plexsphere_kernel::http::pipeline::Throttle;
use plexsphere_kernel::principal::NodePlace;
use plexsphere_kernel::tasks::{Progress, Schedule, Task, TaskKind};
use plexsphere_kernel::{AuditLog, AuditRecord, Clock, Database, Fault, ObjectRef, Outbox, Outcome, Subject};
use plexsphere_wire::{Code, DenialReason, PeerId, Problem, Timestamp};

use crate::events;
use crate::model::endpoints::{
    Effect, Endpoint, EndpointError, FallbackFill, MAX_SKEW, NatType, Observation, Report, effect,
};
use crate::store::domains;
use crate::store::endpoints::{self, Freshness, Kept};

/// The action in audit rows.
const ACTION: &str = "node.endpoint";
/// One row about refusals of one Node per minute.
const REFUSAL_ROWS_MS: i64 = 60_000;
/// Observations of one sweep; when there are more, the next one follows at once.
const SWEEP_ENDPOINTS: i64 = 500;

/// Why a report is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndpointRefusal {
    /// The Node's clock and ours lie too far apart.
    #[error("`reported_at` lies more than 60 s from the server's time")]
    Skew,
    /// No endpoint.
    #[error("`endpoint` is not usable: {0}")]
    Unparseable(#[from] EndpointError),
    /// The Node has no live Peer.
    #[error("the node has no peer in the mesh")]
    PeerNotFound,
    /// The observation would be stale on arrival.
    #[error("`reported_at` is older than an endpoint of this domain stays fresh")]
    Expired,
    /// The Peer ended meanwhile.
    #[error("the peer has ended")]
    PeerGone,
    /// Something broke.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl EndpointRefusal {
    /// The reason in the audit log, for refusals that have one there. All of these have one code.
    const fn audited_reason(&self) -> Option<&'static str> {
        match self {
            Self::Skew => Some("reported_at_outside_max_endpoint_skew_window"),
            Self::Expired => Some("reported_at_older_than_per_domain_endpoint_ttl"),
            Self::Unparseable(_) | Self::PeerNotFound | Self::PeerGone | Self::Fault(_) => None,
        }
    }
}

impl From<EndpointRefusal> for Problem {
    fn from(refusal: EndpointRefusal) -> Self {
        let detail = format!("The report is refused: {refusal}.");
        match refusal {
            EndpointRefusal::Skew | EndpointRefusal::Expired => Problem::new(Code::EndpointClockSkew, detail),
            EndpointRefusal::Unparseable(_) => Problem::new(Code::EndpointUnparseable, detail),
            EndpointRefusal::PeerNotFound => Problem::new(Code::EndpointPeerNotFound, detail),
            EndpointRefusal::PeerGone => Problem::new(Code::EndpointPeerGone, detail),
            EndpointRefusal::Fault(fault) => fault.into(),
        }
    }
}

/// A report as it came.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// `host:port`.
    pub(crate) endpoint: String,
    /// Behind what.
    pub(crate) nat_type: NatType,
    /// When the Node saw it.
    pub(crate) reported_at: Timestamp,
}

/// Takes reports of endpoints.
pub(crate) struct Endpoints {
    db: Database,
    audit: Arc<dyn AuditLog>,
    fill: FallbackFill,
    /// Bounds the audit rows about refusals: one per Node, code and minute.
    refusal_rows: Throttle,
}

impl Endpoints {
    pub(crate) fn new(db: Database, audit: Arc<dyn AuditLog>, fill: FallbackFill) -> Self {
        Self { db, audit, fill, refusal_rows: Throttle::new(REFUSAL_ROWS_MS, 1) }
    }

    /// Takes the report of a Node about itself and says how long it is fresh.
    ///
    /// # Errors
    /// [`EndpointRefusal`], in the order of its variants.
    pub(crate) async fn report(
        &self,
        call: &Call,
        place: &NodePlace,
        told: &Told,
    ) -> Result<Freshness, EndpointRefusal> {
        match self.take(call, place, told).await {
            Err(refusal) => Err(self.refused(call, place, refusal).await),
            taken => taken,
        }
    }

    async fn take(&self, call: &Call, place: &NodePlace, told: &Told) -> Result<Freshness, EndpointRefusal> {
        if told.reported_at.distance(call.now) > MAX_SKEW {
            return Err(EndpointRefusal::Skew);
        }
        let endpoint = Endpoint::parse(&told.endpoint)?;
        let ground = endpoints::ground(&self.db, place.domain, place.node).await?;
        let ground = ground.ok_or(EndpointRefusal::PeerNotFound)?;
        let endpoint = endpoint.outside(ground.pool)?;
        let (peer, kept) = ground.peer.ok_or(EndpointRefusal::PeerNotFound)?;
        if call.now.since(told.reported_at) > ground.ttl {
            return Err(EndpointRefusal::Expired);
        }
        let report = Report { endpoint, nat_type: told.nat_type, reported_at: told.reported_at };
        let freshness = Freshness { accepted_at: call.now, stale_after: call.now.plus(ground.ttl) };
        match (judged(kept.as_ref(), &report), kept) {
            (Effect::Older, Some(kept)) => return Ok(kept.freshness),
            (Effect::Refresh, _) if endpoints::refresh(&self.db, peer, &report, freshness).await? => {
                return Ok(freshness);
            }
            _ => {}
        }
        let change = || self.change(call, place, (peer, &report, freshness));
        match change().await {
            Err(EndpointRefusal::Fault(Fault::Database(error))) if is_transient(&error) => change().await,
            taken => taken,
        }
    }

    /// Writes the report under the Peer's lock, where it is judged by what is kept then.
    async fn change(
        &self,
        call: &Call,
        place: &NodePlace,
        (peer, report, freshness): (PeerId, &Report, Freshness),
    ) -> Result<Freshness, EndpointRefusal> {
        let now = call.now;
        let mut tx = self.db.begin().await?;
        if !endpoints::lock_peer(&mut tx, peer).await? {
            return Err(EndpointRefusal::PeerGone);
        }
        let kept = endpoints::lock(&mut tx, peer).await?;
        let effect = judged(kept.as_ref(), report);
        if let (Effect::Older, Some(kept)) = (effect, kept) {
            return Ok(kept.freshness);
        }
        endpoints::write(&mut tx, peer, report, freshness).await?;
        if effect == Effect::Change {
            let observed = Observation { endpoint: report.endpoint, nat_type: report.nat_type, stale: false };
            domains::bump(&mut tx, place.domain, &[peer], now).await?;
            let event = events::peer_endpoint_changed(place.domain, place.node, &observed, self.fill);
            Outbox.append(&mut tx, event, now).await?;
            self.audit.record(&mut tx, record(call, place)).await?;
        }
        tx.commit().await.map_err(Fault::from)?;
        Ok(freshness)
    }

    /// Audits a refusal that has a reason there, at most once per Node, code and minute, and hands it back.
    async fn refused(&self, call: &Call, place: &NodePlace, refusal: EndpointRefusal) -> EndpointRefusal {
        let Some(reason) = refusal.audited_reason() else { return refusal };
        if self.refusal_rows.admit(&place.node.to_string(), call.now).is_err() {
            return refusal;
        }
        let outcome = Outcome::Denied(DenialReason::CaveatViolation);
        let mut caveats = CaveatNames::default();
        caveats.mark(reason);
        match self.audit.record_decision(AuditRecord { outcome, ..record(call, place) }, caveats).await {
            Ok(()) => refusal,
            Err(fault) => fault.into(),
        }
    }
}

fn judged(kept: Option<&Kept>, report: &Report) -> Effect {
    effect(kept.map(|kept| (&kept.observation, kept.reported_at)), report)
}

fn record(call: &Call, place: &NodePlace) -> AuditRecord {
    AuditRecord {
        domain: Some(place.domain),
        subject: Subject::Node(place.node),
        relation: ACTION.to_owned(),
        object: ObjectRef::node(place.node),
        outcome: Outcome::Granted,
        correlation_id: call.correlation_id.clone(),
        context: call.request_context(),
        occurred_at: call.now,
    }
}

/// Marks endpoints that were not reported again in time, and tells the others.
///
/// Lists know staleness by the mark alone, so that one version reads the same whenever it is read.
pub struct PeerEndpointSweeper {
    pub(crate) db: Database,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) fill: FallbackFill,
}

impl PeerEndpointSweeper {
    /// Every 15 s.
    pub const SCHEDULE: Schedule = Schedule::every(Duration::from_secs(15)).stale_after(6);
}

#[async_trait]
impl Task for PeerEndpointSweeper {
    fn kind(&self) -> TaskKind {
        TaskKind::PeerEndpointSweeper
    }

    async fn run(&self) -> Result<Progress, Fault> {
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        let lapsed = endpoints::sweep(&mut tx, now, SWEEP_ENDPOINTS).await?;
        for of_domain in lapsed.chunk_by(|one, next| one.domain == next.domain) {
            let peers: Vec<PeerId> = of_domain.iter().map(|lapsed| lapsed.peer).collect();
            if let Some(first) = of_domain.first() {
                domains::bump(&mut tx, first.domain, &peers, now).await?;
            }
        }
        for lapsed in &lapsed {
            let tombstone = events::peer_endpoint_changed(lapsed.domain, lapsed.node, &lapsed.observation, self.fill);
            Outbox.append(&mut tx, tombstone, now).await?;
        }
        tx.commit().await?;
        let done = u64::try_from(lapsed.len()).unwrap_or(0);
        Ok(Progress::done(done).and_more(i64::try_from(lapsed.len()).is_ok_and(|count| count >= SWEEP_ENDPOINTS)))
    }
}
