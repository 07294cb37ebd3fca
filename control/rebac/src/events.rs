//! The events of this context. They name a tuple and never the values of its caveat.

use plexsphere_kernel::{Event, EventAudience};
use plexsphere_wire::{DomainId, ProjectId};
use serde_json::json;
use uuid::Uuid;

use crate::model::graph::Tuple;
use crate::model::schema::Schema;

const CONTEXT: &str = "rebac";

/// What happened to an administered tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    Created,
    Replaced,
    Deleted,
}

impl Happened {
    const fn name(self) -> &'static str {
        match self {
            Self::Created => "RelationTupleCreated",
            Self::Replaced => "RelationTupleReplaced",
            Self::Deleted => "RelationTupleDeleted",
        }
    }

    /// The event, for the internal bus.
    pub(crate) fn event(
        self,
        schema: &Schema,
        (id, tuple): (Uuid, &Tuple),
        (project, domain): (ProjectId, DomainId),
    ) -> Event {
        let payload = json!({
            "id": id,
            "subject": tuple.subject.text(schema),
            "relation": schema.name(tuple.relation),
            "resource": tuple.object.text(schema),
            "caveat_name": tuple.caveat.as_ref().map(|caveat| caveat.name()),
            "project_id": project,
            "domain_id": domain,
        });
        Event { domain: Some(domain), context: CONTEXT, name: self.name(), audience: EventAudience::Internal, payload }
    }
}
