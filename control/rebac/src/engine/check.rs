//! May this subject?

use plexsphere_wire::DenialReason;

use super::memberships::{Memberships, Reading};
use super::visited::{Place, Visited};
use super::{Budget, Exhausted, Hop, Limits, Question, Verdict, holds};
use crate::model::caveat::CaveatNames;
use crate::model::graph::{Found, Graph, ObjectEdges};
use crate::model::refs::{ObjectKey, SubjectKey};
use crate::model::schema::{Definition, NameId};

/// Answers a check.
///
/// # Errors
/// [`Exhausted`] when a limit was reached before the answer.
pub fn check(graph: &Graph, question: &Question<'_>, limits: Limits) -> Result<Verdict, Exhausted> {
    let mut walk = Walk {
        graph,
        question,
        limits,
        budget: Budget::of(limits),
        steps: Vec::with_capacity(16),
        visited: Visited::default(),
        memberships: None,
        caveats: CaveatNames::default(),
        ignore_caveats: false,
        broken: false,
        too_deep: false,
    };
    walk.start();
    if let Some(path) = walk.run()? {
        return Ok(Verdict { denied: None, path, caveats: walk.caveats });
    }
    // It is no from here on: a limit that is reached on the way to the reason takes the reason and not the answer.
    let (denied, path) = walk.reason();
    Ok(Verdict { denied: Some(denied), path, caveats: walk.caveats })
}

/// A place to look at, and how the walk came there.
#[derive(Clone, Copy)]
struct Step {
    place: Place,
    /// The step before, and the relation on its object that led here.
    from: Option<(u32, Hop)>,
    depth: u16,
}

/// What the subject's side says of a userset.
enum Known {
    /// It belongs to it, over this many tuples.
    Yes(u16),
    /// It does not.
    No,
    /// The walk has to find out.
    NotYet,
}

struct Walk<'a> {
    graph: &'a Graph,
    question: &'a Question<'a>,
    limits: Limits,
    budget: Budget,
    steps: Vec<Step>,
    visited: Visited,
    memberships: Option<Memberships>,
    caveats: CaveatNames,
    ignore_caveats: bool,
    broken: bool,
    too_deep: bool,
}

