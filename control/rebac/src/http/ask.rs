//! May this subject, on what may it, and who may: asked by any authenticated caller.
//!
//! About others a caller learns only what lies in Domains it can read: elsewhere every answer is the one for objects that
//! do not exist. Readers of the platform are exempt.

use std::collections::HashMap;
use std::sync::Arc;

use http::{Method, StatusCode};
use plexsphere_kernel::http::{Call, Gate, KIB, Operation, Reply};
use plexsphere_kernel::{ObjectRef, Outcome};
use plexsphere_wire::{Code, DenialReason, DomainId, Problem};

use super::schemas::{
    CheckRequest, CheckResponse, DecisionWord, LookupResourcesRequest, LookupResponse, LookupSubjectsRequest,
};
use super::words::Reader;
use super::{Parts, TAG, circumstances, domain_of, reference, unavailable};
use crate::engine::{self, Exhausted, Limits, Question, ResourcesQuestion, SubjectsQuestion, Verdict};
use crate::model::caveat::{CaveatInputs, CaveatNames};
use crate::model::graph::Graph;
use crate::model::refs::{ObjectId, ObjectKey, SubjectKey};
use crate::service::authorizer::{audit_names, inputs, subject};

pub(super) fn operations(parts: &Arc<Parts>) -> Vec<Operation> {
    vec![check(parts), lookup_resources(parts), lookup_subjects(parts)]
}

const ANYBODY: Gate = Gate::AnyCaller("answers about others are clamped to Domains that the caller can read");

fn check(parts: &Arc<Parts>) -> Operation {
    let parts = Arc::clone(parts);
    Operation::new("PostAuthzCheck", Method::POST, "/v1/authz/check", ANYBODY)
        .words(
            TAG,
            "Ask whether a subject has a permission",
            "Always answers 200 with `allowed` and the path from the grant to the resource, or `denied` and the reason. An \
             object that does not exist is `denied` as `out_of_scope`. The caveat context is the caller's, because the \
             subject is usually somebody else.",
        )
        .json_body::<CheckRequest>(8 * KIB)
        .body_rules(|rules| rules.free_form = &["caveat_context"])
        .answers::<CheckResponse>(200, "The decision.")
        .problems(&[Code::InvalidCheckRequest, Code::AuthzUnavailable])
        .handler(move |call| {
            let parts = Arc::clone(&parts);
            async move { do_check(&parts, &call).await }
        })
}

async fn do_check(parts: &Parts, call: &Call) -> Result<Reply, Problem> {
    let request: CheckRequest = call.json()?;
    let reader = Reader { schema: parts.schema(), code: Code::InvalidCheckRequest };
    let asked = reader.subject(&request.subject)?;
    let object = reader.resource(&request.resource)?;
    let name = reader.relation(object.kind, &request.relation)?;
    let inputs = reader.inputs(request.caveat_context.as_ref())?;
    let graph = parts.graph().await?;
    let domain = domain_of(&graph, object);
    let verdict = if Clamp::of(parts, call, &graph, asked)?.hides(domain)? {
        Verdict { denied: Some(DenialReason::OutOfScope), path: Vec::new(), caveats: CaveatNames::default() }
    } else {
        let question = Question { subject: asked, name, object, inputs: &inputs };
        engine::check(&graph, &question, Limits::CHECK).map_err(exhausted)?
    };
    let outcome = verdict.denied.map_or(Outcome::Granted, Outcome::Denied);
    let (action, object) = ("authz.check", reference(parts.schema(), object));
    parts.record(call, (action, object), (domain, outcome), audit_names(&verdict.caveats)).await?;
    let correlation_id = call.correlation_id.clone();
    let answer = match verdict.denied {
        None => CheckResponse {
            decision: DecisionWord::Allowed,
            relation_path: Some(verdict.path_text(parts.schema())),
            reason: None,
            correlation_id,
        },
        Some(reason) => {
            CheckResponse { decision: DecisionWord::Denied, relation_path: None, reason: Some(reason), correlation_id }
        }
    };
    Reply::json(StatusCode::OK, &answer)
}

fn lookup_resources(parts: &Arc<Parts>) -> Operation {
    let parts = Arc::clone(parts);
    Operation::new("PostAuthzLookupResources", Method::POST, "/v1/authz/lookup-resources", ANYBODY)
        .words(
            TAG,
            "List the objects on which a subject has a permission",
            "The complete set at once, from one state of all grants. More than 10,000 are refused.",
        )
        .json_body::<LookupResourcesRequest>(8 * KIB)
        .body_rules(|rules| rules.free_form = &["caveat_context"])
        .answers::<LookupResponse>(200, "The objects.")
        .problems(&[Code::InvalidLookupRequest, Code::AuthzUnavailable])
        .handler(move |call| {
            let parts = Arc::clone(&parts);
            async move { do_lookup_resources(&parts, &call).await }
        })
}

