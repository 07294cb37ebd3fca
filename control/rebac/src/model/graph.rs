//! One immutable state of all tuples, indexed from the object and from the subject.
//!
//! Both indexes are linear hash tables of small sorted runs behind shared pointers. A write copies the run it changes and
//! the path to it and nothing else, so that the state before it stays as it is for whoever reads it, and a new state is
//! made in microseconds whatever the number of tuples.

mod edge;
mod table;

use std::collections::HashMap;
use std::sync::Arc;

use super::caveat::Caveat;
use super::refs::{ObjectKey, SubjectKey};
use super::schema::{KindId, NameId, Schema};
pub(crate) use edge::Edge;
use edge::{ByObject, BySubject};
use table::{Part, Table};

/// The generations of scopes; a scope that was never written to is at 0.
pub type Generations = HashMap<Scope, u64>;

/// A Domain, or the platform for `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(pub Option<plexsphere_wire::DomainId>);

/// A tuple.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// The object.
    pub object: ObjectKey,
    /// The relation.
    pub relation: NameId,
    /// The subject.
    pub subject: SubjectKey,
    /// The condition, if it has one.
    pub caveat: Option<Arc<Caveat>>,
}

/// One step from a state to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A tuple is there from now on; one with the same triple is replaced.
    Put(Tuple),
    /// The tuple with this triple is gone; its caveat does not matter.
    Remove(Tuple),
}

/// All tuples at one moment.
#[derive(Clone, Debug)]
pub struct Graph {
    schema: &'static Schema,
    by_object: Table<ByObject>,
    by_subject: Table<BySubject>,
    generations: Arc<Generations>,
}

/// An edge with its condition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'a> {
    pub(crate) edge: Edge,
    pub(crate) caveat: Option<&'a Arc<Caveat>>,
}

/// The tuples on one object.
#[derive(Clone, Copy)]
pub(crate) struct ObjectEdges<'a>(Part<'a>);

// === impl ObjectEdges ===

impl<'a> ObjectEdges<'a> {
    /// The tuple of a relation and a subject, if it is there.
    pub(crate) fn direct(&self, relation: NameId, subject: SubjectKey) -> Option<Found<'a>> {
        self.0.get(|edge| edge.direct_order(relation, subject))
    }

    /// Every tuple of a relation whose subject is a userset.
    pub(crate) fn usersets(&self, relation: NameId) -> impl Iterator<Item = Found<'a>> {
        self.0.of(move |edge| edge.usersets_order(relation))
    }

    /// Every tuple of a relation.
    pub(crate) fn of(&self, relation: NameId) -> impl Iterator<Item = Found<'a>> {
        self.0.of(move |edge| edge.relation().cmp(&relation))
    }
}

// === impl Graph ===

impl Graph {
    /// A state without tuples.
    #[must_use]
    pub fn empty(schema: &'static Schema) -> Self {
        Self::build(schema, Vec::new(), Generations::new())
    }

    /// A state of these tuples. Of two with one triple, the later one stays.
    #[must_use]
    pub fn build(schema: &'static Schema, tuples: Vec<Tuple>, generations: Generations) -> Self {
        let entries: Vec<_> = tuples.into_iter().map(Edge::of).collect();
        let by_object = Table::build(entries.clone());
        let by_subject = Table::build(entries);
        Self { schema, by_object, by_subject, generations: Arc::new(generations) }
    }

    /// The state behind these changes, in their order. This one stays as it is.
    #[must_use]
    pub fn with(&self, changes: &[Change], generations: &[(Scope, u64)]) -> Self {
        let mut next = self.clone();
        for change in changes {
            match change {
                Change::Put(tuple) => {
                    let (edge, caveat) = Edge::of(tuple.clone());
                    next.by_object.put(edge, caveat.clone());
                    next.by_subject.put(edge, caveat);
                }
                Change::Remove(tuple) => {
                    let (edge, _) = Edge::of(tuple.clone());
                    next.by_object.remove(edge);
                    next.by_subject.remove(edge);
                }
            }
        }
        if !generations.is_empty() {
            Arc::make_mut(&mut next.generations).extend(generations.iter().copied());
        }
        next
    }

    /// The schema that its tuples follow.
    #[must_use]
    pub const fn schema(&self) -> &'static Schema {
        self.schema
    }

    /// The generation of a scope in this state.
    #[must_use]
    pub fn generation(&self, scope: Scope) -> u64 {
        self.generations.get(&scope).copied().unwrap_or(0)
    }

    /// The number of tuples.
    #[must_use]
    pub fn tuples(&self) -> usize {
        self.by_object.len()
    }

    /// Bytes on the heap, the allocator's own overhead left out.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.by_object.heap_bytes()
            + self.by_subject.heap_bytes()
            + self.generations.capacity() * (size_of::<(Scope, u64)>() + 1)
    }

    /// Every tuple on an object, for looking into.
    pub(crate) fn object(&self, object: ObjectKey) -> ObjectEdges<'_> {
        ObjectEdges(self.by_object.part(object, move |edge| edge.object_key().cmp(&object)))
    }

    /// Every tuple of a relation on an object.
    pub(crate) fn of_relation(&self, object: ObjectKey, relation: NameId) -> impl Iterator<Item = Found<'_>> {
        self.by_object.run(object, move |edge| edge.relation_order(object, relation))
    }

    /// Every tuple with this subject on objects of a kind.
    pub(crate) fn of_subject_on(&self, subject: SubjectKey, kind: KindId) -> impl Iterator<Item = Found<'_>> {
        self.by_subject.run(subject.object, move |edge| {
            edge.subject_key().cmp(&subject).then_with(|| edge.object_key().kind.cmp(&kind))
        })
    }

    /// Every tuple with this subject.
    pub(crate) fn of_subject(&self, subject: SubjectKey) -> impl Iterator<Item = Found<'_>> {
        self.by_subject.run(subject.object, move |edge| edge.subject_key().cmp(&subject))
    }
}

#[cfg(test)]
mod tests;
