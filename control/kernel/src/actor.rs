//! Who acts.

use plexsphere_wire::{CorrelationId, DomainId, PrincipalId, Problem, Timestamp};

use crate::audit::RequestContext;
use crate::http::Call;
use crate::{AuditRecord, ObjectRef, Outcome, Subject};

/// Who acts, when, and by which request.
#[derive(Clone, Debug)]
pub struct Actor {
    /// Who.
    pub subject: Subject,
    /// The request.
    pub correlation_id: CorrelationId,
    /// Where the request came from.
    pub context: RequestContext,
    /// When.
    pub now: Timestamp,
}

impl Actor {
    /// The caller of an operation.
    ///
    /// # Errors
    /// 500 when the operation has no caller.
    pub fn of(call: &Call) -> Result<Self, Problem> {
        Ok(Self {
            subject: call.principal()?.subject,
            correlation_id: call.correlation_id.clone(),
            context: call.request_context(),
            now: call.now,
        })
    }

    /// Somebody else than the caller of `call`, such as the token that a registration presents.
    #[must_use]
    pub fn acting_for(call: &Call, subject: Subject) -> Self {
        Self { subject, correlation_id: call.correlation_id.clone(), context: call.request_context(), now: call.now }
    }

    /// A part of this system, without a request.
    #[must_use]
    pub fn background(subject: Subject, now: Timestamp) -> Self {
        Self { subject, correlation_id: CorrelationId::mint(now), context: RequestContext::default(), now }
    }

    /// The actor's id as a principal's.
    #[must_use]
    pub const fn principal_id(&self) -> PrincipalId {
        PrincipalId::from_uuid(self.subject.uuid())
    }

    /// An audit row about what this actor did.
    #[must_use]
    pub fn record(&self, domain: Option<DomainId>, action: &str, object: ObjectRef) -> AuditRecord {
        AuditRecord {
            domain,
            subject: self.subject,
            relation: action.to_owned(),
            object,
            outcome: Outcome::Granted,
            correlation_id: self.correlation_id.clone(),
            context: self.context.clone(),
            occurred_at: self.now,
        }
    }
}
