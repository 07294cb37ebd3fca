//! The gate's question, answered from the tuples in memory after the database has said that they are complete.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plexsphere_kernel::audit::CaveatNames as AuditNames;
use plexsphere_kernel::authz::{AuthzUnavailable, Circumstances, Ruling, Rulings};
use plexsphere_kernel::{Authorizer, Clock, Decision, ObjectRef, Principal, Subject};
use plexsphere_wire::DenialReason;

use super::sync::Relations;
use crate::engine::{self, Exhausted, Limits, Question, Verdict};
use crate::model::caveat::{CaveatInputs, CaveatNames};
use crate::model::graph::Graph;
use crate::model::refs::{ObjectKey, SubjectKey};
use crate::model::schema::Schema;

/// What may be decided from tuples that could not be confirmed: reading, and nothing that changes anything or opens a
/// secret.
const STALE_READS: [(&str, &str); 12] = [
    ("platform", "read"),
    ("platform", "browse"),
    ("domain", "read"),
    ("domain", "domain-view"),
    ("domain", "approval_read"),
    ("domain", "managed_push_read"),
    ("project", "read"),
    ("project", "observe"),
    ("resource", "read"),
    ("resource", "observe"),
    ("node", "read"),
    ("node", "observe"),
];

/// How the authoriser behaves when the database is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthorizerConfig {
    /// How long reads are decided from tuples that could not be confirmed; zero for not at all.
    pub stale_ttl: Duration,
}

impl Default for AuthorizerConfig {
    fn default() -> Self {
        Self { stale_ttl: Duration::from_secs(30) }
    }
}

/// Decides from the relation tuples. A permission or kind that the schema does not have is denied.
pub struct RelationAuthorizer {
    relations: Arc<Relations>,
    clock: Arc<dyn Clock>,
    config: AuthorizerConfig,
}

/// A question in the words of the schema.
struct Asked {
    subject: SubjectKey,
    name: crate::model::schema::NameId,
}

impl RelationAuthorizer {
    /// An authoriser over these tuples.
    #[must_use]
    pub const fn new(relations: Arc<Relations>, clock: Arc<dyn Clock>, config: AuthorizerConfig) -> Self {
        Self { relations, clock, config }
    }

    /// Decides from a state at hand.
    pub(crate) fn judge_in(
        &self,
        graph: &Graph,
        principal: &Principal,
        (relation, object): (&str, &ObjectRef),
        circumstances: &Circumstances,
    ) -> Result<Decision, AuthzUnavailable> {
        let Some(asked) = ask(graph.schema(), principal, relation) else { return Ok(out_of_scope().decision) };
        let Ok(key) = ObjectKey::of(graph.schema(), object.kind, &object.id) else {
            return Ok(out_of_scope().decision);
        };
        let inputs = inputs(circumstances);
        let question = Question { subject: asked.subject, name: asked.name, object: key, inputs: &inputs };
        Ok(ruling(graph.schema(), &verdict(graph, &question)?, false).decision)
    }

    /// A state to decide from, and whether it is one that could not be confirmed.
    async fn state(&self, kind: &str, relation: &str) -> Result<(Arc<Graph>, bool), AuthzUnavailable> {
        let unconfirmed = match self.relations.confirmed().await {
            Ok(graph) => return Ok((graph, false)),
            Err(unconfirmed) => unconfirmed,
        };
        let age = self.clock.now().since(self.relations.fresh_at());
        if unconfirmed.gone && STALE_READS.contains(&(kind, relation)) && age < self.config.stale_ttl {
            tracing::info!(cause = ?unconfirmed.cause, "a read is decided from tuples that could not be confirmed");
            return Ok((self.relations.current(), true));
        }
        tracing::warn!(cause = ?unconfirmed.cause, kind, relation, "a decision cannot be made");
        Err(AuthzUnavailable)
    }
}

#[async_trait]
impl Authorizer for RelationAuthorizer {
    async fn check(
        &self,
        principal: &Principal,
        relation: &str,
        object: &ObjectRef,
    ) -> Result<Decision, AuthzUnavailable> {
        let circumstances = Circumstances { now: Some(self.clock.now()), ..Circumstances::default() };
        Ok(self.decide(principal, relation, object, &circumstances).await?.decision)
    }

