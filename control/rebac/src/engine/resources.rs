//! On which objects may this subject?

use std::collections::BTreeSet;

use super::visited::{Place, Visited};
use super::{Budget, Exhausted, Limits, ResourcesQuestion, holds};
use crate::model::graph::Graph;
use crate::model::refs::{ObjectKey, SubjectKey};
use crate::model::schema::{KindId, NameId, Schema, Term};

/// Every object of a kind on which the subject has the name, in the order of their ids.
///
/// # Errors
/// [`Exhausted`] when a limit was reached.
pub fn resources(graph: &Graph, question: &ResourcesQuestion<'_>, limits: Limits) -> Result<Vec<ObjectKey>, Exhausted> {
    let mut walk = Walk {
        graph,
        question,
        limits,
        budget: Budget::of(limits),
        relevant: relevant(graph.schema(), question.kind, question.name),
        visited: Visited::default(),
        steps: Vec::new(),
        results: BTreeSet::new(),
        too_deep: false,
    };
    walk.seed()?;
    let mut next = 0;
    while let Some((place, depth)) = walk.steps.get(next).copied() {
        walk.look_from(place, depth)?;
        next += 1;
    }
    if walk.too_deep { Err(Exhausted::Depth) } else { Ok(walk.results.into_iter().collect()) }
}

struct Walk<'a> {
    graph: &'a Graph,
    question: &'a ResourcesQuestion<'a>,
    limits: Limits,
    budget: Budget,
    relevant: Vec<(KindId, NameId)>,
    visited: Visited,
    steps: Vec<(Place, u16)>,
    results: BTreeSet<ObjectKey>,
    too_deep: bool,
}

impl Walk<'_> {
    /// What the subject holds by itself: its own tuples, and itself where a rule says so.
    fn seed(&mut self) -> Result<(), Exhausted> {
        let (schema, SubjectKey { object, name }) = (self.graph.schema(), self.question.subject);
        match name {
            Some(name) => self.hold(object, name, 0)?,
            None => {
                let definitions = schema.kind(object.kind).map_or(&[][..], |kind| &kind.definitions);
                for definition in definitions.iter().filter(|definition| definition.rule.contains(&Term::Own)) {
                    self.hold(object, definition.name, 0)?;
                }
            }
        }
        self.follow(self.question.subject, 0)
    }

    /// From a name that the subject holds: through usersets of it, and through arrows to it.
    fn look_from(&mut self, Place { object, name }: Place, depth: u16) -> Result<(), Exhausted> {
        let graph = self.graph;
        self.follow(SubjectKey::userset(object, name), depth)?;
        for found in graph.of_subject(SubjectKey::object(object)) {
            let below = found.edge.object_key();
            let Some(kind) = graph.schema().kind(below.kind) else { continue };
            let mut gives = kind.arrows_over(found.edge.relation()).iter().filter(|(to, _)| *to == name).peekable();
            if gives.peek().is_none() {
                continue;
            }
            self.budget.spend()?;
            if holds(&found, self.question.inputs) {
                for (_, gives) in gives {
                    self.hold(below, *gives, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    /// Everything that tuples with this subject give.
    fn follow(&mut self, subject: SubjectKey, depth: u16) -> Result<(), Exhausted> {
        for found in self.graph.of_subject(subject) {
            self.budget.spend()?;
            if holds(&found, self.question.inputs) {
                self.hold(found.edge.object_key(), found.edge.relation(), depth + 1)?;
            }
        }
        Ok(())
    }

    /// Takes note that the subject holds a name and all that follow from it.
    fn hold(&mut self, object: ObjectKey, name: NameId, depth: u16) -> Result<(), Exhausted> {
        let Some(definition) = self.graph.schema().definition(object.kind, name) else { return Ok(()) };
        for name in &definition.implied {
            let place = Place { object, name: *name };
            if !self.relevant.contains(&(object.kind, *name)) || !self.visited.insert(place) {
                continue;
            }
            // The last tuple of a path is the grant, which a check does not count either.
            if depth > self.limits.depth + 1 {
                self.too_deep = true;
                continue;
            }
            if (object.kind, *name) == (self.question.kind, self.question.name) {
                self.results.insert(object);
            }
            self.steps.push((place, depth));
        }
        Ok(())
    }
}

/// Every name of every kind from which the goal can follow.
fn relevant(schema: &Schema, kind: KindId, name: NameId) -> Vec<(KindId, NameId)> {
    let mut all = vec![(kind, name)];
    let mut next = 0;
    while let Some((kind, name)) = all.get(next).copied() {
        next += 1;
        let Some(definition) = schema.definition(kind, name) else { continue };
        let mut from: Vec<(KindId, NameId)> =
            definition.subjects.iter().filter_map(|subject| Some((subject.kind, subject.name?))).collect();
        for term in &definition.rule {
            match *term {
                Term::Own => {}
                Term::Name(name) => from.push((kind, name)),
                Term::Arrow(over, to) => {
                    let followed = schema.definition(kind, over).map_or(&[][..], |followed| &followed.subjects);
                    from.extend(followed.iter().map(|subject| (subject.kind, to)));
                }
            }
        }
        for pair in from {
            if !all.contains(&pair) {
                all.push(pair);
            }
        }
    }
    all
}