impl Walk<'_> {
    fn start(&mut self) {
        let place = Place { object: self.question.object, name: self.question.name };
        self.visited.insert(place);
        self.steps.push(Step { place, from: None, depth: 0 });
    }

    /// Why not, as near as the limits allow.
    fn reason(&mut self) -> (DenialReason, Vec<Hop>) {
        if self.broken {
            self.restart();
            self.start();
            if let Ok(Some(path)) = self.run() {
                return (DenialReason::CaveatViolation, path);
            }
        }
        self.restart();
        match self.tie() {
            Ok(Some(path)) => (DenialReason::InsufficientRelation, path),
            Ok(None) | Err(_) => (DenialReason::OutOfScope, Vec::new()),
        }
    }

    /// Begins anew with a budget of its own, through tuples whose caveats do not hold as well.
    fn restart(&mut self) {
        self.budget = Budget::of(self.limits);
        self.too_deep = false;
        self.steps.clear();
        self.visited = Visited::default();
        // Without a caveat in the way, they are the same through all caveats.
        self.memberships = self.memberships.take().filter(|memberships| !memberships.broken);
        self.ignore_caveats = true;
    }

    /// Goes on until the subject is found, and says by which path.
    fn run(&mut self) -> Result<Option<Vec<Hop>>, Exhausted> {
        let mut next = 0;
        while let Some(step) = self.steps.get(next).copied() {
            let index = u32::try_from(next).map_err(|_| Exhausted::Edges)?;
            if let Some(path) = self.look_at(index, step)? {
                return Ok(Some(path));
            }
            next += 1;
        }
        if self.too_deep { Err(Exhausted::Depth) } else { Ok(None) }
    }

    fn look_at(&mut self, index: u32, step: Step) -> Result<Option<Vec<Hop>>, Exhausted> {
        let (graph, Place { object, name }) = (self.graph, step.place);
        let Some(definition) = graph.schema().definition(object.kind, name) else { return Ok(None) };
        if self.is_subject(object, definition) {
            return Ok(Some(self.path(step, [])));
        }
        let edges = graph.object(object);
        for relation in &definition.expansion.relations {
            if self.grants(edges, *relation)? {
                let direct = step.from.is_none() && *relation == name;
                let grant = Hop { object, relation: *relation };
                return Ok(Some(self.path(step, (!direct).then_some(grant))));
            }
        }
        for relation in &definition.expansion.relations {
            if let Some((grant, hop)) = self.follow_usersets((object, edges), *relation, (index, step.depth))? {
                return Ok(Some(self.path(step, grant.into_iter().chain([hop]))));
            }
        }
        for (over, to) in &definition.expansion.arrows {
            for found in edges.of(*over) {
                if self.passes(&found)? {
                    let hop = Hop { object, relation: *over };
                    self.push(found.edge.subject_object(), *to, Some((index, hop)), step.depth);
                }
            }
        }
        Ok(None)
    }

    /// Whether the place is the subject by itself: the object of a rule that says `self`, or the userset that is asked for.
    fn is_subject(&self, object: ObjectKey, definition: &Definition) -> bool {
        let SubjectKey { object: subject, name } = self.question.subject;
        subject == object
            && match name {
                None => definition.expansion.own,
                Some(name) => {
                    let held = self.graph.schema().definition(object.kind, name);
                    held.is_some_and(|held| held.implied.contains(&definition.name))
                }
            }
    }

    /// Whether the subject itself stands in the relation.
    fn grants(&mut self, edges: ObjectEdges<'_>, relation: NameId) -> Result<bool, Exhausted> {
        match edges.direct(relation, self.question.subject) {
            Some(found) => self.passes(&found),
            None => Ok(false),
        }
    }

    /// Goes on to the usersets of a relation. Of plain ones it is known whether the subject belongs to them: the way into
    /// one is the answer.
    fn follow_usersets(
        &mut self,
        (object, edges): (ObjectKey, ObjectEdges<'_>),
        relation: NameId,
        (index, depth): (u32, u16),
    ) -> Result<Option<(Vec<Hop>, Hop)>, Exhausted> {
        let hop = Hop { object, relation };
        for found in edges.usersets(relation) {
            let Some(name) = found.edge.subject_name() else { continue };
            if !self.passes(&found)? {
                continue;
            }
            let place = Place { object: found.edge.subject_object(), name };
            match self.membership(place)? {
                Known::Yes(between) if depth.saturating_add(between) <= self.limits.depth => {
                    let path = self.memberships.as_ref().map_or_else(Vec::new, |known| known.path(place));
                    return Ok(Some((path, hop)));
                }
                Known::Yes(_) => self.too_deep = true,
                Known::No => {}
                Known::NotYet => self.push(place.object, name, Some((index, hop)), depth),
            }
        }
        Ok(None)
    }

    /// Whether the subject belongs to a userset, where its own side tells.
    fn membership(&mut self, place: Place) -> Result<Known, Exhausted> {
        let definition = self.graph.schema().definition(place.object.kind, place.name);
        // A userset belongs to itself by no tuple, so one that is asked for is left to the walk.
        if !definition.is_some_and(|definition| definition.plain) || self.question.subject.name.is_some() {
            return Ok(Known::NotYet);
        }
        let memberships = match self.memberships.take() {
            Some(memberships) => memberships,
            None => {
                let inputs = (!self.ignore_caveats).then_some(self.question.inputs);
                let reading = Reading { graph: self.graph, subject: self.question.subject, inputs };
                Memberships::read(&reading, &mut self.budget, &mut self.caveats)?
            }
        };
        self.broken |= memberships.broken;
        let known = match memberships.depth(place) {
            Some(depth) => Known::Yes(depth),
            None if memberships.complete => Known::No,
            None => Known::NotYet,
        };
        self.memberships = Some(memberships);
        Ok(known)
    }

    /// Judges a tuple's caveat, and remembers that one was in the way.
    fn passes(&mut self, found: &Found<'_>) -> Result<bool, Exhausted> {
        self.budget.spend()?;
        let Some(caveat) = found.caveat else { return Ok(true) };
        if self.ignore_caveats {
            return Ok(true);
        }
        self.caveats.note(caveat);
        let holds = holds(found, self.question.inputs);
        self.broken |= !holds;
        Ok(holds)
    }

    fn push(&mut self, object: ObjectKey, name: NameId, from: Option<(u32, Hop)>, depth: u16) {
        let place = Place { object, name };
        if !self.visited.insert(place) {
            return;
        }
        if depth >= self.limits.depth {
            self.too_deep = true;
            return;
        }
        self.steps.push(Step { place, from, depth: depth + 1 });
    }

    /// The way back from a step to the object that was asked about.
    fn path(&self, step: Step, grant: impl IntoIterator<Item = Hop>) -> Vec<Hop> {
        let mut path: Vec<Hop> = grant.into_iter().collect();
        let mut from = step.from;
        while let Some((index, hop)) = from {
            path.push(hop);
            from = usize::try_from(index).ok().and_then(|index| self.steps.get(index)).and_then(|step| step.from);
        }
        path
    }

    /// How the subject is tied to the object or one of its ancestors by any tuple at all.
    fn tie(&mut self) -> Result<Option<Vec<Hop>>, Exhausted> {
        let graph = self.graph;
        let mut ancestors = vec![(self.question.object, None::<(usize, Hop)>)];
        let mut next = 0;
        while let Some((object, _)) = ancestors.get(next).copied() {
            let Some(kind) = graph.schema().kind(object.kind) else { break };
            if self.question.subject == SubjectKey::object(object) {
                return Ok(Some(lineage(&ancestors, next)));
            }
            let edges = graph.object(object);
            for definition in kind.definitions.iter().filter(|definition| definition.class.is_some()) {
                if self.grants(edges, definition.name)? {
                    let mut path = vec![Hop { object, relation: definition.name }];
                    path.extend(lineage(&ancestors, next));
                    return Ok(Some(path));
                }
            }
            for over in kind.ancestor_relations() {
                for found in edges.of(over) {
                    self.budget.spend()?;
                    let above = found.edge.subject_object();
                    if found.edge.subject_name().is_none() && !ancestors.iter().any(|(known, _)| *known == above) {
                        ancestors.push((above, Some((next, Hop { object, relation: over }))));
                    }
                }
            }
            next += 1;
        }
        self.tie_by_usersets(&ancestors)
    }

    /// The same by a userset that the subject belongs to.
    fn tie_by_usersets(&mut self, ancestors: &[Ancestor]) -> Result<Option<Vec<Hop>>, Exhausted> {
        let graph = self.graph;
        for (place, (object, _)) in ancestors.iter().enumerate() {
            self.steps.clear();
            let Some(kind) = graph.schema().kind(object.kind) else { continue };
            // A step that is never looked at: it only carries the relation on the object for the path.
            let Some(any) = kind.definitions.first() else { continue };
            self.steps.push(Step { place: Place { object: *object, name: any.name }, from: None, depth: 0 });
            let edges = graph.object(*object);
            for definition in kind.definitions.iter().filter(|definition| definition.class.is_some()) {
                if let Some((mut path, hop)) = self.follow_usersets((*object, edges), definition.name, (0, 0))? {
                    path.push(hop);
                    path.extend(lineage(ancestors, place));
                    return Ok(Some(path));
                }
            }
            let mut next = 1;
            while let Some(step) = self.steps.get(next).copied() {
                let index = u32::try_from(next).map_err(|_| Exhausted::Edges)?;
                if let Some(mut path) = self.look_at(index, step)? {
                    path.extend(lineage(ancestors, place));
                    return Ok(Some(path));
                }
                next += 1;
            }
        }
        if self.too_deep { Err(Exhausted::Depth) } else { Ok(None) }
    }
}

/// An object above the one asked about, and by which relation of which other it was reached.
type Ancestor = (ObjectKey, Option<(usize, Hop)>);

/// The hops from an ancestor down to the object.
fn lineage(ancestors: &[Ancestor], mut place: usize) -> Vec<Hop> {
    let mut path = Vec::new();
    while let Some((_, Some((below, hop)))) = ancestors.get(place) {
        path.push(*hop);
        place = *below;
    }
    path
}
