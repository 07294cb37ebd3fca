//! Who may use this name on this object?

use std::collections::BTreeSet;

use super::visited::{Place, Visited};
use super::{Budget, Exhausted, Limits, SubjectsQuestion, holds};
use crate::model::graph::{Found, Graph};
use crate::model::refs::ObjectKey;
use crate::model::schema::{KindId, NameId, Schema};

/// Every subject of a kind that has the name on the object, in the order of their ids.
///
/// # Errors
/// [`Exhausted`] when a limit was reached.
pub fn subjects(graph: &Graph, question: &SubjectsQuestion<'_>, limits: Limits) -> Result<Vec<ObjectKey>, Exhausted> {
    let mut walk = Walk {
        graph,
        question,
        limits,
        budget: Budget::of(limits),
        visited: Visited::default(),
        steps: Vec::new(),
        of_members: of_members(graph.schema(), question.kind),
        results: BTreeSet::new(),
        too_deep: false,
    };
    walk.push(question.object, question.name, 0);
    let mut next = 0;
    while let Some((place, depth)) = walk.steps.get(next).copied() {
        walk.look_at(place, depth)?;
        next += 1;
    }
    if walk.too_deep { Err(Exhausted::Depth) } else { Ok(walk.results.into_iter().collect()) }
}

/// A Group stands for its members among the results; nothing else stands for everybody with a name on it.
fn of_members(schema: &Schema, kind: KindId) -> Option<&[NameId]> {
    let group = schema.kind_id("group").filter(|group| *group == kind)?;
    Some(&schema.definition(group, schema.name_id("member")?)?.implied)
}

struct Walk<'a> {
    graph: &'a Graph,
    question: &'a SubjectsQuestion<'a>,
    limits: Limits,
    budget: Budget,
    visited: Visited,
    steps: Vec<(Place, u16)>,
    /// What the members of a Group hold on it, where Groups are asked for.
    of_members: Option<&'a [NameId]>,
    results: BTreeSet<ObjectKey>,
    too_deep: bool,
}

impl Walk<'_> {
    fn look_at(&mut self, Place { object, name }: Place, depth: u16) -> Result<(), Exhausted> {
        let graph = self.graph;
        let Some(definition) = graph.schema().definition(object.kind, name) else { return Ok(()) };
        let members = self.of_members.is_some_and(|names| names.contains(&name));
        if definition.expansion.own || members {
            self.found(object);
        }
        for relation in &definition.expansion.relations {
            for found in graph.of_relation(object, *relation) {
                if self.passes(&found)? {
                    match found.edge.subject_name() {
                        Some(name) => self.push(found.edge.subject_object(), name, depth + 1),
                        None => self.found(found.edge.subject_object()),
                    }
                }
            }
        }
        for (over, to) in &definition.expansion.arrows {
            for found in graph.of_relation(object, *over) {
                if self.passes(&found)? {
                    self.push(found.edge.subject_object(), *to, depth + 1);
                }
            }
        }
        Ok(())
    }

    fn passes(&mut self, found: &Found<'_>) -> Result<bool, Exhausted> {
        self.budget.spend()?;
        Ok(holds(found, self.question.inputs))
    }

    fn found(&mut self, subject: ObjectKey) {
        if subject.kind == self.question.kind {
            self.results.insert(subject);
        }
    }

    fn push(&mut self, object: ObjectKey, name: NameId, depth: u16) {
        let place = Place { object, name };
        if !self.visited.insert(place) {
            return;
        }
        if depth > self.limits.depth {
            self.too_deep = true;
            return;
        }
        self.steps.push((place, depth));
    }
}
