//! May this subject, on what may it, and who may: asked by any authenticated caller.
//!
//! About others a caller learns only what lies in Domains it can read: elsewhere every answer is the one for objects that
//! do not exist. Readers of the platform are exempt.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use plexsphere_kernel::http::{Call, Gate, KIB, Operation, Reply};
use plexsphere_kernel::{ObjectRef, Outcome};
use plexsphere_wire::{Code, DomainId, Problem};

use super::schemas::{
    CheckRequest, CheckResponse, DecisionWord, LookupResourcesRequest, LookupResponse, LookupSubjectsRequest,
};
use super::words::{Reader, SpelledKind};
use super::{Parts, TAG, circumstances, domain_of, reference, unavailable};
use crate::engine::{self, Exhausted, Limits, Question, ResourcesQuestion, SubjectsQuestion, Verdict};
use crate::model::caveat::CaveatInputs;
use crate::model::graph::Graph;
use crate::model::home::exists;
use crate::model::refs::{ObjectId, ObjectKey, SubjectKey};
use crate::service::authorizer::{audit_names, inputs, subject};

pub(super) fn operations(parts: &Arc<Parts>) -> Vec<Operation> {
    vec![check(parts), lookup_resources(parts), lookup_subjects(parts)]
}

/// The most results of a lookup.
const MAX_RESULTS: usize = 10_000;
/// How many lookups are worked on at once. Those beyond wait for their turn.
pub(super) const LOOKUPS_AT_ONCE: usize = 2;
/// How long a lookup waits for its turn.
const PATIENCE: Duration = Duration::from_millis(250);

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
    let asked = reader.asked(&request.subject)?;
    let object = reader.resource(&request.resource)?;
    let name = reader.relation(object.kind, &request.relation)?;
    let inputs = reader.inputs(request.caveat_context.as_ref())?;
    let graph = parts.graph().await?;
    let domain = domain_of(&graph, object);
    let verdict = if Clamp::of(parts, call, &graph, asked)?.hides(domain)? {
        Verdict::out_of_scope()
    } else {
        let question = Question { subject: asked, name, object, inputs: &inputs };
        engine::check_existing(&graph, &question, Limits::USUAL).map_err(exhausted)?
    };
    let outcome = verdict.denied.map_or(Outcome::Granted, Outcome::Denied);
    let what = ("authz.check", reference(parts.schema(), object));
    // Who was asked about may be of another Domain, which is told as well.
    let other = domain_of(&graph, asked.object).filter(|other| domain.is_some_and(|domain| domain != *other));
    for chain in std::iter::once(domain).chain(other.map(Some)) {
        parts.record(call, what.clone(), (chain, outcome), audit_names(&verdict.caveats)).await?;
    }
    answer(parts, call, &verdict)
}

fn answer(parts: &Parts, call: &Call, verdict: &Verdict) -> Result<Reply, Problem> {
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
    let asked = reader.asked(&request.subject)?;
    let kind = reader.kind("resource_type", &request.resource_type)?;
    let name = reader.relation(kind.id, &request.relation)?;
    let inputs = reader.inputs(request.caveat_context.as_ref())?;
    let graph = parts.graph().await?;
    let domain = domain_of(&graph, asked.object);
    let mut clamp = Clamp::of(parts, call, &graph, asked)?;
    let wanted = kind.id;
    let found = aside(parts, move || {
        let question = ResourcesQuestion { subject: asked, name, kind: wanted, inputs: &inputs };
        let mut shown = Vec::new();
        // What is hidden is left out before anything is counted, so that no refusal tells of it.
        for object in engine::resources(&graph, &question, Limits::USUAL).map_err(exhausted)? {
            if exists(&graph, object) && !clamp.hides(domain_of(&graph, object))? {
                shown.push(object);
            }
        }
        Ok(shown)
    })
    .await?;
    let what = ("authz.lookup-resources", reference(parts.schema(), asked.object));
    listed(parts, call, (what, domain), (&kind, found)).await
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
    let hidden = Clamp::of(parts, call, &graph, SubjectKey::object(object))?.hides(domain)?;
    let found = if hidden || !exists(&graph, object) {
        Vec::new()
    } else {
        let wanted = kind.id;
        aside(parts, move || {
            let question = SubjectsQuestion { kind: wanted, name, object, inputs: &inputs };
            engine::subjects(&graph, &question, Limits::USUAL).map_err(exhausted)
        })
        .await?
    };
    let what = ("authz.lookup-subjects", reference(parts.schema(), object));
    listed(parts, call, (what, domain), (&kind, found)).await
}

/// Works a lookup out beside the requests that wait for nothing but their check, a few at once.
async fn aside<T: Send + 'static>(
    parts: &Parts,
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let turn = tokio::time::timeout(PATIENCE, Arc::clone(&parts.lookups).acquire_owned()).await;
    let Ok(Ok(turn)) = turn else { return Err(unavailable()) };
    let worked = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    worked.await.map_err(|_| Problem::internal())?
}

/// Answers a lookup and records it.
async fn listed(
    parts: &Parts,
    call: &Call,
    (what, domain): ((&str, ObjectRef), Option<DomainId>),
    (kind, found): (&SpelledKind<'_>, Vec<ObjectKey>),
) -> Result<Reply, Problem> {
    if found.len() > MAX_RESULTS {
        return Err(Problem::new(Code::InvalidLookupRequest, "There are more than 10,000 results."));
    }
    let items = found.into_iter().map(|object| kind.item(parts.schema(), object)).collect();
    parts.record(call, what, (domain, Outcome::Granted), Default::default()).await?;
    Reply::json(StatusCode::OK, &LookupResponse { items, correlation_id: call.correlation_id.clone() })
}

fn exhausted(limit: Exhausted) -> Problem {
    tracing::warn!(%limit, "a question about relations cannot be answered");
    unavailable()
}

/// What a caller may not learn.
struct Clamp {
    graph: Arc<Graph>,
    caller: Option<SubjectKey>,
    inputs: CaveatInputs,
    open: bool,
    readable: HashMap<DomainId, bool>,
}

impl Clamp {
    /// The clamp on a question about `asked`: none on one about oneself, nor for readers of the platform.
    fn of(parts: &Parts, call: &Call, graph: &Arc<Graph>, asked: SubjectKey) -> Result<Self, Problem> {
        let caller = subject(graph.schema(), &call.principal()?.subject);
        let inputs = inputs(&circumstances(call));
        let mut clamp = Self {
            graph: Arc::clone(graph),
            caller,
            inputs,
            open: !parts.clamp || caller == Some(asked),
            readable: HashMap::new(),
        };
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
        Ok(engine::check_existing(&self.graph, &question, Limits::USUAL).map_err(exhausted)?.is_allowed())
    }
}
