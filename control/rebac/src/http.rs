//! Operations: checks and lookups for any caller, and the tuple administration of Projects.

mod administer;
mod ask;
mod schemas;
mod words;

use std::sync::Arc;

use plexsphere_kernel::audit::CaveatNames as AuditNames;
use plexsphere_kernel::authz::Circumstances;
use plexsphere_kernel::http::{Call, Operation};
use plexsphere_kernel::paging::CursorCodec;
use plexsphere_kernel::{Assurance, AuditLog, AuditRecord, Authenticated, ObjectRef, Outcome};
use plexsphere_wire::{Code, DomainId, Problem};
use tokio::sync::Semaphore;

use crate::model::graph::Graph;
use crate::model::home::home;
use crate::model::refs::ObjectKey;
use crate::model::schema::Schema;
use crate::service::administration::Administration;
use crate::service::authorizer::RelationAuthorizer;
use crate::service::sync::Relations;

const TAG: &str = "authz";

/// What the operations stand on.
pub(crate) struct Parts {
    pub(crate) relations: Arc<Relations>,
    pub(crate) authorizer: Arc<RelationAuthorizer>,
    pub(crate) administration: Administration,
    pub(crate) audit: Arc<dyn AuditLog>,
    pub(crate) cursors: CursorCodec,
    /// Whether objects of Domains that the caller cannot read are out of scope in questions about others.
    pub(crate) clamp: bool,
    /// The turns of lookups.
    pub(crate) lookups: Arc<Semaphore>,
}

impl Parts {
    /// The turns of lookups that there are.
    pub(crate) fn turns() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(ask::LOOKUPS_AT_ONCE))
    }
}

/// Every operation of this context.
pub(crate) fn operations(parts: &Arc<Parts>) -> Vec<Operation> {
    let mut all = ask::operations(parts);
    all.extend(administer::operations(parts));
    all
}

impl Parts {
    fn schema(&self) -> &'static Schema {
        self.relations.schema()
    }

    /// A state with every write that was committed before the request.
    async fn graph(&self) -> Result<Arc<Graph>, Problem> {
        self.relations.confirmed().await.map_err(|unconfirmed| {
            tracing::warn!(cause = ?unconfirmed.cause, "the relation tuples cannot be confirmed");
            unavailable()
        })
    }

    /// Records what was asked or done, on the chain of the object's Domain.
    async fn record(
        &self,
        call: &Call,
        (action, object): (&str, ObjectRef),
        (domain, outcome): (Option<DomainId>, Outcome),
        caveats: AuditNames,
    ) -> Result<(), Problem> {
        let record = AuditRecord { outcome, ..call.audit(domain, action, object)? };
        Ok(self.audit.record_decision(record, caveats).await?)
    }
}

fn unavailable() -> Problem {
    Problem::new(Code::AuthzUnavailable, "The decision cannot be made right now; try again.")
}

/// The Domain of an object, for the chain that an audit row belongs to; `None` for the platform and what does not exist.
fn domain_of(graph: &Graph, object: ObjectKey) -> Option<DomainId> {
    home(graph, object)?.domain.map(|domain| DomainId::from_uuid(domain.uuid()))
}

/// An object as the kernel names it.
fn reference(schema: &'static Schema, object: ObjectKey) -> ObjectRef {
    let text = object.text(schema);
    let id = text.split_once(':').map_or("", |(_, id)| id).to_owned();
    ObjectRef { kind: schema.kind_name(object.kind), id }
}

/// What the request brings for conditions on the caller's own grants.
fn circumstances(call: &Call) -> Circumstances {
    let client_ip = call.client.ip.as_deref().and_then(|ip| ip.parse().ok());
    let assurance = match call.caller() {
        Ok(Authenticated::Operator { credential, .. }) => credential.assurance().cloned(),
        Ok(Authenticated::Node(_)) | Err(_) => None,
    };
    let Assurance { acr, amr, auth_time } = assurance.unwrap_or_default();
    let amr = (!amr.is_empty()).then_some(amr);
    Circumstances { now: Some(call.now), client_ip, acr, amr, auth_time }
}