    async fn decide(
        &self,
        principal: &Principal,
        relation: &str,
        object: &ObjectRef,
        circumstances: &Circumstances,
    ) -> Result<Ruling, AuthzUnavailable> {
        let Some(asked) = ask(self.relations.schema(), principal, relation) else { return Ok(out_of_scope()) };
        let (graph, stale) = self.state(object.kind, relation).await?;
        let Ok(key) = ObjectKey::of(graph.schema(), object.kind, &object.id) else { return Ok(out_of_scope()) };
        let inputs = inputs(circumstances);
        let question = Question { subject: asked.subject, name: asked.name, object: key, inputs: &inputs };
        let verdict = verdict(&graph, &question)?;
        Ok(ruling(graph.schema(), &verdict, stale))
    }

    async fn check_many(
        &self,
        principal: &Principal,
        relation: &str,
        objects: &[ObjectRef],
        circumstances: &Circumstances,
    ) -> Result<Rulings, AuthzUnavailable> {
        let Some(first) = objects.first() else { return Ok(Rulings::default()) };
        let Some(asked) = ask(self.relations.schema(), principal, relation) else {
            return Ok(Rulings { allowed: vec![false; objects.len()], ..Rulings::default() });
        };
        let (graph, stale) = self.state(first.kind, relation).await?;
        let inputs = inputs(circumstances);
        let mut rulings = Rulings { allowed: Vec::with_capacity(objects.len()), caveats: marks(stale) };
        for object in objects {
            let Ok(object) = ObjectKey::of(graph.schema(), object.kind, &object.id) else {
                rulings.allowed.push(false);
                continue;
            };
            let question = Question { subject: asked.subject, name: asked.name, object, inputs: &inputs };
            let verdict = verdict(&graph, &question)?;
            rulings.allowed.push(verdict.is_allowed());
            rulings.caveats.extend(audit_names(&verdict.caveats));
        }
        Ok(rulings)
    }
}

/// The principal as a subject, and the permission; `None` for parts of this system, and outside the schema.
fn ask(schema: &Schema, principal: &Principal, relation: &str) -> Option<Asked> {
    let subject = subject(schema, &principal.subject)?;
    let name = schema.name_id(relation);
    if name.is_none() {
        tracing::error!(relation, "a gate asks for a permission that the schema does not have");
    }
    Some(Asked { subject, name: name? })
}

/// A caller as a subject of tuples.
pub(crate) fn subject(schema: &Schema, subject: &Subject) -> Option<SubjectKey> {
    let kind = match subject {
        Subject::User(_) => "user",
        Subject::Service(_) => "serviceaccount",
        Subject::Node(_) => "node",
        Subject::System(_) => return None,
    };
    ObjectKey::of(schema, kind, &subject.uuid().hyphenated().to_string()).ok().map(SubjectKey::object)
}

fn verdict(graph: &Graph, question: &Question<'_>) -> Result<Verdict, AuthzUnavailable> {
    engine::check_existing(graph, question, Limits::USUAL).map_err(|exhausted: Exhausted| {
        let object = question.object.text(graph.schema());
        tracing::warn!(%exhausted, object, "a decision cannot be made");
        AuthzUnavailable
    })
}

pub(crate) fn inputs(circumstances: &Circumstances) -> CaveatInputs {
    let Circumstances { now, client_ip, acr, amr, auth_time } = circumstances.clone();
    CaveatInputs { now, client_ip, acr, amr, auth_time }
}

fn out_of_scope() -> Ruling {
    let decision = Decision::Denied { reason: DenialReason::OutOfScope, relation_path: Vec::new() };
    Ruling { decision, caveats: AuditNames::default() }
}

fn ruling(schema: &Schema, verdict: &Verdict, stale: bool) -> Ruling {
    let relation_path = verdict.path_text(schema);
    let decision = match verdict.denied {
        None => Decision::Allowed { relation_path },
        Some(reason) => Decision::Denied { reason, relation_path },
    };
    let mut caveats = audit_names(&verdict.caveats);
    caveats.extend(marks(stale));
    Ruling { decision, caveats }
}

/// The set of reasons is closed, so what could not be confirmed is told by a name that no caveat has.
fn marks(stale: bool) -> AuditNames {
    let mut marks = AuditNames::default();
    if stale {
        marks.mark("stale_cache");
    }
    marks
}

/// The names for an audit row; every caveat's are of the form that audit takes.
pub(crate) fn audit_names(names: &CaveatNames) -> AuditNames {
    let mut audit = AuditNames::default();
    for (caveat, parameters) in names.iter() {
        for parameter in parameters {
            let _ = audit.add(caveat, parameter);
        }
    }
    audit
}