async fn do_lookup_resources(parts: &Parts, call: &Call) -> Result<Reply, Problem> {
    let request: LookupResourcesRequest = call.json()?;
    let reader = Reader { schema: parts.schema(), code: Code::InvalidLookupRequest };
    let asked = reader.subject(&request.subject)?;
    let kind = reader.kind("resource_type", &request.resource_type)?;
    let name = reader.relation(kind.id, &request.relation)?;
    let inputs = reader.inputs(request.caveat_context.as_ref())?;
    let graph = parts.graph().await?;
    let question = ResourcesQuestion { subject: asked, name, kind: kind.id, inputs: &inputs };
    let found = engine::resources(&graph, &question, Limits::LOOKUP).map_err(exhausted)?;
    let mut clamp = Clamp::of(parts, call, &graph, asked)?;
    let mut items = Vec::with_capacity(found.len());
    for object in found {
        if !clamp.hides(domain_of(&graph, object))? {
            items.push(kind.item(parts.schema(), object));
        }
    }
    let about = reference(parts.schema(), asked.object);
    let domain = domain_of(&graph, asked.object);
    recorded(parts, call, ("authz.lookup-resources", about), domain).await?;
    Reply::json(StatusCode::OK, &LookupResponse { items, correlation_id: call.correlation_id.clone() })
}

fn lookup_subjects(parts: &Arc<Parts>) -> Operation {
    let parts = Arc::clone(parts);
    Operation::new("PostAuthzLookupSubjects", Method::POST, "/v1/authz/lookup-subjects", ANYBODY)
        .words(
            TAG,
            "List the subjects that have a permission on an object",
            "The complete set at once, expanded through Groups to the subjects themselves. More than 10,000 are refused.",
        )
        .json_body::<LookupSubjectsRequest>(8 * KIB)
        .body_rules(|rules| rules.free_form = &["caveat_context"])
        .answers::<LookupResponse>(200, "The subjects.")
        .problems(&[Code::InvalidLookupRequest, Code::AuthzUnavailable])
        .handler(move |call| {
            let parts = Arc::clone(&parts);
            async move { do_lookup_subjects(&parts, &call).await }
        })
}

async fn do_lookup_subjects(parts: &Parts, call: &Call) -> Result<Reply, Problem> {
    let request: LookupSubjectsRequest = call.json()?;
    let reader = Reader { schema: parts.schema(), code: Code::InvalidLookupRequest };
    let kind = reader.kind("subject_type", &request.subject_type)?;
    let object = reader.resource(&request.resource)?;
    let name = reader.relation(object.kind, &request.relation)?;
    let inputs = reader.inputs(request.caveat_context.as_ref())?;
    let graph = parts.graph().await?;
    let domain = domain_of(&graph, object);
    // Who may on an object is always a question about others, the object itself included.
    let found = if Clamp::of(parts, call, &graph, SubjectKey::object(object))?.hides(domain)? {
        Vec::new()
    } else {
        let question = SubjectsQuestion { kind: kind.id, name, object, inputs: &inputs };
        engine::subjects(&graph, &question, Limits::LOOKUP).map_err(exhausted)?
    };
    let items = found.into_iter().map(|subject| kind.item(parts.schema(), subject)).collect();
    recorded(parts, call, ("authz.lookup-subjects", reference(parts.schema(), object)), domain).await?;
    Reply::json(StatusCode::OK, &LookupResponse { items, correlation_id: call.correlation_id.clone() })
}

async fn recorded(
    parts: &Parts,
    call: &Call,
    what: (&str, ObjectRef),
    domain: Option<DomainId>,
) -> Result<(), Problem> {
    parts.record(call, what, (domain, Outcome::Granted), Default::default()).await
}

fn exhausted(limit: Exhausted) -> Problem {
    match limit {
        Exhausted::Results => Problem::new(Code::InvalidLookupRequest, "There are more than 10,000 results."),
        Exhausted::Depth | Exhausted::Edges => {
            tracing::warn!(%limit, "a question about relations cannot be answered");
            unavailable()
        }
    }
}

/// What a caller may not learn.
struct Clamp<'a> {
    graph: &'a Graph,
    caller: Option<SubjectKey>,
    inputs: CaveatInputs,
    open: bool,
    readable: HashMap<DomainId, bool>,
}

impl<'a> Clamp<'a> {
    /// The clamp on a question about `asked`: none on one about oneself, nor for readers of the platform.
    fn of(parts: &Parts, call: &Call, graph: &'a Graph, asked: SubjectKey) -> Result<Self, Problem> {
        let caller = subject(graph.schema(), &call.principal()?.subject);
        let inputs = inputs(&circumstances(call));
        let mut clamp =
            Self { graph, caller, inputs, open: !parts.clamp || caller == Some(asked), readable: HashMap::new() };
        if !clamp.open {
            clamp.open = clamp.may_read("platform", ObjectId::SINGLETON)?;
        }
        Ok(clamp)
    }

    /// Whether an object of this Domain, or of none, is hidden from the caller.
    fn hides(&mut self, domain: Option<DomainId>) -> Result<bool, Problem> {
        if self.open {
            return Ok(false);
        }
        let Some(domain) = domain else { return Ok(true) };
        if let Some(readable) = self.readable.get(&domain) {
            return Ok(!readable);
        }
        let readable = self.may_read("domain", ObjectId::new(domain.uuid()))?;
        self.readable.insert(domain, readable);
        Ok(!readable)
    }

    fn may_read(&self, kind: &str, id: ObjectId) -> Result<bool, Problem> {
        let schema = self.graph.schema();
        let (Some(subject), Some(kind), Some(name)) = (self.caller, schema.kind_id(kind), schema.name_id("read"))
        else {
            return Ok(false);
        };
        let question = Question { subject, name, object: ObjectKey { kind, id }, inputs: &self.inputs };
        Ok(engine::check(self.graph, &question, Limits::CHECK).map_err(exhausted)?.is_allowed())
    }
}
