//! The audit log as the gates see it: it files a refusal where it belongs.
//!
//! A gate knows who was refused and on what, not in whose Domain that lies. A refusal on an object of a Domain stands on
//! that Domain's chain, whoever was refused; one on the platform, or on a Domain that does not exist, on the platform's; one on
//! any other object that nobody has stands where the gate says.

use std::sync::Arc;

use async_trait::async_trait;
use plexsphere_kernel::audit::CaveatNames;
use plexsphere_kernel::http::pipeline::Throttle;
use plexsphere_kernel::{AuditLog, AuditRecord, Database, Fault, ObjectRef, Outcome, Subject, Tx};
use plexsphere_wire::DomainId;
use uuid::Uuid;

use crate::principals::AUTHENTICATE;

pub(crate) const STATEMENTS: &[&str] = &[OF_DOMAIN, OF_PROJECT, OF_RESOURCE, OF_NODE, OF_GROUP];

const OF_DOMAIN: &str = "SELECT id FROM identity.domains WHERE id = $1";
const OF_PROJECT: &str = "SELECT domain_id FROM identity.projects WHERE id = $1";
const OF_RESOURCE: &str = "SELECT domain_id FROM identity.resources WHERE id = $1";
const OF_NODE: &str = "SELECT domain_id FROM identity.nodes WHERE id = $1";
const OF_GROUP: &str = "SELECT domain_id FROM identity.groups WHERE id = $1";

/// Files refusals on the chain of the Domain that they concern.
pub(crate) struct Denials {
    pub(crate) db: Database,
    pub(crate) audit: Arc<dyn AuditLog>,
    /// Bounds the rows about Nodes that present their key on another's path: one per Node, gate and minute.
    pub(crate) node_rows: Throttle,
}

impl Denials {
    /// The chain of a refusal on `object`; `said` is where the gate would put it.
    async fn home_of(&self, object: &ObjectRef, said: Option<DomainId>) -> Result<Option<DomainId>, Fault> {
        let said = if matches!(object.kind, "platform" | "domain") { None } else { said };
        let statement = match object.kind {
            "domain" => OF_DOMAIN,
            "project" => OF_PROJECT,
            "resource" => OF_RESOURCE,
            "node" => OF_NODE,
            "group" => OF_GROUP,
            _ => return Ok(said),
        };
        let Ok(id) = object.id.parse::<Uuid>() else { return Ok(said) };
        let domain: Option<Uuid> = sqlx::query_scalar(statement).bind(id).fetch_optional(self.db.pool()).await?;
        Ok(domain.map(DomainId::from_uuid).or(said))
    }
}

#[async_trait]
impl AuditLog for Denials {
    async fn record(&self, tx: &mut Tx, record: AuditRecord) -> Result<(), Fault> {
        self.audit.record(tx, record).await
    }

    async fn record_many(&self, tx: &mut Tx, records: Vec<AuditRecord>) -> Result<(), Fault> {
        self.audit.record_many(tx, records).await
    }

    async fn record_decision(&self, mut record: AuditRecord, caveats: CaveatNames) -> Result<(), Fault> {
        if record.outcome == Outcome::Granted {
            return self.audit.record_decision(record, caveats).await;
        }
        if let (Subject::Node(node), "node") = (record.subject, record.object.kind) {
            // A key on the path of another Node is refused as a credential is: what the gate would ask of an operator
            // says nothing of it. An agent gone astray repeats itself, so one row speaks for a minute.
            let what = format!("{node}|{}", record.relation);
            if self.node_rows.admit(&what, record.occurred_at).is_err() {
                return Ok(());
            }
            record.relation = AUTHENTICATE.to_owned();
        }
        record.domain = self.home_of(&record.object, record.domain).await?;
        self.audit.record_decision(record, caveats).await
    }
}
