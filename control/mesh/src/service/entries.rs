//! State entries: the platform's, which Nodes pull, and the Nodes' own reports.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use plexsphere_kernel::seams::{NodeStateWriter, StateRefusal, StateWrite};
use plexsphere_kernel::{Actor, AuditLog, Database, Fault, ObjectRef, Outbox, Tx};
use plexsphere_wire::{Code, DomainId, NodeId, Problem, Timestamp};

use crate::events::{self, EntryChange};
use crate::model::entries::{MAX_REPORTS, Report, is_key, is_text};
use crate::service::heads::Heads;
use crate::store::entries::{self, Changed};
use crate::store::peers::{self, Hold};

/// Changes named by one event; an envelope carries no more.
const CHANGES_PER_EVENT: usize = 1_000;

/// Why a report is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportRefusal {
    /// It breaks the rule that is named.
    #[error("{0}")]
    Invalid(&'static str),
    /// The Node has no live Peer.
    #[error("the node is not live")]
    NodeNotFound,
    /// The Node has as many as it may have.
    #[error("the node has too many reports")]
    QuotaExceeded,
    /// There is no such report.
    #[error("there is no such report")]
    NotFound,
    /// Something broke.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<ReportRefusal> for Problem {
    fn from(refusal: ReportRefusal) -> Self {
        match refusal {
            ReportRefusal::Invalid(why) => Problem::new(Code::InvalidReport, why),
            ReportRefusal::NodeNotFound => Problem::new(Code::NodeNotFound, "There is no such Node."),
            ReportRefusal::QuotaExceeded => {
                Problem::new(Code::ReportQuotaExceeded, format!("A Node keeps at most {MAX_REPORTS} reports."))
            }
            ReportRefusal::NotFound => Problem::new(Code::ReportNotFound, "The Node has no such report."),
            ReportRefusal::Fault(fault) => fault.into(),
        }
    }
}

/// Writes state entries.
pub(crate) struct Entries {
    pub(crate) db: Database,
    pub(crate) audit: Arc<dyn AuditLog>,
    pub(crate) outbox: Outbox,
    pub(crate) heads: Arc<Heads>,
}

impl Entries {
    /// Takes a Node's report; the last writer wins. One that is there already is not written again. The Node's version
    /// stays: what a Node says itself is no reason to reconcile.
    pub(crate) async fn put_report(
        &self,
        node: NodeId,
        report: Report<'_>,
        now: Timestamp,
    ) -> Result<(), ReportRefusal> {
        judge(&report)?;
        match entries::holds(self.db.pool(), node, &report).await? {
            None => return Err(ReportRefusal::NodeNotFound),
            Some(true) => return Ok(()),
            Some(false) => {}
        }
        let mut tx = self.db.begin().await?;
        if peers::hold(&mut tx, node, Hold::Shared).await?.is_none() {
            return Err(ReportRefusal::NodeNotFound);
        }
        entries::touch(&mut tx, &[node]).await?;
        if !entries::put_report(&mut tx, node, &report, now).await? {
            return Err(ReportRefusal::QuotaExceeded);
        }
        tx.commit().await.map_err(Fault::from)?;
        self.heads.forget(node);
        Ok(())
    }

    /// Takes a report away.
    pub(crate) async fn delete_report(&self, node: NodeId, key: &str) -> Result<(), ReportRefusal> {
        if !is_key(key) {
            return Err(ReportRefusal::NotFound);
        }
        let mut tx = self.db.begin().await?;
        if !entries::delete_report(&mut tx, node, key).await? {
            return Err(ReportRefusal::NotFound);
        }
        entries::touch(&mut tx, &[node]).await?;
        tx.commit().await.map_err(Fault::from)?;
        self.heads.forget(node);
        Ok(())
    }

    /// Tells a Node what has changed, and the audit log that it has.
    async fn tell(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        (node, domain, revision): (NodeId, DomainId, i64),
        mut changed: Vec<EntryChange>,
    ) -> Result<(), Fault> {
        changed.sort_unstable();
        for changed in changed.chunks(CHANGES_PER_EVENT) {
            let event = events::node_state_updated(domain, node, revision, changed);
            self.outbox.append(tx, event, actor.now).await?;
        }
        self.audit.record(tx, actor.record(Some(domain), "node.state.write", ObjectRef::node(node))).await
    }
}

#[async_trait]
impl NodeStateWriter for Entries {
    async fn write(&self, tx: &mut Tx, actor: &Actor, writes: Vec<StateWrite>) -> Result<(), StateRefusal> {
        let writes = latest_of_each(writes)?;
        let mut nodes: Vec<NodeId> = writes.iter().map(|write| write.node).collect();
        nodes.dedup();
        let live: BTreeMap<NodeId, DomainId> = entries::lock(tx, &nodes).await?.into_iter().collect();
        let (puts, deletes): (Vec<_>, Vec<_>) =
            writes.into_iter().filter(|write| live.contains_key(&write.node)).partition(|write| write.value.is_some());
        let mut changes = BTreeMap::new();
        gather(&mut changes, entries::put_many(tx, &puts, actor.now).await?, "put");
        gather(&mut changes, entries::delete_many(tx, &deletes).await?, "delete");
        let changed: Vec<NodeId> = changes.keys().copied().collect();
        if changed.is_empty() {
            return Ok(());
        }
        entries::touch(tx, &changed).await?;
        let revisions = peers::bump_nodes(tx, &changed, actor.now).await?;
        for (node, changed) in changes {
            let (Some(domain), Some(revision)) = (live.get(&node), revisions.get(&node)) else {
                return Err(Fault::Invariant("a locked peer stays live").into());
            };
            self.tell(tx, actor, (node, *domain, *revision), changed).await?;
        }
        Ok(())
    }
}

fn judge(report: &Report<'_>) -> Result<(), ReportRefusal> {
    let rules = [
        (is_key(report.key), "A key begins with a letter and has at most 128 of a-z, 0-9, `.`, `_` and `-`."),
        (is_text(report.value), "`value` is longer than 4096 bytes."),
        (is_text(report.workload_tag), "`workload_tag` is longer than 4096 bytes."),
    ];
    rules.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, why)| Err(ReportRefusal::Invalid(why)))
}

/// The writes that count, by Node, kind and key.
fn latest_of_each(writes: Vec<StateWrite>) -> Result<Vec<StateWrite>, StateRefusal> {
    let mut latest = BTreeMap::new();
    for write in writes {
        if !is_key(&write.key) {
            return Err(StateRefusal::BadKey);
        }
        if write.value.as_deref().is_some_and(|value| !is_text(value)) {
            return Err(StateRefusal::BadValue);
        }
        latest.insert((write.node, write.kind, write.key.clone()), write);
    }
    Ok(latest.into_values().collect())
}

fn gather(changes: &mut BTreeMap<NodeId, Vec<EntryChange>>, changed: Vec<Changed>, op: &'static str) {
    for (node, kind, key) in changed {
        changes.entry(NodeId::from_uuid(node)).or_default().push(EntryChange { kind, key, op });
    }
}
